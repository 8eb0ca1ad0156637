//! How long a checkpoint holds the fold up, and how long it takes to load one.
//!
//! `cargo run --release -p esker-compaction --example checkpoint [PARTITIONS [COMMITS [BATCHES]]]`: 10,000 partitions, and 4,096
//! commits of 50 batches since the last checkpoint by default.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example may panic, print and look at the clock"
)]

use std::time::Instant;

use esker_model::entry::{Entry, ProducerIds, SegmentEntry, TopicCreate};
use esker_model::{CommitPosition, CommitRecord, Fold};
use esker_segment::id::{
    CommitNumber, IncarnationNumber, LogIndex, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber, Sequence,
    SessionId, Timestamp, TopicId,
};
use esker_segment::index::{BatchIndex, BatchMeta, ProducerStamp, Run};
use esker_segment::name::SegmentName;

const TOPICS: u32 = 10;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u32>().expect("a number"));
    let mut next = |default| arguments.next().unwrap_or(default);
    let (partitions, commits, batches) = (next(10_000), next(4_096), next(50));
    let mut fold = Fold::new();
    let mut apply = |entry: Entry| {
        let index = LogIndex(fold.index().0 + 1);
        let at = CommitPosition {
            index,
            session: SessionId(1),
            number: CommitNumber(index.0),
        };
        let begun = Instant::now();
        fold.apply(at, &CommitRecord { entries: vec![entry] });
        begun.elapsed()
    };
    for topic in 1..=TOPICS {
        apply(Entry::TopicCreate(TopicCreate {
            topic: TopicId(u128::from(topic)),
            name: format!("topic-{topic}").into(),
            partitions: partitions / TOPICS,
        }));
    }
    apply(Entry::ProducerIds(ProducerIds { count: 1_000 }));
    let mut applying = std::time::Duration::ZERO;
    for commit in 0..commits {
        applying += apply(segment(commit, batches, partitions / TOPICS));
    }
    println!("{partitions} partitions, {commits} commits of {batches} batches, folded in {applying:?}");
    let last = fold.index();
    let (state, took) = timed(|| fold.encode_state());
    println!(
        "state encoded under the lock: {took:?}, {} KiB",
        state.length_bytes >> 10
    );
    let (copy, took) = timed(|| fold.clone());
    println!("the fold cloned instead: {took:?}");
    drop(copy);
    let (exported, took) = timed(|| fold.export_unmerged(LogIndex(last.0.saturating_sub(512)), last));
    println!(
        "batches of 512 commits looked up: {took:?}, {} segments",
        exported.len()
    );
    let bytes = state.concat();
    let (loaded, took) = timed(|| Fold::decode_state(&bytes).unwrap());
    println!("state loaded: {took:?}, at log index {}", loaded.index());
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, std::time::Duration) {
    let begun = Instant::now();
    let value = act();
    (value, begun.elapsed())
}

/// A segment with one batch in each of many partitions, every other one idempotent.
fn segment(commit: u32, batches: u32, partitions: u32) -> Entry {
    let topic = commit % TOPICS + 1;
    let mut runs: Vec<Run> = (0..batches)
        .map(|nth| (commit * 7 + nth) % partitions)
        .map(|partition| Run {
            topic: TopicId(u128::from(topic)),
            partition: PartitionIndex(partition),
            batches: vec![BatchMeta {
                records: 10,
                bytes: 1_000,
                max_timestamp: Timestamp(1),
                crc: 1,
                producer: (partition % 2 == 0).then_some(ProducerStamp {
                    id: ProducerId(i64::from(partition % 1_000)),
                    epoch: ProducerEpoch(i16::try_from(commit).unwrap_or(0)),
                    first_sequence: Sequence(0),
                    transactional: false,
                    verified_at: None,
                }),
            }],
        })
        .collect();
    runs.sort_by_key(|run| run.partition);
    runs.dedup_by_key(|run| run.partition);
    let index = BatchIndex { runs };
    Entry::Segment(SegmentEntry {
        name: SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(1),
            number: SegmentNumber(u64::from(commit)),
            attempt: 0,
        },
        bytes: 1_000_000,
        index,
        ..SegmentEntry::default()
    })
}
