//! Compactors as processes of their own: one works, the others stand by, and none works on what is not its cluster's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_compaction::incarnation::IncarnationError;
use esker_compaction::process::{Process, ProcessError, ProcessParts};
use esker_compaction::seams::TopicPolicy;
use esker_metadata::keys::incarnation::Incarnation;
use esker_metadata::keys::{incarnation, leader};
use esker_metadata::log::Cluster;
use esker_metadata::store::{KeyRange, Op, Txn};
use esker_segment::id::{IncarnationId, IncarnationNumber, SessionId, Timestamp};
use esker_segment::journal;
use esker_storage::store::ObjectKey;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, at, small};

type Ended = Result<(), ProcessError>;

fn parts(world: &World, cluster: Cluster) -> ProcessParts {
    let (random, now) = (AtomicU64::new(3), Arc::clone(&world.now));
    ProcessParts {
        cluster,
        objects: world.objects.clone(),
        policy_of: Arc::new(|_, _| TopicPolicy::default()),
        clock: Arc::new(move || Timestamp(now.load(Ordering::SeqCst))),
        random: Arc::new(move || u128::from(random.fetch_add(0x9e37_79b9, Ordering::SeqCst))),
        version: "test".to_owned(),
        settings: small(),
    }
}

async fn start(world: &World, stop: &CancellationToken) -> JoinHandle<Ended> {
    let process = Process::start(parts(world, world.cluster.clone())).await.unwrap();
    tokio::spawn(process.run(stop.clone()))
}

fn leader_of(world: &World, duty: leader::Duty) -> Option<SessionId> {
    let found = world.metadata.peek(&[KeyRange::Key(leader::key(duty))]);
    let found = found.ranges[0].first().cloned();
    found.map(|kv| leader::decode(&kv.value).unwrap())
}

fn merging(world: &World) -> Option<SessionId> {
    leader_of(world, leader::Duty::Compaction)
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_several_compactors_works_and_another_one_takes_over() {
    let mut world = World::new(1).await;
    let node = world.node().await;
    let topic = node.create("a", 2).await;
    let stop = CancellationToken::new();
    let mut compactors = Vec::new();
    for _ in 0..3 {
        compactors.push(start(&world, &stop).await);
    }
    let mut leaders = Vec::new();
    for round in 0..3 {
        for _ in 0..20 {
            world
                .produce(&node, &[(at(topic, 0), 1, 500), (at(topic, 1), 2, 50)])
                .await;
            seconds(1).await;
        }
        // Its successor waits for the lease, asks every ten seconds at most, and has something to do.
        seconds(30).await;
        node.log.barrier().await.unwrap();
        assert_eq!(node.replica.fold().unmerged_stats().segments, 0, "round {round}");
        let merging = merging(&world).expect("somebody merges");
        assert!(!leaders.contains(&merging), "the one that was killed: {leaders:?}");
        leaders.push(merging);
        world.verify(&node).await;
        // Kill -9 of one; it is not known which one leads, so go on until it does not.
        let before = leaders.last().copied();
        while self::merging(&world) == before && !compactors.is_empty() {
            compactors.remove(0).abort();
            seconds(12).await;
        }
        if compactors.is_empty() {
            break;
        }
    }
    assert!(!leaders.is_empty());
    // With nobody left the log goes on, and whoever comes finds everything.
    for _ in 0..5 {
        world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
    }
    let last = start(&world, &stop).await;
    seconds(60).await;
    node.log.barrier().await.unwrap();
    assert_eq!(node.replica.fold().unmerged_stats().segments, 0);
    world.verify(&node).await;
    stop.cancel();
    last.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_compactor_that_stops_gives_its_duties_up_at_once() {
    let mut world = World::new(2).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let stop = CancellationToken::new();
    let first = start(&world, &stop).await;
    world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
    seconds(5).await;
    let before = merging(&world).expect("it merges");
    stop.cancel();
    first.await.unwrap().unwrap();
    assert_eq!(
        (merging(&world), leader_of(&world, leader::Duty::Checkpoint)),
        (None, None)
    );
    let stop = CancellationToken::new();
    let second = start(&world, &stop).await;
    world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
    seconds(2).await;
    assert!(merging(&world).is_some_and(|session| session != before));
    stop.cancel();
    second.await.unwrap().unwrap();
}

/// The bucket says that another cluster has this incarnation: one of the two was cloned.
async fn give_bucket_away(world: &World) {
    let other = journal::Incarnation {
        number: world.cluster.incarnation.number,
        id: IncarnationId(world.cluster.incarnation.id ^ 1),
    };
    let key = ObjectKey(world.objects.cluster.incarnation_key(other.number));
    world.objects.store.create(&key, other.encode().chunks).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_compactor_does_not_start_on_the_bucket_of_another_cluster() {
    let world = World::new(3).await;
    give_bucket_away(&world).await;
    let refused = Process::start(parts(&world, world.cluster.clone())).await;
    let refused = refused.err().expect("it must not start");
    assert!(matches!(
        refused,
        ProcessError::Incarnation(IncarnationError::Different { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_running_compactor_touches_nothing_once_the_bucket_is_another_clusters() {
    let mut world = World::new(4).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let stop = CancellationToken::new();
    let compactor = start(&world, &stop).await;
    world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
    seconds(20).await;
    give_bucket_away(&world).await;
    let keys = world.keys();
    for _ in 0..10 {
        world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
        seconds(10).await;
    }
    assert!(keys.is_subset(&world.keys()), "nothing was deleted");
    let new = world.keys();
    let written: Vec<_> = new.difference(&keys).filter(|key| key.contains("/merged/")).collect();
    assert!(written.is_empty(), "nothing was merged: {written:?}");
    assert_eq!(new.len(), keys.len() + 10, "only the segments of the agent came");
    stop.cancel();
    compactor.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_compactor_ends_when_the_cluster_begins_another_life() {
    let world = World::new(5).await;
    let stop = CancellationToken::new();
    let compactor = start(&world, &stop).await;
    seconds(5).await;
    let found = world.cluster.incarnation;
    let next = Incarnation {
        number: IncarnationNumber(found.number.0 + 1),
        id: 77,
        ..found
    };
    let put = Op::put(incarnation::KEY, next.encode());
    let begin = Txn {
        then: vec![put],
        ..Txn::default()
    };
    world.cluster.store.txn(begin).await.unwrap();
    seconds(60).await;
    let ended = compactor.await.unwrap();
    assert!(
        matches!(ended, Err(ProcessError::Follow(_) | ProcessError::Session(_))),
        "{ended:?}"
    );
}
