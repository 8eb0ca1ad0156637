//! Chunks keep the order of the log, markers included.

use esker_segment::checkpoint::{IndexObject, IndexedSegment, IndexedTxnEnd};
use esker_segment::id::{
    IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber, SessionId,
    Timestamp, TopicId, TopicPartition,
};
use esker_segment::index::{BatchIndex, BatchMeta, Run};
use esker_segment::name::SegmentName;

use super::plan::{Chunk, Chunker, commits};

fn at(partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(partition),
    }
}

/// A segment with batches of one record and 100 bytes, by partition: their base offsets, or `None` for dead ones.
fn segment(index: u64, number: u64, runs: &[(u32, &[Option<i64>])]) -> IndexedSegment {
    let batch = BatchMeta {
        records: 1,
        bytes: 100,
        max_timestamp: Timestamp(1),
        crc: 0,
        producer: None,
    };
    let run = |(partition, bases): &(u32, &[Option<i64>])| Run {
        topic: TopicId(1),
        partition: PartitionIndex(*partition),
        batches: vec![batch; bases.len()],
    };
    IndexedSegment {
        log_index: LogIndex(index),
        name: SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(1),
            number: SegmentNumber(number),
            attempt: 0,
        },
        length_bytes: 10_000,
        index: BatchIndex {
            runs: runs.iter().map(run).collect(),
        },
        bases: runs
            .iter()
            .flat_map(|(_, bases)| bases.iter().map(|base| base.map(Offset)))
            .collect(),
        ..IndexedSegment::default()
    }
}

fn end(index: u64, markers: &[(u32, i64)]) -> IndexedTxnEnd {
    IndexedTxnEnd {
        log_index: LogIndex(index),
        producer: ProducerId(1),
        epoch: ProducerEpoch(0),
        committed: true,
        timestamp: Timestamp(1),
        markers: markers
            .iter()
            .map(|(partition, offset)| (at(*partition), Offset(*offset)))
            .collect(),
    }
}

fn chunks(object: IndexObject, bytes_max: u64) -> Vec<Chunk> {
    let mut chunker = Chunker::new(bytes_max);
    let mut all = Vec::new();
    for commit in commits(object, LogIndex(0), LogIndex(99)) {
        all.extend(chunker.add(commit, |_, _| true));
    }
    all.extend(chunker.finish());
    all
}

/// For each chunk the offsets of partition 0, sorted.
fn offsets(chunks: &[Chunk]) -> Vec<Vec<i64>> {
    let of_chunk = |chunk: &Chunk| {
        let batches = chunk.segments.iter().flat_map(|segment| &segment.batches);
        let batches = batches.filter(|batch| batch.at == at(0)).map(|batch| batch.base.0);
        let markers = chunk
            .markers
            .iter()
            .filter(|marker| marker.at == at(0))
            .map(|marker| marker.offset.0);
        let mut all: Vec<i64> = batches.chain(markers).collect();
        all.sort_unstable();
        all
    };
    chunks.iter().map(of_chunk).collect()
}

#[test]
fn commits_of_a_range_come_in_order_with_all_they_brought() {
    let object = IndexObject {
        first: LogIndex(1),
        last: LogIndex(9),
        segments: vec![
            segment(2, 1, &[(0, &[Some(0)])]),
            segment(4, 2, &[(0, &[Some(2)])]),
            segment(9, 3, &[(0, &[Some(3)])]),
        ],
        txn_ends: vec![end(3, &[(0, 1)]), end(4, &[(1, 0)])],
    };
    let found = commits(object, LogIndex(2), LogIndex(8));
    let seen: Vec<_> = found
        .iter()
        .map(|commit| (commit.index.0, commit.segments.len(), commit.ends.len()))
        .collect();
    assert_eq!(seen, [(3, 0, 1), (4, 1, 1)]);
}

#[test]
fn a_commit_larger_than_a_chunk_is_divided_with_its_markers_where_they_belong() {
    // One commit: batch 0, marker 1, batch 2, marker 3 of partition 0, and a marker of a partition without batches.
    let object = IndexObject {
        first: LogIndex(1),
        last: LogIndex(1),
        segments: vec![
            segment(1, 1, &[(0, &[Some(0)])]),
            segment(1, 2, &[(0, &[Some(2)])]),
            segment(1, 3, &[(1, &[Some(0)])]),
        ],
        txn_ends: vec![end(1, &[(0, 1), (7, 5)]), end(1, &[(0, 3)])],
    };
    let divided = chunks(object, 150);
    assert_eq!(offsets(&divided), [vec![0], vec![1, 2], vec![3]]);
    let ascending: Vec<i64> = offsets(&divided).concat();
    assert!(ascending.is_sorted());
    assert_eq!(divided.last().unwrap().markers.len(), 2);
}

#[test]
fn chunks_end_at_their_size_and_hold_at_least_one_segment() {
    let segments = (0..5).map(|nth| segment(1 + nth, nth, &[(0, &[Some(i64::try_from(nth).unwrap())])]));
    let object = IndexObject {
        first: LogIndex(1),
        last: LogIndex(5),
        segments: segments.collect(),
        txn_ends: Vec::new(),
    };
    assert_eq!(offsets(&chunks(object.clone(), 200)), [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(offsets(&chunks(object, 1)).len(), 5);
}

#[test]
fn dead_batches_are_neither_read_nor_counted_at_the_edges() {
    let one = segment(1, 1, &[(0, &[None, Some(0), None, Some(1), None])]);
    let object = IndexObject {
        first: LogIndex(1),
        last: LogIndex(1),
        segments: vec![one, segment(1, 2, &[(0, &[None])])],
        txn_ends: Vec::new(),
    };
    let all = chunks(object, 1_000);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].segments.len(), 1, "a segment without anything alive is not read");
    assert_eq!((all[0].segments[0].range(), all[0].bytes), (164..464, 300));
}

#[test]
fn a_segment_that_stays_is_named_by_runs_without_gaps() {
    let one = segment(
        1,
        1,
        &[(0, &[Some(5), Some(6), None, Some(7)]), (1, &[Some(0), Some(2)])],
    );
    let object = IndexObject {
        first: LogIndex(1),
        last: LogIndex(1),
        segments: vec![one],
        txn_ends: Vec::new(),
    };
    let all = chunks(object, 1_000);
    let slices = all[0].segments[0].as_slices();
    let seen: Vec<_> = slices
        .iter()
        .map(|new| {
            (
                new.slice.at.partition.0,
                new.slice.start.0,
                new.slice.end.0,
                new.slice.position,
                new.slice.bytes,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (0, 5, 7, 64, 200),
            (0, 7, 8, 364, 100),
            (1, 0, 1, 464, 100),
            (1, 2, 3, 564, 100)
        ]
    );
    assert!(slices.iter().all(|new| new.object.index_position == 64 + 600));
}
