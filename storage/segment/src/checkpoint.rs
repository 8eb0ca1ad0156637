//! Index objects: which unmerged batch got which offset, for a range of log indexes.
//!
//! A checkpoint is a state object (sections of `esker-model` in a [`crate::container`]) and index objects like this one.
//! With them neither a restart nor a merge reads the log or the segments' own indexes.
//!
//! Owns: the format of index objects.
//! Does not own: when they are written (agent), what is still unmerged (`esker-model`).
//!
//! `docs/formats/checkpoint.md` has the layout.

use bytes::Bytes;

use crate::container::{Container, ContainerBuilder, ContainerKind, Written};
use crate::id::{LogIndex, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use crate::index::codec::{PartitionDecoder, PartitionEncoder};
use crate::index::{BatchIndex, BatchMeta, BatchPlace};
use crate::merged::{advance, distance};
use crate::name::SegmentName;
use crate::wire::{Decoder, Encoder, FormatError};

#[cfg(test)]
mod tests;

/// The version written.
pub const INDEX_OBJECT_VERSION: u16 = 1;
/// Most bytes of a zone name.
pub const ZONE_BYTES_MAX: usize = 255;
const RANGE: &str = "range";
const SEGMENTS: &str = "segments";
const TXN_ENDS: &str = "txn-ends";
/// Fewest bytes of a segment: log index, name, length, hash, zone, confirmed, runs.
const SEGMENT_BYTES_MIN: usize = 1 + 4 + 1 + 16 + 1 + 1 + 1;
/// Fewest bytes of a transaction's end: log index, producer, epoch, outcome, timestamp, count.
const TXN_END_BYTES_MIN: usize = 6;
/// Fewest bytes of a marker: partition, offset.
const MARKER_BYTES_MIN: usize = 2;

/// What the log entries of a range put into partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexObject {
    /// First log index it speaks for.
    pub first: LogIndex,
    /// Last log index it speaks for.
    pub last: LogIndex,
    /// The segments in log order; several can stand at one log index.
    pub segments: Vec<IndexedSegment>,
    /// The ends of transactions that took offsets, in log order.
    pub txn_ends: Vec<IndexedTxnEnd>,
}

/// A segment and the offsets that its batches got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexedSegment {
    /// Where it stands in the log.
    pub log_index: LogIndex,
    /// Which object.
    pub name: SegmentName,
    /// Length of the object.
    pub length_bytes: u64,
    /// XXH3-128 of its index.
    pub content_hash: u128,
    /// Zone of its writer; empty for none.
    pub zone: String,
    /// Which replicas of a replicated store confirmed it.
    pub confirmed: u64,
    /// Its batches.
    pub index: BatchIndex,
    /// For every batch in the order of the index: the offset of its first record, or `None` for dead bytes.
    pub bases: Vec<Option<Offset>>,
}

/// The end of a transaction, whose markers are nowhere but here until they are merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedTxnEnd {
    /// Where it stands in the log.
    pub log_index: LogIndex,
    /// Whose transaction.
    pub producer: ProducerId,
    /// The epoch that stands in the markers.
    pub epoch: ProducerEpoch,
    /// Commit, else abort.
    pub committed: bool,
    /// The time that stands in the markers.
    pub timestamp: Timestamp,
    /// The offset that each partition spent on its marker, sorted by partition.
    pub markers: Vec<(TopicPartition, Offset)>,
}

impl IndexedSegment {
    /// The stored batches in order: partition, place, meta data, base offset.
    pub fn stored(&self) -> impl Iterator<Item = (TopicPartition, BatchPlace, &BatchMeta, Offset)> {
        let placed = self.index.places().zip(&self.bases);
        placed.filter_map(|((at, place, meta), base)| base.map(|base| (at, place, meta, base)))
    }

    /// Batch bases are written as 0 for dead, else 1 + the distance from the end of the stored batch before it in the run.
    fn encode(&self, since: LogIndex, out: &mut Encoder) {
        assert_eq!(self.bases.len(), self.index.batches(), "one base a batch");
        out.varint(
            self.log_index
                .0
                .checked_sub(since.0)
                .expect("segments are in log order"),
        );
        self.name.encode(out);
        out.varint(self.length_bytes);
        out.u128(self.content_hash);
        out.str(&self.zone);
        out.varint(self.confirmed);
        self.index.encode(out);
        let mut bases = self.bases.iter();
        for run in &self.index.runs {
            let mut next = Offset(0);
            for (batch, base) in run.batches.iter().zip(&mut bases) {
                out.varint(base.map_or(0, |base| distance(next, base) + 1));
                next = base.map_or(next, |base| base.plus(batch.records));
            }
        }
    }

    fn decode(since: LogIndex, input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let mut segment = Self {
            log_index: step(since, input)?,
            name: SegmentName::decode(input)?,
            length_bytes: input.varint()?,
            content_hash: input.u128()?,
            zone: input.str("zone", ZONE_BYTES_MAX)?.to_owned(),
            confirmed: input.varint()?,
            index: BatchIndex::decode(input)?,
            bases: Vec::new(),
        };
        segment.bases.reserve_exact(segment.index.batches());
        for run in &segment.index.runs {
            let mut next = Offset(0);
            for batch in &run.batches {
                let base = input.varint()?.checked_sub(1).map(|by| advance(next, by)).transpose()?;
                next = base.map_or(next, |base| base.plus(batch.records));
                segment.bases.push(base);
            }
        }
        Ok(segment)
    }
}

impl IndexedTxnEnd {
    fn encode(&self, since: LogIndex, out: &mut Encoder) {
        out.varint(self.log_index.0.checked_sub(since.0).expect("ends are in log order"));
        out.zigzag(self.producer.0);
        out.zigzag(i64::from(self.epoch.0));
        out.bool(self.committed);
        out.zigzag(self.timestamp.0);
        out.count(self.markers.len());
        let mut partitions = PartitionEncoder::default();
        for (at, offset) in &self.markers {
            partitions.encode(*at, out);
            out.varint(distance(Offset(0), *offset));
        }
    }

    fn decode(since: LogIndex, input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let mut end = Self {
            log_index: step(since, input)?,
            producer: ProducerId(input.zigzag()?),
            epoch: ProducerEpoch(
                i16::try_from(input.zigzag()?).map_err(|_| FormatError::Invalid { what: "producer epoch" })?,
            ),
            committed: input.bool()?,
            timestamp: Timestamp(input.zigzag()?),
            markers: Vec::new(),
        };
        let count = input.count("markers", usize::MAX, MARKER_BYTES_MIN)?;
        end.markers.reserve_exact(count);
        let mut partitions = PartitionDecoder::default();
        for _ in 0..count {
            let (at, new) = partitions.decode(input)?;
            if !new {
                return Err(FormatError::Invalid {
                    what: "order of markers",
                });
            }
            end.markers.push((at, advance(Offset(0), input.varint()?)?));
        }
        Ok(end)
    }
}

fn step(since: LogIndex, input: &mut Decoder<'_>) -> Result<LogIndex, FormatError> {
    let sum = since.0.checked_add(input.varint()?);
    sum.map(LogIndex).ok_or(FormatError::Invalid { what: "log index" })
}

impl IndexObject {
    /// Writes it as a container.
    ///
    /// # Panics
    /// When something is not in log order, or a segment has not one base a batch.
    #[must_use]
    pub fn encode(&self) -> Written {
        let (mut range, mut segments, mut ends) = (Encoder::new(), Encoder::new(), Encoder::new());
        range.varint(self.first.0);
        range.varint(self.last.0);
        segments.count(self.segments.len());
        let mut since = self.first;
        for segment in &self.segments {
            segment.encode(since, &mut segments);
            since = segment.log_index;
        }
        ends.count(self.txn_ends.len());
        since = self.first;
        for end in &self.txn_ends {
            end.encode(since, &mut ends);
            since = end.log_index;
        }
        let mut out = ContainerBuilder::new(ContainerKind::Index, INDEX_OBJECT_VERSION);
        out.section(RANGE, range.finish());
        out.section(SEGMENTS, segments.finish());
        out.section(TXN_ENDS, ends.finish());
        out.finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Whatever is wrong with the container or its sections.
    pub fn decode(object: &Bytes) -> Result<Self, FormatError> {
        let container = Container::decode(ContainerKind::Index, INDEX_OBJECT_VERSION, object)?;
        let mut range = Decoder::new(container.section(RANGE)?);
        let mut decoded = Self {
            first: LogIndex(range.varint()?),
            last: LogIndex(range.varint()?),
            ..Self::default()
        };
        range.finish()?;
        let mut input = Decoder::new(container.section(SEGMENTS)?);
        let mut since = decoded.first;
        for _ in 0..input.count("segments", usize::MAX, SEGMENT_BYTES_MIN)? {
            let segment = IndexedSegment::decode(since, &mut input)?;
            since = segment.log_index;
            decoded.segments.push(segment);
        }
        input.finish()?;
        let last_segment = since;
        let mut input = Decoder::new(container.section(TXN_ENDS)?);
        since = decoded.first;
        for _ in 0..input.count("ends of transactions", usize::MAX, TXN_END_BYTES_MIN)? {
            let end = IndexedTxnEnd::decode(since, &mut input)?;
            since = end.log_index;
            decoded.txn_ends.push(end);
        }
        input.finish()?;
        if decoded.first > decoded.last || since > decoded.last || last_segment > decoded.last {
            return Err(FormatError::Invalid {
                what: "range of log indexes",
            });
        }
        Ok(decoded)
    }
}
