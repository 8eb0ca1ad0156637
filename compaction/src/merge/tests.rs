//! Where slices and objects are cut.

use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::PartitionIndex;
use esker_segment::index::BatchMeta;

use super::*;

fn range(partition: u32, start: i64, end: i64, timestamp: i64) -> Range {
    Range {
        at: TopicPartition {
            topic: TopicId(1),
            partition: PartitionIndex(partition),
        },
        start: Offset(start),
        end: Offset(end),
        max_timestamp: Timestamp(timestamp),
    }
}

fn data() -> BatchData {
    Bytes::from(vec![0; 100]).into()
}

/// Puts one batch of 100 bytes into each range.
fn assemble(ranges: &[Range], span_max: Option<Duration>, settings: &MergeSettings) -> Vec<(u32, i64, i64)> {
    let mut assembler = Assembler::default();
    for range in ranges {
        assembler.begin(*range, span_max, settings);
        let meta = BatchMeta {
            records: u32::try_from(range.end.0 - range.start.0).unwrap(),
            bytes: 100,
            max_timestamp: range.max_timestamp,
            crc: 0,
            producer: None,
        };
        let batch = PlacedBatch {
            base: range.start,
            control: false,
            meta,
        };
        assembler.push(batch, data());
    }
    let segment = assembler.build(&SegmentHeader::default()).unwrap();
    let slices = segment.index.slices.iter();
    slices
        .map(|slice| (slice.at.partition.0, slice.start.0, slice.end.0))
        .collect()
}

#[test]
fn what_follows_without_a_gap_becomes_one_slice() {
    let all = [
        range(0, 0, 2, 1),
        range(0, 2, 3, 1),
        range(0, 5, 6, 1),
        range(1, 6, 7, 1),
    ];
    let cut = assemble(&all, None, &MergeSettings::default());
    assert_eq!(cut, [(0, 0, 3), (0, 5, 6), (1, 6, 7)]);
}

#[test]
fn a_slice_spans_no_more_time_than_retention_can_wait() {
    let all = [
        range(0, 0, 1, 1_000),
        range(0, 1, 2, 3_000),
        range(0, 2, 3, 3_001),
        range(0, 3, 4, 500),
    ];
    let cut = assemble(&all, Some(Duration::from_secs(2)), &MergeSettings::default());
    assert_eq!(cut, [(0, 0, 2), (0, 2, 3), (0, 3, 4)]);
}

#[test]
fn a_slice_is_cut_when_it_is_large_enough() {
    let settings = MergeSettings {
        slice_bytes_max: 250,
        ..MergeSettings::default()
    };
    let all: Vec<Range> = (0..7).map(|base| range(0, base, base + 1, 1)).collect();
    assert_eq!(assemble(&all, None, &settings), [(0, 0, 3), (0, 3, 6), (0, 6, 7)]);
}

#[test]
fn a_manifest_says_of_a_slice_what_its_object_says() {
    let mut assembler = Assembler::default();
    let meta = |timestamp| BatchMeta {
        records: 2,
        bytes: 100,
        max_timestamp: Timestamp(timestamp),
        crc: 0,
        producer: None,
    };
    for (partition, base, timestamp) in [(0, 0, 5), (0, 2, 9), (1, 7, 3)] {
        assembler.begin(
            range(partition, base, base + 2, timestamp),
            None,
            &MergeSettings::default(),
        );
        let batch = PlacedBatch {
            base: Offset(base),
            control: false,
            meta: meta(timestamp),
        };
        assembler.push(batch, data());
    }
    let segment = assembler.build(&SegmentHeader::default()).unwrap();
    let name = ObjectName::Segment(SegmentName::default());
    let made: Vec<NewSlice> = slices_of(&segment, name).collect();
    let seen: Vec<_> = made
        .iter()
        .map(|new| {
            (
                new.slice.position,
                new.slice.bytes,
                new.slice.records,
                new.slice.max_timestamp.0,
            )
        })
        .collect();
    assert_eq!(seen, [(64, 200, 4, 9), (264, 100, 2, 3)]);
    assert!(made.iter().all(|new| new.object.index_position == 364));
}
