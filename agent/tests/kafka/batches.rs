//! Record batches: made for producing, and read back from what was fetched.

use bytes::Bytes;
use esker_kafka::Records;
use esker_kafka::messages::fetch_response::PartitionData;
use esker_kafka::records::{Batch, BatchBuilder, BatchIter, Codec, Compression, Headers, Record, RecordReader};

use crate::broker::EPOCH_MS;

/// Every codec there is.
pub(crate) const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Most that a batch of a test unpacks to.
const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

/// A batch without keys.
pub(crate) fn batch(values: &[&str]) -> Batch {
    filled(BatchBuilder::new(Codec::from(Compression::None)), values)
}

/// A batch without keys, compressed.
pub(crate) fn compressed(compression: Compression, values: &[&str]) -> Batch {
    filled(BatchBuilder::new(Codec::from(compression)), values)
}

/// A batch of an idempotent producer, of so many records.
pub(crate) fn sequenced(producer: i64, epoch: i16, first_sequence: i32, records: usize) -> Batch {
    let builder = BatchBuilder::new(Codec::from(Compression::None)).producer(producer, epoch, first_sequence);
    filled(builder, &vec!["x"; records])
}

/// Finishes a batch with these values.
pub(crate) fn filled(mut builder: BatchBuilder, values: &[&str]) -> Batch {
    for value in values {
        builder
            .append(EPOCH_MS, None, Some(value.as_bytes()), &Headers::new())
            .unwrap();
    }
    builder.build().unwrap()
}

/// A batch whose records have these timestamps.
pub(crate) fn at_times(compression: Compression, times: &[i64]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::from(compression));
    for time in times {
        let value = format!("at {time}");
        builder
            .append(*time, None, Some(value.as_bytes()), &Headers::new())
            .unwrap();
    }
    builder.build().unwrap()
}

/// A batch whose records have these keys.
pub(crate) fn keyed(compression: Compression, keys: &[Option<&str>]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::from(compression));
    for key in keys {
        let key = key.map(str::as_bytes);
        builder.append(EPOCH_MS, key, Some(b"v"), &Headers::new()).unwrap();
    }
    builder.build().unwrap()
}

/// The batches that were fetched; each one's CRC must be right.
pub(crate) fn batches_of(records: &Records) -> Vec<Batch> {
    let batches: Vec<Batch> = BatchIter::new(records.to_bytes()).map(Result::unwrap).collect();
    for batch in &batches {
        batch.verify_crc().unwrap();
    }
    batches
}

/// The batches of a fetched partition.
pub(crate) fn fetched(data: &PartitionData) -> Vec<Batch> {
    batches_of(data.records.as_ref().unwrap())
}

/// The records of a batch, with the offsets they have in the log.
pub(crate) fn records_of(batch: &Batch) -> Vec<Record> {
    RecordReader::new(batch, DECOMPRESSED_BYTES_MAX)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Offset and value of every record that was fetched.
pub(crate) fn values_of(data: &PartitionData) -> Vec<(i64, String)> {
    let records = fetched(data).iter().flat_map(records_of).collect::<Vec<_>>();
    records
        .into_iter()
        .map(|record| {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            (record.offset, value)
        })
        .collect()
}

/// The same bytes with some of them changed, without a new CRC.
pub(crate) fn tampered(batch: &Batch, position: usize, bytes: &[u8]) -> Bytes {
    let mut changed = batch.bytes().to_vec();
    changed[position..position + bytes.len()].copy_from_slice(bytes);
    Bytes::from(changed)
}
