//! Where to read what is not merged yet.
//!
//! Owns: the read API of the unmerged index, dropping what was merged, the dump of the index, import of index objects.
//! Does not own: offsets below the first unmerged one (manifests).

use esker_segment::checkpoint::{IndexObject, IndexedSegment, IndexedTxnEnd};
use esker_segment::id::{LogIndex, Offset, Timestamp, TopicPartition};
use esker_segment::name::SegmentName;

use super::Fold;
use crate::entry::TxnOutcome;
use crate::unmerged::{
    Location, MARKER_BYTES, MarkerInfo, Placed, SegmentInfo, Source, SourceId, Sources, UnmergedBatch, UnmergedEntry,
    UnmergedStats,
};

fn locate<'a>(placed: &Placed, sources: &'a Sources) -> Location<'a> {
    Location {
        base: placed.base,
        records: placed.records,
        bytes: placed.bytes,
        position: placed.position,
        max_timestamp: placed.max_timestamp,
        source: sources.source(placed.source),
    }
}

impl Fold {
    /// The first offset that the unmerged index knows of a partition: its high watermark when there is none. What lies
    /// below, and at or above the log start, is found through manifests.
    #[must_use]
    pub fn unmerged_start(&self, at: TopicPartition) -> Option<Offset> {
        self.topics
            .partition(at)
            .map(|partition| partition.unmerged.start().unwrap_or(partition.high_watermark))
    }

    /// The unmerged batches of a partition from the one that contains `offset` on, markers included. When `offset` is
    /// below [`Fold::unmerged_start`] it begins there.
    pub fn locate(&self, at: TopicPartition, offset: Offset) -> impl Iterator<Item = Location<'_>> {
        let batches = self
            .topics
            .partition(at)
            .into_iter()
            .flat_map(move |partition| partition.unmerged.from(offset));
        batches.map(|placed| locate(placed, &self.sources))
    }

    /// The first unmerged batch of records at or above `from` that reaches a timestamp. Its records say which one does.
    #[must_use]
    pub fn locate_timestamp(&self, at: TopicPartition, from: Offset, timestamp: Timestamp) -> Option<Location<'_>> {
        let records = |location: &Location<'_>| matches!(location.source, Source::Segment(_));
        self.locate(at, from)
            .filter(records)
            .find(|location| location.max_timestamp >= timestamp)
    }

    /// The unmerged batch of records with the largest timestamp, the first of several, among those that begin in
    /// `[from, below)`. Where a log start offset cuts a batch, its header says nothing of what is left: look into it.
    #[must_use]
    pub fn locate_max_timestamp(&self, at: TopicPartition, from: Offset, below: Offset) -> Option<Location<'_>> {
        let all = self.locate(at, from).take_while(|location| location.base < below);
        let records = all.filter(|location| location.base >= from && matches!(location.source, Source::Segment(_)));
        records.reduce(|best, next| {
            if next.max_timestamp > best.max_timestamp {
                next
            } else {
                best
            }
        })
    }

    /// Drops what commits up to an index brought: the root says that it is merged.
    pub fn forget_merged(&mut self, through: LogIndex) {
        for partition in self.topics.by_id.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.unmerged.drop_through(through, &mut self.sources);
        }
    }

    /// Size of the unmerged index.
    #[must_use]
    pub fn unmerged_stats(&self) -> UnmergedStats {
        self.sources.stats()
    }

    /// Segments that hold unmerged batches, in log order, with their bytes that nothing refers to.
    #[must_use]
    pub fn dead_bytes(&self) -> Vec<(SegmentName, u64)> {
        self.sources.dead()
    }

    /// What commits above `after`, up to `through`, brought and is still alive, in log order.
    #[must_use]
    pub fn export_unmerged(&self, after: LogIndex, through: LogIndex) -> Vec<UnmergedEntry> {
        let mut batches = Vec::new();
        for (at, partition) in self.topics.partitions() {
            let after = partition.unmerged.after(after, &self.sources);
            for placed in after.take_while(|placed| self.sources.source(placed.source).log_index() <= through) {
                let batch = UnmergedBatch {
                    partition: at,
                    base: placed.base,
                    records: placed.records,
                    bytes: placed.bytes,
                    position: placed.position,
                    max_timestamp: placed.max_timestamp,
                };
                batches.push((placed.source, batch));
            }
        }
        self.sources.group(batches)
    }

    /// Takes an index object back in, after the state was loaded and before anything newer is applied. Objects must come
    /// in log order. What was trimmed or deleted since is left out, and what the root says is merged.
    pub fn import_index(&mut self, object: &IndexObject, merged_through: LogIndex) {
        let segments = object
            .segments
            .iter()
            .map(|segment| (segment.log_index, Imported::Segment(segment)));
        let ends = object.txn_ends.iter().map(|end| (end.log_index, Imported::TxnEnd(end)));
        let mut all: Vec<_> = segments
            .chain(ends)
            .filter(|(index, _)| *index > merged_through)
            .collect();
        all.sort_by_key(|(index, _)| *index);
        for commit in all.chunk_by(|one, next| one.0 == next.0) {
            let mut batches: Vec<(TopicPartition, Placed)> = Vec::new();
            let mut added = Vec::new();
            for (_, imported) in commit {
                added.push(match imported {
                    Imported::Segment(segment) => self.import_segment(segment, &mut batches),
                    Imported::TxnEnd(end) => self.import_txn_end(end, &mut batches),
                });
            }
            // Entries of one commit interleave in a partition; its offsets say how.
            batches.sort_by_key(|(at, placed)| (*at, placed.base));
            batches.into_iter().for_each(|(at, placed)| self.import(at, placed));
            added.into_iter().for_each(|source| self.sources.drop_unused(source));
        }
    }

    fn import_segment(&mut self, segment: &IndexedSegment, batches: &mut Vec<(TopicPartition, Placed)>) -> SourceId {
        let zone = self.sources.zone(&segment.zone);
        let source = self.sources.add(Source::Segment(SegmentInfo {
            name: segment.name,
            bytes: segment.length_bytes,
            content_hash: segment.content_hash,
            zone,
            confirmed: segment.confirmed,
            log_index: segment.log_index,
        }));
        for (at, place, meta, base) in segment.stored() {
            let Ok(position) = u32::try_from(place.position) else {
                continue;
            };
            let (records, bytes, max_timestamp) = (meta.records, meta.bytes, meta.max_timestamp);
            batches.push((
                at,
                Placed {
                    base,
                    max_timestamp,
                    records,
                    bytes,
                    position,
                    source,
                },
            ));
        }
        source
    }

    fn import_txn_end(&mut self, end: &IndexedTxnEnd, batches: &mut Vec<(TopicPartition, Placed)>) -> SourceId {
        let source = self.sources.add(Source::Marker(MarkerInfo {
            producer: end.producer,
            epoch: end.epoch,
            outcome: if end.committed {
                TxnOutcome::Commit
            } else {
                TxnOutcome::Abort
            },
            timestamp: end.timestamp,
            incarnation: self.incarnation_at(end.log_index),
            log_index: end.log_index,
        }));
        batches.extend(end.markers.iter().map(|(at, base)| {
            (
                *at,
                Placed {
                    base: *base,
                    max_timestamp: end.timestamp,
                    records: 1,
                    bytes: MARKER_BYTES,
                    position: 0,
                    source,
                },
            )
        }));
        source
    }

    fn import(&mut self, at: TopicPartition, placed: Placed) {
        let brought_at = self.sources.source(placed.source).log_index();
        let topic = self
            .topics
            .by_id
            .get_mut(&at.topic)
            .filter(|topic| topic.created_at <= brought_at);
        let Some(partition) = topic.and_then(|topic| topic.partition_mut(at.partition)) else {
            return;
        };
        let in_order = partition.unmerged.end().is_none_or(|end| placed.base >= end);
        if in_order && placed.end() > partition.log_start && placed.end() <= partition.high_watermark {
            partition.unmerged.push(placed, &mut self.sources);
        }
    }
}

enum Imported<'a> {
    Segment(&'a IndexedSegment),
    TxnEnd(&'a IndexedTxnEnd),
}
