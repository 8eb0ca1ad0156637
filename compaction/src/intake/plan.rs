//! What a round of merging fresh segments reads, and in which portions. Pure.
//!
//! Owns: the order of commits, which batches still count, how much is held in memory at a time.
//!
//! Invariants: chunks come in log order, and within a partition the offsets of one chunk are all below those of the next.

use std::collections::BTreeMap;

use esker_segment::checkpoint::{IndexObject, IndexedSegment, IndexedTxnEnd};
use esker_segment::id::{LogIndex, Offset, TopicPartition};
use esker_segment::index::BatchMeta;
use esker_segment::manifest::{ManifestSlice, MergedObject};
use esker_segment::name::{ObjectName, SegmentName};
use esker_segment::segment::SEGMENT_HEADER_BYTES;

use crate::edit::NewSlice;
use crate::seams::TopicPolicies;
use crate::settings::MergeSettings;

/// Slices as large as this are as good as larger ones: reading one costs as much as asking for it.
pub const SLICE_BYTES_GOOD: u64 = 1 << 20;
/// A segment of which more than this part is dead does not stay as it is.
const DEAD_PARTS: u64 = 16;

/// What one commit brought into partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its log index.
    pub index: LogIndex,
    /// Its segments, in order.
    pub segments: Vec<IndexedSegment>,
    /// Its ends of transactions.
    pub ends: Vec<IndexedTxnEnd>,
}

/// A batch of a fresh segment that still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceBatch {
    /// Its partition.
    pub at: TopicPartition,
    /// Its first offset.
    pub base: Offset,
    /// Its first byte in the segment.
    pub position: u64,
    /// The rest.
    pub meta: BatchMeta,
}

/// A segment with batches that still count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSegment {
    /// Which one, as a manifest would name it.
    pub object: MergedObject,
    /// Its name.
    pub name: SegmentName,
    /// Batches that still count, by position.
    pub batches: Vec<SourceBatch>,
}

/// A marker that still counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMarker {
    /// Its partition.
    pub at: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// The end of the transaction; its list of markers is empty.
    pub end: IndexedTxnEnd,
}

/// What is merged at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Segments to read.
    pub segments: Vec<SourceSegment>,
    /// Markers between their batches.
    pub markers: Vec<SourceMarker>,
    /// Bytes that will be read.
    pub bytes: u64,
}

/// The commits of an index object above one log index and up to another, in order.
#[must_use]
pub fn commits(object: IndexObject, above: LogIndex, through: LogIndex) -> Vec<Commit> {
    let mut by_index: BTreeMap<LogIndex, Commit> = BTreeMap::new();
    let wanted = |index: LogIndex| above < index && index <= through;
    for segment in object.segments.into_iter().filter(|segment| wanted(segment.log_index)) {
        by_index.entry(segment.log_index).or_default().segments.push(segment);
    }
    for end in object.txn_ends.into_iter().filter(|end| wanted(end.log_index)) {
        by_index.entry(end.log_index).or_default().ends.push(end);
    }
    by_index
        .into_iter()
        .map(|(index, commit)| Commit { index, ..commit })
        .collect()
}

impl SourceSegment {
    /// The batches of a segment that still count; `None` when there are none.
    fn of(segment: &IndexedSegment, keeps: impl Fn(TopicPartition, Offset) -> bool) -> Option<Self> {
        let batches: Vec<SourceBatch> = segment
            .stored()
            .filter(|(at, _, meta, base)| keeps(*at, base.plus(meta.records)))
            .map(|(at, place, meta, base)| SourceBatch {
                at,
                base,
                position: place.position,
                meta: *meta,
            })
            .collect();
        let object = MergedObject {
            name: ObjectName::Segment(segment.name),
            length_bytes: segment.length_bytes,
            index_position: SEGMENT_HEADER_BYTES + segment.index.bytes(),
            content_hash: segment.content_hash,
        };
        (!batches.is_empty()).then_some(Self {
            object,
            name: segment.name,
            batches,
        })
    }

    /// First byte of the first batch that counts, and the byte after the last one.
    ///
    /// # Panics
    /// Never: it has batches.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        let (first, last) = (self.batches.first(), self.batches.last());
        let (first, last) = first.zip(last).expect("a source segment has batches");
        first.position..last.position + u64::from(last.meta.bytes)
    }

    fn bytes(&self) -> u64 {
        let range = self.range();
        range.end - range.start
    }

    /// Whether merging would gain nothing: it is large, its slices are long, nearly all of its data counts, and it holds only
    /// one topic. It is never rewritten, so what shares it would keep its space for as long as any of it counts.
    #[must_use]
    pub fn is_good_enough(&self, policies: &dyn TopicPolicies, settings: &MergeSettings) -> bool {
        let bytes = self.object.index_position.saturating_sub(SEGMENT_HEADER_BYTES);
        if bytes < settings.stay_bytes_min {
            return false;
        }
        let live: u64 = self.batches.iter().map(|batch| u64::from(batch.meta.bytes)).sum();
        let runs = u64::try_from(self.as_slices().len()).unwrap_or(u64::MAX);
        let mut topics = self.batches.iter().map(|batch| batch.at.topic);
        let first = topics.next();
        live >= bytes - bytes / DEAD_PARTS
            && live / runs.max(1) >= SLICE_BYTES_GOOD
            && first.is_some_and(|first| !policies.policy(first).compacts && topics.all(|topic| topic == first))
    }

    /// The segment as a manifest names it when it stays where it is: runs of batches that follow each other both in the
    /// object and by offset.
    #[must_use]
    pub fn as_slices(&self) -> Vec<NewSlice> {
        let mut slices: Vec<NewSlice> = Vec::new();
        for batch in &self.batches {
            let (bytes, records) = (u64::from(batch.meta.bytes), u64::from(batch.meta.records));
            if let Some(NewSlice { slice, .. }) = slices.last_mut()
                && slice.at == batch.at
                && slice.end == batch.base
                && slice.position + slice.bytes == batch.position
            {
                slice.end = batch.base.plus(batch.meta.records);
                slice.bytes += bytes;
                slice.records += records;
                slice.max_timestamp = slice.max_timestamp.max(batch.meta.max_timestamp);
                continue;
            }
            slices.push(NewSlice {
                object: self.object,
                slice: ManifestSlice {
                    at: batch.at,
                    start: batch.base,
                    end: batch.base.plus(batch.meta.records),
                    object: 0,
                    position: batch.position,
                    bytes,
                    records,
                    max_timestamp: batch.meta.max_timestamp,
                },
            });
        }
        slices
    }
}

/// Divides commits into chunks.
#[derive(Debug)]
pub struct Chunker {
    bytes_max: u64,
    chunk: Chunk,
}

impl Chunker {
    /// Chunks hold about `bytes_max`, and at least one segment.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            chunk: Chunk::default(),
        }
    }

    /// Bytes of the chunk that is not full yet.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunk.bytes
    }

    /// Adds a commit, as far as it counts, and gives the chunks that are full.
    pub fn add(&mut self, commit: Commit, keeps: impl Fn(TopicPartition, Offset) -> bool) -> Vec<Chunk> {
        let mut full = Vec::new();
        let mut markers: Vec<SourceMarker> = commit
            .ends
            .into_iter()
            .flat_map(spread)
            .filter(|marker| keeps(marker.at, marker.offset.plus(1)))
            .collect();
        for segment in &commit.segments {
            let Some(segment) = SourceSegment::of(segment, &keeps) else {
                continue;
            };
            if !self.chunk.segments.is_empty() && self.chunk.bytes + segment.bytes() > self.bytes_max {
                // Markers of this commit lie among its batches: those that do must not come later.
                let mut done = std::mem::take(&mut self.chunk);
                let last = last_bases(&done);
                let before = |marker: &mut SourceMarker| last.get(&marker.at).is_some_and(|base| *base > marker.offset);
                done.markers.extend(markers.extract_if(.., before));
                full.push(done);
            }
            self.chunk.bytes += segment.bytes();
            self.chunk.segments.push(segment);
        }
        self.chunk.markers.extend(markers);
        full
    }

    /// What is left.
    #[must_use]
    pub fn finish(self) -> Option<Chunk> {
        (!self.chunk.segments.is_empty() || !self.chunk.markers.is_empty()).then_some(self.chunk)
    }
}

fn spread(mut end: IndexedTxnEnd) -> impl Iterator<Item = SourceMarker> {
    let markers = std::mem::take(&mut end.markers);
    markers.into_iter().map(move |(at, offset)| SourceMarker {
        at,
        offset,
        end: end.clone(),
    })
}

/// The last base offset of each partition in a chunk.
fn last_bases(chunk: &Chunk) -> BTreeMap<TopicPartition, Offset> {
    let batches = chunk.segments.iter().flat_map(|segment| &segment.batches);
    batches.map(|batch| (batch.at, batch.base)).collect()
}
