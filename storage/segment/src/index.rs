//! The batch index of a segment: which batches of which partitions it holds, in order.
//!
//! Owns: the run-length table and its codec. It stands in the segment *and* inline in the commit record, so that folding
//! never needs the object store.
//! Does not own: offsets (the fold assigns them; in merged segments [`crate::merged`] keeps them).
//!
//! Invariants: runs are sorted by (topic id, partition), each partition once, no run is empty; an index that decodes
//! keeps them. `docs/formats/segment.md` has the layout.

use crate::checksum::BATCH_HEADER_BYTES;
use crate::id::{PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId, TopicPartition};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::wire::{Decoder, Encoder, FormatError};
use codec::{BatchDecoder, BatchEncoder, PartitionDecoder, PartitionEncoder};

pub(crate) mod codec;
mod size;
#[cfg(test)]
pub(crate) mod tests;

pub use size::IndexSize;

/// The batches of a segment in the order in which they lie in it: by (topic id, partition), then by arrival.
///
/// The first batch begins right after the segment header; each further one where the one before it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchIndex {
    /// Runs of batches, sorted by (topic id, partition); no two runs of one partition.
    pub runs: Vec<Run>,
}

/// The batches of one partition in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
    /// At least one batch.
    pub batches: Vec<BatchMeta>,
}

/// What the fold needs to know of one record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    /// Number of offsets the batch takes (last offset delta + 1); at least 1.
    pub records: u32,
    /// Length of the whole batch in bytes, header included.
    pub bytes: u32,
    /// Largest timestamp in the batch.
    pub max_timestamp: Timestamp,
    /// CRC-32C as it stands in the batch header.
    pub crc: u32,
    /// Present when the batch comes from a producer with an id.
    pub producer: Option<ProducerStamp>,
}

/// The producer fields of a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Producer id, at least 0.
    pub id: ProducerId,
    /// Its epoch, at least 0.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record.
    pub first_sequence: Sequence,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// For a transactional batch of a client without transactions V2: the log index of the linearizable read at which
    /// the open transaction was verified (design section 6).
    pub verified_at: Option<crate::id::LogIndex>,
}

/// Where one batch of a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Its run in the index.
    pub run: usize,
    /// Its place within the run.
    pub batch: usize,
    /// Its first byte, counted from the beginning of the object.
    pub position: u64,
}

impl BatchMeta {
    /// Whether a batch header can look like this at all.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn check(&self) -> Result<(), FormatError> {
        const INT_MAX: u32 = i32::MAX.unsigned_abs();
        let invalid = |what| Err(FormatError::Invalid { what });
        if self.records == 0 || self.records > INT_MAX {
            return invalid("record count of batch");
        }
        if self.bytes < BATCH_HEADER_BYTES || self.bytes > INT_MAX {
            return invalid("length of batch");
        }
        let Some(stamp) = self.producer else { return Ok(()) };
        if stamp.id.0 < 0 || stamp.epoch.0 < 0 || stamp.first_sequence.0 < 0 {
            return invalid("producer of batch");
        }
        if stamp.verified_at.is_some() && !stamp.transactional {
            return invalid("verification of a batch outside transactions");
        }
        Ok(())
    }
}

impl Run {
    /// Which partition it belongs to.
    #[must_use]
    pub fn at(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition: self.partition,
        }
    }
}

impl BatchIndex {
    /// Checks every invariant.
    ///
    /// # Errors
    /// `Invalid` names the first that is broken.
    pub fn check(&self) -> Result<(), FormatError> {
        if !self.runs.is_sorted_by(|one, next| one.at() < next.at()) {
            return Err(FormatError::Invalid { what: "order of runs" });
        }
        if self.runs.iter().any(|run| run.batches.is_empty()) {
            return Err(FormatError::Invalid {
                what: "run without batches",
            });
        }
        self.runs
            .iter()
            .flat_map(|run| &run.batches)
            .try_for_each(BatchMeta::check)
    }

    /// Number of batches.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.runs.iter().map(|run| run.batches.len()).sum()
    }

    /// Number of offsets that all batches take.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.runs
            .iter()
            .flat_map(|run| &run.batches)
            .map(|batch| u64::from(batch.records))
            .sum()
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs
            .iter()
            .flat_map(|run| &run.batches)
            .map(|batch| u64::from(batch.bytes))
            .sum()
    }

    /// Every batch with its partition and its place, in order.
    pub fn places(&self) -> impl Iterator<Item = (TopicPartition, BatchPlace, &BatchMeta)> {
        let mut next = SEGMENT_HEADER_BYTES;
        self.runs
            .iter()
            .enumerate()
            .flat_map(|(run, of)| {
                of.batches
                    .iter()
                    .enumerate()
                    .map(move |(batch, meta)| (of.at(), run, batch, meta))
            })
            .map(move |(at, run, batch, meta)| {
                let position = next;
                next += u64::from(meta.bytes);
                (at, BatchPlace { run, batch, position }, meta)
            })
    }

    /// Appends the index.
    ///
    /// # Panics
    /// When the runs are not sorted.
    pub fn encode(&self, out: &mut Encoder) {
        out.count(self.runs.len());
        let (mut partitions, mut batches) = (PartitionEncoder::default(), BatchEncoder::default());
        for run in &self.runs {
            partitions.encode(run.at(), out);
            out.count(run.batches.len());
            batches.begin_run();
            for batch in &run.batches {
                batches.encode(batch, 0, out);
            }
        }
    }

    /// Takes an index; one that breaks an invariant is refused.
    ///
    /// # Errors
    /// Any `FormatError` of decoding, and what [`BatchIndex::check`] finds.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let count = input.count("runs", usize::MAX, codec::RUN_BYTES_MIN)?;
        let mut runs = Vec::with_capacity(count);
        let (mut partitions, mut batches) = (PartitionDecoder::default(), BatchDecoder::default());
        for _ in 0..count {
            let (at, _) = partitions.decode(input)?;
            let in_run = input.count("batches of a run", usize::MAX, codec::BATCH_BYTES_MIN)?;
            batches.begin_run();
            let decoded: Result<Vec<_>, _> = (0..in_run)
                .map(|_| batches.decode(0, input).map(|(batch, _)| batch))
                .collect();
            runs.push(Run {
                topic: at.topic,
                partition: at.partition,
                batches: decoded?,
            });
        }
        let index = Self { runs };
        index.check()?;
        Ok(index)
    }
}
