//! Reading segments: from the tail, or as a whole.
//!
//! Owns: the checks that bind footer, index and batches together.
//! Does not own: fetching the bytes.

use super::frame::{Footer, OrderList, SegmentHeader, as_len};
use super::{SEGMENT_FOOTER_BYTES, Totals};
use crate::checksum::{check_batch, content_hash};
use crate::index::{BatchIndex, BatchMeta};
use crate::merged::MergedIndex;
use crate::wire::{Decoder, FormatError};

/// The index of a segment of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentIndex {
    /// What an agent wrote.
    Fresh(BatchIndex),
    /// What compaction wrote.
    Merged(MergedIndex),
}

impl SegmentIndex {
    /// Every batch and its first byte in the object, in order.
    #[must_use]
    pub fn batches(&self) -> Vec<(u64, BatchMeta)> {
        match self {
            Self::Fresh(index) => index.places().map(|(_, place, meta)| (place.position, *meta)).collect(),
            Self::Merged(index) => index
                .places()
                .map(|(_, place, batch)| (place.position, batch.meta))
                .collect(),
        }
    }
}

/// Everything of a segment that is not a batch or the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTail {
    /// The footer.
    pub footer: Footer,
    /// The index.
    pub index: SegmentIndex,
    /// The order list; empty in merged segments.
    pub order: OrderList,
}

impl SegmentTail {
    /// Reads the tail from the last bytes of an object: [`Footer::tail_bytes`] of them, or more.
    ///
    /// # Errors
    /// `Truncated` when there are too few (its `needed` says how many), `Checksum`, `Hash`, or any `FormatError` of the
    /// parts.
    pub fn decode(last_bytes: &[u8], object_bytes: u64) -> Result<Self, FormatError> {
        let footer = Footer::decode(last_bytes, object_bytes)?;
        let needed = footer.tail_bytes();
        let left = u64::try_from(last_bytes.len()).expect("a length fits 64 bits");
        let start = left
            .checked_sub(needed)
            .ok_or(FormatError::Truncated { needed, left })?;
        let tail = &last_bytes[usize::try_from(start).expect("within a slice")..];
        footer.check(tail)?;
        let mut parts = Decoder::new(&tail[..tail.len() - as_len(SEGMENT_FOOTER_BYTES)]);
        let index_bytes = parts.raw(usize::try_from(footer.index_bytes).expect("within a slice"))?;
        if content_hash(index_bytes) != footer.content_hash {
            return Err(FormatError::Hash { what: "segment index" });
        }
        let mut input = Decoder::new(index_bytes);
        let index = if footer.merged {
            SegmentIndex::Merged(MergedIndex::decode(&mut input)?)
        } else {
            SegmentIndex::Fresh(BatchIndex::decode(&mut input)?)
        };
        input.finish()?;
        let order = OrderList::decode(&mut parts)?;
        parts.finish()?;
        match &index {
            SegmentIndex::Fresh(index) => footer.agree(index)?,
            SegmentIndex::Merged(index) => footer.agree(index)?,
        }
        Ok(Self { footer, index, order })
    }
}

impl Footer {
    fn agree(&self, index: &impl Totals) -> Result<(), FormatError> {
        let same = |found: usize, written: u32| u32::try_from(found) == Ok(written);
        if same(index.runs(), self.runs) && same(index.batches(), self.batches) && index.records() == self.records {
            Ok(())
        } else {
            Err(FormatError::Invalid {
                what: "counts in segment footer",
            })
        }
    }
}

/// Checks a whole segment down to the CRC of every batch.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_segment(object: &[u8]) -> Result<(SegmentHeader, SegmentTail), FormatError> {
    let (header, merged) = SegmentHeader::decode(object)?;
    let object_bytes = u64::try_from(object.len()).expect("a length fits 64 bits");
    let tail = SegmentTail::decode(object, object_bytes)?;
    if merged != tail.footer.merged {
        return Err(FormatError::Invalid {
            what: "flags of segment",
        });
    }
    let mut next = super::SEGMENT_HEADER_BYTES;
    for (position, meta) in tail.index.batches() {
        let end = position + u64::from(meta.bytes);
        let range = usize::try_from(position).ok().zip(usize::try_from(end).ok());
        let bytes = range.and_then(|(from, to)| object.get(from..to));
        check_batch(
            bytes.ok_or(FormatError::Truncated {
                needed: end,
                left: object_bytes,
            })?,
            &meta,
        )?;
        next = end;
    }
    if next != tail.footer.index_position {
        return Err(FormatError::Invalid {
            what: "bytes between batches and index",
        });
    }
    Ok((header, tail))
}
