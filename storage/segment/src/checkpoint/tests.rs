//! Index objects: round trips, and what is refused.

use proptest::prelude::*;

use super::{IndexObject, IndexedSegment, IndexedTxnEnd};
use crate::container::{Container, ContainerBuilder, ContainerKind};
use crate::id::{
    IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber, SessionId,
    Timestamp, TopicId, TopicPartition,
};
use crate::index::tests::any_index;
use crate::index::{BatchMeta, Run};
use crate::name::SegmentName;

fn at(topic: u128, partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    }
}

/// A segment with some batches dead and the others at ascending offsets in each run.
fn any_segment() -> impl Strategy<Value = IndexedSegment> {
    let fates = prop::collection::vec(prop::option::weighted(0.8, 0..100_i64), 40);
    (any_index(), fates, any::<u64>(), "[a-z]{0,5}", any::<u64>()).prop_map(
        |(index, fates, number, zone, confirmed)| {
            let mut fates = fates.into_iter();
            let mut bases = Vec::new();
            for run in &index.runs {
                let mut next = Offset(1_000_000);
                for batch in &run.batches {
                    let base = fates.next().flatten().map(|gap| Offset(next.0 + gap));
                    next = base.map_or(next, |base| base.plus(batch.records));
                    bases.push(base);
                }
            }
            let name = SegmentName {
                incarnation: IncarnationNumber(1),
                session: SessionId(9),
                number: SegmentNumber(number),
                attempt: 2,
            };
            let length_bytes = index.bytes();
            IndexedSegment {
                log_index: LogIndex(0),
                name,
                length_bytes,
                content_hash: 77,
                zone,
                confirmed,
                index,
                bases,
            }
        },
    )
}

fn any_end() -> impl Strategy<Value = IndexedTxnEnd> {
    let markers = prop::collection::btree_map((0..3_u128, any::<u32>()), 0..i64::MAX, 0..5);
    (any::<i64>(), any::<i16>(), any::<bool>(), any::<i64>(), markers).prop_map(
        |(producer, epoch, committed, timestamp, markers)| IndexedTxnEnd {
            log_index: LogIndex(0),
            producer: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
            committed,
            timestamp: Timestamp(timestamp),
            markers: markers
                .into_iter()
                .map(|((topic, partition), offset)| (at(topic, partition), Offset(offset)))
                .collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn an_index_object_reads_back(
        segments in prop::collection::vec((0..3_u64, any_segment()), 0..4),
        ends in prop::collection::vec((0..3_u64, any_end()), 0..4),
    ) {
        let mut object = IndexObject { first: LogIndex(500), last: LogIndex(600), ..IndexObject::default() };
        let mut next = 500;
        for (step, mut segment) in segments {
            next += step;
            segment.log_index = LogIndex(next);
            object.segments.push(segment);
        }
        next = 500;
        for (step, mut end) in ends {
            next += step;
            end.log_index = LogIndex(next);
            object.txn_ends.push(end);
        }
        prop_assert_eq!(IndexObject::decode(&object.encode().concat()), Ok(object));
    }

    #[test]
    fn sections_of_arbitrary_bytes_never_panic(
        segments in prop::collection::vec(any::<u8>(), 0..200), ends in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut builder = ContainerBuilder::new(ContainerKind::Index, 1);
        builder.section("range", vec![1, 9]);
        builder.section("segments", segments);
        builder.section("txn-ends", ends);
        if let Ok(object) = IndexObject::decode(&builder.finish().concat()) {
            prop_assert!(object.segments.iter().all(|segment| segment.log_index <= object.last));
        }
    }
}

#[test]
fn stored_batches_are_found_with_place_and_offset() {
    let batch = BatchMeta {
        records: 5,
        bytes: 100,
        max_timestamp: Timestamp(1),
        crc: 2,
        producer: None,
    };
    let mut segment = IndexedSegment::default();
    for partition in 0..2 {
        segment.index.runs.push(Run {
            topic: TopicId(1),
            partition: PartitionIndex(partition),
            batches: vec![batch, batch],
        });
    }
    segment.bases = vec![Some(Offset(10)), None, None, Some(Offset(3))];
    let stored: Vec<_> = segment
        .stored()
        .map(|(at, place, _, base)| (at.partition.0, place.position, base.0))
        .collect();
    assert_eq!(stored, [(0, 64, 10), (1, 364, 3)]);
}

#[test]
fn a_log_index_outside_the_range_is_refused() {
    let segment = IndexedSegment {
        log_index: LogIndex(9),
        ..IndexedSegment::default()
    };
    let object = |last| IndexObject {
        first: LogIndex(5),
        last: LogIndex(last),
        segments: vec![segment.clone()],
        txn_ends: vec![],
    };
    assert!(IndexObject::decode(&object(9).encode().concat()).is_ok());
    assert!(IndexObject::decode(&object(8).encode().concat()).is_err());
    let end = IndexedTxnEnd {
        log_index: LogIndex(9),
        producer: ProducerId(1),
        epoch: ProducerEpoch(0),
        committed: true,
        timestamp: Timestamp(0),
        markers: vec![],
    };
    let late = IndexObject {
        segments: vec![],
        txn_ends: vec![end],
        ..object(8)
    };
    assert!(IndexObject::decode(&late.encode().concat()).is_err());
}

#[test]
fn the_sections_of_version_1_do_not_change() {
    let segment = IndexedSegment {
        log_index: LogIndex(7),
        name: SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(2),
            number: SegmentNumber(3),
            attempt: 0,
        },
        length_bytes: 300,
        content_hash: 0,
        zone: "a".to_owned(),
        confirmed: 0,
        index: crate::index::BatchIndex {
            runs: vec![Run {
                topic: TopicId(1),
                partition: PartitionIndex(0),
                batches: vec![
                    BatchMeta {
                        records: 2,
                        bytes: 61,
                        max_timestamp: Timestamp(0),
                        crc: 0,
                        producer: None
                    };
                    3
                ],
            }],
        },
        bases: vec![Some(Offset(20)), None, Some(Offset(22))],
    };
    let end = IndexedTxnEnd {
        log_index: LogIndex(8),
        producer: ProducerId(4),
        epoch: ProducerEpoch(1),
        committed: true,
        timestamp: Timestamp(50),
        markers: vec![(at(1, 0), Offset(24))],
    };
    let object = IndexObject {
        first: LogIndex(5),
        last: LogIndex(8),
        segments: vec![segment],
        txn_ends: vec![end],
    };
    let container = Container::decode(ContainerKind::Index, 1, &object.encode().concat()).unwrap();
    let section = |name| container.section(name).unwrap().to_vec();
    assert_eq!(section("range"), [5, 8]);
    let mut segments = vec![1, 2, 1, 2, 3, 0, 0xac, 2];
    segments.extend([0; 16]);
    segments.extend([1, b'a', 0]);
    segments.extend([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    segments.extend([0, 2, 61, 0, 0, 0, 0, 0].repeat(3));
    segments.extend([21, 0, 1]);
    assert_eq!(section("segments"), segments);
    let mut ends = vec![1, 3, 8, 2, 1, 100, 1, 1, 1];
    ends.extend([0; 15]);
    ends.push(24);
    assert_eq!(section("txn-ends"), ends);
    assert_eq!(IndexObject::decode(&object.encode().concat()), Ok(object));
}
