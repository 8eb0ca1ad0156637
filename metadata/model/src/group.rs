//! Committed offsets of groups, and which are about to change.
//!
//! Owns: the map from (group, partition) to what was committed, the count of what it holds against the limits.
//! Does not own: membership and generations (agent), what open transactions staged (`producer`).
//!
//! Invariants: GRP-1 as far as the log can tell: an offset changes by an `Offsets` entry or the end of the transaction
//! that staged it, in log order, and by nothing else but the deletion of its topic.

use std::collections::BTreeMap;

use esker_segment::id::{LogIndex, PartitionIndex, TopicId, TopicPartition};

use crate::entry::{Limits, OffsetCommit};

/// What a group has committed in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset, leader epoch, metadata and timestamp as the client gave them.
    pub commit: OffsetCommit,
    /// The commit of the log that made it take effect.
    pub committed_at: LogIndex,
}

/// What is known of a group in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOffset<'a> {
    /// What is committed, if anything.
    pub committed: Option<&'a CommittedOffset>,
    /// An open transaction has staged an offset: a reader that asks for stable offsets must wait (KIP-447).
    pub pending: bool,
}

/// A group that has committed or staged offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// How many open transactions have staged an offset. Derived from them, so not part of a checkpoint.
    pub(crate) pending: BTreeMap<TopicPartition, u32>,
}

/// All groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) by_id: BTreeMap<Box<str>, Group>,
    /// Committed and staged offsets, with the bytes of their group ids and metadata.
    entries: u64,
    bytes: u64,
}

fn weight(group: &str, commit: &OffsetCommit) -> u64 {
    let text = group.len().saturating_add(commit.metadata.len());
    u64::try_from(text).expect("texts fit memory")
}

/// The partitions of a topic, as a range of keys.
fn all_of(topic: TopicId) -> std::ops::RangeInclusive<TopicPartition> {
    let at = |partition| TopicPartition {
        topic,
        partition: PartitionIndex(partition),
    };
    at(0)..=at(u32::MAX)
}

impl Groups {
    /// Whether an offset fits the limits, in place of another one or as one more.
    pub(crate) fn has_room(
        &self,
        group: &str,
        replaced: Option<&OffsetCommit>,
        commit: &OffsetCommit,
        limits: &Limits,
    ) -> bool {
        let (old, new) = (replaced.map_or(0, |old| weight(group, old)), weight(group, commit));
        let fits = self.bytes.saturating_sub(old).saturating_add(new) <= limits.group_bytes_max;
        match replaced {
            Some(_) => fits || new <= old,
            None => fits && self.entries < u64::from(limits.group_offsets_max),
        }
    }

    pub(crate) fn get(&self, group: &str, at: TopicPartition) -> GroupOffset<'_> {
        let group = self.by_id.get(group);
        GroupOffset {
            committed: group.and_then(|group| group.offsets.get(&at)),
            pending: group.is_some_and(|group| group.pending.contains_key(&at)),
        }
    }

    fn add(&mut self, group: &str, commit: &OffsetCommit) {
        self.entries += 1;
        self.bytes += weight(group, commit);
    }

    fn subtract(&mut self, group: &str, commit: &OffsetCommit) {
        self.entries -= 1;
        self.bytes -= weight(group, commit);
    }

    fn entry(&mut self, group: &str) -> &mut Group {
        if !self.by_id.contains_key(group) {
            self.by_id.insert(group.into(), Group::default());
        }
        self.by_id.get_mut(group).expect("just inserted")
    }

    fn drop_if_empty(&mut self, group: &str) {
        if self
            .by_id
            .get(group)
            .is_some_and(|group| group.offsets.is_empty() && group.pending.is_empty())
        {
            self.by_id.remove(group);
        }
    }

    /// Commits an offset.
    pub(crate) fn commit(&mut self, group: &str, at: TopicPartition, commit: OffsetCommit, committed_at: LogIndex) {
        self.add(group, &commit);
        let replaced = self
            .entry(group)
            .offsets
            .insert(at, CommittedOffset { commit, committed_at });
        if let Some(replaced) = replaced {
            self.subtract(group, &replaced.commit);
        }
    }

    /// Deletes a committed offset; says whether there was one.
    pub(crate) fn delete(&mut self, group: &str, at: TopicPartition) -> bool {
        let Some(deleted) = self.by_id.get_mut(group).and_then(|group| group.offsets.remove(&at)) else {
            return false;
        };
        self.subtract(group, &deleted.commit);
        self.drop_if_empty(group);
        true
    }

    /// An open transaction has staged an offset where it had none.
    pub(crate) fn stage(&mut self, group: &str, at: TopicPartition, commit: &OffsetCommit) {
        self.add(group, commit);
        *self.entry(group).pending.entry(at).or_default() += 1;
    }

    /// A staged offset is gone: applied, dropped, or replaced by a newer one of the same transaction.
    pub(crate) fn unstage(&mut self, group: &str, at: TopicPartition, commit: &OffsetCommit) {
        self.subtract(group, commit);
        let pending = &mut self.by_id.get_mut(group).expect("it has a staged offset").pending;
        let count = pending.get_mut(&at).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            pending.remove(&at);
        }
        self.drop_if_empty(group);
    }

    /// Whether any transaction has staged an offset of the group.
    pub(crate) fn has_staged(&self, group: &str) -> bool {
        self.by_id.get(group).is_some_and(|group| !group.pending.is_empty())
    }

    /// Groups for which an offset in a topic is staged.
    pub(crate) fn groups_staged_in(&self, topic: TopicId) -> Vec<Box<str>> {
        let staged = |group: &Group| group.pending.range(all_of(topic)).next().is_some();
        self.by_id
            .iter()
            .filter(|(_, group)| staged(group))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Deletes what all groups have committed in a topic.
    pub(crate) fn delete_topic(&mut self, topic: TopicId) {
        let (mut entries, mut bytes) = (0, 0);
        self.by_id.retain(|id, group| {
            let gone: Vec<_> = group.offsets.range(all_of(topic)).map(|(at, _)| *at).collect();
            for at in gone {
                if let Some(deleted) = group.offsets.remove(&at) {
                    entries += 1;
                    bytes += weight(id, &deleted.commit);
                }
            }
            !group.offsets.is_empty() || !group.pending.is_empty()
        });
        self.entries -= entries;
        self.bytes -= bytes;
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
