//! What a run of batches holds, in a notation that the Java half of the judge writes too.
//!
//! Per batch `batch,base,last,epoch,codec,log-append,transactional,control,max-timestamp,producer,producer-epoch,
//! base-sequence,last-sequence,count,delete-horizon`, per record `;record,offset,timestamp,key,value,header-key,
//! header-value,…` with bytes as `x` and hexadecimal digits, or `null`, and a final `;`.

use std::fmt::Write as _;

use bytes::Bytes;
use esker_kafka::records::{BatchError, BatchIter, RecordReader, TimestampType};

use super::to_hex;

/// Everything in the batches; their CRCs are checked.
pub fn listing(bytes: Bytes) -> Result<String, BatchError> {
    let mut out = String::new();
    for batch in BatchIter::new(bytes) {
        let batch = batch?;
        batch.verify_crc()?;
        let h = batch.header();
        let horizon = h.delete_horizon().map_or("none".to_owned(), |ms| ms.to_string());
        write!(
            out,
            "batch,{},{},{},{},{},{},{},{},{},{},{},{},{},{horizon}",
            h.base_offset,
            h.last_offset(),
            h.leader_epoch,
            h.compression()?.name(),
            h.timestamp_type() == TimestampType::LogAppend,
            h.is_transactional(),
            h.is_control(),
            h.max_timestamp,
            h.producer_id,
            h.producer_epoch,
            h.base_sequence,
            h.last_sequence(),
            h.count,
        )
        .expect("string");
        for record in RecordReader::new(&batch, 1 << 24)? {
            let record = record?;
            let (key, value) = (part(record.key.as_ref()), part(record.value.as_ref()));
            write!(out, ";record,{},{},{key},{value}", record.offset, record.timestamp).expect("string");
            for header in record.headers.iter() {
                write!(out, ",{},{}", part(Some(&header.key)), part(header.value.as_ref())).expect("string");
            }
        }
        out.push(';');
    }
    Ok(out)
}

fn part(bytes: Option<&Bytes>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("x{}", to_hex(bytes)))
}

/// The listing itself if it is short, else its checksum: golden files stay small.
pub fn abridged(listing: &str) -> String {
    if listing.len() <= 4000 {
        return listing.to_owned();
    }
    format!(
        "crc32c:{:08x}:{}",
        crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, listing.as_bytes()),
        listing.len()
    )
}
