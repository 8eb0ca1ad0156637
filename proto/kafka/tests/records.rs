//! Record batches: what is built is read back, and damage is an error.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use esker_kafka::records::{
    BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchError, BatchHeader, BatchIter, Codec, Compression, Header, Headers,
    ProduceLimits, Record, RecordReader, validate_produce_batch,
};

const LATEST: i16 = 13;

fn records(count: i64) -> Vec<Record> {
    let record = |i: i64| Record {
        offset: i,
        timestamp: 1_700_000_000_000 + i * 3 - (i % 5) * 10,
        key: (i % 3 != 0).then(|| Bytes::from(format!("key {i}"))),
        value: (i % 4 != 3).then(|| Bytes::from(vec![b'v'; usize::try_from(i * 37 % 900).unwrap()])),
        headers: (0..i % 3).map(|h| ("same key", (h != 1).then_some([7u8; 2]))).collect(),
    };
    (0..count).map(record).collect()
}

fn build(codec: impl Into<Codec>, records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::new(codec.into());
    for record in records {
        builder
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )
            .unwrap();
    }
    builder.build().unwrap()
}

fn read(batch: &Batch, limit: usize) -> Result<Vec<Record>, BatchError> {
    RecordReader::new(batch, limit)?.collect()
}

fn with_crc(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]);
    bytes[17..21].copy_from_slice(&u32::try_from(crc).unwrap().to_be_bytes());
    Bytes::from(bytes)
}

#[test]
fn records_round_trip_through_every_codec() {
    for codec in Compression::ALL {
        for count in [1, 2, 50, 3000] {
            let expected = records(count);
            let batch = build(codec, &expected);
            assert_eq!(batch.header().compression(), Ok(codec));
            batch.verify_crc().unwrap();
            assert_eq!(read(&batch, 1 << 24).unwrap(), expected, "{codec:?} {count}");
            assert_eq!(
                validate_produce_batch(
                    batch.bytes(),
                    ProduceLimits {
                        batch_bytes_max: 1 << 24
                    },
                    LATEST
                )
                .unwrap(),
                batch
            );
        }
    }
}

#[test]
fn compression_levels_are_clamped_not_trusted() {
    let expected = records(20);
    for compression in Compression::ALL {
        for level in [i32::MIN, -5, 0, 1, 9, 22, i32::MAX] {
            let batch = build(
                Codec {
                    compression,
                    level: Some(level),
                },
                &expected,
            );
            assert_eq!(read(&batch, 1 << 20).unwrap(), expected, "{compression:?} {level}");
        }
    }
}

#[test]
fn headers_keep_order_and_duplicates() {
    let headers: Headers = [("b", Some("1")), ("a", None), ("b", Some("2"))].into_iter().collect();
    let mut builder = BatchBuilder::new(Codec::default());
    builder.append(5, None, None, &headers).unwrap();
    let batch = builder.build().unwrap();
    let record = read(&batch, 1 << 10).unwrap().remove(0);
    let header = |key: &'static str, value: Option<&'static str>| Header {
        key: key.into(),
        value: value.map(Bytes::from),
    };
    let found: Vec<Header> = record.headers.iter().collect();
    assert_eq!(
        found,
        [header("b", Some("1")), header("a", None), header("b", Some("2"))]
    );
}

#[test]
fn a_patched_batch_is_the_same_memory_and_still_valid() {
    let batch = build(Compression::Lz4, &records(30));
    let patched = batch.patched(1 << 50, 9);
    assert_eq!(patched.rest.as_ptr(), batch.bytes()[16..].as_ptr());
    let bytes = Bytes::from([&patched.prefix[..], &patched.rest].concat());
    let moved = Batch::parse(&bytes).unwrap();
    moved.verify_crc().unwrap();
    assert_eq!(
        moved.header(),
        &BatchHeader {
            base_offset: 1 << 50,
            leader_epoch: 9,
            ..*batch.header()
        }
    );
    assert_eq!(moved.header().to_bytes(), batch.patched_header(1 << 50, 9));
    assert_eq!(read(&moved, 1 << 20).unwrap()[29].offset, (1 << 50) + 29);
}

#[test]
fn log_append_time_replaces_every_timestamp() {
    let batch = build(Compression::Zstd, &records(10));
    let stamped = batch.with_header(batch.with_log_append_time(42));
    stamped.verify_crc().unwrap();
    assert!(
        read(&stamped, 1 << 20)
            .unwrap()
            .iter()
            .all(|record| record.timestamp == 42)
    );
}

#[test]
fn a_run_of_batches_is_split_and_ends_at_the_first_bad_one() {
    let one = build(Compression::None, &records(2));
    let two = build(Compression::Gzip, &records(5));
    let run = Bytes::from([&one.bytes()[..], two.bytes(), &two.bytes()[..40]].concat());
    let all: Vec<_> = BatchIter::new(run).collect();
    assert_eq!(all.len(), 3);
    assert_eq!((all[0].as_ref(), all[1].as_ref()), (Ok(&one), Ok(&two)));
    assert_eq!(all[2], Err(BatchError::NoHeader { available: 40 }));
}

#[test]
fn cleaning_keeps_offsets_and_may_leave_an_empty_batch() {
    let full = build(Compression::Gzip, &records(10));
    let mut some = BatchBuilder::replacing(full.header(), Compression::Gzip.into());
    let kept: Vec<Record> = records(10)
        .into_iter()
        .filter(|record| record.offset % 4 == 2)
        .collect();
    for record in &kept {
        some.append_kept(record).unwrap();
    }
    let some = some.build().unwrap();
    assert_eq!(read(&some, 1 << 20).unwrap(), kept);
    assert_eq!((some.header().last_offset_delta, some.header().count), (9, 2));

    let none = BatchBuilder::replacing(full.header(), Compression::Gzip.into())
        .build()
        .unwrap();
    assert_eq!(none.bytes().len(), BATCH_HEADER_BYTES);
    assert_eq!(none.header().last_offset(), 9);
    assert_eq!(none.header().max_timestamp, full.header().max_timestamp);
    assert_eq!(read(&none, 1 << 20).unwrap(), []);

    let mut wrong = BatchBuilder::replacing(full.header(), Codec::default());
    wrong.append_kept(&kept[1]).unwrap();
    assert!(wrong.append_kept(&kept[0]).is_err(), "offsets must rise");
    let beyond = Record {
        offset: 10,
        ..Record::default()
    };
    assert!(
        wrong.append_kept(&beyond).is_err(),
        "offsets must stay within the batch"
    );
}

/// A batch whose body is `body`, announcing `count` records.
fn raw(compression: Compression, count: i32, body: &[u8]) -> Batch {
    let mut header = *build(compression, &records(1)).header();
    header.batch_length = i32::try_from(BATCH_HEADER_BYTES - 12 + body.len()).unwrap();
    header.count = count;
    header.last_offset_delta = count - 1;
    Batch::parse(&with_crc([&header.to_bytes()[..], body].concat())).unwrap()
}

#[test]
fn malformed_records_are_refused() {
    let malformed = |count: i32, body: &[u8]| match read(&raw(Compression::None, count, body), 1 << 20) {
        Err(BatchError::Record { index, reason }) => (index, reason),
        other => panic!("{body:?}: {other:?}"),
    };
    // length 6: attributes, timestamp delta, offset delta, null key, null value, no headers
    let good = [12, 0, 0, 0, 1, 1, 0];
    assert_eq!(read(&raw(Compression::None, 1, &good), 1 << 20).unwrap().len(), 1);
    assert_eq!(malformed(2, &good), (1, "bad length"));
    assert_eq!(
        malformed(1, &[&good[..], &[0]].concat()),
        (1, "more bytes than records")
    );
    assert_eq!(
        malformed(2, &[&good[..], &good].concat()),
        (1, "offset out of order or beyond the batch")
    );
    assert_eq!(
        malformed(1, &[12, 0, 0, 2, 1, 1, 0]),
        (0, "offset out of order or beyond the batch")
    );
    assert_eq!(malformed(1, &[14, 0, 0, 0, 1, 1, 0]), (0, "cut off"));
    assert_eq!(malformed(1, &[1]), (0, "negative length"));
    assert_eq!(malformed(1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), (0, "bad length"));
    assert_eq!(malformed(1, &[0xfe, 0xff, 0xff, 0xff, 0x0f]), (0, "cut off"));
    assert_eq!(malformed(1, &[0]), (0, "no attributes"));
    assert_eq!(malformed(1, &[12, 0, 0, 0, 4, 1, 0]), (0, "bad value"));
    assert_eq!(malformed(1, &[12, 0, 0, 0, 1, 1, 1]), (0, "negative header count"));
    assert_eq!(
        malformed(1, &[12, 0, 0, 0, 1, 1, 2]),
        (0, "more headers than bytes for them")
    );
    assert_eq!(malformed(1, &[16, 0, 0, 0, 1, 1, 2, 1, 1]), (0, "bad headers"));
    assert_eq!(malformed(1, &[16, 0, 0, 0, 1, 1, 0, 1, 1]), (0, "bad headers"));
}

#[test]
fn snappy_is_read_bare_and_joined_too() {
    let plain = build(Compression::None, &records(40));
    let body = plain.body();
    let bare = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    assert_eq!(
        read(&raw(Compression::Snappy, 40, &bare), 1 << 20).unwrap(),
        records(40)
    );

    let (front, back) = body.split_at(1000);
    let framed = |part: &[u8]| {
        let block = snap::raw::Encoder::new().compress_vec(part).unwrap();
        let length = u32::try_from(block.len()).unwrap().to_be_bytes();
        [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], &length, &block].concat()
    };
    let joined = [framed(front), framed(back)].concat();
    assert_eq!(
        read(&raw(Compression::Snappy, 40, &joined), 1 << 20).unwrap(),
        records(40)
    );
}

#[test]
fn output_beyond_the_limit_is_refused_by_every_codec() {
    let big = Record {
        value: Some(Bytes::from(vec![0; 3 << 20])),
        ..Record::default()
    };
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let batch = build(codec, std::slice::from_ref(&big));
        assert!(batch.bytes().len() < 300_000, "{codec:?} compresses zeros");
        assert_eq!(
            read(&batch, 1 << 20),
            Err(BatchError::OverLimit { limit: 1 << 20 }),
            "{codec:?}"
        );
        assert_eq!(read(&batch, 4 << 20).unwrap().len(), 1, "{codec:?}");
    }
}

#[test]
fn corrupt_compression_is_an_error_not_a_panic() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let body = build(codec, &records(30)).body();
        assert!(read(&raw(codec, 30, &[]), 1 << 20).is_err(), "{codec:?} empty");
        let mut refused = 0;
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] = damaged[at].wrapping_add(0x55);
            refused += usize::from(read(&raw(codec, 30, &damaged), 1 << 20).is_err());
            // What follows the last block may be missing unnoticed (the batch CRC covers it), never a record.
            let cut = read(&raw(codec, 30, &body[..at]), 1 << 20);
            let complete = at + 8 >= body.len() && cut == Ok(records(30));
            assert!(cut.is_err() || complete, "{codec:?} cut at {at}");
        }
        assert!(refused * 2 > body.len(), "{codec:?}: {refused} of {}", body.len());
    }
}

/// Looking at records where they lie comes to the same end as reading them, whatever the bytes are.
#[test]
fn looking_agrees_with_reading() {
    let sound = build(Compression::None, &records(20)).bytes().clone();
    let read = |batch: &Batch| {
        let records: Result<Vec<_>, _> = RecordReader::new(batch, 1 << 20).unwrap().collect();
        records.map(|records| records.into_iter().map(|r| (r.key, r.value)).collect::<Vec<_>>())
    };
    let look = |batch: &Batch| {
        let mut seen = Vec::new();
        let copy = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice);
        let reader = RecordReader::new(batch, 1 << 20).unwrap();
        reader
            .visit(|record| seen.push((copy(record.key), copy(record.value))))
            .map(|()| seen)
    };
    let mut broken = 0;
    for at in 61..sound.len() {
        for flip in [1, 0x40, 0x80] {
            let mut bytes = sound.to_vec();
            bytes[at] ^= flip;
            let batch = Batch::parse(&Bytes::from(bytes)).unwrap();
            let (was_read, was_seen) = (read(&batch), look(&batch));
            broken += usize::from(was_read.is_err());
            assert_eq!(was_read, was_seen, "byte {at} changed by {flip:#x}");
        }
    }
    assert!(broken > 100, "only {broken} changes did harm");
}
