//! The index of a merged segment: slices of partitions with the offsets that the fold had given.
//!
//! Owns: the table and its codec. It lies in a segment of the same format as a fresh one, whose header says "merged".
//! Does not own: which slices go together (compaction), where they are found (`manifest`).
//!
//! Invariants: slices are sorted by (topic id, partition, start) and do not overlap; the batches of a slice lie within it,
//! ascending. A slice may have gaps or no batch at all: compaction removes records, never offsets (CMP-1).

use crate::id::{Offset, TopicPartition};
use crate::index::codec::{self, BatchDecoder, BatchEncoder, PartitionDecoder, PartitionEncoder};
use crate::index::{BatchMeta, BatchPlace};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::wire::{Decoder, Encoder, FormatError};

#[cfg(test)]
mod tests;

/// The slices of a merged segment in the order in which they lie in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergedIndex {
    /// Sorted by (topic id, partition, start).
    pub slices: Vec<Slice>,
}

/// An offset range of a partition and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The partition.
    pub at: TopicPartition,
    /// First offset it speaks for.
    pub start: Offset,
    /// The offset after the last one it speaks for; above `start`.
    pub end: Offset,
    /// What is left in that range, ascending.
    pub batches: Vec<PlacedBatch>,
}

/// A batch that has its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedBatch {
    /// Offset of its first record.
    pub base: Offset,
    /// Whether it is a control batch (the marker of a transaction's end).
    pub control: bool,
    /// As in a fresh segment.
    pub meta: BatchMeta,
}

impl PlacedBatch {
    /// The offset after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.base.plus(self.meta.records)
    }
}

/// Fewest bytes of a slice: partition, start, length, count.
const SLICE_BYTES_MIN: usize = 4;

impl Slice {
    /// Bytes of its batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.meta.bytes)).sum()
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.start.0 < 0 || self.start >= self.end {
            return Err(FormatError::Invalid {
                what: "offset range of slice",
            });
        }
        let mut next = self.start;
        for batch in &self.batches {
            batch.meta.check()?;
            if batch.base < next || batch.end() > self.end {
                return Err(FormatError::Invalid {
                    what: "offset of batch",
                });
            }
            next = batch.end();
        }
        Ok(())
    }
}

impl MergedIndex {
    /// Checks every invariant.
    ///
    /// # Errors
    /// `Invalid` names the first that is broken.
    pub fn check(&self) -> Result<(), FormatError> {
        let ascending = |one: &Slice, next: &Slice| one.at < next.at || (one.at == next.at && one.end <= next.start);
        if !self.slices.is_sorted_by(ascending) {
            return Err(FormatError::Invalid {
                what: "order of slices",
            });
        }
        self.slices.iter().try_for_each(Slice::check)
    }

    /// Every batch with its place, in order; `run` counts slices.
    pub fn places(&self) -> impl Iterator<Item = (&Slice, BatchPlace, &PlacedBatch)> {
        let mut next = SEGMENT_HEADER_BYTES;
        let batches = self.slices.iter().enumerate().flat_map(|(run, slice)| {
            slice
                .batches
                .iter()
                .enumerate()
                .map(move |(batch, placed)| (slice, run, batch, placed))
        });
        batches.map(move |(slice, run, batch, placed)| {
            let position = next;
            next += u64::from(placed.meta.bytes);
            (slice, BatchPlace { run, batch, position }, placed)
        })
    }

    /// Appends the index.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn encode(&self, out: &mut Encoder) {
        out.count(self.slices.len());
        let (mut partitions, mut batches) = (PartitionEncoder::default(), BatchEncoder::default());
        let mut last: Option<&Slice> = None;
        for slice in &self.slices {
            partitions.encode(slice.at, out);
            let from = last
                .filter(|last| last.at == slice.at)
                .map_or(Offset(0), |last| last.end);
            out.varint(distance(from, slice.start));
            out.varint(distance(slice.start, slice.end));
            out.count(slice.batches.len());
            batches.begin_run();
            let mut next = slice.start;
            for batch in &slice.batches {
                out.varint(distance(next, batch.base));
                batches.encode(&batch.meta, if batch.control { codec::CONTROL } else { 0 }, out);
                next = batch.end();
            }
            last = Some(slice);
        }
    }

    /// Takes an index; one that breaks an invariant is refused.
    ///
    /// # Errors
    /// Any `FormatError` of decoding, and what [`MergedIndex::check`] finds.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let count = input.count("slices", usize::MAX, SLICE_BYTES_MIN)?;
        let mut slices: Vec<Slice> = Vec::with_capacity(count);
        let (mut partitions, mut batches) = (PartitionDecoder::default(), BatchDecoder::default());
        for _ in 0..count {
            let (at, new) = partitions.decode(input)?;
            let from = slices.last().filter(|_| !new).map_or(Offset(0), |last| last.end);
            let start = advance(from, input.varint()?)?;
            let end = advance(start, input.varint()?)?;
            let in_slice = input.count("batches of a slice", usize::MAX, codec::BATCH_BYTES_MIN + 1)?;
            let mut placed = Vec::with_capacity(in_slice);
            batches.begin_run();
            let mut next = start;
            for _ in 0..in_slice {
                let base = advance(next, input.varint()?)?;
                let (meta, extra) = batches.decode(codec::CONTROL, input)?;
                let batch = PlacedBatch {
                    base,
                    control: extra != 0,
                    meta,
                };
                next = batch.end();
                placed.push(batch);
            }
            slices.push(Slice {
                at,
                start,
                end,
                batches: placed,
            });
        }
        let index = Self { slices };
        index.check()?;
        Ok(index)
    }
}

/// How far an offset is ahead of another.
pub(crate) fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0.wrapping_sub(from.0)).expect("offsets ascend")
}

/// The inverse of [`distance`].
pub(crate) fn advance(from: Offset, by: u64) -> Result<Offset, FormatError> {
    let sum = i64::try_from(by).ok().and_then(|by| from.0.checked_add(by));
    sum.map(Offset).ok_or(FormatError::Invalid { what: "offset" })
}
