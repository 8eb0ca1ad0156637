//! Where to read what is not merged yet.
//!
//! Owns: the read API of the unmerged index, dropping what was merged, export and import for index objects.
//! Does not own: offsets below the first unmerged one (manifests).

use esker_segment::id::{LogIndex, Offset, Timestamp, TopicPartition};
use esker_segment::name::SegmentName;

use super::Fold;
use crate::unmerged::{Location, Placed, Source, Sources, UnmergedBatch, UnmergedEntry, UnmergedStats};

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

    /// The unmerged batch of records with the largest timestamp, the first of several, below an offset.
    #[must_use]
    pub fn locate_max_timestamp(&self, at: TopicPartition, below: Offset) -> Option<Location<'_>> {
        let all = self.locate(at, Offset(0)).take_while(|location| location.base < below);
        let records = all.filter(|location| matches!(location.source, Source::Segment(_)));
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

    /// What commits above `after`, up to `through`, brought and is still alive, in log order: the content of an index
    /// object.
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

    /// Takes an entry of an index object back in. Entries must come in log order, before anything newer is applied; what
    /// was trimmed or deleted since is left out.
    pub fn import_unmerged(&mut self, entry: &UnmergedEntry) {
        let source = match &entry.source {
            Source::Segment(segment) => self.sources.add_info(segment.clone()),
            Source::Marker(marker) => self.sources.add(Source::Marker(*marker)),
        };
        for batch in &entry.batches {
            let Some(partition) = self.topics.partition_mut(batch.partition) else {
                continue;
            };
            let placed = Placed {
                base: batch.base,
                max_timestamp: batch.max_timestamp,
                records: batch.records,
                bytes: batch.bytes,
                position: batch.position,
                source,
            };
            let next = partition
                .unmerged
                .end()
                .unwrap_or(partition.log_start)
                .max(partition.log_start);
            let fits = placed.end() > next && placed.end() <= partition.high_watermark;
            if fits {
                partition.unmerged.push(placed, &mut self.sources);
            }
        }
        self.sources.drop_unused(source);
    }
}
