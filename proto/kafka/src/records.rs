//! Record batches in Kafka's format v2, the only one that Kafka 4 writes.
//!
//! Owns: the 61-byte batch header, its checks and patches, compression, records, building batches, markers.
//! Does not own: offsets and duplicates (the fold), where batches are kept.
//!
//! Invariants: a batch is validated in place and never copied; base offset and leader epoch lie outside the CRC and
//! are patched when a batch is served; nothing is decompressed beyond a limit that the caller names (MEM-1).

mod batch;
mod build;
mod compression;
mod control;
mod error;
mod header;
mod produce;
mod read;
mod record;
mod varint;
mod xerial;

pub use self::batch::{Batch, BatchIter, PATCH_BYTES, Patched, patch_prefix};
pub use self::build::BatchBuilder;
pub use self::compression::{Codec, Compression};
pub use self::control::{ControlType, EndTxn, TransactionMarker};
pub use self::error::{BatchError, InvalidRecord};
pub use self::header::{
    BATCH_HEADER_BYTES, BatchHeader, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, TimestampType,
};
pub use self::produce::{ProduceLimits, validate_produce_batch};
pub use self::read::RecordReader;
pub use self::record::{Header, Headers, Record, RecordView};
