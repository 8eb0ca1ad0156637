//! The replica as the follower's sink.
//!
//! Owns: the order in which fold and manifest reader learn of a new root.
//! Does not own: the fold (`replica`), pages of the manifest (`esker_storage::merged`).
//!
//! Invariants: LOG-3: readers find the manifest before the unmerged batches that it replaces are forgotten.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use esker_model::CommitPosition;
use esker_segment::id::SessionId;
use esker_storage::merged::MergedReader;
use esker_storage::named::NamedObjects;

use super::Replica;
use crate::checkpoint;
use crate::keys::config::{self, Configs, Owner};
use crate::keys::root::Root;
use crate::keys::session::SessionInfo;
use crate::keys::topic::Topic;
use crate::log::{AppliedCommit, LogSink, SinkError};
use crate::store::{KeyValue, Revision};

/// Feeds a replica, and the reader of what is merged, from the follower.
pub struct ReplicaSink {
    replica: Arc<Replica>,
    merged: MergedReader,
    objects: NamedObjects,
}

impl ReplicaSink {
    /// The families of keys that it wants to hear of besides those that are always reported.
    #[must_use]
    pub fn also() -> Vec<Bytes> {
        vec![config::prefix(Owner::Broker)]
    }

    /// Checkpoints are read from `objects`.
    #[must_use]
    pub fn new(replica: Arc<Replica>, merged: MergedReader, objects: NamedObjects) -> Self {
        Self {
            replica,
            merged,
            objects,
        }
    }
}

#[async_trait]
impl LogSink for ReplicaSink {
    async fn load_checkpoint(&mut self, root: Option<&Root>) -> Result<(), SinkError> {
        let Some(root) = root else { return Ok(()) };
        let loaded = checkpoint::load(root, &self.objects).await;
        let fold = loaded.map_err(|error| SinkError(error.to_string()))?;
        self.merged.set_root(root.manifest_ref());
        self.replica.replace(fold, root.clone());
        Ok(())
    }

    fn apply(&mut self, commit: AppliedCommit) -> Result<(), SinkError> {
        let at = CommitPosition {
            index: commit.index,
            session: commit.session,
            number: commit.number,
        };
        let applied = self.replica.apply(at, &commit.record);
        applied.map_err(|unsupported| SinkError(format!("{unsupported}: run a newer version")))
    }

    fn on_root(&mut self, root: &Root) {
        self.merged.set_root(root.manifest_ref());
        self.replica.on_root(root.clone());
    }

    fn on_topic(&mut self, name: &str, topic: Option<&Topic>) {
        self.replica.on_topic(name, topic.cloned());
    }

    fn on_session(&mut self, session: SessionId, info: Option<&SessionInfo>) {
        self.replica.tell(|observer| observer.on_session(session, info));
    }

    fn on_owner(&mut self, shard: u16, owner: Option<(SessionId, Revision)>) {
        self.replica.tell(|observer| observer.on_owner(shard, owner));
    }

    fn on_key(&mut self, key: &Bytes, kv: Option<&KeyValue>) {
        let Some(name) = config::parse_key(Owner::Broker, key) else {
            return;
        };
        match kv.map(|kv| Configs::decode(&kv.value)).transpose() {
            Ok(configs) => self.replica.on_broker_configs(name, configs),
            Err(error) => tracing::error!(?key, %error, "value cannot be read and is ignored"),
        }
    }
}
