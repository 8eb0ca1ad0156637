//! What a broker checks before it accepts a batch from a producer, without decompressing it.

use bytes::Bytes;

use super::batch::Batch;
use super::compression::Compression;
use super::error::{BatchError, InvalidRecord};
use super::header::{BatchHeader, TimestampType};

/// First version of the Produce request whose senders may use zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// What the topic allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceLimits {
    /// `max.message.bytes`: largest batch, header included.
    pub batch_bytes_max: usize,
}

/// Checks the records that a Produce request of `produce_version` has for one partition: exactly one batch of
/// format v2, intact, within the limit, that numbers its records from 0 without gaps, is no marker, and has a
/// producer epoch and sequence if it has a producer id. Shares `records`.
///
/// # Errors
/// What [`BatchError::code`] turns into the code that Kafka answers.
pub fn validate_produce_batch(
    records: &Bytes,
    limits: ProduceLimits,
    produce_version: i16,
) -> Result<Batch, BatchError> {
    if records.is_empty() {
        return Err(InvalidRecord::NotOneBatch.into());
    }
    let batch = Batch::parse(records)?;
    if batch.bytes().len() != records.len() {
        return Err(InvalidRecord::NotOneBatch.into());
    }
    let bytes = batch.bytes().len();
    if bytes > limits.batch_bytes_max {
        return Err(BatchError::TooLarge {
            bytes,
            limit: limits.batch_bytes_max,
        });
    }
    // Before any field is believed that the CRC covers.
    batch.verify_crc()?;
    check_header(batch.header(), produce_version)?;
    Ok(batch)
}

fn check_header(header: &BatchHeader, produce_version: i16) -> Result<(), BatchError> {
    if header.compression()? == Compression::Zstd && produce_version < ZSTD_FROM {
        return Err(BatchError::CompressionForVersion {
            version: produce_version,
        });
    }
    if header.base_offset != 0 {
        return Err(InvalidRecord::BaseOffset {
            base_offset: header.base_offset,
        }
        .into());
    }
    let BatchHeader {
        count,
        last_offset_delta,
        ..
    } = *header;
    if count < 1 || last_offset_delta != count - 1 {
        return Err(InvalidRecord::Count {
            count,
            last_offset_delta,
        }
        .into());
    }
    if header.is_control() {
        return Err(InvalidRecord::Control.into());
    }
    if header.delete_horizon().is_some() {
        return Err(InvalidRecord::DeleteHorizon.into());
    }
    if header.has_producer() {
        if header.base_sequence < 0 || header.producer_epoch < 0 {
            let BatchHeader {
                producer_id: id,
                producer_epoch: epoch,
                base_sequence: sequence,
                ..
            } = *header;
            return Err(InvalidRecord::Producer { id, epoch, sequence }.into());
        }
    } else if header.is_transactional() {
        return Err(InvalidRecord::TransactionalWithoutProducer.into());
    }
    if header.timestamp_type() == TimestampType::LogAppend {
        return Err(BatchError::TimestampType);
    }
    Ok(())
}
