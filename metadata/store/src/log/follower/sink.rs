//! What a follower drives.

use async_trait::async_trait;
use bytes::Bytes;
use esker_segment::id::{CommitNumber, LogIndex, SessionId};

use crate::keys::root::Root;
use crate::keys::session::SessionInfo;
use crate::keys::topic::Topic;
use crate::store::{KeyValue, Revision};

/// A commit, in its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedCommit {
    /// Its place: one more than that of the commit before.
    pub index: LogIndex,
    /// The store's revision that it made.
    pub revision: Revision,
    /// Whose it is.
    pub session: SessionId,
    /// Which of that session's commits.
    pub number: CommitNumber,
    /// The encoded entries.
    pub record: Bytes,
}

/// Why a sink cannot go on, or not now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// The receiving end of the log and of the keys beside it.
///
/// Calls come strictly in the order of revisions. Within a revision keys come before the record, so that a topic's configs
/// are known when its `TopicCreate` is applied. Keys that are gone by the time they are read are reported deleted after
/// everything else of that read. Only `load_checkpoint` and `apply` move the log position; both are followed by the move
/// at once, so a waiter sees what it waited for.
#[async_trait]
pub trait LogSink: Send + Sync {
    /// Replaces the fold by a checkpoint's; `None` means the empty fold of a new log. Comes first of all, and again when
    /// the follower was overtaken by truncation. What is in `root` counts as told: `on_root` is not called for it.
    ///
    /// # Errors
    /// The checkpoint's objects cannot be read: the root is read again, and this is called again.
    async fn load_checkpoint(&mut self, root: Option<&Root>) -> Result<(), SinkError>;

    /// Applies a commit.
    ///
    /// # Errors
    /// The process must not go on: following ends.
    fn apply(&mut self, commit: AppliedCommit) -> Result<(), SinkError>;

    /// A new checkpoint was published. Its index is at or below the position.
    fn on_root(&mut self, _root: &Root) {}

    /// A topic's key changed, or was deleted.
    fn on_topic(&mut self, _name: &str, _topic: Option<&Topic>) {}

    /// A session began, changed, or ended (`None`), which is final: session ids are never used again.
    fn on_session(&mut self, _session: SessionId, _info: Option<&SessionInfo>) {}

    /// A coordinator shard changed hands; the revision is what its owner's transactions compare.
    fn on_owner(&mut self, _shard: u16, _owner: Option<(SessionId, Revision)>) {}

    /// A key of one of [`super::FollowerSettings::also`] changed or was deleted.
    fn on_key(&mut self, _key: &Bytes, _kv: Option<&KeyValue>) {}
}
