//! What a committer answers, fault by fault.

use std::time::Duration;

use bytes::Bytes;
use esker_metadata::keys::commit::Progress;
use esker_metadata::keys::{commit as commit_key, record, session};
use esker_metadata::log::{Commit, CommitResult, Committer, CommitterSettings, EXTRAS_BYTES_MAX, SubmitError};
use esker_metadata::simulated::{Chance, Faults};
use esker_metadata::store::{Compare, KeyRange, MetadataStore, Op, Txn};
use esker_segment::id::{CommitNumber, LogIndex, SegmentNumber, SessionId};
use futures::future::join_all;

use crate::{World, commit, committed, run};

const ALWAYS: Chance = Chance(1_000_000);

fn records(world: &World) -> usize {
    world.store.peek(&[KeyRange::Prefix(record::PREFIX.into())]).ranges[0].len()
}

async fn remove_record(world: &World, session: SessionId, number: u64) {
    let then = vec![Op::Delete(record::key(session, CommitNumber(number)))];
    world.store.txn(Txn { then, ..Txn::default() }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn commits_of_all_sessions_share_one_dense_index() {
    let world = World::calm().await;
    let (_first, one) = world.committer().await;
    let (_second, two) = world.committer().await;
    assert_eq!(run(&one, commit("a")).await, committed(1, 1));
    assert_eq!(run(&two, commit("b")).await, committed(1, 2));
    assert_eq!(run(&one, commit("c")).await, committed(2, 3));
    let following = world.follow();
    following.catch_up().await;
    assert_eq!(following.texts(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn commits_are_pipelined_and_answered_in_order() {
    let world = World::calm().await;
    let (_session, committer) = world.committer().await;
    let begun = tokio::time::Instant::now();
    let mut pending = Vec::new();
    for number in 0..32 {
        pending.push(committer.submit(commit(&number.to_string())).await.unwrap());
    }
    let results = join_all(pending).await;
    let elapsed = begun.elapsed();
    for (at, result) in (1..).zip(results) {
        assert_eq!(result, committed(at, at));
    }
    // A commit takes 2 to 6 ms, so one after the other would take about 128 ms.
    assert!(elapsed < Duration::from_millis(100), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leads_to_one_commit() {
    let world = World::calm().await;
    let (_session, committer) = world.committer().await;
    world.store.set_faults(Faults {
        unknown_after: ALWAYS,
        ..Faults::calm()
    });
    let pending = committer.submit(commit("a")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.store.set_faults(Faults::calm());
    assert_eq!(
        pending.await,
        CommitResult::Committed {
            number: CommitNumber(1),
            index: None
        }
    );
    assert_eq!(run(&committer, commit("b")).await, committed(2, 2));
    assert_eq!(records(&world), 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_truncated_before_it_is_sent_again_is_not_written_twice() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    world.store.set_faults(Faults {
        unknown_after: ALWAYS,
        ..Faults::calm()
    });
    let pending = committer.submit(commit("a")).await.unwrap();
    while records(&world) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.store.set_faults(Faults::calm());
    remove_record(&world, session.id(), 1).await;
    assert_eq!(
        pending.await,
        CommitResult::Committed {
            number: CommitNumber(1),
            index: None
        }
    );
    assert_eq!(records(&world), 0, "the counter knows it although the record is gone");
    assert_eq!(run(&committer, commit("b")).await, committed(2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_names_its_condition_and_stops_nobody() {
    let world = World::calm().await;
    let (_session, committer) = world.committer().await;
    let claim = |key: &'static str| Commit {
        compares: vec![Compare::Absent("free".into()), Compare::Absent(key.into())],
        ops: vec![Op::put(key.into(), "x".into())],
        ..commit(key)
    };
    let mut pending = Vec::new();
    for key in ["t/a", "t/a", "t/b", "t/a", "t/c"] {
        pending.push(committer.submit(claim(key)).await.unwrap());
    }
    let refused = CommitResult::Refused { compare: 1 };
    assert_eq!(
        join_all(pending).await,
        [committed(1, 1), refused, committed(3, 2), refused, committed(5, 3)]
    );
    let following = world.follow();
    following.catch_up().await;
    assert_eq!(following.texts(), ["t/a", "t/b", "t/c"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_whose_first_attempt_comes_late_is_either_or() {
    for seed in 0..50 {
        let world = World::new(seed, Faults::calm()).await;
        let (_session, committer) = world.committer().await;
        world
            .store
            .txn(Txn {
                then: vec![Op::put("gate".into(), "x".into())],
                ..Txn::default()
            })
            .await
            .unwrap();
        world.store.set_faults(Faults {
            late: ALWAYS,
            late_max: Duration::from_millis(60),
            ..Faults::calm()
        });
        let gated = Commit {
            compares: vec![Compare::Absent("gate".into())],
            ..commit("gated")
        };
        let pending = committer.submit(gated).await.unwrap();
        let next = committer.submit(commit("next")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5 + seed % 20)).await;
        world.store.set_faults(Faults::calm());
        // The gate opens while late attempts are still on their way.
        world
            .store
            .txn(Txn {
                then: vec![Op::Delete("gate".into())],
                ..Txn::default()
            })
            .await
            .unwrap();
        let (result, next) = (pending.await, next.await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let following = world.follow();
        following.catch_up().await;
        assert!(matches!(next, CommitResult::Committed { .. }), "seed {seed}: {next:?}");
        match result {
            CommitResult::Committed { .. } => assert_eq!(following.texts(), ["gated", "next"], "seed {seed}"),
            CommitResult::Refused { compare: 0 } => assert_eq!(following.texts(), ["next"], "seed {seed}"),
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_refuses_everything_from_then_on() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    assert_eq!(run(&committer, commit("a")).await, committed(1, 1));
    world.store.end_lease(session.lease());
    let mut pending = Vec::new();
    for at in 0..10 {
        pending.push(committer.submit(commit(&at.to_string())).await.unwrap());
    }
    assert!(
        join_all(pending)
            .await
            .iter()
            .all(|result| *result == CommitResult::SessionLost)
    );
    assert_eq!(run(&committer, commit("late")).await, CommitResult::SessionLost);
    assert_eq!(records(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_happened_before_the_session_was_lost_is_committed() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    world.store.set_faults(Faults {
        unknown_after: ALWAYS,
        ..Faults::calm()
    });
    let happened = committer.submit(commit("happened")).await.unwrap();
    while records(&world) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.store.end_lease(session.lease());
    world.store.set_faults(Faults::calm());
    let after = committer.submit(commit("after")).await.unwrap();
    assert_eq!(happened.await, committed(1, 1), "its record proves it");
    assert_eq!(after.await, CommitResult::SessionLost);
}

#[tokio::test(start_paused = true)]
async fn without_record_and_counter_nothing_is_claimed() {
    let world = World::calm().await;
    let following = world.follow();
    let (session, committer) = world.committer().await;
    world.store.set_faults(Faults {
        unknown_after: ALWAYS,
        ..Faults::calm()
    });
    let happened = committer.submit(commit("happened")).await.unwrap();
    while records(&world) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.store.end_lease(session.lease());
    // A checkpoint takes in the record and truncates it before the committer hears of anything.
    following.log.reached(LogIndex(1)).await.unwrap();
    let root = world.checkpoint(&following.recorder.get().entries);
    world.store.set_faults(Faults::calm());
    let then = vec![
        Op::put("root".into(), root.encode()),
        Op::Delete(record::key(session.id(), CommitNumber(1))),
    ];
    // One call, so that the committer's next attempt is not faster.
    world.store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    let result = happened.await;
    assert!(
        matches!(result, CommitResult::Undecided | CommitResult::Committed { .. }),
        "never `SessionLost`, which would lead to a second copy: {result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn progress_says_which_segments_are_settled() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    let settled = |through: u64| Commit {
        segments_through: SegmentNumber(through),
        ..commit("x")
    };
    run(&committer, settled(3)).await;
    run(&committer, settled(3)).await;
    run(&committer, settled(7)).await;
    let key = commit_key::key(session.id());
    let found = world.store.peek(&[KeyRange::Key(key)]).ranges.remove(0).remove(0);
    assert_eq!(found.lease, session.lease());
    let progress = Progress {
        commits: CommitNumber(3),
        segments: SegmentNumber(7),
    };
    assert_eq!(Progress::decode(&found.value), Ok(progress));
    let back = committer.submit(settled(6)).await.unwrap_err();
    assert_eq!(
        back,
        SubmitError::SegmentsWentBack {
            from: SegmentNumber(7),
            to: SegmentNumber(6)
        }
    );
}

#[tokio::test(start_paused = true)]
async fn what_breaks_a_rule_is_not_submitted() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    let large = Commit {
        record: Bytes::from(vec![0; (1 << 20) + 1]),
        ..Commit::default()
    };
    assert_eq!(
        committer.submit(large).await.unwrap_err(),
        SubmitError::TooLarge { bytes: (1 << 20) + 1 }
    );
    let own = Commit {
        ops: vec![Op::Delete(commit_key::key(session.id()))],
        ..commit("x")
    };
    assert!(matches!(
        committer.submit(own).await.unwrap_err(),
        SubmitError::BadExtras { .. }
    ));
    let twice = Commit {
        ops: vec![Op::Delete("k".into()), Op::put("k".into(), "v".into())],
        ..commit("x")
    };
    assert!(matches!(
        committer.submit(twice).await.unwrap_err(),
        SubmitError::BadExtras { .. }
    ));
    let heavy = Commit {
        ops: vec![Op::put("k".into(), Bytes::from(vec![0; EXTRAS_BYTES_MAX]))],
        ..commit("x")
    };
    assert!(matches!(
        committer.submit(heavy).await.unwrap_err(),
        SubmitError::BadExtras { .. }
    ));
    let many = Commit {
        ops: (0..126).map(|at| Op::Delete(format!("k{at}").into())).collect(),
        ..commit("x")
    };
    assert!(matches!(
        committer.submit(many).await.unwrap_err(),
        SubmitError::BadExtras { .. }
    ));
    let heaviest = Commit {
        record: Bytes::from(vec![0; 1 << 20]),
        ops: vec![Op::put("k".into(), Bytes::from(vec![0; EXTRAS_BYTES_MAX - 1]))],
        ..Commit::default()
    };
    assert_eq!(
        run(&committer, heaviest).await,
        committed(1, 1),
        "nothing of it took a number"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_store_only_delays() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    world.store.set_available(false);
    let pending = committer.submit(commit("a")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.store.set_available(true);
    assert_eq!(pending.await, committed(1, 1));
    assert!(!session.is_lost());
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_ends_the_session_s_commits() {
    let world = World::calm().await;
    let (_session, committer) = world.committer().await;
    run(&committer, commit("a")).await;
    let mut other = world.cluster.incarnation;
    other.number.0 += 1;
    let then = vec![Op::put("incarnation".into(), other.encode())];
    world.store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    assert_eq!(run(&committer, commit("b")).await, CommitResult::SessionLost);
    assert_eq!(records(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn a_committer_that_is_dropped_finishes_what_was_submitted() {
    let world = World::calm().await;
    let session = world.session().await;
    let committer = Committer::start(&session, None, CommitterSettings { window: 2, queue: 8 });
    let mut pending = Vec::new();
    for at in 0..8 {
        pending.push(committer.submit(commit(&at.to_string())).await.unwrap());
    }
    drop(committer);
    assert_eq!(join_all(pending).await.len(), 8);
    assert_eq!(records(&world), 8);
    let alive = world.store.peek(&[KeyRange::Key(session::key(session.id()))]);
    assert_eq!(alive.ranges[0].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_predecessors_the_store_has_forgotten_is_not_sent_without_a_pause() {
    let world = World::calm().await;
    let (session, committer) = world.committer().await;
    for text in ["a", "b"] {
        run(&committer, commit(text)).await;
    }
    // What a restore from a backup looks like, in which the session lived already.
    let then = vec![Op::put(commit_key::key(session.id()), Progress::default().encode())];
    world.store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    let before = world.store.trace().len();
    let pending = committer.submit(commit("c")).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), pending).await;
    assert!(answer.is_err(), "{answer:?}");
    let asked = world.store.trace().len() - before;
    assert!((2..200).contains(&asked), "{asked} lines in ten seconds");
}
