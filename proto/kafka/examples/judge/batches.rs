//! Record batches for the judge: ours for Kafka to read, and whether both see the same in a batch.

use bytes::Bytes;
use esker_kafka::records::{
    BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchError, Codec, Compression, EndTxn, Headers, RecordReader,
    TransactionMarker,
};

use crate::schema::from_hex;
use crate::schema::listing::listing;
use crate::schema::random::Rng;

/// What Kafka lists is what we list.
pub(crate) fn check(hex: &str, theirs: &str) -> Result<(), String> {
    let ours = listing(Bytes::from(from_hex(hex))).map_err(|error| error.to_string())?;
    if ours == theirs {
        Ok(())
    } else {
        Err(format!("we list {ours}"))
    }
}

/// What we accept, Kafka accepts, and lists alike. What Kafka accepts, we accept, apart from offsets out of order.
pub(crate) fn check_damaged(hex: &str, theirs: &str) -> Result<(), String> {
    // The replacement character: Kafka turns header keys that are not UTF-8 into it, we keep them.
    let lossy = theirs.contains("efbfbd");
    match listing(Bytes::from(from_hex(hex))) {
        Ok(ours) if ours == theirs || lossy => Ok(()),
        Ok(ours) => Err(format!("we list {ours}")),
        Err(_) if theirs.starts_with('!') => Ok(()),
        Err(BatchError::Record {
            reason: "offset out of order or beyond the batch",
            ..
        }) => Ok(()),
        Err(error) => Err(format!("Kafka accepts, we do not: {error}")),
    }
}

/// Uncompressed batches with one byte of their records changed.
pub(crate) fn damaged() -> Vec<(String, Bytes)> {
    let batch = filled(BatchBuilder::new(Codec::default()), 6).build().expect("small");
    let mut rng = Rng(99);
    let mut all = Vec::new();
    for at in BATCH_HEADER_BYTES..batch.bytes().len() {
        for value in [rng.below(4), 0x7f, rng.below(256)] {
            let mut bytes = batch.bytes().to_vec();
            bytes[at] = u8::try_from(value).expect("a byte");
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]);
            bytes[17..21].copy_from_slice(&u32::try_from(crc).expect("32 bits").to_be_bytes());
            all.push((format!("{at}-{value}"), Bytes::from(bytes)));
        }
    }
    all
}

/// Batches of every kind that we can build.
pub(crate) fn ours() -> Vec<(String, Bytes)> {
    let mut all = Vec::new();
    for compression in Compression::ALL {
        let codec = Codec::from(compression);
        let name = compression.name();
        for count in [1, 3, 700] {
            let builder = filled(BatchBuilder::new(codec).base_offset(5).leader_epoch(2), count);
            all.push((format!("{name}-{count}"), finish(builder)));
        }
        let idempotent = BatchBuilder::new(codec).producer(4000, 7, i32::MAX - 2).transactional();
        all.push((format!("{name}-transaction"), finish(filled(idempotent, 9))));
        let stamped = BatchBuilder::new(codec).log_append_time(1_700_000_123_456);
        all.push((format!("{name}-append-time"), finish(filled(stamped, 4))));
        let horizon = BatchBuilder::new(codec).delete_horizon(1_700_000_000_000);
        all.push((format!("{name}-horizon"), finish(filled(horizon, 4))));
        all.push((format!("{name}-cleaned"), cleaned(codec, |offset| offset % 3 == 1)));
        all.push((format!("{name}-emptied"), cleaned(codec, |_| false)));
        let patched = filled(BatchBuilder::new(codec), 3)
            .build()
            .expect("small")
            .patched(1 << 40, 77);
        all.push((
            format!("{name}-patched"),
            Bytes::from([&patched.prefix[..], &patched.rest].concat()),
        ));
        let batch = filled(BatchBuilder::new(codec), 3).build().expect("small");
        let header = batch.with_log_append_time(1_800_000_000_000);
        all.push((format!("{name}-restamped"), batch.with_header(header).bytes().clone()));
    }
    for (name, end) in [("abort", EndTxn::Abort), ("commit", EndTxn::Commit)] {
        let marker = TransactionMarker {
            offset: 12,
            leader_epoch: 1,
            timestamp: 1_700_000_000_000,
            producer_id: 4000,
            producer_epoch: 8,
            coordinator_epoch: 3,
            end,
        };
        all.push((format!("marker-{name}"), marker.to_batch().bytes().clone()));
    }
    all
}

fn finish(builder: BatchBuilder) -> Bytes {
    builder.build().expect("small").bytes().clone()
}

fn filled(mut builder: BatchBuilder, count: i64) -> BatchBuilder {
    for i in 0..count {
        let key = format!("k{i}");
        let value = format!("some value {i} ").repeat(usize::try_from(i % 50).expect("small"));
        let headers: Headers = (0..i % 4)
            .map(|h| (format!("h{}", h % 2), (h != 1).then(|| vec![0u8; 3])))
            .collect();
        let key = (i % 3 != 0).then_some(key.as_bytes());
        let value = (i % 7 != 6).then_some(value.as_bytes());
        builder
            .append(1_700_000_000_000 + i * 7 - (i % 2) * 100, key, value, &headers)
            .expect("small");
    }
    builder
}

/// A batch of 20 records of which only those with some offsets are left.
fn cleaned(codec: Codec, keep: fn(i64) -> bool) -> Bytes {
    let builder = BatchBuilder::new(codec)
        .base_offset(900)
        .leader_epoch(4)
        .producer(4000, 7, 100);
    let full: Batch = filled(builder, 20).build().expect("small");
    let mut builder = BatchBuilder::replacing(full.header(), codec);
    for record in RecordReader::new(&full, 1 << 20).expect("valid") {
        let record = record.expect("valid");
        if keep(record.offset) {
            builder.append_kept(&record).expect("in order");
        }
    }
    finish(builder)
}
