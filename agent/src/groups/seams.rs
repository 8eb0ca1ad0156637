//! What a coordinator needs from the rest of the agent.
//!
//! Owns: the contracts. Does not own: any implementation.

use std::sync::Arc;

use async_trait::async_trait;
use esker_kafka::ErrorCode;
use esker_model::entry::{OffsetChange, OffsetCommit};
use esker_segment::id::{LogIndex, TopicId, TopicPartition};
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::error::GroupError;
use super::group::StoredGroup;
use super::ids::GroupId;

/// What the fold knows about a group's offset in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupOffset {
    /// The committed offset, if there is one.
    pub committed: Option<OffsetCommit>,
    /// An open transaction has staged another one.
    pub staged: bool,
}

/// Why offsets could not be committed or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetLogError {
    /// Nothing was changed, nothing can be said: try again later.
    #[error("the commit log is not available")]
    Unavailable,
    /// The commit may or may not take effect (LOG-4).
    #[error("the outcome of the commit is unknown")]
    OutcomeUnknown,
    /// Another session coordinates the group now (GRP-1).
    #[error("another session coordinates the group")]
    Fenced,
    /// The changes do not fit into a commit.
    #[error("the offsets do not fit into one commit")]
    TooLarge,
    /// The cluster keeps as many group offsets as it may.
    #[error("the cluster keeps as many group offsets as it may")]
    Full,
}

impl OffsetLogError {
    /// The code that OffsetCommit answers; the first two and the last make clients try again.
    #[must_use]
    pub const fn commit_code(self) -> ErrorCode {
        match self {
            Self::Unavailable | Self::OutcomeUnknown | Self::Full => ErrorCode::CoordinatorNotAvailable,
            Self::Fenced => ErrorCode::NotCoordinator,
            Self::TooLarge => ErrorCode::InvalidCommitOffsetSize,
        }
    }

    /// The code that OffsetFetch answers. Old clients treat all but these two as fatal.
    #[must_use]
    pub const fn fetch_code(self) -> ErrorCode {
        match self {
            Self::Fenced => ErrorCode::NotCoordinator,
            Self::Unavailable | Self::OutcomeUnknown | Self::TooLarge | Self::Full => {
                ErrorCode::CoordinatorLoadInProgress
            }
        }
    }
}

/// The offsets of all groups: `Offsets` entries of the commit log, and the fold over them.
#[async_trait]
pub trait OffsetLog: Send + Sync {
    /// Queues changes to a group's offsets; the future tells their outcome. The *call* fixes the order: changes of one
    /// group take effect in the order of the calls, also when they are sent again. It must not block, and is called
    /// while the group is locked, so that a member that is removed afterwards can commit nothing after its successor
    /// (GRP-1). Dropping the future cancels nothing. Success means that this agent's own fold has applied them.
    fn commit(&self, group: &GroupId, changes: Vec<OffsetChange>) -> BoxFuture<'static, Result<(), OffsetLogError>>;

    /// The group's offsets in these partitions, in their order, after a read barrier if anything is to be denied (LOG-6).
    ///
    /// # Errors
    /// The barrier was not reached.
    async fn fetch(&self, group: &GroupId, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, OffsetLogError>;

    /// All offsets of the group, those that are only staged included, after a read barrier; ordered by partition.
    ///
    /// # Errors
    /// The barrier was not reached.
    async fn fetch_all(&self, group: &GroupId) -> Result<Vec<(TopicPartition, GroupOffset)>, OffsetLogError>;

    /// The groups that have offsets as far as this agent knows, ordered.
    fn groups(&self) -> Vec<GroupId>;

    /// True if the group has offsets as far as this agent knows.
    fn has_group(&self, group: &GroupId) -> bool;

    /// Where the log is that this agent knows; `None` before it knows any.
    fn position(&self) -> Option<LogIndex>;

    /// Groups that this agent coordinates, as far as it knows, with the partitions whose offset was committed below an index
    /// and is not staged.
    fn idle(&self, below: LogIndex) -> Vec<(GroupId, Vec<TopicPartition>)>;
}

/// A topic as far as groups care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has.
    pub partitions: u32,
}

/// This agent could not find out what other agents know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this agent may be behind the log")]
pub struct MayBeBehind;

/// Which topics exist.
#[async_trait]
pub trait TopicNames: Send + Sync {
    /// The topic of this name as far as this agent knows.
    fn by_name(&self, name: &str) -> Option<Topic>;

    /// The topic of this id as far as this agent knows.
    fn by_id(&self, id: TopicId) -> Option<Topic>;

    /// The read barrier: afterwards the agent knows what any agent knew when this was called (LOG-6).
    ///
    /// # Errors
    /// It was not reached.
    async fn catch_up(&self) -> Result<(), MayBeBehind>;
}

/// Where generations of groups are kept, so that another coordinator can go on with them.
pub trait GroupStore: Send + Sync {
    /// Queues a generation. The call fixes the order, as in [`OffsetLog::commit`]; it must not block. Success means that
    /// whoever coordinates the group next will find it.
    fn store(&self, group: &GroupId, generation: StoredGroup) -> BoxFuture<'static, Result<(), GroupError>>;

    /// Queues that a group is deleted or forgotten, in the same order.
    fn remove(&self, group: &GroupId) -> BoxFuture<'static, Result<(), GroupError>>;
}

/// What this agent is to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another agent coordinates it, or nobody does.
    Other,
    /// This one does, as soon as it has read who is in it.
    Loading,
    /// This one does.
    Coordinator,
}

/// Which groups are whose.
pub trait Ownership: Send + Sync {
    /// What this agent is to a group, as far as it knows.
    fn standing(&self, group: &GroupId) -> Standing;

    /// Since when this agent has coordinated a group without a gap; `None` when it does not.
    fn held_since(&self, group: &GroupId) -> Option<Instant>;

    /// Whether there are groups that it coordinates and does not know yet.
    fn is_loading(&self) -> bool;
}
