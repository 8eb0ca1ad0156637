//! What compaction asks of the process it runs in.
//!
//! Owns: the contracts.
//! Does not own: their implementations (agent and catalogue in `esker dev`, `session` for a process of its own).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use esker_metadata::checkpoint::LiveSession;
use esker_model::EntryVerdict;
use esker_model::entry::Entry;
use esker_segment::id::{Timestamp, TopicId};

/// Wall clock. Only retention by time uses it; a wrong one can only make that early or late.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Random bits.
pub type Random = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Why proposed entries were not applied, as far as anybody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entries were not applied: {0}")]
pub struct NotApplied(pub String);

/// The process's way into the log.
#[async_trait]
pub trait LogAccess: Send + Sync + 'static {
    /// The session under which objects are written and roots published; `None` while the process has none. It may be lost
    /// at any time: publications compare it.
    fn session(&self) -> Option<LiveSession>;

    /// Commits entries, at most 32, and gives their verdicts once this process's fold has applied them.
    ///
    /// # Errors
    /// They may or may not have been applied; what is proposed here can be proposed again.
    async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied>;
}

/// What becomes of old records of a topic. Topics with different policies never share a merged object: the one that stays
/// would keep the bytes of the one that goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPolicy {
    /// `retention.ms`; `None` is for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes` of each partition; `None` is all.
    pub retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` has `delete`: without it retention does nothing.
    pub deletes: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub compacts: bool,
}

/// The policies of all topics, as they are now.
pub trait TopicPolicies: Send + Sync + 'static {
    /// That of a topic; the default one when it is not known.
    fn policy(&self, topic: TopicId) -> TopicPolicy;
}

impl<F: Fn(TopicId) -> TopicPolicy + Send + Sync + 'static> TopicPolicies for F {
    fn policy(&self, topic: TopicId) -> TopicPolicy {
        self(topic)
    }
}
