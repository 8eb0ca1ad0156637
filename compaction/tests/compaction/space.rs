//! What is trimmed, deleted or too old gives its space back, and only that.

use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_compaction::seams::TopicPolicy;
use esker_model::entry::{Entry, Trim};
use esker_segment::id::{Offset, TopicId};
use esker_segment::name::ObjectName;

use crate::transactions;
use crate::world::{Node, World, at, settle, small};

/// Bytes of all objects.
async fn bytes(world: &World) -> u64 {
    let listed = world.objects.store.list("", None, usize::MAX).await.unwrap();
    listed.iter().map(|meta| meta.size_bytes).sum()
}

async fn fill(world: &mut World, node: &Node, topics: &[TopicId], rounds: u32) {
    for _ in 0..rounds {
        let batches: Vec<_> = topics.iter().map(|topic| (at(*topic, 0), 2, 500)).collect();
        world.produce(node, &batches).await;
    }
}

fn deletes() -> TopicPolicy {
    TopicPolicy {
        deletes: true,
        ..TopicPolicy::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_gives_its_space_back() {
    let mut world = World::new(1).await;
    let node = world.node().await;
    let (gone, kept) = (node.create("gone", 1).await, node.create("kept", 1).await);
    let mut compaction = world.compaction(&node, small());
    fill(&mut world, &node, &[gone], 100).await;
    fill(&mut world, &node, &[gone, kept], 2).await;
    settle(&mut compaction).await;
    let before = bytes(&world).await;
    node.delete(gone).await;
    settle(&mut compaction).await;
    let after = bytes(&world).await;
    assert!(before > 100_000 && after < 8_000, "{before} bytes became {after}");
    assert!(world.keys().len() < 10, "{:#?}", world.keys());
    world.verify(&node).await;
}

#[tokio::test(start_paused = true)]
async fn deleted_records_give_their_space_back() {
    let mut world = World::new(2).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let mut compaction = world.compaction(&node, small());
    fill(&mut world, &node, &[topic], 100).await;
    settle(&mut compaction).await;
    let before = bytes(&world).await;
    let trim = Trim {
        partition: at(topic, 0),
        log_start: Offset(199),
    };
    node.access.commit(vec![Entry::Trim(trim)]).await.unwrap();
    settle(&mut compaction).await;
    let after = bytes(&world).await;
    assert!(before > 100_000 && after < 16_000, "{before} bytes became {after}");
    // A slice that still counts in part stays whole. The last record is there, in a batch with the one before it.
    assert_eq!(
        node.read(at(topic, 0)).await.keys().copied().collect::<Vec<_>>(),
        [Offset(198)]
    );
    world.verify(&node).await;
}

#[tokio::test(start_paused = true)]
async fn retention_by_size_keeps_about_so_much_of_each_partition() {
    let mut world = World::new(3).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let most = 20_000;
    world.set_policy(
        topic,
        TopicPolicy {
            retention_bytes: Some(most),
            ..deletes()
        },
    );
    let mut compaction = world.compaction(&node, small());
    fill(&mut world, &node, &[topic], 100).await;
    settle(&mut compaction).await;
    let left: usize = node.read(at(topic, 0)).await.values().map(|batch| batch.len()).sum();
    let (least, slice) = (usize::try_from(most).unwrap(), 6_000);
    assert!((least..least + slice).contains(&left), "{left} bytes are left");
    assert!(bytes(&world).await < 3 * most);
    world.verify(&node).await;
}

#[tokio::test(start_paused = true)]
async fn retention_by_time_removes_everything_in_time() {
    let mut world = World::new(4).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let hour = Duration::from_secs(3_600);
    world.set_policy(
        topic,
        TopicPolicy {
            retention: Some(hour),
            ..deletes()
        },
    );
    let mut compaction = world.compaction(&node, small());
    for _ in 0..6 {
        // Ten minutes apart.
        world.now.fetch_add(600_000, Ordering::SeqCst);
        fill(&mut world, &node, &[topic], 10).await;
        settle(&mut compaction).await;
    }
    assert_eq!(node.read(at(topic, 0)).await.len(), 60, "all are younger than an hour");
    world.now.fetch_add(1_800_001, Ordering::SeqCst);
    settle(&mut compaction).await;
    let left = node.read(at(topic, 0)).await.len();
    assert!((30..=40).contains(&left), "{left} of 30 that are young enough are left");
    world.verify(&node).await;
    world.now.fetch_add(3_600_000, Ordering::SeqCst);
    settle(&mut compaction).await;
    assert_eq!(node.read(at(topic, 0)).await.len(), 0);
    assert!(bytes(&world).await < 2_500, "{:#?}", world.keys());
}

#[tokio::test(start_paused = true)]
async fn an_open_transaction_holds_retention_back() {
    let mut world = World::new(5).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    world.set_policy(
        topic,
        TopicPolicy {
            retention_bytes: Some(0),
            ..deletes()
        },
    );
    let mut compaction = world.compaction(&node, small());
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    let producer = transactions::begin(&node).await;
    let open = world.transactional(producer, 0, 1);
    world.produce_batches(&node, vec![(at(topic, 0), open)]).await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    settle(&mut compaction).await;
    let view = node.replica.fold().partition(at(topic, 0)).unwrap();
    assert!(view.log_start <= Offset(1) && view.last_stable == Offset(1), "{view:?}");
    transactions::end(&node, producer, true).await;
    settle(&mut compaction).await;
    assert_eq!(
        node.replica.fold().partition(at(topic, 0)).unwrap().log_start,
        Offset(4)
    );
    world.verify(&node).await;
}

/// Redpanda #29233: records that are kept for ever, in one object with others, pinned the others' bytes for ever.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_kept_for_ever_pins_nothing_of_others() {
    let mut world = World::new(6).await;
    let node = world.node().await;
    let (ever, short) = (node.create("ever", 1).await, node.create("short", 1).await);
    let minute = Duration::from_secs(60);
    world.set_policy(
        short,
        TopicPolicy {
            retention: Some(minute),
            ..deletes()
        },
    );
    let mut compaction = world.compaction(&node, small());
    for _ in 0..50 {
        // In one segment.
        world
            .produce(&node, &[(at(ever, 0), 1, 20), (at(short, 0), 1, 2_000)])
            .await;
    }
    settle(&mut compaction).await;
    world.now.fetch_add(120_000, Ordering::SeqCst);
    settle(&mut compaction).await;
    let left = bytes(&world).await;
    assert!(
        left < 12_000,
        "{left} bytes are left of 50 small records: {:#?}",
        world.keys()
    );
    world.verify(&node).await;
}

/// The same when the policies become different only after the topics were merged together.
#[tokio::test(start_paused = true)]
async fn topics_whose_policies_become_different_are_taken_apart() {
    let mut world = World::new(7).await;
    let node = world.node().await;
    let (ever, short) = (node.create("ever", 1).await, node.create("short", 1).await);
    let mut compaction = world.compaction(&node, small());
    for _ in 0..2 {
        world
            .produce(&node, &[(at(ever, 0), 1, 1_500), (at(short, 0), 1, 1_500)])
            .await;
    }
    settle(&mut compaction).await;
    assert_eq!(world.count("merged"), 1, "they share an object");
    world.set_policy(
        short,
        TopicPolicy {
            retention: Some(Duration::from_secs(60)),
            ..deletes()
        },
    );
    world.produce(&node, &[(at(ever, 0), 1, 10)]).await;
    settle(&mut compaction).await;
    let merged = world.count("merged");
    assert!(merged >= 2, "{merged}");
    world.now.fetch_add(120_000, Ordering::SeqCst);
    settle(&mut compaction).await;
    assert!(bytes(&world).await < 8_000, "{:#?}", world.keys());
    world.verify(&node).await;
}

/// Inkless #744: retention looked at so much at a time, and fell behind producers for ever.
#[tokio::test(start_paused = true)]
async fn one_pass_of_retention_trims_all_that_is_due() {
    let mut world = World::new(8).await;
    let node = world.node().await;
    let mut topics = Vec::new();
    for name in 0..10 {
        let topic = node.create(&format!("t{name}"), 8).await;
        world.set_policy(
            topic,
            TopicPolicy {
                retention_bytes: Some(1_000),
                ..deletes()
            },
        );
        topics.push(topic);
    }
    let all: Vec<_> = topics
        .iter()
        .flat_map(|topic| (0..8).map(|partition| at(*topic, partition)))
        .collect();
    for _ in 0..10 {
        let batches: Vec<_> = all.iter().map(|at| (*at, 1, 500)).collect();
        world.produce(&node, &batches).await;
    }
    let mut compaction = world.compaction(&node, small());
    compaction.cycle().await;
    for at in &all {
        let view = node.replica.fold().partition(*at).unwrap();
        assert!(view.high_watermark.0 - view.log_start.0 <= 3, "{at}: {view:?}");
    }
    settle(&mut compaction).await;
    world.verify(&node).await;
}

/// Inkless #494: objects that were uploaded and never committed, because their writer died in between, stayed for ever.
#[tokio::test(start_paused = true)]
async fn orphans_of_a_crash_between_upload_and_commit_go() {
    let mut world = World::new(9).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    {
        let doomed = world.node().await;
        let batch = world.batch(3, 100);
        doomed.upload(&[(at(topic, 0), batch)]).await;
    }
    let mut compaction = world.compaction(&node, small());
    compaction.cycle().await;
    assert_eq!(world.count("segment"), 1, "its session may still live");
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    settle(&mut compaction).await;
    assert_eq!(world.count("segment"), 0);
    world.verify(&node).await;
    world.verify_no_orphans().await;
}

/// The same for an object whose upload lands long after its session is dead.
#[tokio::test(start_paused = true)]
async fn late_uploads_of_dead_sessions_are_swept_again() {
    let mut world = World::new(10).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let doomed = world.node().await;
    let mut compaction = world.compaction(&node, small());
    {
        let by = Duration::from_secs(300);
        let late = esker_storage::simulated::Fault::Late(by);
        world.bucket.inject(esker_storage::simulated::Call::Create, late);
        let batch = world.batch(3, 100);
        let upload = [(at(topic, 0), batch)];
        let uploading = doomed.upload(&upload);
        let uploaded = tokio::time::timeout(
            Duration::from_secs(1),
            futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(uploading)),
        );
        assert!(!matches!(uploaded.await, Ok(Ok(_))), "the upload is under way");
    }
    drop(doomed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    settle(&mut compaction).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.count("segment"), 1, "it has landed");
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    settle(&mut compaction).await;
    assert_eq!(world.count("segment"), 0);
    world.verify_no_orphans().await;
}

/// A cluster cloned from a copy of its coordination store must not eat the original's data.
#[tokio::test(start_paused = true)]
async fn nothing_is_collected_from_a_bucket_of_another_incarnation() {
    let mut world = World::new(11).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    let mut clone = World::new(12).await;
    (clone.bucket, clone.objects) = (world.bucket.clone(), world.objects.clone());
    assert_ne!(clone.cluster.incarnation.id, world.cluster.incarnation.id);
    let other = clone.node().await;
    let mut compaction = clone.compaction(&other, small());
    settle(&mut compaction).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    settle(&mut compaction).await;
    assert_eq!(world.count("segment"), 1, "not its own, so not its garbage");
    assert_eq!(world.count("state"), 0, "nothing is written there either");
    world.verify(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_segment_of_long_slices_is_never_written_again() {
    let mut world = World::new(7).await;
    let node = world.node().await;
    let (large, keyed) = (node.create("large", 2).await, node.create("keyed", 1).await);
    let (other, gone) = (node.create("other", 1).await, node.create("gone", 1).await);
    let compacts = TopicPolicy {
        compacts: true,
        ..TopicPolicy::default()
    };
    world.set_policy(keyed, compacts);
    let mut compaction = world.compaction(&node, small());
    let mib = 1 << 20;
    let long = |topic, partition| (at(topic, partition), 2, mib);
    let stays = world.produce(&node, &[long(large, 0), long(large, 1)]).await;
    let shared = world.produce(&node, &[long(large, 0), long(other, 0)]).await;
    // Between two of its batches and after them lies what never counted.
    let partly_dead = world.produce(&node, &[long(large, 0), long(gone, 0)]).await;
    node.delete(gone).await;
    let with_keyed = world.produce(&node, &[long(large, 0), long(keyed, 0)]).await;
    let too_short = world.produce(&node, &[(at(large, 0), 1, mib / 2)]).await;
    fill(&mut world, &node, &[large], 20).await;
    settle(&mut compaction).await;
    world.verify(&node).await;
    let key = |name| world.objects.key(&ObjectName::Segment(name)).0;
    let left = world.keys();
    assert!(left.contains(&key(stays)), "a good segment is written again");
    for name in [shared, partly_dead, with_keyed, too_short] {
        assert!(!left.contains(&key(name)), "{name:?} stays");
    }
    for partition in [0, 1] {
        let trim = Trim {
            partition: at(large, partition),
            log_start: Offset(2),
        };
        node.access.commit(vec![Entry::Trim(trim)]).await.unwrap();
    }
    settle(&mut compaction).await;
    assert!(!world.keys().contains(&key(stays)), "nothing of it counts any more");
    world.verify(&node).await;
}
