//! What can be wrong with a record batch, and what Kafka calls it.

use crate::ErrorCode;

/// Why a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does, or the length makes no sense.
    #[error("batch length {length} does not fit its {available} bytes")]
    Length {
        /// The batch's own length field.
        length: i32,
        /// Bytes there are, from the start of the batch.
        available: usize,
    },
    /// Fewer bytes than a batch header.
    #[error("{available} bytes are too few for a batch header")]
    NoHeader {
        /// Bytes there are.
        available: usize,
    },
    /// The CRC-32C does not match.
    #[error("crc is {computed:#010x}, header says {stored:#010x}")]
    Crc {
        /// From the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A message format other than v2.
    #[error("message format {magic} is not supported")]
    UnsupportedMagic {
        /// The magic byte.
        magic: i8,
    },
    /// A compression codec that does not exist.
    #[error("compression type {id} does not exist")]
    UnknownCompression {
        /// The low three bits of the attributes.
        id: u8,
    },
    /// A compression codec that this version of the request must not use.
    #[error("zstd needs produce version 7, request has {version}")]
    CompressionForVersion {
        /// Version of the produce request.
        version: i16,
    },
    /// Longer than allowed.
    #[error("batch of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Of the batch.
        bytes: usize,
        /// Largest allowed.
        limit: usize,
    },
    /// Well formed, but not what a producer may send.
    #[error("{reason}")]
    InvalidRecord {
        /// What is wrong.
        reason: InvalidRecord,
    },
    /// A producer chose a timestamp type that only brokers may set.
    #[error("producers must not set the timestamp type to log append time")]
    TimestampType,
    /// The compressed data is broken.
    #[error("{codec} data is corrupt: {reason}")]
    Decompress {
        /// Name of the codec.
        codec: &'static str,
        /// What the codec says.
        reason: String,
    },
    /// The records take more memory than the caller allows.
    #[error("records are larger than {limit} bytes when decompressed")]
    OverLimit {
        /// Bytes allowed.
        limit: usize,
    },
    /// A record that is not laid out as one.
    #[error("record {index} is malformed: {reason}")]
    Record {
        /// Position in the batch.
        index: i32,
        /// What is wrong.
        reason: &'static str,
    },
}

/// What is wrong with a well-formed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Not exactly one batch.
    #[error("a produce request must have exactly one record batch per partition")]
    NotOneBatch,
    /// Record count and offset range disagree, or one of them is not positive.
    #[error("{count} records do not fit last offset delta {last_offset_delta}")]
    Count {
        /// From the header.
        count: i32,
        /// From the header.
        last_offset_delta: i32,
    },
    /// A control batch, which only brokers write.
    #[error("clients must not write control records")]
    Control,
    /// An idempotent batch without a sequence number or epoch.
    #[error("producer {id} has epoch {epoch} and sequence {sequence}")]
    Producer {
        /// Producer id.
        id: i64,
        /// Producer epoch.
        epoch: i16,
        /// Base sequence.
        sequence: i32,
    },
    /// The transactional bit without a producer id.
    #[error("a transactional batch needs a producer id")]
    TransactionalWithoutProducer,
    /// Producers number their offsets from 0.
    #[error("base offset is {base_offset}, not 0")]
    BaseOffset {
        /// From the header.
        base_offset: i64,
    },
    /// A bit that only log cleaning sets.
    #[error("producers must not set a delete horizon")]
    DeleteHorizon,
}

impl BatchError {
    /// The code that Kafka answers to a producer.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Length { .. }
            | Self::NoHeader { .. }
            | Self::Crc { .. }
            | Self::Decompress { .. }
            | Self::Record { .. } => ErrorCode::CorruptMessage,
            Self::UnsupportedMagic { .. } | Self::InvalidRecord { .. } => ErrorCode::InvalidRecord,
            Self::UnknownCompression { .. } | Self::CompressionForVersion { .. } => {
                ErrorCode::UnsupportedCompressionType
            }
            Self::TooLarge { .. } | Self::OverLimit { .. } => ErrorCode::MessageTooLarge,
            Self::TimestampType => ErrorCode::InvalidTimestamp,
        }
    }
}

impl From<InvalidRecord> for BatchError {
    fn from(reason: InvalidRecord) -> Self {
        Self::InvalidRecord { reason }
    }
}
