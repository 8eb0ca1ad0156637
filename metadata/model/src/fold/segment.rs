//! Applying a segment: the hot path of the fold.
//!
//! Owns: the order of checks for a batch, storing it.
//! Invariants: LOG-2, IDM-1, TXN-2. A batch that is not stored changes nothing.

use esker_segment::id::{LogIndex, Sequence, TopicId, TopicPartition};
use esker_segment::index::{BatchMeta, ProducerStamp};
use esker_segment::segment::SEGMENT_HEADER_BYTES;

use super::Fold;
use crate::entry::{Limits, SegmentEntry};
use crate::partition::Partition;
use crate::producer::{EpochCheck, Producers};
use crate::topic::Topic;
use crate::unmerged::{Placed, SegmentInfo, Source, SourceId, Sources};
use crate::verdict::{BatchVerdict, EntryVerdict, InvalidTxn};
use crate::window::{Window, WindowBatch, WindowCheck, WindowTable};

/// What storing a batch needs besides its partition.
struct Appender<'a> {
    producers: &'a mut Producers,
    windows: &'a mut WindowTable,
    sources: &'a mut Sources,
    limits: &'a Limits,
    source: SourceId,
    index: LogIndex,
}

/// Where a batch goes.
struct Target<'a> {
    at: TopicPartition,
    deletion_before: LogIndex,
    partition: &'a mut Partition,
}

impl Fold {
    /// One verdict per batch. A segment whose batches do not fit in its bytes is rejected.
    pub(super) fn apply_segment(&mut self, segment: &SegmentEntry, advanced: &mut Vec<TopicPartition>) -> EntryVerdict {
        let index = &segment.index;
        let end = SEGMENT_HEADER_BYTES.saturating_add(index.bytes());
        if end > segment.bytes || segment.bytes > u64::from(u32::MAX) {
            return EntryVerdict::Rejected;
        }
        let zone = self.sources.zone(&segment.zone);
        let source = self.sources.add(Source::Segment(SegmentInfo {
            name: segment.name,
            bytes: segment.bytes,
            content_hash: segment.content_hash,
            zone,
            confirmed: segment.confirmed,
            log_index: self.index,
        }));
        let mut appender = Appender {
            producers: &mut self.producers,
            windows: &mut self.windows,
            sources: &mut self.sources,
            limits: &self.limits,
            source,
            index: self.index,
        };
        let mut verdicts = Vec::with_capacity(index.batches());
        let mut position = u32::try_from(SEGMENT_HEADER_BYTES).expect("a header is small");
        // Runs are sorted by topic, so most find theirs where the one before did.
        let mut found: Option<(TopicId, Option<&mut Topic>)> = None;
        for run in &index.runs {
            if found.as_ref().is_none_or(|(id, _)| *id != run.topic) {
                found = Some((run.topic, self.topics.by_id.get_mut(&run.topic)));
            }
            let topic = found.as_mut().and_then(|(_, topic)| topic.as_deref_mut());
            let target = topic.and_then(|topic| {
                let deletion_before = topic.deletion_before;
                let partition = topic.partition_mut(run.partition)?;
                Some(Target {
                    at: run.at(),
                    deletion_before,
                    partition,
                })
            });
            let Some(mut target) = target else {
                verdicts.extend(run.batches.iter().map(|_| BatchVerdict::NoSuchPartition));
                position += run.batches.iter().map(|batch| batch.bytes).sum::<u32>();
                continue;
            };
            let before = target.partition.high_watermark;
            for batch in &run.batches {
                verdicts.push(appender.append(&mut target, batch, position));
                position += batch.bytes;
            }
            if target.partition.high_watermark > before {
                advanced.push(run.at());
            }
        }
        self.sources.drop_unused(source);
        EntryVerdict::Segment(verdicts)
    }
}

impl Appender<'_> {
    fn append(&mut self, target: &mut Target<'_>, batch: &BatchMeta, position: u32) -> BatchVerdict {
        if batch.check().is_err() {
            return BatchVerdict::Malformed;
        }
        if let Some(stamp) = batch.producer
            && let Err(refused) = self.check(target, stamp, batch.records)
        {
            return refused;
        }
        let partition = &mut *target.partition;
        let Some(base) = partition.take(batch.records) else {
            return BatchVerdict::Malformed;
        };
        let placed = Placed {
            base,
            max_timestamp: batch.max_timestamp,
            records: batch.records,
            bytes: batch.bytes,
            position,
            source: self.source,
        };
        partition.unmerged.push(placed, self.sources);
        if let Some(stamp) = batch.producer {
            self.note(
                target,
                stamp,
                WindowBatch {
                    base,
                    records: batch.records,
                },
            );
        }
        BatchVerdict::Stored { base }
    }

    /// Whether a batch of a producer with an id may be stored.
    fn check(&self, target: &Target<'_>, stamp: ProducerStamp, records: u32) -> Result<(), BatchVerdict> {
        if !self.producers.is_granted(stamp.id) {
            return Err(BatchVerdict::UnknownProducer);
        }
        let known = self.producers.known.get(&stamp.id);
        if stamp.transactional || known.is_some() {
            self.check_epoch(stamp)?;
        }
        self.check_sequence(target, stamp, records)?;
        let open = known.and_then(|producer| producer.open.as_ref());
        let joined = open.filter(|open| open.partitions.contains_key(&target.at));
        match joined {
            Some(_) if !stamp.transactional => Err(BatchVerdict::InvalidTxn(InvalidTxn::NotTransactional)),
            Some(open) if open.epoch != stamp.epoch => Err(BatchVerdict::InvalidTxn(InvalidTxn::StillOpen)),
            None if stamp.transactional => {
                let max = self.limits.transactional_producers_max;
                let join = self.producers.check_join(stamp.id, stamp.epoch, stamp.verified_at, max);
                join.map_err(BatchVerdict::InvalidTxn)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_epoch(&self, stamp: ProducerStamp) -> Result<(), BatchVerdict> {
        match self.producers.check_epoch(stamp.id, stamp.epoch) {
            EpochCheck::Current => Ok(()),
            EpochCheck::Fenced { current } => Err(BatchVerdict::Fenced { current }),
            EpochCheck::Ahead { current } => Err(BatchVerdict::InvalidTxn(InvalidTxn::EpochAhead { current })),
            EpochCheck::Expired => Err(BatchVerdict::InvalidTxn(InvalidTxn::Expired)),
            EpochCheck::Unknown => Err(BatchVerdict::UnknownProducer),
        }
    }

    fn check_sequence(&self, target: &Target<'_>, stamp: ProducerStamp, records: u32) -> Result<(), BatchVerdict> {
        let found = stamp.first_sequence;
        let window = target
            .partition
            .window_slot
            .and_then(|slot| self.windows.get(slot, stamp.id));
        let check = match window {
            Some(window) => window.check(stamp.epoch, found, records),
            None if found == Sequence(0) || self.producers.may_begin_anywhere(stamp.id, target.deletion_before) => {
                WindowCheck::Next
            }
            None => WindowCheck::OutOfOrder { expected: Sequence(0) },
        };
        match check {
            WindowCheck::Next => Ok(()),
            WindowCheck::Duplicate { base } => Err(BatchVerdict::Duplicate { base }),
            WindowCheck::OutOfOrder { expected } => Err(BatchVerdict::OutOfOrder { expected, found }),
            WindowCheck::Fenced { current } => Err(BatchVerdict::Fenced { current }),
        }
    }

    /// Remembers a stored batch of a producer with an id.
    fn note(&mut self, target: &mut Target<'_>, stamp: ProducerStamp, batch: WindowBatch) {
        let slot = *target
            .partition
            .window_slot
            .get_or_insert_with(|| self.windows.new_slot());
        if let Some(window) = self.windows.get_mut(slot, stamp.id) {
            window.push(stamp.epoch, stamp.first_sequence, batch, self.index);
        } else {
            self.make_room();
            let mut window = Window::new(slot, stamp.id);
            window.push(stamp.epoch, stamp.first_sequence, batch, self.index);
            self.windows.insert(window);
        }
        if stamp.transactional {
            let open = self.producers.join(stamp.id, stamp.epoch, self.index);
            if let std::collections::btree_map::Entry::Vacant(first) = open.partitions.entry(target.at) {
                first.insert(batch.base);
                target.partition.open_txn(stamp.id, batch.base);
            }
        }
    }

    /// At the limit of windows the longest idle are forgotten, as `ExpireProducers` does in good time.
    fn make_room(&mut self) {
        let Some(below) = self.windows.forced_expiry(self.limits.producer_windows_max, self.index) else {
            return;
        };
        let producers = &*self.producers;
        self.windows.expire(below, |producer| producers.is_open(producer));
        self.producers.windows_expired_below(below);
    }
}
