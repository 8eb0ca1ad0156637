//! Ends of transactions and fences.
//!
//! Owns: what `TxnEnd` and `ProducerFence` do.
//! Invariants: TXN-1 (all partitions and all staged offsets change at this one log index), TXN-2.

use esker_segment::id::{Offset, TopicPartition};

use super::{Fold, count};
use crate::entry::{ProducerFence, TxnEnd, TxnOutcome};
use crate::producer::{EpochCheck, OpenTxn, Producer};
use crate::unmerged::{MARKER_BYTES, MarkerInfo, Placed, Source};
use crate::verdict::{EntryVerdict, FenceVerdict, TxnEndVerdict};

impl Fold {
    pub(super) fn apply_txn_end(&mut self, end: TxnEnd, advanced: &mut Vec<TopicPartition>) -> EntryVerdict {
        if end.next_epoch < end.epoch {
            return EntryVerdict::Rejected;
        }
        EntryVerdict::TxnEnd(match self.producers.check_epoch(end.producer, end.epoch) {
            EpochCheck::Current => self.end_current(end, advanced),
            EpochCheck::Fenced { current } | EpochCheck::Ahead { current } => TxnEndVerdict::Fenced { current },
            EpochCheck::Unknown => TxnEndVerdict::UnknownProducer,
            EpochCheck::Expired => TxnEndVerdict::Expired,
        })
    }

    fn end_current(&mut self, end: TxnEnd, advanced: &mut Vec<TopicPartition>) -> TxnEndVerdict {
        if !self.has_producer_room(&end.producer) {
            return TxnEndVerdict::TooManyProducers;
        }
        let producer = self.producers.known.entry(end.producer).or_default();
        producer.floor = end.next_epoch;
        producer.ended_at = self.index;
        producer.touched = self.index;
        let Some(open) = producer.open.take() else {
            let outcome = end.outcome;
            return TxnEndVerdict::Ended {
                outcome,
                markers: Vec::new(),
                offsets: 0,
            };
        };
        // What a fenced epoch left open can only be aborted, whatever the new epoch decides about its own.
        let outcome = if open.epoch == end.epoch {
            end.outcome
        } else {
            TxnOutcome::Abort
        };
        let end = TxnEnd { outcome, ..end };
        let markers = self.write_markers(end, &open, advanced);
        let offsets = count(open.staged.len());
        for ((group, at), commit) in open.staged {
            self.groups.unstage(&group, at, &commit);
            if outcome == TxnOutcome::Commit {
                self.groups.commit(&group, at, commit, self.index);
            }
        }
        TxnEndVerdict::Ended {
            outcome,
            markers,
            offsets,
        }
    }

    /// One offset in each partition of the transaction.
    fn write_markers(
        &mut self,
        end: TxnEnd,
        open: &OpenTxn,
        advanced: &mut Vec<TopicPartition>,
    ) -> Vec<(TopicPartition, Offset)> {
        let source = self.sources.add(Source::Marker(MarkerInfo {
            producer: end.producer,
            epoch: end.next_epoch,
            outcome: end.outcome,
            timestamp: end.timestamp,
            incarnation: self.incarnation,
            log_index: self.index,
        }));
        let mut markers = Vec::with_capacity(open.partitions.len());
        for (at, first) in &open.partitions {
            let partition = self
                .topics
                .partition_mut(*at)
                .expect("a deleted topic leaves its transactions");
            let base = partition.take(1).expect("fewer than 2^63 offsets");
            let placed = Placed {
                base,
                max_timestamp: end.timestamp,
                records: 1,
                bytes: MARKER_BYTES,
                position: 0,
                source,
            };
            partition.unmerged.push(placed, &mut self.sources);
            let aborted_at = (end.outcome == TxnOutcome::Abort).then_some(base);
            partition.end_txn(end.producer, *first, aborted_at);
            markers.push((*at, base));
            advanced.push(*at);
        }
        self.sources.drop_unused(source);
        markers
    }

    pub(super) fn apply_fence(&mut self, fence: ProducerFence) -> FenceVerdict {
        if !self.producers.is_granted(fence.producer) {
            return FenceVerdict::UnknownProducer;
        }
        if !self.has_producer_room(&fence.producer) {
            return FenceVerdict::TooManyProducers;
        }
        let known = self.producers.known.entry(fence.producer);
        let producer = match known {
            std::collections::btree_map::Entry::Vacant(vacant) => vacant.insert(Producer::default()),
            std::collections::btree_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                if fence.epoch <= known.floor {
                    return FenceVerdict::Stale { current: known.floor };
                }
                known
            }
        };
        producer.floor = fence.epoch;
        producer.touched = self.index;
        FenceVerdict::Raised {
            open: producer.open.is_some(),
        }
    }

    fn has_producer_room(&self, id: &esker_segment::id::ProducerId) -> bool {
        let max = usize::try_from(self.limits.transactional_producers_max).unwrap_or(usize::MAX);
        self.producers.known.contains_key(id) || self.producers.known.len() < max
    }
}
