//! When a batch of an idempotent producer may enter a segment.
//!
//! Owns: what this agent has taken in of each (producer, partition) and not yet seen folded.
//! Does not own: verdicts (the fold gives them; a batch that should not have entered costs dead bytes, no more), waiting
//! (`produce`).
//!
//! Invariants: IDM-1 (a batch that is ahead of its predecessor does not enter before it).

use std::collections::HashMap;

use esker_segment::id::{ProducerEpoch, ProducerId, Sequence, TopicPartition};
use esker_segment::index::{BatchMeta, ProducerStamp};

/// What the fold would accept next of a producer in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything: the producer's state here is unknown and may have been forgotten.
    Anything,
    /// This epoch with this sequence, or a higher epoch from 0.
    Next {
        /// The epoch it was last seen with.
        epoch: ProducerEpoch,
        /// The sequence after its last record.
        sequence: Sequence,
    },
}

/// Whether a batch may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It may enter; the fold judges it.
    Enter,
    /// Its predecessor is missing.
    Wait,
}

/// The register of batches that have entered and are not settled.
#[derive(Debug, Default)]
pub struct Sequencer {
    pending: HashMap<(ProducerId, TopicPartition), Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    epoch: ProducerEpoch,
    next: Sequence,
    unsettled: u32,
}

impl Sequencer {
    /// Decides about a batch; `folded` says what the agent's own fold expects, asked only when nothing is pending.
    #[must_use]
    pub fn decide(
        &self,
        stamp: ProducerStamp,
        at: TopicPartition,
        folded: impl FnOnce(ProducerStamp, TopicPartition) -> Expected,
    ) -> Order {
        let expected = match self.pending.get(&(stamp.id, at)) {
            Some(pending) => (pending.epoch, pending.next),
            None => match folded(stamp, at) {
                Expected::Next { epoch, sequence } => (epoch, sequence),
                Expected::Anything => return Order::Enter,
            },
        };
        let (epoch, next) = expected;
        let ahead = match stamp.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => is_ahead(stamp.first_sequence, next),
            std::cmp::Ordering::Greater => stamp.first_sequence != Sequence(0),
        };
        if ahead { Order::Wait } else { Order::Enter }
    }

    /// A batch has entered.
    pub fn on_entered(&mut self, at: TopicPartition, batch: &BatchMeta) {
        let Some(stamp) = batch.producer else { return };
        let next = stamp.first_sequence.plus(batch.records);
        let pending = self.pending.entry((stamp.id, at)).or_insert(Pending {
            epoch: stamp.epoch,
            next,
            unsettled: 0,
        });
        pending.unsettled += 1;
        let newer = stamp.epoch > pending.epoch;
        if newer || (stamp.epoch == pending.epoch && is_ahead(next, pending.next)) {
            pending.epoch = stamp.epoch;
            pending.next = next;
        }
    }

    /// A batch that had entered was folded or failed.
    pub fn on_settled(&mut self, at: TopicPartition, batch: &BatchMeta) {
        let Some(stamp) = batch.producer else { return };
        let key = (stamp.id, at);
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.unsettled -= 1;
            if pending.unsettled == 0 {
                self.pending.remove(&key);
            }
        }
    }
}

/// Whether `found` comes after `next`, on the circle of 2^31 sequences.
fn is_ahead(found: Sequence, next: Sequence) -> bool {
    let circle = i64::from(i32::MAX) + 1;
    let distance = (i64::from(found.0) - i64::from(next.0)).rem_euclid(circle);
    distance != 0 && distance < circle / 2
}

#[cfg(test)]
mod tests {
    use esker_segment::id::{PartitionIndex, Timestamp, TopicId};

    use super::*;

    const AT: TopicPartition = TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(0),
    };

    fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
        ProducerStamp {
            id: ProducerId(7),
            epoch: ProducerEpoch(epoch),
            first_sequence: Sequence(sequence),
            transactional: false,
            verified_at: None,
        }
    }

    fn batch(epoch: i16, sequence: i32, records: u32) -> BatchMeta {
        BatchMeta {
            records,
            bytes: 100,
            max_timestamp: Timestamp(0),
            crc: 0,
            producer: Some(stamp(epoch, sequence)),
        }
    }

    fn folded(epoch: i16, sequence: i32) -> impl FnOnce(ProducerStamp, TopicPartition) -> Expected {
        move |_, _| Expected::Next {
            epoch: ProducerEpoch(epoch),
            sequence: Sequence(sequence),
        }
    }

    #[test]
    fn batch_ahead_of_the_fold_waits() {
        let sequencer = Sequencer::default();
        assert_eq!(sequencer.decide(stamp(0, 5), AT, folded(0, 5)), Order::Enter);
        assert_eq!(sequencer.decide(stamp(0, 6), AT, folded(0, 5)), Order::Wait);
        assert_eq!(sequencer.decide(stamp(0, 4), AT, folded(0, 5)), Order::Enter);
    }

    #[test]
    fn batch_follows_one_that_is_still_uploading() {
        let mut sequencer = Sequencer::default();
        sequencer.on_entered(AT, &batch(0, 5, 3));
        assert_eq!(sequencer.decide(stamp(0, 8), AT, folded(0, 5)), Order::Enter);
        assert_eq!(sequencer.decide(stamp(0, 9), AT, folded(0, 5)), Order::Wait);
    }

    #[test]
    fn repeat_does_not_move_the_expectation_back() {
        let mut sequencer = Sequencer::default();
        sequencer.on_entered(AT, &batch(0, 5, 3));
        sequencer.on_entered(AT, &batch(0, 5, 3));
        assert_eq!(sequencer.decide(stamp(0, 8), AT, folded(0, 5)), Order::Enter);
        sequencer.on_settled(AT, &batch(0, 5, 3));
        assert_eq!(sequencer.decide(stamp(0, 8), AT, folded(0, 5)), Order::Enter);
        sequencer.on_settled(AT, &batch(0, 5, 3));
        assert_eq!(sequencer.decide(stamp(0, 8), AT, folded(0, 5)), Order::Wait);
    }

    #[test]
    fn new_epoch_starts_at_zero() {
        let mut sequencer = Sequencer::default();
        sequencer.on_entered(AT, &batch(0, 5, 3));
        assert_eq!(sequencer.decide(stamp(1, 1), AT, folded(0, 5)), Order::Wait);
        assert_eq!(sequencer.decide(stamp(1, 0), AT, folded(0, 5)), Order::Enter);
    }

    #[test]
    fn sequences_wrap() {
        let mut sequencer = Sequencer::default();
        sequencer.on_entered(AT, &batch(0, i32::MAX, 1));
        assert_eq!(sequencer.decide(stamp(0, 0), AT, folded(0, i32::MAX)), Order::Enter);
        assert_eq!(sequencer.decide(stamp(0, 1), AT, folded(0, i32::MAX)), Order::Wait);
    }

    #[test]
    fn unknown_state_lets_anything_in() {
        assert_eq!(
            Sequencer::default().decide(stamp(3, 77), AT, |_, _| Expected::Anything),
            Order::Enter
        );
    }
}
