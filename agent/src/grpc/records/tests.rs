//! Records that go in and out of batches, and which of them a reader is shown.

use esker_kafka::Records;
use esker_kafka::records::{Compression, Headers, TransactionMarker};

use super::*;

const MOST: Most = Most {
    records: 100,
    bytes: 1 << 20,
    decompressed_bytes: 1 << 20,
};

fn partition(batches: &[Batch], aborted: &[(i64, i64)]) -> PartitionData {
    let aborted = aborted.iter().map(|(producer_id, first_offset)| AbortedTransaction {
        producer_id: *producer_id,
        first_offset: *first_offset,
    });
    PartitionData {
        records: Some(batches.iter().map(|batch| batch.bytes().clone()).collect::<Records>()),
        aborted_transactions: Some(aborted.collect()),
        ..PartitionData::default()
    }
}

fn at(offset: i64, producer: Option<i64>, values: &[&'static [u8]]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::from(Compression::Zstd)).base_offset(offset);
    if let Some(producer) = producer {
        builder = builder.producer(producer, 0, 0).transactional();
    }
    for value in values {
        builder.append(1, None, Some(value), &Headers::new()).unwrap();
    }
    builder.build().unwrap()
}

fn marker(offset: i64, producer_id: i64, end: EndTxn) -> Batch {
    let marker = TransactionMarker {
        offset,
        leader_epoch: 0,
        timestamp: 1,
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        end,
    };
    marker.to_batch()
}

fn offsets(shown: &Shown) -> Vec<i64> {
    shown.records.iter().map(|record| record.offset).collect()
}

#[test]
fn nulls_empties_headers_and_timestamps_survive() {
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let records = [
        Record {
            key: Some(Bytes::new()),
            value: None,
            headers: vec![header("a", None), header("a", Some(b"")), header("", Some(b"x"))],
            timestamp_ms: Some(-5),
            partition: None,
        },
        Record::default(),
    ];
    let batch = batch(records.iter(), 77, None).unwrap();
    let shown = shown(&partition(&[batch], &[]), 0, MOST).unwrap();
    assert_eq!(shown.records[0].key, Some(Bytes::new()));
    assert_eq!(shown.records[0].value, None);
    assert_eq!(shown.records[0].headers, records[0].headers);
    assert_eq!(shown.records[0].timestamp_ms, -5);
    assert_eq!((&shown.records[1].key, shown.records[1].timestamp_ms), (&None, 77));
    assert_eq!(shown.next_offset, 2);
}

#[test]
fn an_answer_ends_within_a_batch_and_goes_on_there() {
    let data = partition(&[at(10, None, &[b"a", b"b", b"c"]), at(13, None, &[b"d"])], &[]);
    let two = Most { records: 2, ..MOST };
    let first = shown(&data, 11, two).unwrap();
    assert_eq!((offsets(&first), first.next_offset), (vec![11, 12], 13));
    let tiny = Most { bytes: 1, ..MOST };
    let one = shown(&data, 11, tiny).unwrap();
    assert_eq!((offsets(&one), one.next_offset), (vec![11], 12));
    let rest = shown(&data, 12, MOST).unwrap();
    assert_eq!((offsets(&rest), rest.next_offset), (vec![12, 13], 14));
}

#[test]
fn aborted_transactions_and_markers_are_passed_over() {
    let batches = [
        at(0, Some(1), &[b"gone"]),
        at(1, Some(2), &[b"kept"]),
        at(2, None, &[b"plain"]),
        marker(3, 1, EndTxn::Abort),
        at(4, Some(1), &[b"later"]),
        marker(5, 1, EndTxn::Commit),
    ];
    let found = shown(&partition(&batches, &[(1, 0)]), 0, MOST).unwrap();
    assert_eq!((offsets(&found), found.next_offset), (vec![1, 2, 4], 6));
}

#[test]
fn a_batch_that_unpacks_to_more_than_allowed_is_refused() {
    let big: &'static [u8] = &[0; 1 << 20];
    let data = partition(&[at(0, None, &[big, big])], &[]);
    assert!(data.records.as_ref().unwrap().len() < 4096);
    assert_eq!(shown(&data, 0, MOST).unwrap_err().code(), tonic::Code::DataLoss);
}

#[test]
fn a_record_of_too_many_headers_is_named() {
    let headers: Headers = (0..=HEADERS_MAX).map(|_| ("", None::<&[u8]>)).collect();
    let mut builder = BatchBuilder::new(Codec::default()).base_offset(7);
    builder.append(1, None, Some(b"before"), &Headers::new()).unwrap();
    builder.append(1, None, None, &headers).unwrap();
    let data = partition(&[builder.build().unwrap()], &[]);
    let before = shown(&data, 7, MOST).unwrap();
    assert_eq!((offsets(&before), before.next_offset), (vec![7], 8));
    let refused = shown(&data, 8, MOST).unwrap_err();
    assert!(refused.message().contains("offset 8"), "{refused}");
}
