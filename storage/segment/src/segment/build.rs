//! Writing segments: sorts batches by partition and lays them out in few chunks.
//!
//! Owns: the order of batches, which of them are copied together, where each came to lie.
//! Does not own: the upload.
//!
//! Invariants: batches of one partition keep the order in which they were pushed; a large batch is never copied, many
//! small ones never become many chunks.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::frame::{Footer, OrderList, SegmentHeader};
use super::{SEGMENT_HEADER_BYTES, Totals};
use crate::checksum::content_hash;
use crate::id::{IncarnationNumber, Offset, TopicPartition};
use crate::index::{BatchIndex, BatchMeta, BatchPlace, Run};
use crate::merged::{MergedIndex, PlacedBatch, Slice};
use crate::wire::{Encoder, FormatError};

/// Smaller batches are copied into a shared chunk, so that an 8 MiB segment has at most 2,048 chunks, and no small batch keeps the whole
/// of a request in memory. What clients gather by default, up to 16 KiB, is not copied.
pub const COPY_BELOW_BYTES: usize = 8 * 1024;

/// What most tails fit into, and what a batch adds to the index.
const TAIL_BYTES: usize = 512;
const BATCH_BYTES: usize = 16;

/// Gathers the batches of a fresh segment.
#[derive(Clone, Debug, Default)]
pub struct SegmentBuilder {
    batches: Vec<Pushed>,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Pushed {
    at: TopicPartition,
    meta: BatchMeta,
    data: Bytes,
}

/// A fresh segment, ready to be written.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its bytes, in order.
    pub chunks: Vec<Bytes>,
    /// Sum of the lengths of the chunks.
    pub length_bytes: u64,
    /// What goes into the commit record.
    pub index: BatchIndex,
    /// XXH3-128 of the encoded index.
    pub content_hash: u128,
    /// Where each batch lies, in the order in which they were pushed.
    pub places: Vec<BatchPlace>,
}

impl SegmentBuilder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch; its bytes are not looked at.
    ///
    /// # Errors
    /// `Invalid` when the meta data cannot be that of a batch, or of one of this length.
    pub fn push(&mut self, at: TopicPartition, meta: BatchMeta, data: Bytes) -> Result<(), FormatError> {
        check_push(&meta, data.len())?;
        self.bytes += u64::from(meta.bytes);
        self.batches.push(Pushed { at, meta, data });
        Ok(())
    }

    /// Number of batches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lays the segment out.
    ///
    /// # Panics
    /// When the order list does not ascend.
    #[must_use]
    pub fn finish(&self, header: &SegmentHeader, order: &OrderList) -> Segment {
        let mut sorted: Vec<usize> = (0..self.batches.len()).collect();
        sorted.sort_by_key(|&pushed| self.batches[pushed].at);
        let mut layout = Layout::new(
            header,
            false,
            self.batches.iter().map(|batch| ([].as_slice(), &batch.data)),
        );
        let mut index = BatchIndex::default();
        let mut places = vec![
            BatchPlace {
                run: 0,
                batch: 0,
                position: 0
            };
            sorted.len()
        ];
        for of_run in sorted.chunk_by(|one, next| self.batches[*one].at == self.batches[*next].at) {
            let at = self.batches[of_run[0]].at;
            let mut batches = Vec::with_capacity(of_run.len());
            for &pushed in of_run {
                let Pushed { meta, data, .. } = &self.batches[pushed];
                places[pushed] = BatchPlace {
                    run: index.runs.len(),
                    batch: batches.len(),
                    position: layout.position,
                };
                batches.push(*meta);
                layout.batch(&[], data);
            }
            index.runs.push(Run {
                topic: at.topic,
                partition: at.partition,
                batches,
            });
        }
        let mut encoded = Encoder::with_capacity(TAIL_BYTES + sorted.len() * BATCH_BYTES);
        index.encode(&mut encoded);
        let (chunks, length_bytes, content_hash) = layout.finish(encoded, &index, order, false);
        Segment {
            chunks,
            length_bytes,
            index,
            content_hash,
            places,
        }
    }
}

fn check_push(meta: &BatchMeta, length: usize) -> Result<(), FormatError> {
    meta.check()?;
    if usize::try_from(meta.bytes).ok() == Some(length) {
        Ok(())
    } else {
        Err(FormatError::Invalid {
            what: "length of batch",
        })
    }
}

/// The first bytes of a batch: all that changes when it gets its place is in them.
const PREFIX_BYTES: usize = 16;
/// Where base offset and leader epoch stand in it; the CRC covers neither.
const BASE_AT: Range<usize> = 0..8;
const EPOCH_AT: Range<usize> = 12..16;

/// A batch on its way into a merged segment. What is written anew stands beside what was stored, which is not copied.
#[derive(Clone, Debug)]
pub struct BatchData {
    prefix: Option<[u8; PREFIX_BYTES]>,
    rest: Bytes,
}

impl BatchData {
    /// A batch that was stored before it had a place, at its place.
    ///
    /// # Panics
    /// When it is shorter than the header of a batch.
    #[must_use]
    pub fn placed(stored: &Bytes, base: Offset, epoch: IncarnationNumber) -> Self {
        let mut prefix: [u8; PREFIX_BYTES] = *stored.first_chunk().expect("a batch has a header");
        let epoch = i32::try_from(epoch.0).unwrap_or(i32::MAX);
        prefix[BASE_AT].copy_from_slice(&base.0.to_be_bytes());
        prefix[EPOCH_AT].copy_from_slice(&epoch.to_be_bytes());
        Self {
            prefix: Some(prefix),
            rest: stored.slice(PREFIX_BYTES..),
        }
    }

    fn len(&self) -> usize {
        self.prefix().len() + self.rest.len()
    }

    fn prefix(&self) -> &[u8] {
        self.prefix.as_ref().map_or(&[], |prefix| prefix)
    }
}

/// A batch as it was stored.
impl From<Bytes> for BatchData {
    fn from(stored: Bytes) -> Self {
        Self {
            prefix: None,
            rest: stored,
        }
    }
}

/// Gathers the slices of a merged segment, which come in their final order.
#[derive(Clone, Debug, Default)]
pub struct MergedBuilder {
    index: MergedIndex,
    data: Vec<BatchData>,
    bytes: u64,
}

/// A merged segment, ready to be written.
#[derive(Clone, Debug)]
pub struct MergedSegment {
    /// Its bytes, in order.
    pub chunks: Vec<Bytes>,
    /// Sum of the lengths of the chunks.
    pub length_bytes: u64,
    /// Its index.
    pub index: MergedIndex,
    /// XXH3-128 of the encoded index.
    pub content_hash: u128,
    /// First byte of each slice, in order; a slice ends where the next begins, the last one where the index begins.
    pub positions: Vec<u64>,
    /// First byte of the index.
    pub index_position: u64,
}

impl MergedBuilder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a slice that speaks for the offsets from `start` to before `end`.
    pub fn slice(&mut self, at: TopicPartition, start: Offset, end: Offset) {
        self.index.slices.push(Slice {
            at,
            start,
            end,
            batches: Vec::new(),
        });
    }

    /// Adds a batch to the slice begun last.
    ///
    /// # Errors
    /// `Invalid` when the meta data cannot be that of a batch of this length, or no slice is begun.
    pub fn push(&mut self, batch: PlacedBatch, data: impl Into<BatchData>) -> Result<(), FormatError> {
        let data = data.into();
        check_push(&batch.meta, data.len())?;
        let slice = self.index.slices.last_mut().ok_or(FormatError::Invalid {
            what: "batch outside slices",
        })?;
        slice.batches.push(batch);
        self.bytes += u64::from(batch.meta.bytes);
        self.data.push(data);
        Ok(())
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lays the segment out.
    ///
    /// # Errors
    /// `Invalid` when slices or batches are not in order.
    pub fn finish(self, header: &SegmentHeader) -> Result<MergedSegment, FormatError> {
        self.index.check()?;
        let mut layout = Layout::new(header, true, self.data.iter().map(|data| (data.prefix(), &data.rest)));
        for data in &self.data {
            layout.batch(data.prefix(), &data.rest);
        }
        let index_position = layout.position;
        let mut next = SEGMENT_HEADER_BYTES;
        let mut positions = Vec::with_capacity(self.index.slices.len());
        for slice in &self.index.slices {
            positions.push(next);
            next += slice.bytes();
        }
        let mut encoded = Encoder::new();
        self.index.encode(&mut encoded);
        let (chunks, length_bytes, content_hash) = layout.finish(encoded, &self.index, &OrderList::default(), true);
        Ok(MergedSegment {
            chunks,
            length_bytes,
            index: self.index,
            content_hash,
            positions,
            index_position,
        })
    }
}

/// Chunks in the making.
struct Layout {
    chunks: Vec<Bytes>,
    /// Small parts not yet made a chunk; one allocation for all of them.
    shared: BytesMut,
    /// Where the next byte will lie.
    position: u64,
}

impl Layout {
    /// For all that [`Layout::batch`] will be given.
    fn new<'a>(header: &SegmentHeader, merged: bool, batches: impl Iterator<Item = (&'a [u8], &'a Bytes)>) -> Self {
        // Each of the large ones is a chunk, behind one of what is copied, and the last such chunk is before the tail.
        let (mut copied, mut chunks) = (0, 2);
        for (prefix, rest) in batches {
            copied += prefix.len();
            if rest.len() < COPY_BELOW_BYTES {
                copied += rest.len();
            } else {
                chunks += 1 + usize::from(!prefix.is_empty());
            }
        }
        let mut out = Encoder::new();
        header.encode(merged, &mut out);
        let mut shared = BytesMut::with_capacity(out.len() + copied);
        shared.extend_from_slice(out.as_slice());
        Self {
            chunks: Vec::with_capacity(chunks),
            shared,
            position: SEGMENT_HEADER_BYTES,
        }
    }

    /// The next batch: its first bytes, if they are apart, and the others.
    fn batch(&mut self, prefix: &[u8], rest: &Bytes) {
        self.shared.extend_from_slice(prefix);
        if rest.len() < COPY_BELOW_BYTES {
            self.shared.extend_from_slice(rest);
        } else {
            self.end_shared();
            self.chunks.push(rest.clone());
        }
        self.position += u64::try_from(prefix.len() + rest.len()).expect("a length fits 64 bits");
    }

    fn end_shared(&mut self) {
        if !self.shared.is_empty() {
            self.chunks.push(self.shared.split().freeze());
        }
    }

    /// Appends index, order list and footer. Gives the chunks, their total length, and the content hash.
    fn finish(
        mut self,
        index: Encoder,
        totals: &impl Totals,
        order: &OrderList,
        merged: bool,
    ) -> (Vec<Bytes>, u64, u128) {
        const FITS: &str = "a segment is far below 4 GiB";
        let mut tail = index;
        let (hash, index_bytes) = (content_hash(tail.as_slice()), tail.len());
        order.encode(&mut tail);
        let footer = Footer {
            index_position: self.position,
            index_bytes: u32::try_from(index_bytes).expect(FITS),
            order_bytes: u32::try_from(tail.len() - index_bytes).expect(FITS),
            runs: u32::try_from(totals.runs()).expect(FITS),
            batches: u32::try_from(totals.batches()).expect(FITS),
            records: totals.records(),
            content_hash: hash,
            merged,
            crc: 0,
        };
        let covered = tail.as_slice().to_vec();
        footer.encode(&covered, &mut tail);
        let length = self.position + footer.tail_bytes();
        self.end_shared();
        self.chunks.push(Bytes::from(tail.finish()));
        (self.chunks, length, hash)
    }
}
