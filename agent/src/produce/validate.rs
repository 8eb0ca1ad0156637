//! From the record bytes of a produce request to a batch that may enter the write-ahead buffer.
//!
//! Owns: the checks that need the topic's settings; broker-side compression and timestamps, as Kafka does them. Records are
//! read where they lie open, or where the topic's settings need it; a batch is not unpacked only to be looked at.
//! Does not own: the format's own checks (`esker_kafka::records`), order (`sequencer`).
//!
//! Invariants: MEM-1 (a batch is decompressed only under `esker.max.decompressed.bytes`).

use std::borrow::Cow;

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_kafka::records::{
    Batch, BatchBuilder, BatchError, BatchHeader, Codec, Compression, ProduceLimits, RecordReader,
    validate_produce_batch,
};
use esker_segment::id::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use esker_segment::index::{BatchMeta, ProducerStamp};

use super::timestamps;
use crate::settings::{TimestampType, TopicCompression, TopicSettings};

/// The shortest record: seven fields of one byte each.
const RECORD_BYTES_MIN: usize = 7;

/// A batch that may enter.
#[derive(Clone, Debug)]
pub struct Valid {
    /// Its bytes, as they will be stored.
    pub data: Bytes,
    /// What the fold needs to know of it.
    pub meta: BatchMeta,
    /// When the broker stamped it; -1 when the producer's timestamps stand.
    pub log_append_time_ms: i64,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
    /// Records that are to blame, with the reason: index within the batch.
    pub records: Vec<(i32, Cow<'static, str>)>,
}

/// What a batch is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Settings of the topic.
    pub topic: TopicSettings,
    /// Version of the request.
    pub version: i16,
    /// Wall clock, milliseconds.
    pub now_ms: i64,
    /// Output cap of decompression.
    pub decompressed_bytes_max: usize,
}

impl Refusal {
    /// A refusal of the batch as a whole.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            records: Vec::new(),
        }
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Checks one partition's records and gives them the form in which they are stored.
///
/// # Errors
/// What the producer is told.
pub fn validate(records: Option<&Bytes>, rules: &Rules) -> Result<Valid, Refusal> {
    let missing = || Refusal::new(ErrorCode::InvalidRecord, "no records");
    let limits = ProduceLimits {
        batch_bytes_max: usize::try_from(rules.topic.message_bytes_max).unwrap_or(usize::MAX),
    };
    let mut batch = validate_produce_batch(records.ok_or_else(missing)?, limits, rules.version)?;
    if batch.header().is_transactional() {
        return Err(Refusal::new(
            ErrorCode::InvalidTxnState,
            "transactions are not built yet",
        ));
    }
    let found = batch.header().compression()?;
    let codec = stored_codec(rules.topic.compression, found);
    if rules.topic.cleanup.compacts() || (found == Compression::None && codec.is_none()) {
        check_records(&batch, rules)?;
    }
    if let Some(codec) = codec {
        batch = recompress(&batch, codec, rules)?;
    }
    check_count(batch.header(), rules)?;
    timestamps::check(&batch, rules)?;
    let mut log_append_time_ms = -1;
    if rules.topic.timestamp_type == TimestampType::LogAppendTime {
        log_append_time_ms = rules.now_ms;
        batch = batch.with_header(batch.with_log_append_time(rules.now_ms));
    }
    let meta = meta_of(batch.header(), batch.bytes().len())?;
    Ok(Valid {
        data: batch.bytes().clone(),
        meta,
        log_append_time_ms,
    })
}

/// The codec to store with, when it is not the producer's.
fn stored_codec(wanted: TopicCompression, found: Compression) -> Option<Codec> {
    let wanted = match wanted {
        TopicCompression::Producer => return None,
        TopicCompression::Uncompressed => Compression::None,
        TopicCompression::Gzip => Compression::Gzip,
        TopicCompression::Snappy => Compression::Snappy,
        TopicCompression::Lz4 => Compression::Lz4,
        TopicCompression::Zstd => Compression::Zstd,
    };
    (wanted != found).then(|| Codec::from(wanted))
}

/// Records that are not unpacked are at least not more than could ever be: each takes an offset.
fn check_count(header: &BatchHeader, rules: &Rules) -> Result<(), Refusal> {
    let count = usize::try_from(header.count).unwrap_or(usize::MAX);
    if count <= rules.decompressed_bytes_max / RECORD_BYTES_MIN {
        return Ok(());
    }
    let message = format!("{count} records are more than esker.max.decompressed.bytes can hold");
    Err(Refusal::new(ErrorCode::CorruptMessage, message))
}

/// Reads every record: a batch whose header or records lie would stop every consumer that meets it.
fn check_records(batch: &Batch, rules: &Rules) -> Result<(), Refusal> {
    const NO_KEY: &str = "Compacted topic cannot accept message without key";
    let keyed = rules.topic.cleanup.compacts();
    let mut blamed = Vec::new();
    let mut index = 0;
    RecordReader::new(batch, rules.decompressed_bytes_max)?.visit(|record| {
        if keyed && record.key.is_none() {
            blamed.push((index, Cow::Borrowed(NO_KEY)));
        }
        index += 1;
    })?;
    if blamed.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        code: ErrorCode::InvalidRecord,
        message: "One or more records have been rejected".to_owned(),
        records: blamed,
    })
}

fn recompress(batch: &Batch, codec: Codec, rules: &Rules) -> Result<Batch, Refusal> {
    let mut builder = BatchBuilder::replacing(batch.header(), codec);
    let mut reader = RecordReader::new(batch, rules.decompressed_bytes_max)?;
    while let Some(record) = reader.next_record()? {
        builder.append_kept(&record)?;
    }
    let rebuilt = builder.build()?;
    // The limit holds for what is stored, too.
    let bytes = rebuilt.bytes().len();
    if bytes > usize::try_from(rules.topic.message_bytes_max).unwrap_or(usize::MAX) {
        let message = format!("{bytes} bytes after compression, more than max.message.bytes");
        return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
    }
    Ok(rebuilt)
}

fn meta_of(header: &BatchHeader, bytes: usize) -> Result<BatchMeta, Refusal> {
    let corrupt = |_| Refusal::new(ErrorCode::CorruptMessage, "batch header out of range");
    let producer = header.has_producer().then(|| ProducerStamp {
        id: ProducerId(header.producer_id),
        epoch: ProducerEpoch(header.producer_epoch),
        first_sequence: Sequence(header.base_sequence),
        transactional: header.is_transactional(),
        verified_at: None,
    });
    Ok(BatchMeta {
        records: u32::try_from(header.count).map_err(corrupt)?,
        bytes: u32::try_from(bytes).map_err(corrupt)?,
        max_timestamp: Timestamp(header.max_timestamp),
        crc: header.crc,
        producer,
    })
}
