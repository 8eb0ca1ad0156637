//! Whether the timestamps that a producer gave are believable: `message.timestamp.{before,after}.max.ms`.
//!
//! Owns: the rule, as Kafka has it. The largest and the first timestamp stand in the batch's header; records are read only
//! where these are not enough.
//! Does not own: what a batch whose header lies about its records comes to (`validate`).

use std::borrow::Cow;
use std::ops::RangeInclusive;

use esker_kafka::ErrorCode;
use esker_kafka::records::{Batch, RecordReader};

use super::validate::{Refusal, Rules};
use crate::settings::TimestampType;

/// A record without a timestamp.
const NONE: i64 = -1;

/// Refuses a batch with a record whose timestamp is out of range, and names such records.
///
/// # Errors
/// `INVALID_TIMESTAMP`; or the records cannot be read.
pub(super) fn check(batch: &Batch, rules: &Rules) -> Result<(), Refusal> {
    let topic = &rules.topic;
    if topic.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let oldest = rules.now_ms.saturating_sub(topic.timestamp_before_max_ms);
    let newest = rules.now_ms.saturating_add(topic.timestamp_after_max_ms);
    let believable = oldest..=newest;
    let header = batch.header();
    let fits = |timestamp: i64| timestamp == NONE || believable.contains(&timestamp);
    // Only the first and the largest stand in the header: the oldest may be any, unless everything is old enough.
    let unlimited = oldest <= 0;
    if fits(header.max_timestamp) && fits(header.base_timestamp) && unlimited {
        return Ok(());
    }
    let mut blamed = Vec::new();
    let mut reader = RecordReader::new(batch, rules.decompressed_bytes_max)?;
    let mut index = 0;
    while let Some(record) = reader.next_record()? {
        if !fits(record.timestamp) {
            blamed.push((
                index,
                Cow::Owned(out_of_range(record.timestamp, record.offset, &believable)),
            ));
        }
        index += 1;
    }
    if blamed.is_empty() && fits(header.max_timestamp) {
        return Ok(());
    }
    Err(Refusal {
        code: ErrorCode::InvalidTimestamp,
        message: "One or more records have been rejected due to invalid timestamp".to_owned(),
        records: blamed,
    })
}

fn out_of_range(timestamp: i64, offset: i64, believable: &RangeInclusive<i64>) -> String {
    let (oldest, newest) = (believable.start(), believable.end());
    format!(
        "Timestamp {timestamp} of message with offset {offset} is out of range. \
         The timestamp should be within [{oldest}, {newest}]"
    )
}
