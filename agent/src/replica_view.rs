//! What the request handlers want to know of the fold, as owned values.
//!
//! Owns: short looks at the fold under its lock. No lock is held while anything waits.
//! Does not own: the fold (`esker_metadata::replica`).

use std::sync::Arc;

use esker_metadata::replica::Replica;
use esker_model::AbortedTxn;
use esker_model::unmerged::{Location, Source};
use esker_segment::id::{Offset, Sequence, Timestamp, TopicPartition};
use esker_segment::index::ProducerStamp;
use esker_segment::name::ObjectName;

use crate::fetch::read::{Place, PlaceSource};
use crate::produce::sequencer::Expected;

/// How far a consumer may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// To the high watermark.
    ReadUncommitted,
    /// To the last stable offset.
    ReadCommitted,
}

/// What there is of a partition from an offset on.
#[derive(Clone, Debug)]
pub struct Located {
    /// Log start offset.
    pub log_start: Offset,
    /// Last stable offset.
    pub last_stable: Offset,
    /// High watermark.
    pub high_watermark: Offset,
    /// The offset that this reader may not reach.
    pub readable_end: Offset,
    /// Unmerged batches from the one that contains the offset on, about as many bytes as asked for.
    pub places: Vec<Place>,
    /// The offset lies below the unmerged batches: the manifest knows.
    pub below_unmerged: bool,
}

/// Looks at the fold.
#[derive(Clone)]
pub struct View {
    replica: Arc<Replica>,
}

impl Located {
    /// Bytes of the places.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.places.iter().map(|place| u64::from(place.bytes)).sum()
    }
}

impl View {
    /// Of this replica.
    #[must_use]
    pub fn new(replica: Arc<Replica>) -> Self {
        Self { replica }
    }

    /// The batches of a partition from an offset on: at least one if there is one, and about `bytes_max` bytes. `None` when
    /// there is no such partition.
    #[must_use]
    pub fn locate(&self, at: TopicPartition, from: Offset, isolation: Isolation, bytes_max: u64) -> Option<Located> {
        let fold = self.replica.fold();
        let offsets = fold.partition(at)?;
        let readable_end = match isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        let mut located = Located {
            log_start: offsets.log_start,
            last_stable: offsets.last_stable,
            high_watermark: offsets.high_watermark,
            readable_end,
            places: Vec::new(),
            below_unmerged: false,
        };
        if from < offsets.log_start || from >= readable_end {
            return Some(located);
        }
        located.below_unmerged = fold.unmerged_start(at).is_some_and(|start| from < start);
        if !located.below_unmerged {
            let mut bytes = 0;
            for location in fold
                .locate(at, from)
                .take_while(|location| location.base < readable_end)
            {
                bytes += u64::from(location.bytes);
                if !located.places.is_empty() && bytes > bytes_max {
                    break;
                }
                located.places.push(place(&location));
            }
        }
        Some(located)
    }

    /// Aborted transactions of a range.
    #[must_use]
    pub fn aborted(&self, at: TopicPartition, from: Offset, upto: Offset) -> Vec<AbortedTxn> {
        self.replica.fold().aborted(at, from, upto).copied().collect()
    }

    /// The log start offset.
    #[must_use]
    pub fn log_start(&self, at: TopicPartition) -> Option<Offset> {
        self.replica.fold().partition(at).map(|partition| partition.log_start)
    }

    /// Where the unmerged batches of a partition begin.
    #[must_use]
    pub fn unmerged_start(&self, at: TopicPartition) -> Option<Offset> {
        self.replica.fold().unmerged_start(at)
    }

    /// The first unmerged batch that reaches a timestamp.
    #[must_use]
    pub fn locate_timestamp(&self, at: TopicPartition, from: Offset, timestamp: Timestamp) -> Option<Place> {
        self.replica
            .fold()
            .locate_timestamp(at, from, timestamp)
            .map(|location| place(&location))
    }

    /// The unmerged batch with the largest timestamp among those that begin in `[from, below)`, with that timestamp.
    #[must_use]
    pub fn locate_max_timestamp(&self, at: TopicPartition, from: Offset, below: Offset) -> Option<(Place, Timestamp)> {
        let fold = self.replica.fold();
        fold.locate_max_timestamp(at, from, below)
            .map(|location| (place(&location), location.max_timestamp))
    }

    /// What the fold would accept next of a producer.
    #[must_use]
    pub fn expected(&self, stamp: ProducerStamp, at: TopicPartition) -> Expected {
        let fold = self.replica.fold();
        match fold.producer(at, stamp.id) {
            Some(producer) => Expected::Next {
                epoch: producer.epoch,
                sequence: producer.next_sequence,
            },
            None if fold.may_begin_anywhere(at, stamp.id) || stamp.id >= fold.next_producer_id() => Expected::Anything,
            // Its first batch begins at 0; one that does not has overtaken it.
            None => Expected::Next {
                epoch: stamp.epoch,
                sequence: Sequence(0),
            },
        }
    }
}

fn place(location: &Location<'_>) -> Place {
    let source = match location.source {
        Source::Segment(segment) => PlaceSource::Object {
            name: ObjectName::Segment(segment.name),
            length_bytes: segment.bytes,
            position: u64::from(location.position),
            epoch: Some(segment.name.incarnation),
        },
        Source::Marker(marker) => PlaceSource::Marker(*marker),
    };
    Place {
        base: location.base,
        records: location.records,
        bytes: location.bytes,
        source,
    }
}
