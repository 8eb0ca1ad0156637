//! An upper bound of the encoded length of a batch index, kept up while batches arrive.
//!
//! Owns: the arithmetic that says when a buffer must be flushed because of its index.
//! Invariant: `bound_bytes` is never below the length of the index of the batches added, in whatever order they came.

use std::collections::BTreeSet;

use crate::id::{PartitionIndex, TopicPartition};
use crate::index::{BatchIndex, BatchMeta};
use crate::wire::{Encoder, varint_len};

/// Sums up what cannot be known to be shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSize {
    partitions: BTreeSet<TopicPartition>,
    batches: u64,
    stamps: u64,
    /// Everything but the deltas and the batch counts of runs.
    fixed_bytes: usize,
    timestamps: Option<Span>,
    producers: Option<Span>,
}

/// The smallest and the largest of some numbers: what bounds every difference between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    min: i64,
    max: i64,
}

impl Span {
    fn with(span: Option<Self>, value: i64) -> Self {
        let Self { min, max } = span.unwrap_or(Self { min: value, max: value });
        Self {
            min: min.min(value),
            max: max.max(value),
        }
    }

    /// Most bytes of the zigzag varint of a difference.
    fn delta_bytes(self) -> usize {
        varint_len(self.max.abs_diff(self.min).saturating_mul(2))
    }
}

/// The longest varint: count of runs, the first timestamp, the first producer id.
const VARINT_BYTES_MAX: usize = 10;

impl IndexSize {
    /// Adds a batch.
    pub fn add(&mut self, at: TopicPartition, batch: &BatchMeta) {
        let topic = TopicPartition {
            partition: PartitionIndex(0),
            ..at
        }..=TopicPartition {
            partition: PartitionIndex(u32::MAX),
            ..at
        };
        if !self.partitions.contains(&at) {
            let known = self.partitions.range(topic).next().is_some();
            self.fixed_bytes += varint_len(u64::from(at.partition.0) << 1 | 1) + if known { 0 } else { 16 };
            self.partitions.insert(at);
        }
        self.batches += 1;
        self.fixed_bytes += 1 + 4 + varint_len(u64::from(batch.records)) + varint_len(u64::from(batch.bytes));
        self.timestamps = Some(Span::with(self.timestamps, batch.max_timestamp.0));
        let Some(stamp) = batch.producer else { return };
        self.stamps += 1;
        self.producers = Some(Span::with(self.producers, stamp.id.0));
        self.fixed_bytes += varint_len(u64::from(stamp.epoch.0.cast_unsigned()))
            + varint_len(u64::from(stamp.first_sequence.0.cast_unsigned()))
            + stamp.verified_at.map_or(0, |verified| varint_len(verified.0));
    }

    /// Number of batches added.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Most bytes that the index of what was added takes.
    #[must_use]
    pub fn bound_bytes(&self) -> usize {
        let times = |count: u64, bytes: usize| usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(bytes);
        let deltas = times(self.batches, self.timestamps.map_or(0, Span::delta_bytes))
            .saturating_add(times(self.stamps, self.producers.map_or(0, Span::delta_bytes)));
        let counts = self.partitions.len().saturating_mul(varint_len(self.batches));
        self.fixed_bytes
            .saturating_add(deltas)
            .saturating_add(counts)
            .saturating_add(3 * VARINT_BYTES_MAX)
    }
}

impl BatchIndex {
    /// Length of its encoding in bytes. It encodes to find out; a buffer keeps an [`IndexSize`] instead.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.len()
    }
}
