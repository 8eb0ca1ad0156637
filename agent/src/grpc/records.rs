//! Records: from messages to the batches that are stored, and back.
//!
//! Owns: what is null and what is empty, which records of a batch a reader is shown.
//! Does not own: the batch format (`esker_kafka::records`).
//!
//! Invariants: TXN-1, MEM-1 (a batch is unpacked under `esker.max.decompressed.bytes`, and only what the answer takes is kept).

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_kafka::messages::fetch_response::{AbortedTransaction, PartitionData};
use esker_kafka::records::{Batch, BatchBuilder, BatchError, BatchIter, Codec, ControlType, EndTxn, RecordReader};
use esker_proto::v1::{ConsumedRecord, Header, Record};
use tonic::Status;

use super::errors::{exhausted, refusal};

/// What a record takes in an answer beside its bytes, and a header.
const RECORD_OVERHEAD: usize = 64;
const HEADER_OVERHEAD: usize = 32;
/// Headers of a record that is shown: each takes many times its bytes in memory.
const HEADERS_MAX: usize = 65_536;

/// Id and epoch of an idempotent producer, and the sequence of the first record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) producer: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

/// How much of what there is goes into one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// `esker.max.decompressed.bytes`.
    pub(super) decompressed_bytes: usize,
}

/// Records for a reader.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) records: Vec<ConsumedRecord>,
    /// Where to go on.
    pub(super) next_offset: i64,
    /// What they take, about.
    pub(super) bytes: usize,
    /// The answer is full before what was fetched is used up.
    pub(super) full: bool,
}

/// A batch of these records; those that have no timestamp get `now_ms`.
pub(super) fn batch<'a>(
    records: impl Iterator<Item = &'a Record>,
    now_ms: i64,
    stamp: Option<Stamp>,
) -> Result<Batch, Status> {
    let mut builder = BatchBuilder::new(Codec::default());
    if let Some(stamp) = stamp {
        builder = builder.producer(stamp.producer, stamp.epoch, stamp.sequence);
    }
    for record in records {
        let headers = record.headers.iter();
        let headers = headers.map(|header| (header.name.as_bytes(), header.value.as_deref()));
        let timestamp = record.timestamp_ms.unwrap_or(now_ms);
        let appended = builder.append(
            timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers.collect(),
        );
        appended.map_err(|error| refused(&error))?;
    }
    builder.build().map_err(|error| refused(&error))
}

fn refused(error: &BatchError) -> Status {
    refusal(error.code(), "records", Some(&error.to_string()))
}

/// The records of a fetched partition from an offset on. Control records are not shown, nor are those of aborted transactions,
/// if the answer names them. One record is shown however large it is.
pub(super) fn shown(data: &PartitionData, from: i64, most: Most) -> Result<Shown, Status> {
    let mut shown = Shown {
        next_offset: from,
        ..Shown::default()
    };
    let bytes = data.records.as_ref().map(esker_kafka::Records::to_bytes);
    let mut aborted = Aborted::new(data.aborted_transactions.as_deref().unwrap_or_default());
    for batch in BatchIter::new(bytes.unwrap_or_default()) {
        let unreadable = |error: &BatchError| Status::data_loss(format!("batch at or after offset {from}: {error}"));
        let batch = batch.map_err(|error| unreadable(&error))?;
        if !aborted.skips(&batch, most).map_err(|error| unreadable(&error))? {
            let mut reader = RecordReader::new(&batch, most.decompressed_bytes).map_err(|error| unreadable(&error))?;
            while let Some(record) = reader.next_record().map_err(|error| unreadable(&error))? {
                if record.offset < shown.next_offset {
                    continue;
                }
                if !add(&mut shown, record, most)? {
                    shown.full = true;
                    return Ok(shown);
                }
            }
        }
        let end = batch.header().base_offset + i64::from(batch.header().last_offset_delta) + 1;
        shown.next_offset = shown.next_offset.max(end);
    }
    Ok(shown)
}

/// Adds a record, unless the answer is full.
fn add(shown: &mut Shown, record: esker_kafka::records::Record, most: Most) -> Result<bool, Status> {
    let first = shown.records.is_empty();
    if !first && shown.records.len() >= most.records {
        return Ok(false);
    }
    if record.headers.len() > HEADERS_MAX {
        if !first {
            return Ok(false);
        }
        let (offset, headers) = (record.offset, record.headers.len());
        let what = format!("the record at offset {offset} has {headers} headers, more than {HEADERS_MAX}");
        return Err(exhausted(
            &what,
            "read it with a Kafka client, or go on after it",
            false,
        ));
    }
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let mut bytes = RECORD_OVERHEAD + length(&record.key) + length(&record.value);
    let headers = record.headers.iter().map(|header| {
        bytes += HEADER_OVERHEAD + header.key.len() + length(&header.value);
        Header {
            name: String::from_utf8_lossy(&header.key).into_owned(),
            value: header.value,
        }
    });
    let headers: Vec<Header> = headers.collect();
    if !first && shown.bytes + bytes > most.bytes {
        return Ok(false);
    }
    shown.bytes += bytes;
    shown.next_offset = record.offset + 1;
    shown.records.push(ConsumedRecord {
        offset: record.offset,
        timestamp_ms: record.timestamp,
        key: record.key,
        value: record.value,
        headers,
    });
    Ok(true)
}

/// Which batches belong to aborted transactions, as their reader goes through them in order.
struct Aborted<'a> {
    /// Those that have not begun yet, the next one last.
    ahead: Vec<&'a AbortedTransaction>,
    /// Producers whose batches are skipped until their marker.
    open: BTreeSet<i64>,
}

impl<'a> Aborted<'a> {
    fn new(transactions: &'a [AbortedTransaction]) -> Self {
        let mut ahead: Vec<&AbortedTransaction> = transactions.iter().collect();
        ahead.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            ahead,
            open: BTreeSet::new(),
        }
    }

    /// Whether nobody is shown this batch.
    fn skips(&mut self, batch: &Batch, most: Most) -> Result<bool, BatchError> {
        let header = batch.header();
        let last = header.base_offset + i64::from(header.last_offset_delta);
        while let Some(begun) = self.ahead.pop_if(|transaction| transaction.first_offset <= last) {
            self.open.insert(begun.producer_id);
        }
        if header.is_control() {
            let mut reader = RecordReader::new(batch, most.decompressed_bytes)?;
            while let Some(record) = reader.next_record()? {
                if ControlType::of(&record) == Some(ControlType::EndTxn(EndTxn::Abort)) {
                    self.open.remove(&header.producer_id);
                }
            }
            return Ok(true);
        }
        Ok(header.is_transactional() && self.open.contains(&header.producer_id))
    }
}

#[cfg(test)]
mod tests;
