//! The unmerged index: where each batch lies that no manifest knows yet.
//!
//! Owns: per partition the sorted batches (32 bytes each), the segments they lie in, markers that have no
//! bytes anywhere, what is dead in those segments.
//! Does not own: offsets (`partition`), merged data (manifests).
//!
//! Not part of the verdict state: it shrinks when the root says that a range was merged, which is no log entry, so it
//! is outside the digest. Handles of sources depend on history and never leave this module.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use esker_segment::id::{IncarnationNumber, LogIndex, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use esker_segment::name::SegmentName;

use crate::entry::TxnOutcome;

/// Bytes of the batch that holds a transaction marker: a header of 61 bytes and one control record of 17.
pub const MARKER_BYTES: u32 = 78;

/// Where the batches of one entry lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a segment.
    Segment(SegmentInfo),
    /// Nowhere: the marker batch is a function of these fields and its offset.
    Marker(MarkerInfo),
}

/// A segment that holds unmerged batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Which object.
    pub name: SegmentName,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its content hash.
    pub content_hash: u128,
    /// Zone of its writer; empty for none.
    pub zone: Arc<str>,
    /// Which replicas confirmed it, as in the entry.
    pub confirmed: u64,
    /// The commit that holds its entry.
    pub log_index: LogIndex,
}

/// The end of a transaction, as its marker batches show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerInfo {
    /// Whose transaction ended.
    pub producer: ProducerId,
    /// The epoch in the marker: the producer's epoch from there on (KIP-890).
    pub epoch: ProducerEpoch,
    /// Commit or abort.
    pub outcome: TxnOutcome,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The incarnation in which it ended: the leader epoch of the marker batch.
    pub incarnation: IncarnationNumber,
    /// The commit that holds the `TxnEnd`.
    pub log_index: LogIndex,
}

impl Source {
    /// The commit that brought it.
    #[must_use]
    pub fn log_index(&self) -> LogIndex {
        match self {
            Self::Segment(segment) => segment.log_index,
            Self::Marker(marker) => marker.log_index,
        }
    }

    /// Leader epoch of its batches.
    #[must_use]
    pub fn incarnation(&self) -> IncarnationNumber {
        match self {
            Self::Segment(segment) => segment.name.incarnation,
            Self::Marker(marker) => marker.incarnation,
        }
    }
}

/// One unmerged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// Offset of its first record.
    pub base: Offset,
    /// Offsets it takes.
    pub records: u32,
    /// Its length; `MARKER_BYTES` for a marker.
    pub bytes: u32,
    /// Position of its first byte in the object; 0 for a marker.
    pub position: u32,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
    /// The segment it lies in, or the marker it is.
    pub source: &'a Source,
}

impl Location<'_> {
    /// The offset after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.base.plus(self.records)
    }
}

/// How large the unmerged index is: for the bound, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnmergedStats {
    /// Batches, markers included.
    pub batches: u64,
    /// Bytes of these batches in segments.
    pub live_bytes: u64,
    /// Segments that hold any of them.
    pub segments: u64,
    /// Bytes of these segments that no partition refers to: refused or trimmed batches, index, header.
    pub dead_bytes: u64,
}

/// Everything unmerged that one entry brought; what an index object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmergedEntry {
    /// Where its batches lie.
    pub source: Source,
    /// Its live batches, sorted by (topic id, partition, offset).
    pub batches: Vec<UnmergedBatch>,
}

/// One batch of an [`UnmergedEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmergedBatch {
    /// The partition it belongs to.
    pub partition: TopicPartition,
    /// Offset of its first record.
    pub base: Offset,
    /// Offsets it takes.
    pub records: u32,
    /// Its length in bytes.
    pub bytes: u32,
    /// Position of its first byte in the object.
    pub position: u32,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
}

/// Names a source within the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceId(u32);

/// One batch as a partition remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) base: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) records: u32,
    pub(crate) bytes: u32,
    pub(crate) position: u32,
    pub(crate) source: SourceId,
}

impl Placed {
    pub(crate) fn end(&self) -> Offset {
        self.base.plus(self.records)
    }
}

#[derive(Clone, Debug)]
struct Held {
    source: Source,
    batches: u32,
    live_bytes: u64,
}

/// The sources of all unmerged batches, each kept as long as a batch refers to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    held: Vec<Option<Held>>,
    free: Vec<u32>,
    zones: BTreeSet<Arc<str>>,
    stats: UnmergedStats,
}

fn at(id: SourceId) -> usize {
    usize::try_from(id.0).expect("the table fits memory")
}

impl Sources {
    /// Adds a source; it must get a batch or be dropped with [`Sources::drop_unused`].
    pub(crate) fn add(&mut self, source: Source) -> SourceId {
        let held = Some(Held {
            source,
            batches: 0,
            live_bytes: 0,
        });
        if let Some(id) = self.free.pop() {
            self.held[at(SourceId(id))] = held;
            return SourceId(id);
        }
        let id = SourceId(u32::try_from(self.held.len()).expect("unmerged segments are bounded"));
        self.held.push(held);
        id
    }

    /// The one copy of a zone's name.
    pub(crate) fn zone(&mut self, zone: &str) -> Arc<str> {
        if let Some(known) = self.zones.get(zone) {
            return Arc::clone(known);
        }
        let added: Arc<str> = zone.into();
        self.zones.insert(Arc::clone(&added));
        added
    }

    fn held(&self, id: SourceId) -> &Held {
        self.held[at(id)].as_ref().expect("a batch refers to it")
    }

    pub(crate) fn source(&self, id: SourceId) -> &Source {
        &self.held(id).source
    }

    /// A batch refers to the source.
    pub(crate) fn retain(&mut self, id: SourceId, bytes: u32) {
        let held = self.held[at(id)].as_mut().expect("just added");
        let stats = &mut self.stats;
        stats.batches += 1;
        if let Source::Segment(segment) = &held.source {
            if held.batches == 0 {
                stats.segments += 1;
                stats.dead_bytes += segment.bytes;
            }
            held.live_bytes += u64::from(bytes);
            stats.live_bytes += u64::from(bytes);
            stats.dead_bytes = stats.dead_bytes.saturating_sub(u64::from(bytes));
        }
        held.batches += 1;
    }

    /// A batch refers to the source no longer.
    pub(crate) fn release(&mut self, id: SourceId, bytes: u32) {
        let held = self.held[at(id)].as_mut().expect("a batch referred to it");
        let stats = &mut self.stats;
        stats.batches -= 1;
        held.batches -= 1;
        if let Source::Segment(segment) = &held.source {
            held.live_bytes -= u64::from(bytes);
            stats.live_bytes -= u64::from(bytes);
            stats.dead_bytes += u64::from(bytes);
            if held.batches == 0 {
                stats.segments -= 1;
                stats.dead_bytes = stats.dead_bytes.saturating_sub(segment.bytes);
            }
        }
        if held.batches == 0 {
            self.remove(id);
        }
    }

    /// Forgets a source that got no batch.
    pub(crate) fn drop_unused(&mut self, id: SourceId) {
        if self.held(id).batches == 0 {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: SourceId) {
        self.held[at(id)] = None;
        self.free.push(id.0);
    }

    pub(crate) fn stats(&self) -> UnmergedStats {
        self.stats
    }

    /// Dead bytes of each segment that holds live ones, in log order.
    pub(crate) fn dead(&self) -> Vec<(SegmentName, u64)> {
        let dead = self.held.iter().flatten().filter_map(|held| match &held.source {
            Source::Segment(segment) => {
                let dead_bytes = segment.bytes.saturating_sub(held.live_bytes);
                Some((segment.log_index, segment.name, dead_bytes))
            }
            Source::Marker(_) => None,
        });
        let mut dead: Vec<_> = dead.collect();
        dead.sort_unstable();
        dead.into_iter().map(|(_, name, bytes)| (name, bytes)).collect()
    }

    /// Groups batches, sorted by partition and offset, by their source: in log order, and within a commit by their first
    /// batch.
    pub(crate) fn group(&self, batches: Vec<(SourceId, UnmergedBatch)>) -> Vec<UnmergedEntry> {
        let mut by_source: BTreeMap<SourceId, UnmergedEntry> = BTreeMap::new();
        for (id, batch) in batches {
            let empty = || UnmergedEntry {
                source: self.source(id).clone(),
                batches: Vec::new(),
            };
            by_source.entry(id).or_insert_with(empty).batches.push(batch);
        }
        let mut entries: Vec<_> = by_source.into_values().collect();
        entries.sort_by_key(|entry| {
            let first = entry.batches.first().map(|batch| (batch.partition, batch.base));
            (entry.source.log_index(), first)
        });
        entries
    }
}

/// The unmerged batches of one partition, sorted by offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unmerged {
    batches: VecDeque<Placed>,
}

impl Unmerged {
    pub(crate) fn push(&mut self, placed: Placed, sources: &mut Sources) {
        sources.retain(placed.source, placed.bytes);
        self.batches.push_back(placed);
    }

    /// Offset of the first unmerged batch.
    pub(crate) fn start(&self) -> Option<Offset> {
        self.batches.front().map(|placed| placed.base)
    }

    /// Offset after the last unmerged batch.
    pub(crate) fn end(&self) -> Option<Offset> {
        self.batches.back().map(Placed::end)
    }

    /// The batches from the one that contains an offset on.
    pub(crate) fn from(&self, offset: Offset) -> impl Iterator<Item = &Placed> {
        let first = self.batches.partition_point(|placed| placed.end() <= offset);
        self.batches.range(first..)
    }

    /// The batches brought by commits above an index.
    pub(crate) fn after(&self, index: LogIndex, sources: &Sources) -> impl Iterator<Item = &Placed> {
        let first = self
            .batches
            .partition_point(|placed| sources.source(placed.source).log_index() <= index);
        self.batches.range(first..)
    }

    /// Drops the batches that lie wholly below an offset.
    pub(crate) fn drop_below(&mut self, offset: Offset, sources: &mut Sources) {
        self.drop_while(sources, |placed, _| placed.end() <= offset);
    }

    /// Drops the batches that commits up to an index brought.
    pub(crate) fn drop_through(&mut self, index: LogIndex, sources: &mut Sources) {
        self.drop_while(sources, |placed, sources| {
            sources.source(placed.source).log_index() <= index
        });
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, sources: &mut Sources) {
        self.drop_while(sources, |_, _| true);
    }

    fn drop_while(&mut self, sources: &mut Sources, gone: impl Fn(&Placed, &Sources) -> bool) {
        while let Some(placed) = self.batches.front().copied().filter(|placed| gone(placed, sources)) {
            self.batches.pop_front();
            sources.release(placed.source, placed.bytes);
        }
        // Most partitions are idle most of the time: they must not keep the memory of their busiest moment.
        if self.batches.capacity() > 4 * self.batches.len() {
            self.batches.shrink_to(2 * self.batches.len());
        }
    }
}
