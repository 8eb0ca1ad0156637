//! The batch index of a segment: which batches of which partitions it holds, in order.
//!
//! Owns: the run-length table and its codec. It stands in the segment *and* inline in the commit record, so that folding
//! never needs the object store.
//! Does not own: offsets (the fold assigns them).

use crate::id::{PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};

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
