//! Followers and the read barrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::keys::owner;
use esker_metadata::keys::topic::{self, Topic};
use esker_metadata::log::{FollowEnd, FollowerSettings, bootstrap};
use esker_metadata::simulated::{Chance, Faults};
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Op, Revision, Snapshot, Txn, TxnOutcome, Watch,
};
use esker_segment::id::{LogIndex, TopicId};
use futures::future::join_all;

use crate::{Scene, World, commit, committed, run};

async fn change(world: &World, then: Vec<Op>) -> Revision {
    world.store.txn(Txn { then, ..Txn::default() }).await.unwrap().revision
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_of_keys_beside_the_log() {
    let world = World::calm().await;
    let topic = Topic {
        id: TopicId(7),
        ..Topic::default()
    };
    change(&world, vec![Op::put(topic::key("old"), topic.encode())]).await;
    let settings = FollowerSettings {
        also: vec!["group/".into()],
        ..FollowerSettings::default()
    };
    let following = world.follow_with(world.recorder(), settings);
    following.log.position().reached(LogIndex(0)).await.unwrap();
    let session = world.session().await;
    let claimed = change(
        &world,
        vec![
            Op::put(owner::key(5), owner::encode(session.id())),
            Op::put("group/g".into(), "1".into()),
        ],
    );
    let claimed = claimed.await;
    change(
        &world,
        vec![
            Op::put(topic::key("new"), topic.encode()),
            Op::Delete(topic::key("old")),
        ],
    )
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    {
        let recorded = following.recorder.get();
        assert_eq!(recorded.topics.keys().collect::<Vec<_>>(), ["new"]);
        assert_eq!(recorded.owners[&5], (session.id(), claimed));
        assert!(recorded.sessions.contains_key(&session.id()));
        assert_eq!(recorded.others[&Bytes::from("group/g")], "1");
    }
    session.close().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(following.recorder.get().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_watch_lost_is_found_within_thirty_seconds() {
    let world = World::calm().await;
    let following = world.follow();
    following.log.position().reached(LogIndex(0)).await.unwrap();
    change(&world, vec![Op::put(topic::key("kept"), Topic::default().encode())]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let blind = Faults {
        watch_loses: Chance(1_000_000),
        ..Faults::calm()
    };
    world.store.set_faults(blind);
    change(
        &world,
        vec![
            Op::put(topic::key("lost"), Topic::default().encode()),
            Op::Delete(topic::key("kept")),
        ],
    )
    .await;
    let (_session, committer) = world.committer().await;
    assert_eq!(run(&committer, commit("lost")).await, committed(1, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(following.texts(), [""; 0], "the watch is blind");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(following.texts(), ["lost"]);
    assert_eq!(following.recorder.get().topics.keys().collect::<Vec<_>>(), ["lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_index_is_noticed_at_once() {
    let world = World::calm().await;
    let following = world.follow();
    following.log.position().reached(LogIndex(0)).await.unwrap();
    let (_session, committer) = world.committer().await;
    world.store.set_faults(Faults {
        watch_loses: Chance(1_000_000),
        ..Faults::calm()
    });
    run(&committer, commit("lost")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.store.set_faults(Faults::calm());
    run(&committer, commit("seen")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(following.texts(), ["lost", "seen"]);
}

#[tokio::test(start_paused = true)]
async fn a_barrier_does_not_wait_for_a_blind_watch() {
    let world = World::calm().await;
    let following = world.follow();
    following.log.position().reached(LogIndex(0)).await.unwrap();
    let (_session, committer) = world.committer().await;
    world.store.set_faults(Faults {
        watch_loses: Chance(1_000_000),
        ..Faults::calm()
    });
    for at in 1..=5 {
        run(&committer, commit(&at.to_string())).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(following.log.barrier().await, Ok(LogIndex(at)));
        assert_eq!(following.texts().len(), usize::try_from(at).unwrap());
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_a_barrier_fails() {
    let world = World::calm().await;
    let following = world.follow();
    following.catch_up().await;
    world.store.set_available(false);
    assert!(following.log.barrier().await.is_err());
    world.store.set_available(true);
    assert_eq!(following.log.barrier().await, Ok(LogIndex(0)));
}

#[tokio::test(start_paused = true)]
async fn barriers_share_reads() {
    let world = World::calm().await;
    let counting = Arc::new(Counting {
        inner: world.store.clone(),
        reads: AtomicU64::new(0),
    });
    let cluster = bootstrap(counting.clone(), 0).await.unwrap();
    let world = World {
        scene: Scene::new(cluster),
        ..world
    };
    let following = world.follow();
    following.catch_up().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = counting.reads.load(Ordering::Relaxed);
    join_all((0..100).map(|_| following.log.barrier())).await;
    let reads = counting.reads.load(Ordering::Relaxed) - before;
    assert!(
        (1..=2).contains(&reads),
        "{reads} reads for 100 barriers that wait together"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_follower_reads_little() {
    let world = World::calm().await;
    let counting = Arc::new(Counting {
        inner: world.store.clone(),
        reads: AtomicU64::new(0),
    });
    let cluster = bootstrap(counting.clone(), 0).await.unwrap();
    let world = World {
        scene: Scene::new(cluster),
        ..world
    };
    let following = world.follow();
    following.catch_up().await;
    let before = counting.reads.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let reads = counting.reads.load(Ordering::Relaxed) - before;
    assert!((9..=11).contains(&reads), "{reads} reads in five minutes");
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_ends_following() {
    for by_watch in [true, false] {
        let world = World::calm().await;
        let mut following = world.follow();
        following.catch_up().await;
        if !by_watch {
            world.store.set_faults(Faults {
                watch_loses: Chance(1_000_000),
                ..Faults::calm()
            });
        }
        let mut other = world.cluster.incarnation;
        other.id += 1;
        change(&world, vec![Op::put("incarnation".into(), other.encode())]).await;
        assert_eq!((&mut following.end).await.unwrap(), FollowEnd::OtherIncarnation);
        assert!(
            following.log.position().reached(LogIndex(1)).await.is_err(),
            "waiters are told"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_goes_back_ends_following() {
    let world = World::calm().await;
    let mut following = world.follow();
    let (_session, committer) = world.committer().await;
    for at in 0..3 {
        run(&committer, commit(&at.to_string())).await;
    }
    following.catch_up().await;
    // What a restore from a backup looks like: the head counts from an earlier point.
    let head = world
        .store
        .peek(&[KeyRange::Key("log/head".into())])
        .ranges
        .remove(0)
        .remove(0);
    change(&world, vec![Op::Delete("log/head".into())]).await;
    change(&world, vec![Op::put("log/head".into(), head.value)]).await;
    let end = (&mut following.end).await.unwrap();
    assert_eq!(
        end,
        FollowEnd::WentBack {
            applied: LogIndex(3),
            head: LogIndex(1)
        }
    );
}

/// Counts reads.
#[derive(Debug)]
struct Counting<S> {
    inner: S,
    reads: AtomicU64,
}

#[async_trait]
impl<S: MetadataStore> MetadataStore for Counting<S> {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        self.inner.txn(txn).await
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.snapshot(ranges).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        self.inner.watch(prefix, from).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        self.inner.revoke_lease(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        self.inner.compact(revision).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_went_back_and_grew_by_as_many_commits_ends_following() {
    let world = World::calm().await;
    let mut following = world.follow();
    let (_session, committer) = world.committer().await;
    for at in 0..3 {
        run(&committer, commit(&at.to_string())).await;
    }
    following.catch_up().await;
    let head = world
        .store
        .peek(&[KeyRange::Key("log/head".into())])
        .ranges
        .remove(0)
        .remove(0);
    change(&world, vec![Op::Delete("log/head".into())]).await;
    for _ in 0..3 {
        change(&world, vec![Op::put("log/head".into(), head.value.clone())]).await;
    }
    let end = tokio::time::timeout(Duration::from_secs(120), &mut following.end).await;
    assert_eq!(end.unwrap().unwrap(), FollowEnd::Diverged { index: LogIndex(3) });
}
