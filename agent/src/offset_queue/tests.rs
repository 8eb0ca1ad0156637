//! Commits in line: what is gathered, what keeps its order, what a lost claim does to the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::store::{Compare, Revision};
use esker_model::EntryVerdict;
use esker_model::entry::{ENTRIES_MAX, Entry, OffsetAction, OffsetChange, OffsetCommit, Offsets};
use esker_model::verdict::{OffsetRefusal, OffsetsVerdict};
use esker_segment::id::{Offset, PartitionIndex, Timestamp, TopicId};
use esker_storage::buffer::BufferSettings;
use tokio::time::Instant;

use super::line::WAITING_MAX;
use super::{GATHER, GATHER_FROM, OffsetQueue, Outcome};
use crate::shards::HeldShard;
use crate::writer::pipeline::Proposal;
use crate::writer::{Inbox, LogWriter, ProposeError, WriterEnd};

struct Bench {
    queue: Arc<OffsetQueue>,
    end: WriterEnd,
}

impl Bench {
    fn new() -> Self {
        let (writer, end) = LogWriter::new(Inbox::new(BufferSettings::OBJECT_STORE));
        Self {
            queue: OffsetQueue::new(writer),
            end,
        }
    }

    fn push(&self, shard: u16, group: &str, offsets: &[i64]) -> Outcome {
        self.queue.push(held(shard), commit(shard, group, offsets)).unwrap()
    }

    async fn next(&mut self) -> Proposal {
        self.end.proposals.recv().await.unwrap()
    }

    /// Nothing more is proposed, whatever the tasks do.
    async fn is_quiet(&mut self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(self.end.proposals.try_recv().is_err());
    }
}

fn held(shard: u16) -> HeldShard {
    HeldShard {
        shard,
        compare: claim(shard, 1),
    }
}

fn claim(shard: u16, revision: u64) -> Compare {
    Compare::CreateRevision(Bytes::from(format!("own/{shard}")), Revision(revision))
}

fn commit(shard: u16, group: &str, offsets: &[i64]) -> Offsets {
    let change = |offset: &i64| OffsetChange {
        topic: TopicId(7),
        partition: PartitionIndex(0),
        action: OffsetAction::Commit(OffsetCommit {
            offset: Offset(*offset),
            leader_epoch: None,
            metadata: "".into(),
            timestamp: Timestamp(0),
        }),
    };
    Offsets {
        group: group.into(),
        shard,
        txn: None,
        changes: offsets.iter().map(change).collect(),
    }
}

fn applied(refused: &[(u32, OffsetRefusal)]) -> EntryVerdict {
    let refused = refused.to_vec();
    EntryVerdict::Offsets(OffsetsVerdict::Applied { refused })
}

fn accept(proposal: Proposal) {
    let verdicts = proposal.entries.iter().map(|_| applied(&[])).collect();
    proposal.reply.send(Ok(verdicts)).unwrap();
}

/// The groups of a proposal with the offsets that they commit.
fn said(proposal: &Proposal) -> Vec<(String, Vec<i64>)> {
    let said = proposal.entries.iter().map(|entry| {
        let Entry::Offsets(offsets) = entry else {
            panic!("{entry:?}")
        };
        let offset = |change: &OffsetChange| match &change.action {
            OffsetAction::Commit(commit) => commit.offset.0,
            other => panic!("{other:?}"),
        };
        (offsets.group.to_string(), offsets.changes.iter().map(offset).collect())
    });
    said.collect()
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_commit_is_under_way_goes_out_together_one_entry_a_group() {
    let mut bench = Bench::new();
    let first = bench.push(1, "a", &[1]);
    let proposal = bench.next().await;
    let later = [
        bench.push(1, "a", &[2]),
        bench.push(2, "b", &[3]),
        bench.push(1, "a", &[4, 5]),
    ];
    bench.is_quiet().await;
    assert_eq!(said(&proposal), [("a".to_owned(), vec![1])]);
    accept(proposal);
    assert_eq!(first.await.unwrap(), Ok(applied(&[])));
    let proposal = bench.next().await;
    let mut together = said(&proposal);
    together.sort();
    assert_eq!(together, [("a".to_owned(), vec![2, 4, 5]), ("b".to_owned(), vec![3])]);
    assert_eq!(proposal.compares.len(), 2, "every claim is compared");
    accept(proposal);
    for one in later {
        assert_eq!(one.await.unwrap(), Ok(applied(&[])));
    }
    bench.is_quiet().await;
    assert!(bench.queue.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_commit_goes_out_only_when_it_is_full_and_never_for_a_group_that_is_under_way() {
    let mut bench = Bench::new();
    let mut outcomes = vec![bench.push(1, "busy", &[1])];
    let first = bench.next().await;
    outcomes.push(bench.push(1, "busy", &[2]));
    for number in 1..ENTRIES_MAX {
        outcomes.push(bench.push(2, &format!("g{number}"), &[1]));
    }
    bench.is_quiet().await;
    outcomes.push(bench.push(3, "last", &[1]));
    let second = bench.next().await;
    assert_eq!(second.entries.len(), ENTRIES_MAX);
    assert!(said(&second).iter().all(|(group, _)| group != "busy"));
    bench.is_quiet().await;
    accept(second);
    bench.is_quiet().await;
    accept(first);
    let third = bench.next().await;
    assert_eq!(said(&third), [("busy".to_owned(), vec![2])]);
    accept(third);
    for one in outcomes {
        assert_eq!(one.await.unwrap(), Ok(applied(&[])));
    }
}

#[tokio::test(start_paused = true)]
async fn where_many_commit_the_next_commit_waits_for_more_and_who_commits_alone_does_not() {
    let mut bench = Bench::new();
    let began = Instant::now();
    for _ in 0..3 {
        let alone = bench.push(1, "a", &[1]);
        let proposal = bench.next().await;
        accept(proposal);
        alone.await.unwrap().unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    let first = bench.push(1, "a", &[1]);
    let proposal = bench.next().await;
    let many: Vec<Outcome> = (0..GATHER_FROM)
        .map(|n| bench.push(1, &format!("g{n}"), &[1]))
        .collect();
    accept(proposal);
    accept(bench.next().await);
    for one in many {
        one.await.unwrap().unwrap();
    }
    first.await.unwrap().unwrap();
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "nobody waits for an answer that is there"
    );
    let next = [bench.push(1, "a", &[1]), bench.push(2, "b", &[1])];
    let proposal = bench.next().await;
    assert_eq!((proposal.entries.len(), began.elapsed()), (2, GATHER));
    accept(proposal);
    for one in next {
        one.await.unwrap().unwrap();
    }
}

/// GRP-1.
#[tokio::test(start_paused = true)]
async fn a_lost_claim_refuses_its_own_commits_and_no_others() {
    let mut bench = Bench::new();
    let first = bench.push(9, "first", &[1]);
    let proposal = bench.next().await;
    let (lost, kept) = (bench.push(1, "lost", &[1]), bench.push(2, "kept", &[1]));
    accept(proposal);
    first.await.unwrap().unwrap();
    let proposal = bench.next().await;
    assert_eq!(proposal.compares, [claim(1, 1), claim(2, 1)]);
    proposal.reply.send(Err(ProposeError::Refused)).unwrap();
    let alone = bench.next().await;
    assert_eq!(
        (said(&alone), &alone.compares),
        (vec![("lost".to_owned(), vec![1])], &vec![claim(1, 1)])
    );
    alone.reply.send(Err(ProposeError::Refused)).unwrap();
    assert_eq!(lost.await.unwrap(), Err(ProposeError::Refused));
    let alone = bench.next().await;
    assert_eq!(
        (said(&alone), &alone.compares),
        (vec![("kept".to_owned(), vec![1])], &vec![claim(2, 1)])
    );
    accept(alone);
    assert_eq!(kept.await.unwrap(), Ok(applied(&[])));
    bench.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn commits_under_different_claims_of_a_shard_are_different_entries() {
    let mut bench = Bench::new();
    let first = bench.push(1, "a", &[1]);
    let proposal = bench.next().await;
    let old = bench.push(1, "a", &[2]);
    let retaken = HeldShard {
        shard: 1,
        compare: claim(1, 2),
    };
    let new = bench.queue.push(retaken, commit(1, "a", &[3])).unwrap();
    accept(proposal);
    first.await.unwrap().unwrap();
    let proposal = bench.next().await;
    assert_eq!(
        (said(&proposal), &proposal.compares),
        (vec![("a".to_owned(), vec![2])], &vec![claim(1, 1)])
    );
    proposal.reply.send(Err(ProposeError::Refused)).unwrap();
    assert_eq!(old.await.unwrap(), Err(ProposeError::Refused));
    let proposal = bench.next().await;
    assert_eq!(
        (said(&proposal), &proposal.compares),
        (vec![("a".to_owned(), vec![3])], &vec![claim(1, 2)])
    );
    accept(proposal);
    assert_eq!(new.await.unwrap(), Ok(applied(&[])));
}

#[tokio::test(start_paused = true)]
async fn everybody_is_told_of_its_own_partitions_only() {
    let mut bench = Bench::new();
    let first = bench.push(1, "a", &[1]);
    let proposal = bench.next().await;
    let (one, two, three) = (
        bench.push(1, "a", &[1, 2]),
        bench.push(1, "a", &[3, 4]),
        bench.push(1, "a", &[5]),
    );
    accept(proposal);
    first.await.unwrap().unwrap();
    let proposal = bench.next().await;
    let gone = OffsetRefusal::NoSuchPartition;
    let verdict = applied(&[(0, gone), (3, gone)]);
    proposal.reply.send(Ok(vec![verdict])).unwrap();
    assert_eq!(one.await.unwrap(), Ok(applied(&[(0, gone)])));
    assert_eq!(two.await.unwrap(), Ok(applied(&[(1, gone)])));
    assert_eq!(three.await.unwrap(), Ok(applied(&[])));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_told_to_all_and_the_group_goes_on() {
    let mut bench = Bench::new();
    let first = bench.push(1, "a", &[1]);
    let proposal = bench.next().await;
    let next = bench.push(1, "a", &[2]);
    proposal.reply.send(Err(ProposeError::Unknown)).unwrap();
    assert_eq!(first.await.unwrap(), Err(ProposeError::Unknown));
    let proposal = bench.next().await;
    accept(proposal);
    assert_eq!(next.await.unwrap(), Ok(applied(&[])));
}

#[tokio::test(start_paused = true)]
async fn who_waits_under_a_claim_that_is_gone_is_answered_before_the_commit_is() {
    let mut bench = Bench::new();
    let (under_way, proposal) = (bench.push(1, "a", &[1]), bench.next().await);
    let (waiting, other) = (bench.push(1, "a", &[2]), bench.push(1, "b", &[3]));
    let elsewhere = bench.push(2, "c", &[4]);
    let retaken = HeldShard {
        shard: 1,
        compare: claim(1, 2),
    };
    let new = bench.queue.push(retaken.clone(), commit(1, "a", &[5])).unwrap();
    bench.queue.on_claim_lost(1, Some(&retaken.compare));
    assert_eq!(under_way.await.unwrap(), Err(ProposeError::Unknown));
    assert_eq!(waiting.await.unwrap(), Err(ProposeError::Refused));
    assert_eq!(other.await.unwrap(), Err(ProposeError::Refused));
    bench.is_quiet().await;
    accept(proposal);
    let proposal = bench.next().await;
    let mut together = said(&proposal);
    together.sort();
    assert_eq!(together, [("a".to_owned(), vec![5]), ("c".to_owned(), vec![4])]);
    accept(proposal);
    assert_eq!(new.await.unwrap(), Ok(applied(&[])));
    assert_eq!(elsewhere.await.unwrap(), Ok(applied(&[])));
    bench.is_quiet().await;
    assert!(bench.queue.lock().is_empty());
}

/// MEM-1.
#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_in_count_and_in_bytes() {
    let mut bench = Bench::new();
    let first = bench.push(1, "a", &[1]);
    let proposal = bench.next().await;
    let waiting: Vec<Outcome> = (0..WAITING_MAX).map(|_| bench.push(1, "a", &[1])).collect();
    let refused = bench.queue.push(held(1), commit(1, "b", &[1]));
    assert_eq!(refused.err(), Some(ProposeError::Closed));
    drop((first, waiting, proposal));

    let bench = Bench::new();
    let large = vec![1; 40_000];
    let pushed = (0..1_000).take_while(|_| bench.queue.push(held(1), commit(1, "a", &large)).is_ok());
    let pushed = pushed.count();
    assert!((10..200).contains(&pushed), "{pushed} of some 800 KiB were taken");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_no_record_holds_gets_in_nobody_s_way() {
    let bench = Bench::new();
    let huge = vec![1; 1 << 20];
    let refused = bench.queue.push(held(1), commit(1, "a", &huge));
    assert_eq!(refused.err(), Some(ProposeError::TooLarge));
}
