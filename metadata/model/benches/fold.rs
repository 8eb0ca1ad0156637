//! How fast the fold is, and what a partition, a batch, a producer and an offset cost in memory.
//!
//! `cargo bench -p esker-model` prints two tables. With `--test` (as `cargo test --benches` runs it) everything is small.

#![allow(clippy::unwrap_used, reason = "a measurement")]
#![allow(clippy::print_stdout, reason = "its output is the result")]
#![allow(clippy::disallowed_methods, reason = "it measures time; the model does not")]
#![allow(clippy::cast_precision_loss, reason = "ratios for people to read")]

use std::alloc::System;
use std::time::Instant;

use esker_model::entry::{
    FeatureLevel, Limits, OffsetAction, OffsetChange, OffsetCommit, Offsets, ProducerIds, SegmentEntry, TopicCreate,
};
use esker_model::{CommitPosition, CommitRecord, Entry, Fold};
use esker_segment::id::{
    CommitNumber, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber,
    Sequence, SessionId, Timestamp, TopicId,
};
use esker_segment::index::{BatchIndex, BatchMeta, ProducerStamp, Run};
use esker_segment::name::SegmentName;
use esker_segment::segment::SEGMENT_HEADER_BYTES;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now.
fn allocated() -> i64 {
    let stats = ALLOCATOR.stats();
    let bytes = |count: usize| i64::try_from(count).unwrap();
    // Reallocations count as the difference only.
    bytes(stats.bytes_allocated) - bytes(stats.bytes_deallocated)
}

/// A fold and the log index of its next commit.
struct Bench {
    fold: Fold,
    segments: u64,
}

impl Bench {
    fn new(topics: u128, partitions: u32) -> Self {
        let mut bench = Self {
            fold: Fold::new(),
            segments: 0,
        };
        let limits = Limits {
            partitions_max: 1 << 24,
            producer_windows_max: 1 << 24,
            ..Limits::default()
        };
        bench.apply(vec![
            Entry::FeatureLevel(FeatureLevel { level: 1, limits }),
            Entry::ProducerIds(ProducerIds { count: 1 << 24 }),
        ]);
        for topic in 1..=topics {
            let name = format!("topic-{topic}").into();
            bench.apply(vec![Entry::TopicCreate(TopicCreate {
                topic: TopicId(topic << 64),
                name,
                partitions,
            })]);
        }
        bench
    }

    fn position(&self) -> CommitPosition {
        let index = self.fold.index().0 + 1;
        CommitPosition {
            index: LogIndex(index),
            session: SessionId(1),
            number: CommitNumber(index),
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        self.fold.apply(self.position(), &CommitRecord { entries });
    }

    fn segment(&mut self, runs: Vec<Run>) -> CommitRecord {
        self.segments += 1;
        let index = BatchIndex { runs };
        let name = SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(1),
            number: SegmentNumber(self.segments),
            attempt: 0,
        };
        let bytes = SEGMENT_HEADER_BYTES + index.bytes();
        let zone = "zone-a".into();
        let segment = SegmentEntry {
            name,
            bytes,
            content_hash: 1,
            zone,
            confirmed: 0,
            index,
        };
        CommitRecord {
            entries: vec![Entry::Segment(segment)],
        }
    }
}

fn batch(producer: Option<ProducerStamp>) -> BatchMeta {
    BatchMeta {
        records: 10,
        bytes: 200,
        max_timestamp: Timestamp(1_700_000_000_000),
        crc: 1,
        producer,
    }
}

fn stamp(producer: u32, sequence: u32, transactional: bool) -> Option<ProducerStamp> {
    Some(ProducerStamp {
        id: ProducerId(producer.into()),
        epoch: ProducerEpoch(0),
        first_sequence: Sequence(i32::try_from(sequence).unwrap()),
        transactional,
        verified_at: None,
    })
}

/// Runs over partitions `from..upto` of a bench with 1,000 partitions a topic.
fn runs(from: u32, upto: u32, batches: impl Fn(u32) -> Vec<BatchMeta>) -> Vec<Run> {
    let run = |at: u32| Run {
        topic: TopicId((u128::from(at / 1000) + 1) << 64),
        partition: PartitionIndex(at % 1000),
        batches: batches(at),
    };
    (from..upto).map(run).collect()
}

/// Folds records, from structs or from bytes, and prints the speed. The work of making them is not measured.
fn speed(name: &str, bench: &mut Bench, records: &[CommitRecord], through_bytes: bool) {
    let batches: usize = records.iter().flat_map(|record| &record.entries).map(batches_of).sum();
    let bytes: Vec<Vec<u8>> = if through_bytes {
        records.iter().map(|record| record.encode().unwrap()).collect()
    } else {
        Vec::new()
    };
    let started = Instant::now();
    for (at, record) in records.iter().enumerate() {
        let position = bench.position();
        if through_bytes {
            bench.fold.apply_bytes(position, &bytes[at]).unwrap();
        } else {
            bench.fold.apply(position, record);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let entries: usize = records.iter().map(|record| record.entries.len()).sum();
    println!(
        "{name:<70} {:>9.0} {:>9.2} {:>8.0}",
        entries as f64 / seconds,
        batches as f64 / seconds / 1e6,
        seconds * 1e9 / batches as f64
    );
}

fn batches_of(entry: &Entry) -> usize {
    match entry {
        Entry::Segment(segment) => segment.index.batches(),
        _ => 1,
    }
}

fn speeds(scale: u32) {
    println!("{:<70} {:>9} {:>9} {:>8}", "fold", "entries/s", "Mbatch/s", "ns/batch");
    for through_bytes in [false, true] {
        let suffix = if through_bytes { ", decoded from bytes" } else { "" };
        let rounds = 100 * scale;
        let mut bench = Bench::new(10, 1000);
        let records: Vec<_> = (0..rounds)
            .map(|round| {
                let from = round % 10 * 1000;
                bench.segment(runs(from, from + 1000, |_| vec![batch(None)]))
            })
            .collect();
        speed(
            &format!("1 batch in each of 1,000 partitions{suffix}"),
            &mut bench,
            &records,
            through_bytes,
        );

        let mut bench = Bench::new(10, 1000);
        let records: Vec<_> = (0..rounds)
            .map(|round| {
                let from = round % 10 * 1000;
                bench.segment(runs(from, from + 1000, |at| {
                    vec![batch(stamp(at, round / 10 * 10, false))]
                }))
            })
            .collect();
        speed(
            &format!("the same, idempotent{suffix}"),
            &mut bench,
            &records,
            through_bytes,
        );

        let mut bench = Bench::new(10, 1000);
        let records: Vec<_> = (0..rounds)
            .map(|round| {
                let sequence = |batch: u32| round * 1000 + batch * 10;
                let all = |at: u32| {
                    (0..100)
                        .map(|number| batch(stamp(at, sequence(number), false)))
                        .collect()
                };
                bench.segment(runs(0, 10, all))
            })
            .collect();
        speed(
            &format!("100 batches in each of 10 partitions, idempotent{suffix}"),
            &mut bench,
            &records,
            through_bytes,
        );

        let mut bench = Bench::new(10, 1000);
        let records: Vec<_> = (0..rounds)
            .map(|round| {
                let from = round % 10 * 1000;
                bench.segment(runs(from, from + 1000, |at| {
                    vec![batch(stamp(at % 100, round / 10 * 10, true))]
                }))
            })
            .collect();
        speed(
            &format!("1,000 partitions, 100 open transactions{suffix}"),
            &mut bench,
            &records,
            through_bytes,
        );
    }
    many_windows(scale);
    group_offsets(scale);
}

/// New windows, and then their second batches, in an order that no cache knows.
fn many_windows(scale: u32) {
    let mut bench = Bench::new(10, 1000);
    let windows = 10_000 * scale;
    for (name, sequence) in [
        ("1,000,000 windows: first batches", 0),
        ("1,000,000 windows: second batches", 10),
    ] {
        let records: Vec<_> = (0..windows / 1000)
            .map(|round| {
                let from = round.wrapping_mul(7) % 10 * 1000;
                let producer = |at: u32| (at + round / 10 * 10_000).wrapping_mul(2_654_435_761) % (1 << 24);
                bench.segment(runs(from, from + 1000, |at| {
                    vec![batch(stamp(producer(at), sequence, false))]
                }))
            })
            .collect();
        speed(name, &mut bench, &records, false);
    }
}

fn group_offsets(scale: u32) {
    let mut bench = Bench::new(1, 1000);
    let commit = |offset: u32| OffsetCommit {
        offset: Offset(offset.into()),
        leader_epoch: Some(1),
        metadata: "".into(),
        timestamp: Timestamp(0),
    };
    let records: Vec<_> = (0..1000 * scale)
        .map(|round| {
            let change = |at: u32| OffsetChange {
                topic: TopicId(1 << 64),
                partition: PartitionIndex(at % 1000),
                action: OffsetAction::Commit(commit(round)),
            };
            let group = format!("group-{}", round % 100).into();
            CommitRecord {
                entries: vec![Entry::Offsets(Offsets {
                    group,
                    shard: 0,
                    txn: None,
                    changes: (0..50).map(change).collect(),
                })],
            }
        })
        .collect();
    speed(
        "50 offsets of a group (a batch here is an entry)",
        &mut bench,
        &records,
        false,
    );
}

fn cost(name: &str, count: u64, before: i64, goal: &str) {
    println!(
        "{name:<70} {:>12} {:>9.1}   {goal}",
        count,
        (allocated() - before) as f64 / count as f64
    );
}

fn memory(scale: u32) {
    println!("\n{:<70} {:>12} {:>9}   goal", "memory", "count", "bytes");
    let before = allocated();
    let mut bench = Bench::new(u128::from(scale), 1000);
    let partitions = u64::from(scale) * 1000;
    cost("partition, empty", partitions, before, "300");

    let before = allocated();
    for round in 0..10_u32 {
        for topic in 0..scale {
            let record = bench.segment(runs(topic * 1000, topic * 1000 + 1000, |at| {
                vec![batch(stamp(at, round * 10, false))]
            }));
            bench.fold.apply(bench.position(), &record);
        }
    }
    cost(
        "unmerged batch, with its share of segment and window",
        partitions * 10,
        before,
        "",
    );
    let before = allocated();
    bench.fold.forget_merged(bench.fold.index());
    println!(
        "{:<70} {:>12} {:>9.1}",
        "   freed by forget_merged, per batch",
        "",
        (before - allocated()) as f64 / (partitions * 10) as f64
    );

    for (name, windows) in [
        ("producer window", 10_000 * scale),
        ("producer window, table just grown", 9_200 * scale),
    ] {
        let mut bench = Bench::new(1, 1000);
        let before = allocated();
        for from in (0..windows).step_by(1000) {
            let record = bench.segment(runs(from % 1000, from % 1000 + 1000, |at| {
                vec![batch(stamp(from + at, 0, false))]
            }));
            bench.fold.apply(bench.position(), &record);
            bench.fold.forget_merged(bench.fold.index());
        }
        cost(name, bench.fold.producer_windows().try_into().unwrap(), before, "80");
        if windows == 10_000 * scale {
            checkpoint(&bench.fold);
        }
    }
}

fn checkpoint(fold: &Fold) {
    let windows = fold.producer_windows();
    let started = Instant::now();
    let state = fold.encode_state();
    let encoded = started.elapsed();
    let object = state.concat();
    let started = Instant::now();
    Fold::decode_state(&object).unwrap();
    let (bytes, decoded) = (object.len() / windows, started.elapsed());
    println!(
        "   {windows} windows: {bytes} bytes each in a state object, written in {encoded:.0?}, read in {decoded:.0?}"
    );
}

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--bench") {
        100
    } else {
        1
    };
    println!("size of a fold without its parts: {} bytes", size_of::<Fold>());
    speeds(scale);
    memory(scale.min(20) * 5);
}
