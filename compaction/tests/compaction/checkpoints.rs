//! A checkpoint and what follows it give the fold of somebody who never restarted.

use std::time::Duration;

use esker_compaction::settings::Settings;
use esker_metadata::checkpoint::{LoadError, load};
use esker_segment::id::{Offset, ProducerId};
use tokio_util::sync::CancellationToken;

use crate::world::{World, at, reload, settle, small};

#[tokio::test(start_paused = true)]
async fn a_node_that_loads_a_checkpoint_has_the_fold_of_one_that_never_restarted() {
    let mut world = World::new(1).await;
    let node = world.node().await;
    let topic = node.create("a", 3).await;
    let mut settings = small();
    settings.merge.segments_min = usize::MAX;
    settings.merge.age_max = Duration::from_secs(1 << 30);
    let mut compaction = world.compaction(&node, settings);
    for round in 0..20 {
        world
            .produce(&node, &[(at(topic, round % 3), 2, 100), (at(topic, 0), 1, 10)])
            .await;
        if round % 7 == 0 {
            compaction.cycle().await;
        }
    }
    node.log.barrier().await.unwrap();
    let root = world.root().await.expect("there is a checkpoint");
    assert!(root.index.0 > 10 && root.indexes.len() == 3, "{root:?}");
    let loaded = reload(&world).await;
    {
        let fold = node.replica.fold();
        assert_eq!((loaded.index(), loaded.digest()), (fold.index(), fold.digest()));
        assert_eq!(loaded.encode_state().concat(), fold.encode_state().concat());
        let all = (esker_segment::id::LogIndex(0), fold.index());
        assert_eq!(loaded.export_unmerged(all.0, all.1), fold.export_unmerged(all.0, all.1));
    }
    let restarted = world.node().await;
    world.verify(&restarted).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_is_truncated_and_objects_stay_few() {
    let mut world = World::new(2).await;
    let node = world.node().await;
    let topic = node.create("a", 2).await;
    let mut compaction = world.compaction(&node, small());
    for _ in 0..200 {
        world
            .produce(&node, &[(at(topic, 0), 1, 200), (at(topic, 1), 3, 20)])
            .await;
        compaction.cycle().await;
    }
    settle(&mut compaction).await;
    world.verify(&node).await;
    assert_eq!(node.log.live_records(), 0);
    assert_eq!(world.count("segment"), 0, "all are merged");
    assert_eq!(
        (world.count("state"), world.count("index"), world.count("manifest")),
        (1, 0, 1)
    );
    assert!(world.count("merged") + world.count("page") < 20, "{:#?}", world.keys());
}

/// Twenty seconds of 200 flushes a second, under the settings of `esker dev`; `compaction/examples/hour.rs` does an hour.
#[tokio::test(start_paused = true)]
async fn hundreds_of_flushes_a_second_leave_few_objects_and_little_metadata() {
    let mut world = World::new(5).await;
    let node = world.node().await;
    let topic = node.create("a", 4).await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.compaction(&node, Settings::local()).run(stop.clone()));
    for nth in 0..4_000 {
        world
            .produce(
                &node,
                &[(at(topic, nth % 4), 1, 100), (at(topic, (nth + 1) % 4), 1, 100)],
            )
            .await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        if nth % 500 == 0 {
            let (objects, records) = (world.keys().len(), node.log.live_records());
            assert!(objects < 2_000, "{objects} objects after {nth} flushes");
            assert!(records < 1_400, "{records} records in the store after {nth} flushes");
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    stop.cancel();
    working.await.unwrap();
    assert_eq!(node.log.live_records(), 0);
    assert!(world.keys().len() < 30, "{:#?}", world.keys());
    world.verify(&world.node().await).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_costs_no_request() {
    let mut world = World::new(3).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let mut compaction = world.compaction(&node, small());
    world.produce(&node, &[(at(topic, 0), 1, 10)]).await;
    settle(&mut compaction).await;
    let (bucket, store) = (world.bucket.trace_digest(), world.root().await);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        compaction.cycle().await;
    }
    assert_eq!(world.bucket.trace_digest(), bucket, "no request to the bucket");
    assert_eq!(world.root().await, store);
}

#[tokio::test(start_paused = true)]
async fn markers_are_the_same_bytes_before_and_after_they_are_merged() {
    let mut world = World::new(4).await;
    let node = world.node().await;
    let topic = node.create("a", 2).await;
    let producer = crate::transactions::begin(&node).await;
    let batches = vec![
        (at(topic, 0), world.transactional(producer, 0, 2)),
        (at(topic, 1), world.transactional(producer, 0, 3)),
    ];
    world.produce_batches(&node, batches).await;
    crate::transactions::end(&node, producer, true).await;
    // Beside them one batch that is copied on its way and one that is not.
    world
        .produce(&node, &[(at(topic, 0), 1, 10), (at(topic, 1), 2, 20_000)])
        .await;
    node.log.barrier().await.unwrap();
    let before = (node.read(at(topic, 0)).await, node.read(at(topic, 1)).await);
    assert_eq!(before.0.len(), 3);
    let mut compaction = world.compaction(&node, small());
    settle(&mut compaction).await;
    assert_eq!(node.replica.fold().unmerged_stats().batches, 0, "all is merged");
    let after = (node.read(at(topic, 0)).await, node.read(at(topic, 1)).await);
    assert_eq!(before, after);
    let found = node.merged.locate(at(topic, 0), Offset(2), Offset(3), 0).await.unwrap();
    assert!(found[0].control && found[0].records == 1);
    world.verify(&node).await;
    assert_eq!(producer, ProducerId(0));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_gone_or_damaged_is_not_loaded() {
    let mut world = World::new(6).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let mut settings = small();
    settings.merge.segments_min = usize::MAX;
    settings.merge.age_max = Duration::from_secs(1 << 30);
    let mut compaction = world.compaction(&node, settings);
    world.produce(&node, &[(at(topic, 0), 1, 10)]).await;
    compaction.cycle().await;
    let root = world.root().await.expect("there is a checkpoint");
    load(&root, &world.objects).await.unwrap();
    let mut other = root.clone();
    other.state.digest ^= 1;
    let found = load(&other, &world.objects).await;
    assert!(matches!(found, Err(LoadError::Damaged { .. })), "{found:?}");
    let mut other = root.clone();
    other.digest ^= 1;
    let found = load(&other, &world.objects).await;
    assert!(matches!(found, Err(LoadError::OtherState { .. })), "{found:?}");
    for object in [root.state.name, root.indexes[0].object.name] {
        let key = world.objects.key(&object);
        for bit in [100, 8 * 60] {
            assert!(world.bucket.corrupt(&key, bit));
            let found = load(&root, &world.objects).await;
            assert!(matches!(found, Err(LoadError::Damaged { .. })), "{found:?}");
            world.bucket.corrupt(&key, bit);
        }
    }
    load(&root, &world.objects).await.unwrap();
    let key = world.objects.key(&root.indexes[0].object.name);
    assert!(world.bucket.lose(&key));
    let found = load(&root, &world.objects).await;
    assert_eq!(found.err(), Some(LoadError::Superseded { key }));
}
