//! Whatever a peer sends, decoding neither panics nor allocates more than the documented bound.
//!
//! One test only: the counting allocator counts for the whole process.

mod schema;

use std::alloc::System;

use bytes::Bytes;
use cap::Cap;
use esker_kafka::{DECODE_BUDGET_BASE, DECODE_BUDGET_FACTOR};
use schema::random::{LengthKind, Mark, Rng, put_uvarint, sample};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Decodes and checks what that allocated in total, freed or not.
fn decode_within_bounds(entry: &schema::Entry, version: i16, frame: Vec<u8>) -> bool {
    let length = frame.len();
    // Made outside: `Bytes::from` may shrink or share the buffer.
    let frame = Bytes::from(frame);
    let keep = frame.clone();
    let before = ALLOCATOR.total_allocated();
    let decoded = (entry.decode)(frame, version);
    let used = ALLOCATOR.total_allocated() - before;
    drop(keep);
    let bound = DECODE_BUDGET_BASE + DECODE_BUDGET_FACTOR * length;
    assert!(
        used <= bound,
        "{} {version}: {used} bytes allocated for a frame of {length}",
        entry.name
    );
    decoded.is_ok()
}

/// The field at `mark` replaced by each hostile value, in that field's own encoding.
fn variants(bytes: &[u8], mark: Mark) -> Vec<Vec<u8>> {
    let remaining = i64::try_from(bytes.len() - mark.at - mark.bytes).expect("small");
    let values = [-2, -1, 0, remaining + 1, i64::from(i32::MAX), i64::from(u32::MAX)];
    values.into_iter().map(|value| replaced(bytes, mark, value)).collect()
}

fn replaced(bytes: &[u8], mark: Mark, value: i64) -> Vec<u8> {
    let mut out = bytes[..mark.at].to_vec();
    match mark.kind {
        LengthKind::Short => out.extend(&value.to_be_bytes()[6..]),
        LengthKind::Int => out.extend(&value.to_be_bytes()[4..]),
        LengthKind::Compact => put_uvarint(&mut out, u32::try_from((value + 1) & 0xffff_ffff).expect("masked")),
        LengthKind::Plain => put_uvarint(&mut out, u32::try_from(value & 0xffff_ffff).expect("masked")),
    }
    out.extend(&bytes[mark.at + mark.bytes..]);
    out
}

#[test]
fn no_length_field_makes_decoding_panic_or_allocate_beyond_the_bound() {
    let definitions = schema::definition::load_all();
    let mut decodes = 0u32;
    let mut refused = 0u32;
    for entry in schema::messages::all() {
        for version in entry.versions() {
            let message = sample(&definitions[entry.name], version, &mut Rng(11), 2);
            for mark in &message.marks {
                for frame in variants(&message.bytes, *mark) {
                    decodes += 1;
                    refused += u32::from(!decode_within_bounds(&entry, version, frame));
                }
                // A count that is as large as what follows may carry: the worst amplification.
                for fill in [0u8, 1, 2] {
                    for count in [1_000, 20_000, 60_000] {
                        let mut frame = replaced(&message.bytes, *mark, count);
                        frame.truncate(mark.at + 5);
                        frame.resize(64 * 1024, fill);
                        decode_within_bounds(&entry, version, frame);
                    }
                }
            }
            let mut rng = Rng(13);
            for _ in 0..50 {
                let mut frame = message.bytes.clone();
                let Some(last) = frame.len().checked_sub(1) else {
                    continue;
                };
                frame[rng.below(last + 1)] = rng.next().to_le_bytes()[0];
                decode_within_bounds(&entry, version, frame);
            }
        }
    }
    assert!(decodes > 10_000, "only {decodes} length fields were tried");
    assert!(refused > decodes / 2, "{refused} of {decodes} were refused");
}
