//! A new life from the bucket alone: nothing that was acknowledged is lost without a word, and the old life ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use esker_compaction::check::check;
use esker_compaction::recover::{self, Begun, Left, RecoverError, Recovered};
use esker_metadata::log::{Cluster, bootstrap};
use esker_metadata::simulated::SimulatedStore;
use esker_metadata::store::{KeyRange, MetadataStore, Op, Txn};
use esker_segment::id::{IncarnationNumber, TopicId, TopicPartition};
use esker_storage::merged::Manifests;
use esker_storage::named::NamedObjects;

use crate::fuse::{Fuse, Kill};
use crate::transactions;
use crate::world::{Node, World, at, calm, settle, small};

/// What the coordination store holds now.
fn copy_of(world: &World) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let prefixes = [
        "incarnation",
        "counter/",
        "session/",
        "commit/",
        "log/",
        "root",
        "topic/",
        "published/",
    ];
    let ranges: Vec<_> = prefixes
        .iter()
        .map(|prefix| KeyRange::Prefix((*prefix).into()))
        .collect();
    let found = world.metadata.peek(&ranges).ranges.into_iter().flatten();
    found.map(|kv| (kv.key, kv.value)).collect()
}

/// The world with another coordination store, restored from a copy.
async fn restore(world: &mut World, copy: Vec<(bytes::Bytes, bytes::Bytes)>) {
    let store = SimulatedStore::new(99, calm());
    for (key, value) in copy {
        let put = Txn {
            then: vec![Op::put(key, value)],
            ..Txn::default()
        };
        store.txn(put).await.unwrap();
    }
    world.metadata = store;
}

async fn recovered(objects: &NamedObjects) -> Result<(Recovered, IncarnationNumber), RecoverError> {
    let bucket = recover::gather(objects).await?;
    let newest = bucket.newest;
    Ok((recover::recover(objects, bucket, &BTreeMap::new()).await?, newest))
}

async fn begin(
    store: &dyn MetadataStore,
    objects: &NamedObjects,
    id: u128,
) -> Result<(Begun, Vec<Left>), RecoverError> {
    let (recovered, newest) = recovered(objects).await?;
    let left = recovered.left.clone();
    Ok((recover::begin(store, objects, recovered, id, newest).await?, left))
}

/// Recovers, and makes the world that of the new life.
async fn revive(world: &mut World) -> (Begun, Vec<Left>) {
    let (begun, left) = begin(&world.metadata, &world.objects, 4_711).await.unwrap();
    world.cluster = bootstrap(Arc::new(world.metadata.clone()), 0).await.unwrap();
    assert_eq!(world.cluster.incarnation, begun.incarnation);
    (begun, left)
}

/// Every batch that was acknowledged is there, or in a segment that is named. Says how many are not there.
async fn verify_or_named(world: &mut World, node: &Node, left: &[Left]) -> usize {
    let named: BTreeSet<TopicPartition> = left
        .iter()
        .filter_map(|left| match left {
            Left::Unordered { holds, .. } => Some(holds.keys().copied()),
            _ => None,
        })
        .flatten()
        .collect();
    node.log.barrier().await.unwrap();
    let mut missing = 0;
    for (at, stored) in &mut world.stored {
        let view = node.replica.fold().partition(*at).unwrap();
        let before = stored.len();
        stored.retain(|base, _| *base < view.high_watermark);
        assert!(
            stored.len() == before || named.contains(at),
            "{at} has lost what nobody names"
        );
        missing += before - stored.len();
    }
    world.verify(node).await;
    missing
}

/// Two writers; some of it is merged, some is below the checkpoint, some above, with a transaction and a trimmed topic.
async fn history(world: &mut World) -> (TopicId, Vec<(bytes::Bytes, bytes::Bytes)>) {
    let (one, other) = (world.node().await, world.node().await);
    let topic = one.create("a", 3).await;
    let producer = transactions::begin(&one).await;
    let old_copy = copy_of(world);
    let compactor = world.node().await;
    let mut compaction = world.compaction(&compactor, small());
    for round in 0..6 {
        world
            .produce(&one, &[(at(topic, round % 3), 2, 300), (at(topic, 0), 1, 50)])
            .await;
        world.produce(&other, &[(at(topic, 1), 1, 200)]).await;
    }
    settle(&mut compaction).await;
    let batch = world.transactional(producer, 0, 2);
    world.produce_batches(&one, vec![(at(topic, 2), batch)]).await;
    transactions::end(&one, producer, true).await;
    // Below a checkpoint, not merged.
    let mut settings = small();
    settings.merge.segments_min = usize::MAX;
    settings.merge.age_max = Duration::from_secs(1 << 30);
    drop(compaction);
    world.dethrone().await;
    let mut checkpoints = world.compaction(&compactor, settings);
    for _ in 0..3 {
        world
            .produce(&other, &[(at(topic, 0), 1, 200), (at(topic, 1), 1, 20)])
            .await;
        compactor.log.barrier().await.unwrap();
        settle(&mut checkpoints).await;
    }
    // Above it: by turns, so that each header says where the segment before stands.
    for round in 0..5 {
        let node = if round % 2 == 0 { &one } else { &other };
        world.produce(node, &[(at(topic, round % 3), 1, 100)]).await;
        node.log.barrier().await.unwrap();
    }
    (topic, old_copy)
}

#[tokio::test(start_paused = true)]
async fn a_store_restored_from_an_old_copy_loses_nothing_acknowledged_without_naming_it() {
    let mut world = World::new(1).await;
    let (topic, old_copy) = history(&mut world).await;
    let written: usize = world.stored.values().map(BTreeMap::len).sum();
    restore(&mut world, old_copy).await;
    let (begun, left) = revive(&mut world).await;
    assert_eq!(begun.incarnation.number, IncarnationNumber(2));
    assert_eq!(begun.without_configs, ["a"], "it was created after the copy was made");
    let node = world.node().await;
    let missing = verify_or_named(&mut world, &node, &left).await;
    assert_eq!(
        missing, 1,
        "only the last one has no successor that says where it stands: {left:?}"
    );
    assert!(written > 20);
    // The new life goes on.
    let before = node.replica.fold().partition(at(topic, 0)).unwrap().high_watermark;
    world.produce(&node, &[(at(topic, 0), 3, 100)]).await;
    settle(&mut world.compaction(&node, small())).await;
    world.verify(&node).await;
    world.verify(&world.node().await).await;
    // KIP-320: who believes in the old epoch learns where it ended, and the new one begins there.
    let fold = node.replica.fold();
    let end = fold.leader_epoch_end(at(topic, 0), IncarnationNumber(1));
    assert_eq!(end, Some((IncarnationNumber(1), before)));
    assert_eq!(fold.leader_epoch_at(at(topic, 0), before), Some(IncarnationNumber(2)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_is_built_again_and_an_idle_cluster_loses_nothing() {
    let mut world = World::new(2).await;
    let (topic, _) = history(&mut world).await;
    let node = world.node().await;
    let mut settings = esker_compaction::settings::Settings::local();
    settings.merge.age_max = Duration::from_secs(1 << 30);
    world.dethrone().await;
    // Ten seconds without a commit: a checkpoint says what no header does.
    let mut compaction = world.compaction(&node, settings);
    settle(&mut compaction).await;
    settle(&mut compaction).await;
    let written = world.stored.clone();
    restore(&mut world, Vec::new()).await;
    let (_, left) = revive(&mut world).await;
    let node = world.node().await;
    assert_eq!(verify_or_named(&mut world, &node, &left).await, 0);
    assert_eq!(world.stored, written);
    assert_eq!(left, []);
    assert!(node.replica.fold().topic(topic).is_some());
    let records = node.replica.topic_records();
    assert!(records.is_empty() || records[0].0 == "a");
}

#[tokio::test(start_paused = true)]
async fn recovery_killed_at_any_call_can_be_begun_again() {
    let mut calls = 0;
    for call in 1.. {
        let mut world = World::new(3).await;
        let (_, copy) = history(&mut world).await;
        restore(&mut world, copy).await;
        world.cluster = Cluster {
            store: Arc::new(world.metadata.clone()),
            incarnation: world.cluster.incarnation,
        };
        let fuse = Fuse::new(call, if call % 2 == 0 { Kill::Before } else { Kill::After });
        let (cluster, objects) = fuse.stores(&world);
        let died = tokio::select! {
            biased;
            () = fuse.blown() => true,
            done = begin(&*cluster.store, &objects, 1) => { done.unwrap(); false }
        };
        let (_, left) = revive(&mut world).await;
        let node = world.node().await;
        let missing = verify_or_named(&mut world, &node, &left).await;
        assert!(missing <= 1, "call {call}: {left:?}");
        if !died {
            calls = call;
            break;
        }
    }
    assert!(calls > 20, "only {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn processes_of_the_old_life_end_and_commit_nothing_more() {
    let mut world = World::new(4).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    settle(&mut world.compaction(&node, small())).await;
    node.freeze();
    begin(&world.metadata, &world.objects, 5).await.unwrap();
    let late = world.batch(1, 10);
    let (_, entry, _) = node.upload(&[(at(topic, 0), late)]).await;
    let refused = tokio::time::timeout(
        Duration::from_secs(60),
        node.access.commit(vec![esker_model::entry::Entry::Segment(entry)]),
    )
    .await;
    assert!(!matches!(refused, Ok(Ok(_))), "{refused:?}");
    let cluster = bootstrap(Arc::new(world.metadata.clone()), 0).await.unwrap();
    let manifests = Manifests::new(world.objects.clone(), 1 << 20);
    let report = check(&cluster, &manifests).await.unwrap();
    assert!(report.is_clean() && report.offsets == 1, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_bucket_has_nothing_to_recover() {
    let world = World::new(5).await;
    let objects = NamedObjects::new(Arc::clone(&world.objects.store), "other".parse().unwrap());
    assert_eq!(recovered(&objects).await.unwrap_err(), RecoverError::Nothing);
    let found = recover::clusters(&*world.objects.store).await.unwrap();
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["test"]);
}
