//! Tagged fields and trailing bytes that a peer may send, and what becomes of them.

mod schema;

use bytes::Bytes;
use esker_kafka::{DecodeError, Reader, UNKNOWN_TAGS_MAX};
use schema::random::put_uvarint;

#[test]
fn unknown_tags_are_skipped_up_to_the_cap() {
    let body = |tags: u32| {
        let mut bytes = Vec::new();
        put_uvarint(&mut bytes, tags);
        for tag in 0..tags {
            put_uvarint(&mut bytes, 1_000 + tag);
            put_uvarint(&mut bytes, 2);
            bytes.extend([7, 7]);
        }
        Bytes::from(bytes)
    };
    let all = schema::messages::all();
    let entry = all
        .iter()
        .find(|entry| entry.name == "ListPartitionReassignmentsRequest")
        .unwrap();
    let request = |tags| {
        let mut bytes = vec![0, 0, 0, 9, 0];
        bytes.extend(body(tags));
        Bytes::from(bytes)
    };
    let cap = u32::try_from(UNKNOWN_TAGS_MAX).unwrap();
    assert_eq!((entry.decode)(request(cap), 0), Ok(()));
    let refused = (entry.decode)(request(cap + 1), 0);
    assert!(
        matches!(
            refused,
            Err(DecodeError::TooManyTags {
                limit: UNKNOWN_TAGS_MAX,
                ..
            })
        ),
        "{refused:?}"
    );
    // They are dropped, not kept.
    assert_eq!(
        (entry.recode)(request(2), 0, 0).unwrap(),
        Bytes::from_static(&[0, 0, 0, 9, 0, 0])
    );
}

#[test]
fn a_tagged_field_must_fill_its_size() {
    let all = schema::messages::all();
    let entry = all.iter().find(|entry| entry.name == "FetchSnapshotRequest").unwrap();
    // replica 0, max bytes 1, no topics, one tag: cluster id (0) of 3 bytes holding a string of 1.
    let frame = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 3, 2, b'x', 0]);
    let refused = (entry.decode)(frame, 0);
    assert_eq!(
        refused,
        Err(DecodeError::TagNotConsumed {
            at: 14,
            tag: 0,
            unread: 1
        })
    );
}

#[test]
fn trailing_bytes_are_noticed() {
    let mut r = Reader::new(Bytes::from_static(&[0, 1, 2]));
    r.i16().unwrap();
    assert_eq!(r.finish(), Err(DecodeError::TrailingBytes { at: 2, count: 1 }));
}
