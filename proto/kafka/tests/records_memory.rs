//! A record batch cannot make its reader allocate more than the caller's limit and a constant, whatever it announces.
//!
//! One test only: the counting allocator counts for the whole process. It does not see what zstd, which is C,
//! takes for its window.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::System;

use bytes::Bytes;
use cap::Cap;
use esker_kafka::records::{Batch, BatchBuilder, BatchError, Codec, Compression, Headers, RecordReader};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const LIMIT: usize = 1 << 20;
/// What a decompressor needs for itself (an LZ4 block and its history, at most) and the reader's chunks.
const WORKING_BYTES: usize = 12 << 20;

/// Reads all records, dropping each, and checks the memory that was live at the worst moment.
fn read_within_bounds(what: &str, batch: &Batch) -> Result<usize, BatchError> {
    let before = ALLOCATOR.allocated();
    let mut peak = 0;
    let mut count = 0;
    let result = RecordReader::new(batch, LIMIT).and_then(|reader| {
        for record in reader {
            drop(record?);
            count += 1;
            peak = peak.max(ALLOCATOR.allocated().saturating_sub(before));
        }
        Ok(count)
    });
    // The allocator's own maximum is since the process began, so it bounds what happened in between too.
    let bound = 4 * LIMIT + WORKING_BYTES;
    assert!(peak <= bound, "{what}: {peak} bytes live");
    assert!(
        ALLOCATOR.max_allocated() <= before + bound,
        "{what}: {} bytes at some time",
        ALLOCATOR.max_allocated()
    );
    result
}

fn batch(compression: Compression, count: i32, body: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::from(compression));
    builder.append(0, None, None, &Headers::new()).unwrap();
    let mut header = *builder.build().unwrap().header();
    header.batch_length = i32::try_from(49 + body.len()).unwrap();
    header.count = count;
    header.last_offset_delta = count - 1;
    Batch::parse(&Bytes::from([&header.to_bytes()[..], body].concat())).unwrap()
}

/// A record that announces 60 MiB, and `megabytes` of zeros, compressed by `codec` without ever holding them: the
/// reader has reason to ask for more and more.
fn bomb(codec: Compression, megabytes: usize) -> Vec<u8> {
    use std::io::Write;
    let zeros = vec![0u8; 1 << 20];
    let mut prefix = Vec::new();
    put_varint(&mut prefix, 60 << 20);
    let feed = |out: &mut dyn Write| {
        out.write_all(&prefix).unwrap();
        (0..megabytes).for_each(|_| out.write_all(&zeros).unwrap());
    };
    match codec {
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            feed(&mut out);
            out.finish().unwrap()
        }
        Compression::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            feed(&mut out);
            out.finish().unwrap()
        }
        Compression::Zstd => {
            let mut out = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
            feed(&mut out);
            out.finish().unwrap()
        }
        Compression::None | Compression::Snappy => panic!("not a streaming codec"),
    }
}

#[test]
fn bombs_and_lies_cost_no_more_than_the_limit() {
    // A record that says it is 2 GiB long, and one with millions of headers.
    let huge_record = [0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0];
    let mut many_headers = vec![0u8; 0];
    let headers = 400_000u32;
    let body = 6 + 3 + 2 * headers;
    put_varint(&mut many_headers, i64::from(body));
    many_headers.extend([0, 0, 0, 1, 1]);
    put_varint(&mut many_headers, i64::from(headers));
    many_headers.resize(many_headers.len() + usize::try_from(2 * headers).unwrap(), 0);
    let trimmed = many_headers.len();
    for codec in Compression::ALL {
        let compressed = |bytes: &[u8]| match codec {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut out = Vec::new();
                let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
                std::io::copy(&mut encoder, &mut out).unwrap();
                out
            }
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                std::io::copy(&mut &bytes[..], &mut encoder).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 3).unwrap(),
        };
        let lie = batch(codec, 1, &compressed(&huge_record));
        assert!(read_within_bounds("huge record", &lie).is_err(), "{codec:?}");
        let many = batch(codec, 1, &compressed(&many_headers[..trimmed]));
        let _ = read_within_bounds("many headers", &many);
        let count = batch(codec, i32::MAX, &compressed(&huge_record[5..]));
        assert!(read_within_bounds("record count", &count).is_err(), "{codec:?}");
    }
    let mut claim = Vec::new();
    claim.extend([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    assert!(read_within_bounds("snappy claim", &batch(Compression::Snappy, 1, &claim)).is_err());

    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let refused = read_within_bounds("bomb", &batch(codec, 1, &bomb(codec, 64)));
        assert_eq!(refused, Err(BatchError::OverLimit { limit: LIMIT }), "{codec:?}");
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}
