//! The agent: what the request handlers share.
//!
//! Owns: finding topics, the read barrier as handlers use it.
//! Does not own: starting and stopping (`node`).
//!
//! Invariants: LOG-6.

use std::sync::{Arc, Weak};

use esker_kafka::{ErrorCode, TopicRef};
use esker_metadata::keys::config::Configs;
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::keys::topic::Topic;
use esker_metadata::log::LogHandle;
use esker_metadata::replica::{Observer, Replica};
use esker_metadata::store::{MetadataError, Revision};
use esker_segment::id::{SessionId, TopicId, TopicPartition};
use esker_storage::cache::SegmentCache;
use esker_storage::merged::MergedReader;
use esker_storage::named::NamedObjects;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::groups::coordinator::Coordinator;
use crate::handlers::admin::merged_sizes::MergedSizes;
use crate::internal_topics::InternalTopics;
use crate::membership::Membership;
use crate::produce::throttle::Throttle;
use crate::producer_ids::ProducerIds;
use crate::replica_view::View;
use crate::settings::Settings;
use crate::shards::Shards;
use crate::topics::{TopicCatalog, TopicView};
use crate::wake::Wakers;
use crate::writer::LogWriter;
use crate::zones::zone_of_client;

/// Where clients reach this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, as clients resolve it.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What the request handlers share.
pub struct Agent {
    /// For handlers that outlive a call.
    pub(crate) this: Weak<Agent>,
    /// Kafka's cluster id.
    pub cluster: String,
    /// This agent among the others.
    pub members: Arc<Membership>,
    /// Settings of the process.
    pub settings: Arc<Settings>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// 128 random bits.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
    /// The fold.
    pub replica: Arc<Replica>,
    /// Looks at the fold.
    pub view: View,
    /// Settings of topics.
    pub catalog: Arc<TopicCatalog>,
    /// Topics that clients take for the brokers' own.
    pub internal_topics: InternalTopics,
    /// Waiting fetches.
    pub wakers: Arc<Wakers>,
    /// The way into the log.
    pub log: LogWriter,
    /// The bound on what waits to be merged.
    pub throttle: Throttle,
    /// The log as it is followed, and the read barrier.
    pub follower: LogHandle,
    /// Keys of objects.
    pub objects: NamedObjects,
    /// Record bytes, from memory or the bucket.
    pub cache: Arc<SegmentCache>,
    /// Where merged batches lie.
    pub merged: MergedReader,
    /// How much is merged of each partition.
    pub merged_sizes: MergedSizes,
    /// Producer ids granted to this agent.
    pub producer_ids: ProducerIds,
    /// Consumer groups.
    pub groups: Arc<Coordinator>,
    /// Which groups are this agent's.
    pub shards: Arc<Shards>,
    /// Cancelled when this agent begins to go: clients are sent to others, if there are any.
    pub leaving: CancellationToken,
    /// Cancelled when the agent drains.
    pub stop: CancellationToken,
}

/// Why a topic or a partition is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is not in the log.
    Certainly,
    /// This agent may be behind the log and cannot find out: nothing may be denied (LOG-6).
    MayBeBehind,
}

impl Absent {
    /// What a client is told: the denial if it is certain, else what makes it try again.
    #[must_use]
    pub fn code(self, denied: ErrorCode, again: ErrorCode) -> ErrorCode {
        match self {
            Self::Certainly => denied,
            Self::MayBeBehind => again,
        }
    }
}

impl Agent {
    /// A shared handle to itself.
    ///
    /// # Panics
    /// Never: whoever calls holds one.
    #[must_use]
    pub fn shared(&self) -> Arc<Self> {
        self.this.upgrade().expect("the caller holds the agent")
    }

    /// Folds up to what was committed before this call.
    ///
    /// # Errors
    /// The metadata store cannot be reached; what was asked must be answered with a retriable error.
    pub async fn barrier(&self) -> Result<(), MetadataError> {
        self.follower.barrier().await.map(drop)
    }

    /// The topic that a request names; when it is not known, after a read barrier.
    ///
    /// # Errors
    /// See [`Absent`].
    pub async fn topic(&self, named: &TopicRef) -> Result<TopicView, Absent> {
        if let Some(found) = self.known_topic(named) {
            return Ok(found);
        }
        self.barrier().await.map_err(|_| Absent::MayBeBehind)?;
        self.known_topic(named).ok_or(Absent::Certainly)
    }

    /// The topic that a request names, if this agent's fold has it.
    #[must_use]
    pub fn known_topic(&self, named: &TopicRef) -> Option<TopicView> {
        let fold = self.replica.fold();
        let found = match named {
            TopicRef::Name(name) => fold.topic_named(name),
            TopicRef::Id(id) => fold.topic(TopicId(id.0)),
        }?;
        let settings = self.catalog.settings(found.id);
        Some(TopicView {
            id: found.id,
            name: Arc::from(found.name),
            partitions: found.partitions,
            settings,
        })
    }

    /// Looks again for a partition that was unknown a moment ago.
    ///
    /// # Errors
    /// See [`Absent`].
    pub async fn partition_after_barrier(&self, topic: TopicId, partition: u32) -> Result<(), Absent> {
        self.barrier().await.map_err(|_| Absent::MayBeBehind)?;
        let topic = self.replica.fold().topic(topic).map(|topic| topic.partitions);
        let exists = topic.is_some_and(|partitions| partition < partitions);
        if exists { Ok(()) } else { Err(Absent::Certainly) }
    }

    /// The leader epoch of every partition: the incarnation's number.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32::try_from(self.replica.fold().incarnation().0.0).unwrap_or(i32::MAX)
    }

    /// Compares the leader epoch that a client believes in (-1 for none).
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` or `UNKNOWN_LEADER_EPOCH` (KIP-320).
    pub fn check_leader_epoch(&self, believed: i32) -> Result<(), ErrorCode> {
        let current = self.leader_epoch();
        match believed {
            -1 => Ok(()),
            older if older < current => Err(ErrorCode::FencedLeaderEpoch),
            newer if newer > current => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Whether clients shall go to another agent, because this one ends or can do nothing for them.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        let (own, view) = (self.members.identity().node(), self.members.view());
        view.stands_aside || self.leaving.is_cancelled() && view.members.iter().any(|m| m.node != own && !m.draining)
    }

    /// The zone that a client says it is in, or else that of this agent's listener.
    #[must_use]
    pub fn zone_of<'a>(&'a self, client_id: Option<&'a str>) -> Option<&'a str> {
        let listener = self.settings.network.listener_zone.as_str();
        zone_of_client(client_id).or_else(|| Some(listener).filter(|zone| !zone.is_empty()))
    }

    /// `esker.max.decompressed.bytes`.
    #[must_use]
    pub fn decompressed_bytes_max(&self) -> usize {
        usize::try_from(self.settings.memory.decompressed_bytes_max).unwrap_or(usize::MAX)
    }
}

/// Passes what the replica tells on to those who wait.
pub struct Announcer {
    /// Waiting fetches.
    pub wakers: Arc<Wakers>,
    /// Settings of topics.
    pub catalog: Arc<TopicCatalog>,
    /// Other agents.
    pub members: Arc<Membership>,
}

impl Observer for Announcer {
    fn on_advanced(&self, partitions: &[TopicPartition]) {
        self.wakers.wake(partitions.iter().copied());
    }

    fn on_topic(&self, name: &str, topic: Option<&Topic>) {
        self.catalog.on_topic(name, topic);
    }

    fn on_broker_configs(&self, name: &str, configs: Option<&Configs>) {
        self.catalog.on_broker_configs(name, configs);
    }

    fn on_session(&self, session: SessionId, info: Option<&SessionInfo>) {
        self.members.on_session(session, info);
    }

    fn on_owner(&self, shard: u16, owner: Option<(SessionId, Revision)>) {
        self.members.on_owner(shard, owner);
    }
}
