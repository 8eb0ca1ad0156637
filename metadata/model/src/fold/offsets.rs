//! Applying committed offsets of groups.
//!
//! Owns: what `Offsets` does, inside and outside transactions.
//! Invariants: GRP-1, TXN-2.

use esker_segment::id::TopicPartition;

use super::{Fold, count};
use crate::entry::{OffsetAction, OffsetCommit, Offsets, TxnStamp};
use crate::producer::EpochCheck;
use crate::verdict::{InvalidTxn, OffsetRefusal, OffsetsVerdict};

impl Fold {
    pub(super) fn apply_offsets(&mut self, offsets: &Offsets) -> OffsetsVerdict {
        if let Some(txn) = offsets.txn
            && let Err(refused) = self.check_staging(txn)
        {
            return refused;
        }
        let mut refused = Vec::new();
        for (position, change) in offsets.changes.iter().enumerate() {
            let at = TopicPartition {
                topic: change.topic,
                partition: change.partition,
            };
            let result = match (&change.action, offsets.txn) {
                (OffsetAction::Commit(commit), None) => self.commit_offset(&offsets.group, at, commit),
                (OffsetAction::Commit(commit), Some(txn)) => self.stage_offset(txn, &offsets.group, at, commit),
                (OffsetAction::Delete, None) => {
                    self.unstage(&offsets.group, |staged| staged == at);
                    self.groups.delete(&offsets.group, at);
                    Ok(())
                }
                (OffsetAction::Expire { untouched_since }, None) => {
                    let now = self.groups.get(&offsets.group, at);
                    let newer = now
                        .committed
                        .is_some_and(|committed| committed.committed_at >= *untouched_since);
                    if newer || now.pending {
                        Err(OffsetRefusal::NotIdle)
                    } else {
                        self.groups.delete(&offsets.group, at);
                        Ok(())
                    }
                }
                (OffsetAction::Delete | OffsetAction::Expire { .. }, Some(_)) => Err(OffsetRefusal::Malformed),
            };
            if let Err(why) = result {
                refused.push((count(position), why));
            }
        }
        OffsetsVerdict::Applied { refused }
    }

    fn check_staging(&self, txn: TxnStamp) -> Result<(), OffsetsVerdict> {
        match self.producers.check_epoch(txn.producer, txn.epoch) {
            EpochCheck::Current => {}
            EpochCheck::Fenced { current } => return Err(OffsetsVerdict::Fenced { current }),
            EpochCheck::Ahead { current } => {
                return Err(OffsetsVerdict::InvalidTxn(InvalidTxn::EpochAhead { current }));
            }
            EpochCheck::Expired => return Err(OffsetsVerdict::InvalidTxn(InvalidTxn::Expired)),
            EpochCheck::Unknown => return Err(OffsetsVerdict::UnknownProducer),
        }
        let max = self.limits.transactional_producers_max;
        let join = self.producers.check_join(txn.producer, txn.epoch, txn.verified_at, max);
        join.map_err(OffsetsVerdict::InvalidTxn)
    }

    /// The offset is the client's: a negative one is kept, as in Kafka. kafkajs writes -2 where a group shall begin at the start.
    fn check_partition(&self, at: TopicPartition) -> Result<(), OffsetRefusal> {
        self.topics
            .partition(at)
            .map(|_| ())
            .ok_or(OffsetRefusal::NoSuchPartition)
    }

    fn commit_offset(&mut self, group: &str, at: TopicPartition, commit: &OffsetCommit) -> Result<(), OffsetRefusal> {
        self.check_partition(at)?;
        let replaced = self.groups.get(group, at).committed.map(|committed| &committed.commit);
        if !self.groups.has_room(group, replaced, commit, &self.limits) {
            return Err(OffsetRefusal::TooManyOffsets);
        }
        self.groups.commit(group, at, commit.clone(), self.index);
        Ok(())
    }

    fn stage_offset(
        &mut self,
        txn: TxnStamp,
        group: &str,
        at: TopicPartition,
        commit: &OffsetCommit,
    ) -> Result<(), OffsetRefusal> {
        self.check_partition(at)?;
        let key = (Box::from(group), at);
        let open = self
            .producers
            .known
            .get(&txn.producer)
            .and_then(|producer| producer.open.as_ref());
        let replaced = open.and_then(|open| open.staged.get(&key));
        if !self.groups.has_room(group, replaced, commit, &self.limits) {
            return Err(OffsetRefusal::TooManyOffsets);
        }
        let open = self.producers.join(txn.producer, txn.epoch, self.index);
        let replaced = open.staged.insert(key, commit.clone());
        // The new one first, so that the group does not vanish in between.
        self.groups.stage(group, at, commit);
        if let Some(replaced) = replaced {
            self.groups.unstage(group, at, &replaced);
        }
        Ok(())
    }

    /// Drops what open transactions have staged for a group in some partitions.
    pub(super) fn unstage(&mut self, group: &str, of: impl Fn(TopicPartition) -> bool) {
        if !self.groups.has_staged(group) {
            return;
        }
        let groups = &mut self.groups;
        for open in self
            .producers
            .known
            .values_mut()
            .filter_map(|producer| producer.open.as_mut())
        {
            open.staged.retain(|(staged_for, at), commit| {
                let dropped = **staged_for == *group && of(*at);
                if dropped {
                    groups.unstage(group, *at, commit);
                }
                !dropped
            });
        }
    }
}
