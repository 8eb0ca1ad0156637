//! What the group coordinator needs of the log and the metadata store: offsets as entries, topics as the fold knows them,
//! generations as keys.
//!
//! Owns: the seams of `groups` over the commit log (here) and over the metadata store (`registry`, `take_over`).
//!
//! Invariants: GRP-1 (offsets of one group enter the log in the order of the calls), GRP-2, LOG-6.

mod book;
mod line;
pub mod registry;
mod stored;
pub mod take_over;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use esker_metadata::log::LogHandle;
use esker_metadata::replica::Replica;
use esker_model::EntryVerdict;
use esker_model::entry::{OffsetChange, Offsets};
use esker_model::verdict::{OffsetRefusal, OffsetsVerdict};
use esker_segment::id::{LogIndex, TopicId, TopicPartition};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::groups::ids::GroupId;
use crate::groups::seams::{GroupOffset, MayBeBehind, OffsetLog, OffsetLogError, Topic, TopicNames};
use crate::offset_queue::OffsetQueue;
use crate::shards::Shards;
use crate::writer::ProposeError;

/// Committed offsets over the commit log.
pub struct LogOffsets {
    /// The way into the log.
    pub queue: Arc<OffsetQueue>,
    /// The fold.
    pub replica: Arc<Replica>,
    /// The read barrier.
    pub log: LogHandle,
    /// Which groups this agent coordinates.
    pub shards: Arc<Shards>,
}

/// Topics as the fold knows them.
pub struct FoldTopics {
    /// The fold.
    pub replica: Arc<Replica>,
    /// The read barrier.
    pub log: LogHandle,
}

impl From<ProposeError> for OffsetLogError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused => Self::Fenced,
            ProposeError::Closed => Self::Unavailable,
            ProposeError::TooLarge => Self::TooLarge,
            ProposeError::Unknown => Self::OutcomeUnknown,
        }
    }
}

fn judged(verdict: &EntryVerdict) -> Result<(), OffsetLogError> {
    match verdict {
        EntryVerdict::Offsets(OffsetsVerdict::Applied { refused }) => {
            let full = refused.iter().any(|(_, why)| *why == OffsetRefusal::TooManyOffsets);
            match refused.first() {
                None => Ok(()),
                Some(_) if full => Err(OffsetLogError::Full),
                // A partition went away meanwhile; who tries again is told so.
                Some(_) => Err(OffsetLogError::Unavailable),
            }
        }
        _ => Err(OffsetLogError::TooLarge),
    }
}

impl LogOffsets {
    fn of(&self, group: &GroupId, at: TopicPartition) -> GroupOffset {
        let fold = self.replica.fold();
        let found = fold.group_offset(group.as_str(), at);
        GroupOffset {
            committed: found.committed.map(|committed| committed.commit.clone()),
            staged: found.pending,
        }
    }
}

#[async_trait]
impl OffsetLog for LogOffsets {
    fn commit(&self, group: &GroupId, changes: Vec<OffsetChange>) -> BoxFuture<'static, Result<(), OffsetLogError>> {
        let Some(held) = self.shards.held(group.as_str()) else {
            return std::future::ready(Err(OffsetLogError::Fenced)).boxed();
        };
        let offsets = Offsets {
            group: Box::from(group.as_str()),
            shard: held.shard,
            txn: None,
            changes,
        };
        match self.queue.push(held, offsets) {
            Ok(outcome) => {
                let lost = self.shards.lost(group.as_str());
                async move {
                    tokio::select! {
                        biased;
                        outcome = outcome => judged(&outcome.unwrap_or(Err(ProposeError::Unknown))?),
                        // The writer may be held up for long. Whoever has the group now can be asked.
                        () = lost.cancelled() => Err(OffsetLogError::OutcomeUnknown),
                    }
                }
                .boxed()
            }
            Err(error) => std::future::ready(Err(error.into())).boxed(),
        }
    }

    async fn fetch(&self, group: &GroupId, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, OffsetLogError> {
        // Another agent may have committed since, so even an offset that is known may be old.
        self.log.barrier().await.map_err(|_| OffsetLogError::Unavailable)?;
        Ok(partitions.iter().map(|at| self.of(group, *at)).collect())
    }

    async fn fetch_all(&self, group: &GroupId) -> Result<Vec<(TopicPartition, GroupOffset)>, OffsetLogError> {
        self.log.barrier().await.map_err(|_| OffsetLogError::Unavailable)?;
        let fold = self.replica.fold();
        let mut partitions: Vec<TopicPartition> = fold.group_offsets(group.as_str()).map(|(at, _)| at).collect();
        partitions.extend(fold.group_pending(group.as_str()));
        drop(fold);
        partitions.sort_unstable();
        partitions.dedup();
        Ok(partitions.into_iter().map(|at| (at, self.of(group, at))).collect())
    }

    fn groups(&self) -> Vec<GroupId> {
        self.replica.fold().groups().map(GroupId::from).collect()
    }

    fn has_group(&self, group: &GroupId) -> bool {
        let fold = self.replica.fold();
        fold.group_offsets(group.as_str()).next().is_some() || fold.group_pending(group.as_str()).next().is_some()
    }

    fn position(&self) -> Option<LogIndex> {
        self.log.position().get()
    }

    fn idle(&self, below: LogIndex) -> Vec<(GroupId, Vec<TopicPartition>)> {
        let fold = self.replica.fold();
        let idle_in = |group: &str| -> Vec<TopicPartition> {
            let old = fold
                .group_offsets(group)
                .filter(|(_, committed)| committed.committed_at < below);
            old.map(|(at, _)| at)
                .filter(|at| !fold.group_offset(group, *at).pending)
                .collect()
        };
        let groups = fold.groups().map(|group| (GroupId::from(group), idle_in(group)));
        groups.filter(|(_, idle)| !idle.is_empty()).collect()
    }
}

fn topic(found: esker_model::fold::TopicView<'_>) -> Topic {
    Topic {
        id: found.id,
        name: Arc::from(found.name),
        partitions: found.partitions,
    }
}

#[async_trait]
impl TopicNames for FoldTopics {
    fn by_name(&self, name: &str) -> Option<Topic> {
        self.replica.fold().topic_named(name).map(topic)
    }

    fn by_id(&self, id: TopicId) -> Option<Topic> {
        self.replica.fold().topic(id).map(topic)
    }

    async fn catch_up(&self) -> Result<(), MayBeBehind> {
        self.log.barrier().await.map(drop).map_err(|_| MayBeBehind)
    }
}
