//! Segments: objects that hold record batches of many partitions.
//!
//! Layout: header (64 bytes), batches, index, order list, footer (64 bytes). Fresh segments hold what agents accepted and
//! a [`BatchIndex`]; merged ones hold what compaction sorted and a [`MergedIndex`].
//!
//! Owns: header, footer and order list (`frame`), writing (`build`), reading from the tail (`read`).
//! Does not own: the bytes of a batch, which stay as the producer sent them.
//!
//! Invariants: the header has a fixed length, so that the index alone says where every batch lies; the content hash is over
//! the index, which holds length and CRC-32C of every batch, so that it covers everything.
//! `docs/formats/segment.md` has the layout.

pub mod build;
pub mod frame;
pub mod read;
#[cfg(test)]
mod tests;

pub use build::{BatchData, MergedBuilder, MergedSegment, Segment, SegmentBuilder};
pub use frame::{Footer, OrderList, Ordered, SegmentHeader, SegmentSpan};
pub use read::{SegmentIndex, SegmentTail, check_segment};

use crate::index::BatchIndex;
use crate::merged::MergedIndex;

/// Bytes of the header, and so the position of the first batch.
pub const SEGMENT_HEADER_BYTES: u64 = 64;
/// Bytes of the footer.
pub const SEGMENT_FOOTER_BYTES: u64 = 64;
/// Newest format version that this code reads, and the one it writes.
pub const SEGMENT_VERSION: u16 = 1;

/// What both kinds of index can say of the segment they belong to; goes into the footer.
trait Totals {
    fn runs(&self) -> usize;
    fn batches(&self) -> usize;
    fn records(&self) -> u64;
}

impl Totals for BatchIndex {
    fn runs(&self) -> usize {
        self.runs.len()
    }

    fn batches(&self) -> usize {
        self.batches()
    }

    fn records(&self) -> u64 {
        self.records()
    }
}

impl Totals for MergedIndex {
    fn runs(&self) -> usize {
        self.slices.len()
    }

    fn batches(&self) -> usize {
        self.slices.iter().map(|slice| slice.batches.len()).sum()
    }

    fn records(&self) -> u64 {
        self.slices
            .iter()
            .flat_map(|slice| &slice.batches)
            .map(|batch| u64::from(batch.meta.records))
            .sum()
    }
}
