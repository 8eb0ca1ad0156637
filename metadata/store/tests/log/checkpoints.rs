//! Publishing roots, truncation, compaction, and followers that were overtaken.

use std::time::Duration;

use bytes::Bytes;
use esker_metadata::keys::incarnation::{self, Incarnation};
use esker_metadata::keys::record;
use esker_metadata::log::{HistoryKept, PublishedRoot, RootOutcome, Truncated, Truncation, publish_root, read_root};
use esker_metadata::simulated::{Chance, Faults};
use esker_metadata::store::{KeyRange, MetadataError, MetadataStore, Op, Revision, Txn};
use esker_segment::id::{IncarnationNumber, LogIndex};

use crate::{Following, World, commit, run};

async fn commit_many(world: &World, count: u64) {
    let (_session, committer) = world.committer().await;
    for at in 0..count {
        run(&committer, commit(&at.to_string())).await;
    }
}

/// Publishes what a follower has, led by a session that is opened for it.
async fn publish(world: &World, following: &Following, seen: Option<Revision>) -> Box<PublishedRoot> {
    following.catch_up().await;
    let leader = world.session().await;
    let root = world.checkpoint(&following.recorder.get().entries);
    match publish_root(&world.cluster, seen, vec![leader.compare()], root, vec![])
        .await
        .unwrap()
    {
        RootOutcome::Published(published) => published,
        other => panic!("{other:?}"),
    }
}

fn records(world: &World) -> Vec<Vec<u8>> {
    let found = world
        .store
        .peek(&[KeyRange::Prefix(record::PREFIX.into())])
        .ranges
        .remove(0);
    found.into_iter().map(|kv| kv.value.to_vec()).collect()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_roots_wins() {
    let world = World::calm().await;
    let following = world.follow();
    commit_many(&world, 3).await;
    let first = publish(&world, &following, None).await;
    let leader = world.session().await;
    let root = world.checkpoint(&following.recorder.get().entries[..2]);
    let late = publish_root(&world.cluster, None, vec![leader.compare()], root.clone(), vec![])
        .await
        .unwrap();
    assert_eq!(late, RootOutcome::Raced);
    let compare = leader.compare();
    leader.close().await.unwrap();
    let fenced = publish_root(&world.cluster, Some(first.revision), vec![compare], root, vec![])
        .await
        .unwrap();
    assert_eq!(fenced, RootOutcome::NotLeading);
    assert_eq!(read_root(&world.cluster).await.unwrap(), Some(*first));
}

#[tokio::test(start_paused = true)]
async fn under_another_incarnation_nobody_is_told_that_somebody_else_was_faster() {
    let world = World::calm().await;
    let following = world.follow();
    commit_many(&world, 1).await;
    following.catch_up().await;
    let leader = world.session().await;
    let root = world.checkpoint(&following.recorder.get().entries);
    let next = Incarnation {
        number: IncarnationNumber(2),
        ..world.cluster.incarnation
    };
    let moved = Txn {
        then: vec![Op::put(incarnation::KEY, next.encode())],
        ..Txn::default()
    };
    world.store.txn(moved).await.unwrap();
    let late = publish_root(&world.cluster, None, vec![leader.compare()], root, vec![]).await;
    assert_eq!(
        late.unwrap(),
        RootOutcome::NotLeading,
        "raced would mean: delete what was written"
    );
}

#[tokio::test(start_paused = true)]
async fn a_root_whose_answer_was_lost_is_published_once() {
    for seed in 0..30 {
        let world = World::new(seed, Faults::calm()).await;
        let following = world.follow();
        commit_many(&world, 2).await;
        following.catch_up().await;
        let leader = world.session().await;
        let root = world.checkpoint(&following.recorder.get().entries);
        world.store.set_faults(Faults {
            unknown_after: Chance::PERCENT * 60,
            ..Faults::calm()
        });
        let outcome = publish_root(&world.cluster, None, vec![leader.compare()], root.clone(), vec![]).await;
        world.store.set_faults(Faults::calm());
        let published = read_root(&world.cluster)
            .await
            .unwrap()
            .expect("it was done, only the answer lost");
        assert_eq!(published.root, root);
        if let Ok(outcome) = outcome {
            assert_eq!(outcome, RootOutcome::Published(Box::new(published)), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn truncation_removes_what_is_at_or_below_the_root() {
    let world = World::calm().await;
    let following = world.follow();
    commit_many(&world, 250).await;
    let root = publish(&world, &following, None).await;
    commit_many(&world, 5).await;
    following.catch_up().await;
    assert_eq!(following.log.live_records(), 255);
    let from = world.store.peek(&[]).revision;
    let mut truncation = Truncation::new(following.log.clone(), HistoryKept::default());
    assert_eq!(
        truncation.truncate(&root).await.unwrap(),
        Truncated::Done { records: 250 }
    );
    let by = world.store.peek(&[]).revision.0 - from.0;
    assert_eq!(by, 3, "100 in one transaction");
    assert_eq!(records(&world), [b"0", b"1", b"2", b"3", b"4"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(following.log.live_records(), 5);
    assert_eq!(
        truncation.truncate(&root).await.unwrap(),
        Truncated::Done { records: 0 }
    );
    let fresh = world.follow();
    fresh.catch_up().await;
    assert_eq!(fresh.recorder.get().loads, [LogIndex(250)]);
    assert_eq!(fresh.texts(), following.texts());
}

#[tokio::test(start_paused = true)]
async fn a_root_that_moved_stops_truncation() {
    let world = World::calm().await;
    let following = world.follow();
    commit_many(&world, 3).await;
    let first = publish(&world, &following, None).await;
    commit_many(&world, 3).await;
    publish(&world, &following, Some(first.revision)).await;
    let mut truncation = Truncation::new(following.log.clone(), HistoryKept::default());
    assert_eq!(truncation.truncate(&first).await.unwrap(), Truncated::RootMoved);
    assert_eq!(records(&world).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_overtaken_loads_the_checkpoint() {
    let world = World::calm().await;
    let leading = world.follow();
    let lagging = world.follow();
    commit_many(&world, 3).await;
    leading.catch_up().await;
    lagging.catch_up().await;
    // The lagging one is cut off while the log goes on and is truncated.
    let blind = Faults {
        watch_loses: Chance(1_000_000),
        ..Faults::calm()
    };
    world.store.set_faults(blind);
    commit_many(&world, 5).await;
    let root = publish(&world, &leading, None).await;
    Truncation::new(leading.log.clone(), HistoryKept::default())
        .truncate(&root)
        .await
        .unwrap();
    world.store.compact_all();
    lagging.recorder.get().loads_to_fail = 2;
    world.store.set_faults(Faults::calm());
    commit_many(&world, 2).await;
    lagging.catch_up().await;
    leading.catch_up().await;
    assert_eq!(lagging.recorder.get().loads, [LogIndex(0), LogIndex(8)]);
    assert_eq!(lagging.recorder.get().entries, leading.recorder.get().entries);
    assert_eq!(leading.recorder.get().loads, [LogIndex(0)]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(leading.recorder.get().roots, [LogIndex(8)], "found by the regular read");
    assert_eq!(
        lagging.recorder.get().roots,
        [LogIndex(0); 0],
        "the root it loaded is not told again"
    );
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_five_minutes() {
    let world = World::calm().await;
    let following = world.follow();
    let mut truncation = Truncation::new(following.log.clone(), HistoryKept::default());
    let mut seen = None;
    let mut reached = Vec::new();
    for _ in 0..20 {
        commit_many(&world, 1).await;
        let root = publish(&world, &following, seen).await;
        seen = Some(root.revision);
        truncation.truncate(&root).await.unwrap();
        reached.push((tokio::time::Instant::now(), world.store.peek(&[]).revision));
        truncation.compact().await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let mut watchable = 0;
    let mut gone = 0;
    for (at, revision) in reached {
        let kept = world.store.watch("".into(), Revision(revision.0)).await.is_ok();
        let age = at.elapsed();
        if age < Duration::from_secs(300) {
            assert!(kept, "history of {age:?} ago is gone");
            watchable += 1;
        } else if age > Duration::from_secs(360) {
            assert!(!kept, "history of {age:?} ago is still there");
            gone += 1;
        }
    }
    assert!(watchable > 5 && gone > 5, "{watchable} kept, {gone} gone");
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_the_log_is_never_skipped() {
    let world = World::calm().await;
    commit_many(&world, 4).await;
    // Somebody deletes what no checkpoint has taken in.
    let keys = world
        .store
        .peek(&[KeyRange::Prefix(record::PREFIX.into())])
        .ranges
        .remove(0);
    let then = keys.iter().take(2).map(|kv| Op::Delete(kv.key.clone())).collect();
    world.store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    let following = world.follow();
    let waited = tokio::time::timeout(Duration::from_secs(60), following.log.position().reached(LogIndex(1))).await;
    assert!(waited.is_err(), "it stays behind rather than leaving something out");
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded_in_bytes_whatever_the_time() {
    let world = World::calm().await;
    let following = world.follow();
    let mut truncation = Truncation::new(following.log.clone(), HistoryKept::default());
    let (_session, committer) = world.committer().await;
    let (mut seen, mut due) = (None, Vec::new());
    // 160 MiB in far less than five minutes, 16 at a time.
    for _ in 0..10 {
        for _ in 0..64 {
            run(&committer, commit(&"x".repeat(256 << 10))).await;
        }
        let root = publish(&world, &following, seen).await;
        seen = Some(root.revision);
        truncation.truncate(&root).await.unwrap();
        due.push(truncation.is_compaction_due());
        truncation.compact().await.unwrap();
        assert!(!truncation.is_compaction_due());
    }
    assert_eq!(
        due,
        [[false; 4], [true; 4]]
            .concat()
            .into_iter()
            .chain([true; 2])
            .collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn history_goes_although_nothing_is_truncated() {
    let world = World::calm().await;
    let following = world.follow();
    let mut truncation = Truncation::new(following.log.clone(), HistoryKept::default());
    let put = |nth: u32| Txn {
        then: vec![Op::put("group/1".into(), Bytes::from(nth.to_string()))],
        ..Txn::default()
    };
    let first = world.store.txn(put(0)).await.unwrap().revision;
    for minute in 1..=7 {
        truncation.observe().await.unwrap();
        assert_eq!(truncation.is_compaction_due(), minute > 5, "after {minute} minutes");
        truncation.compact().await.unwrap();
        world.store.txn(put(minute)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let watched = world.store.watch("group/".into(), first).await;
    assert!(
        matches!(watched, Err(MetadataError::Compacted { .. })),
        "the first write is history no more"
    );
    assert_eq!(
        world.store.peek(&[KeyRange::Key("group/1".into())]).ranges[0][0].value,
        "7"
    );
}
