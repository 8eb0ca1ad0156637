//! One partition: its offsets, its open and aborted transactions, its leader epochs.
//!
//! Owns: high watermark, last stable offset, log start offset, the index of aborted transactions.
//! Does not own: sequences (`window`), where batches lie (`unmerged`).
//!
//! Invariants: LOG-2 (offsets rise densely and are never reused), RET-1, TXN-1 for the last stable offset.

use std::collections::BTreeMap;

use esker_segment::id::{IncarnationNumber, Offset, ProducerId};

use crate::unmerged::Unmerged;
use crate::window::WindowSlot;

/// An aborted transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose.
    pub producer: ProducerId,
    /// Its first offset in the partition.
    pub first: Offset,
    /// Offset of its abort marker.
    pub marker: Offset,
    /// Last stable offset right after the abort: every transaction that ends later begins there or above.
    pub(crate) stable_after: Offset,
}

/// What partitions without transactions do not pay for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionTxns {
    /// First offset of each open transaction.
    pub(crate) open: BTreeMap<Offset, ProducerId>,
    /// By marker offset.
    pub(crate) aborted: Vec<AbortedTxn>,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    /// Its number in the table of windows, once an idempotent producer has written to it.
    pub(crate) window_slot: Option<WindowSlot>,
    /// None when nothing is open or aborted.
    pub(crate) txns: Option<Box<PartitionTxns>>,
    /// Incarnation in which the partition was created.
    pub(crate) first_epoch: IncarnationNumber,
    /// Incarnations that began after the partition was created, and its high watermark then.
    pub(crate) epochs: Vec<(IncarnationNumber, Offset)>,
    pub(crate) unmerged: Unmerged,
}

impl Partition {
    /// Takes offsets for that many records; `None` when there are none left.
    pub(crate) fn take(&mut self, records: u32) -> Option<Offset> {
        let base = self.high_watermark;
        self.high_watermark = Offset(base.0.checked_add(i64::from(records))?);
        Some(base)
    }

    pub(crate) fn last_stable(&self) -> Offset {
        let open = self.txns.as_ref().and_then(|txns| txns.open.first_key_value());
        open.map_or(self.high_watermark, |(first, _)| *first)
    }

    /// A transaction has its first batch here.
    pub(crate) fn open_txn(&mut self, producer: ProducerId, first: Offset) {
        self.txns.get_or_insert_default().open.insert(first, producer);
    }

    /// A transaction that began at `first` ended with this marker.
    pub(crate) fn end_txn(&mut self, producer: ProducerId, first: Offset, aborted_at: Option<Offset>) {
        let txns = self.txns.get_or_insert_default();
        txns.open.remove(&first);
        let stable_after = self.last_stable();
        let txns = self.txns.get_or_insert_default();
        if let Some(marker) = aborted_at {
            txns.aborted.push(AbortedTxn {
                producer,
                first,
                marker,
                stable_after,
            });
        }
        self.drop_empty_txns();
    }

    /// Forgets aborted transactions whose marker lies below an offset; says how many.
    pub(crate) fn forget_aborted(&mut self, below: Offset) -> usize {
        let Some(txns) = &mut self.txns else { return 0 };
        let gone = txns.aborted.partition_point(|aborted| aborted.marker < below);
        txns.aborted.drain(..gone);
        if txns.aborted.capacity() > 4 * txns.aborted.len().max(4) {
            txns.aborted.shrink_to(2 * txns.aborted.len());
        }
        self.drop_empty_txns();
        gone
    }

    fn drop_empty_txns(&mut self) {
        if self
            .txns
            .as_ref()
            .is_some_and(|txns| txns.open.is_empty() && txns.aborted.is_empty())
        {
            self.txns = None;
        }
    }

    /// Aborted transactions with data in `[from, upto)`, by marker offset.
    pub(crate) fn aborted(&self, from: Offset, upto: Offset) -> impl Iterator<Item = &AbortedTxn> {
        let all = self.txns.as_ref().map_or(&[][..], |txns| &txns.aborted);
        let first = all.partition_point(|aborted| aborted.marker < from);
        let rest = &all[first..];
        // Behind the first one after which everything below `upto` was stable nothing can matter.
        let last = rest
            .iter()
            .position(|aborted| aborted.stable_after >= upto)
            .map_or(rest.len(), |at| at + 1);
        rest[..last].iter().filter(move |aborted| aborted.first < upto)
    }

    /// A new incarnation begins.
    pub(crate) fn begin_epoch(&mut self, incarnation: IncarnationNumber) {
        let start = self.high_watermark;
        let epochs = &mut self.epochs;
        // An epoch in which nothing was written is not worth a line.
        if epochs.last().is_some_and(|(_, last)| *last == start) {
            epochs.pop();
        }
        epochs.push((incarnation, start));
    }
}
