//! A new life from the bucket alone: nothing that was acknowledged is lost without a word, and the old life ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use esker_compaction::check::check;
use esker_compaction::garbage::{Collector, GarbageError};
use esker_compaction::incarnation::{self, IncarnationError};
use esker_compaction::recover::{self, Admin, Begun, Left, RecoverError, Recovered};
use esker_metadata::checkpoint::AdminKeys;
use esker_metadata::keys::topic::{self as topic_key, Topic as TopicRecord};
use esker_metadata::log::{Cluster, bootstrap, read_root};
use esker_metadata::simulated::SimulatedStore;
use esker_metadata::store::{KeyRange, MetadataStore, Op, Txn};
use esker_segment::id::{IncarnationNumber, TopicId, TopicPartition};
use esker_segment::name::{ObjectKind, ObjectName};
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
    let before = recover::look(store).await?;
    let (recovered, newest) = recovered(objects).await?;
    let left = recovered.left.clone();
    Ok((
        recover::begin(store, objects, recovered, id, newest, &before).await?,
        left,
    ))
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
    let key = topic_key::key("a");
    let found = world.metadata.peek(&[KeyRange::Key(key)]).ranges.remove(0).remove(0);
    let record = TopicRecord::decode(&found.value).unwrap();
    assert!(
        record.configs.iter().all(|(_, value)| value == "-1") && record.configs.len() == 2,
        "retention must not take what its lost configs may have kept: {record:?}"
    );
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

/// The last segment has no successor that says where it stands.
#[tokio::test(start_paused = true)]
async fn what_is_merged_to_the_last_segment_is_not_named_as_left_out() {
    let mut world = World::new(28).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    for _ in 0..20 {
        world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    }
    let mut settings = small();
    settings.garbage.grace = Duration::from_secs(3_600);
    settle(&mut world.compaction(&node, settings)).await;
    let root = read_root(&world.cluster).await.unwrap().unwrap().root;
    assert_eq!(root.merged_through, root.index, "all is merged");
    restore(&mut world, Vec::new()).await;
    let (_, left) = revive(&mut world).await;
    assert_eq!(left, []);
    let node = world.node().await;
    assert_eq!(verify_or_named(&mut world, &node, &left).await, 0);
}

/// Keys of administrators.
fn admin_keys(world: &World) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let ranges = AdminKeys::PREFIXES.map(|prefix| KeyRange::Prefix(prefix.into()));
    let found = world.metadata.peek(&ranges).ranges.into_iter().flatten();
    found.map(|kv| (kv.key, kv.value)).collect()
}

async fn put(world: &World, key: impl Into<bytes::Bytes>, value: impl Into<bytes::Bytes>) {
    let put = Txn {
        then: vec![Op::put(key.into(), value.into())],
        ..Txn::default()
    };
    world.metadata.txn(put).await.unwrap();
}

/// A topic with configs of its own, and of everything else that administrators set something; then a checkpoint.
async fn administered(world: &mut World) -> TopicId {
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let record = TopicRecord {
        id: topic,
        replication_factor: 3,
        configs: vec![("cleanup.policy".to_owned(), "compact".to_owned())],
    };
    put(world, topic_key::key("a"), record.encode()).await;
    // Of many transactions.
    for number in 0..150 {
        put(world, format!("quota/user=u{number}"), format!("quota {number}")).await;
    }
    put(world, "config/broker/", "for all").await;
    put(world, "config/group/g", vec![7; 300 << 10]).await;
    put(world, "scram/sha-256/u", "credential").await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    settle(&mut world.compaction(&node, small())).await;
    topic
}

#[tokio::test(start_paused = true)]
async fn what_administrators_set_comes_back_with_a_lost_store_again_and_again() {
    let mut world = World::new(21).await;
    administered(&mut world).await;
    let set = admin_keys(&world);
    assert_eq!(set.len(), 154);
    for _ in 0..2 {
        restore(&mut world, Vec::new()).await;
        let (begun, left) = revive(&mut world).await;
        assert_eq!((begun.without_configs, left), (Vec::new(), Vec::new()));
        assert_eq!(begun.admin, Admin::Restored { keys: 153 });
        assert_eq!(admin_keys(&world), set);
        // A life in which nobody wrote anything does not count.
        let node = world.node().await;
        world.produce(&node, &[(at(topic_of(&node), 0), 1, 10)]).await;
        world.dethrone().await;
        settle(&mut world.compaction(&node, small())).await;
    }
}

fn topic_of(node: &Node) -> TopicId {
    node.replica.fold().topic_named("a").unwrap().id
}

/// Rather what the checkpoint says than what was true before: a credential may have been taken back since.
#[tokio::test(start_paused = true)]
async fn an_old_copy_is_made_what_the_checkpoint_says() {
    let mut world = World::new(22).await;
    let old_copy = copy_of(&world);
    administered(&mut world).await;
    let set = admin_keys(&world);
    restore(&mut world, old_copy).await;
    put(&world, "scram/sha-256/gone", "taken back").await;
    put(&world, "config/broker/", "as it was").await;
    let (begun, _) = revive(&mut world).await;
    assert_eq!(begun.admin, Admin::Restored { keys: 153 });
    assert_eq!(admin_keys(&world), set);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_on_from_the_checkpoint_is_believed() {
    let mut world = World::new(23).await;
    administered(&mut world).await;
    put(&world, "config/broker/", "newer").await;
    let set = admin_keys(&world);
    let (begun, _) = revive(&mut world).await;
    assert_eq!(begun.admin, Admin::Kept);
    assert_eq!(admin_keys(&world), set);
}

/// Of a version that did not keep what administrators set.
#[tokio::test(start_paused = true)]
async fn an_old_checkpoint_is_recovered_and_what_is_lost_is_said() {
    let mut world = World::new(24).await;
    administered(&mut world).await;
    let root = read_root(&world.cluster).await.unwrap().unwrap().root;
    let state = world
        .objects
        .read_whole(&root.state.name, root.state.length_bytes)
        .await
        .unwrap();
    let old = esker_model::Fold::decode_state(&state).unwrap().encode_state();
    world.objects.create(&root.state.name, old.chunks).await.unwrap();
    restore(&mut world, Vec::new()).await;
    let (begun, _) = revive(&mut world).await;
    assert_eq!(
        (begun.admin, begun.without_configs),
        (Admin::Unknown, vec!["a".to_owned()])
    );
    assert_eq!(admin_keys(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn recovery_killed_at_any_call_can_be_begun_again() {
    let mut calls = 0;
    for call in 1.. {
        let mut world = World::new(3).await;
        put(&world, "config/broker/", "for all").await;
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
        let of_brokers = KeyRange::Key("config/broker/".into());
        let of_brokers = world.metadata.peek(&[of_brokers]).ranges.remove(0);
        assert_eq!(
            of_brokers.first().map(|kv| &*kv.value),
            Some(&b"for all"[..]),
            "call {call}"
        );
        if !died {
            calls = call;
            break;
        }
    }
    assert!(calls > 20, "only {calls} calls");
}

/// A supervisor starts processes again while recovery is at work, or after it was cut short: retention begins with the first
/// compactor, and it goes by the configs that it finds.
#[tokio::test(start_paused = true)]
async fn nobody_starts_before_what_administrators_set_is_back() {
    let (mut calls, mut refused) = (0, 0);
    for call in 1.. {
        let mut world = World::new(25).await;
        administered(&mut world).await;
        let set = admin_keys(&world);
        restore(&mut world, Vec::new()).await;
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
        match starts(&world).await {
            Ok(()) => assert_eq!(admin_keys(&world), set, "call {call}"),
            Err(_) => refused += 1,
        }
        if !died {
            calls = call;
            break;
        }
    }
    assert!(refused + 2 >= calls && calls > 15, "{refused} of {calls} were refused");
}

/// What becomes of a coordination store before recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// All keys are deleted; its revision goes on.
    Wiped,
    /// It has a change that is newer than the checkpoint.
    WentOn,
    /// The same, and recovery has come to its end once, but nobody has written anything since.
    Begun,
}

#[tokio::test(start_paused = true)]
async fn what_administrators_set_is_there_however_often_recovery_is_cut_short() {
    for of in [Store::Wiped, Store::WentOn, Store::Begun] {
        for call in 1.. {
            let mut world = World::new(26).await;
            administered(&mut world).await;
            match of {
                Store::Wiped => {}
                Store::WentOn | Store::Begun => put(&world, "config/broker/", "newer").await,
            }
            let set = admin_keys(&world);
            match of {
                Store::Wiped => wipe(&world).await,
                Store::WentOn => {}
                Store::Begun => drop(begin(&world.metadata, &world.objects, 7).await.unwrap()),
            }
            let fuse = Fuse::new(call, if call % 2 == 0 { Kill::Before } else { Kill::After });
            let (cluster, objects) = fuse.stores(&world);
            let died = tokio::select! {
                biased;
                () = fuse.blown() => true,
                done = begin(&*cluster.store, &objects, 1) => { done.unwrap(); false }
            };
            revive(&mut world).await;
            assert!(admin_keys(&world) == set, "{of:?}, call {call}");
            if !died {
                assert!(call > 10, "{call} calls");
                break;
            }
        }
    }
}

async fn wipe(world: &World) {
    for (key, _) in copy_of(world).into_iter().chain(admin_keys(world)) {
        let delete = Txn {
            then: vec![Op::Delete(key)],
            ..Txn::default()
        };
        world.metadata.txn(delete).await.unwrap();
    }
}

/// The first checkpoint of a life knows no revision of its store.
#[tokio::test(start_paused = true)]
async fn a_copy_of_an_earlier_life_is_not_believed() {
    let mut world = World::new(27).await;
    administered(&mut world).await;
    let set = admin_keys(&world);
    let old_copy = copy_of(&world);
    restore(&mut world, Vec::new()).await;
    revive(&mut world).await;
    let node = world.node().await;
    world.produce(&node, &[(at(topic_of(&node), 0), 1, 10)]).await;
    restore(&mut world, old_copy).await;
    put(&world, "config/broker/", "as it was").await;
    let (begun, _) = revive(&mut world).await;
    assert_eq!(begun.incarnation.number, IncarnationNumber(3));
    assert_eq!(begun.admin, Admin::Restored { keys: 153 });
    assert_eq!(admin_keys(&world), set);
}

/// Whether a process would work on these stores.
async fn starts(world: &World) -> Result<(), IncarnationError> {
    incarnation::verify_founding(&*world.objects.store, &world.metadata).await?;
    let cluster = bootstrap(Arc::new(world.metadata.clone()), 8).await?;
    incarnation::claim(&world.objects, &cluster).await
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

#[tokio::test(start_paused = true)]
async fn an_old_life_that_goes_on_while_the_bucket_is_read_is_not_cut_off() {
    let mut world = World::new(6).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    let before = recover::look(&world.metadata).await.unwrap();
    let (recovered, newest) = recovered(&world.objects).await.unwrap();
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    let begun = recover::begin(&world.metadata, &world.objects, recovered, 1, newest, &before).await;
    assert_eq!(begun, Err(RecoverError::Raced));
    world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    world.verify(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_collector_deletes_nothing_when_the_bucket_knows_more_than_its_store() {
    let mut world = World::new(7).await;
    let (_, old_copy) = history(&mut world).await;
    let manifests = Manifests::new(world.objects.clone(), 1 << 20);
    let (mut collector, settings) = (Collector::default(), small().garbage);
    let original = world.cluster.clone();
    collector.collect(&original, &manifests, &settings).await.unwrap();
    let keys = world.keys();
    restore(&mut world, old_copy).await;
    let restored = Cluster {
        store: Arc::new(world.metadata.clone()),
        incarnation: original.incarnation,
    };
    let refused = collector.collect(&restored, &manifests, &settings).await.unwrap_err();
    assert!(matches!(refused, GarbageError::WentBack { .. }), "{refused}");
    // On a store that nobody told of the new life.
    begin(&world.metadata, &world.objects, 5).await.unwrap();
    let refused = collector.collect(&original, &manifests, &settings).await.unwrap_err();
    let next = IncarnationNumber(2);
    assert_eq!(refused, GarbageError::Incarnation(IncarnationError::Succeeded { next }));
    assert!(world.keys().is_superset(&keys));
}

#[tokio::test(start_paused = true)]
async fn a_merged_object_that_is_gone_is_named_and_the_others_stay() {
    let mut world = World::new(8).await;
    history(&mut world).await;
    let root = read_root(&world.cluster).await.unwrap().unwrap().root;
    assert!(root.manifest.is_some());
    let names = world.keys();
    let mut merged = names
        .iter()
        .filter_map(|key| ObjectName::parse(&world.objects.cluster, key))
        .filter(|name| {
            matches!(
                name,
                ObjectName::Other {
                    kind: ObjectKind::Merged,
                    ..
                }
            )
        });
    world.objects.delete(&merged.next().unwrap()).await.unwrap();
    let (_, left) = revive(&mut world).await;
    let damaged = left.iter().filter(|left| matches!(left, Left::Damaged { .. }));
    assert!(damaged.count() > 0, "{left:?}");
    let root = read_root(&world.cluster).await.unwrap().unwrap().root;
    assert!(root.manifest.is_some(), "all that was merged is gone with one object");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_where_a_missing_segment_stood() {
    let mut world = World::new(9).await;
    let (topic, _) = history(&mut world).await;
    let (one, other) = (world.node().await, world.node().await);
    let mut names = Vec::new();
    for node in [&one, &other, &one, &other, &one] {
        names.push(world.produce(node, &[(at(topic, 0), 1, 100)]).await);
        for node in [&one, &other] {
            node.log.barrier().await.unwrap();
        }
    }
    world.objects.delete(&ObjectName::Segment(names[1])).await.unwrap();
    let (recovered, _) = recovered(&world.objects).await.unwrap();
    let missing = |left: &&Left| matches!(left, Left::Missing { session, number, .. } if (*session, *number) == (names[1].session, names[1].number));
    assert_eq!(recovered.left.iter().filter(missing).count(), 1, "{:?}", recovered.left);
    let unordered: BTreeSet<_> = recovered
        .left
        .iter()
        .filter_map(|left| match left {
            Left::Unordered { name, .. } => Some(*name),
            _ => None,
        })
        .collect();
    assert_eq!(
        unordered,
        names[2..].iter().copied().collect(),
        "it stood behind what is missing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_recovery_takes_nothing_from_a_first_life_that_went_on() {
    let mut world = World::new(10).await;
    let (topic, _) = history(&mut world).await;
    let old = world.node().await;
    world.dethrone().await;
    let mut old_compaction = world.compaction(&old, small());
    restore(&mut world, Vec::new()).await;
    let (_, left) = revive(&mut world).await;
    let node = world.node().await;
    verify_or_named(&mut world, &node, &left).await;
    let written = world.stored.clone();
    for _ in 0..8 {
        world.produce(&old, &[(at(topic, 0), 3, 100)]).await;
    }
    settle(&mut old_compaction).await;
    world.stored = written;
    let mut settings = small();
    settings.merge.segments_min = usize::MAX;
    settings.merge.age_max = Duration::from_secs(1 << 30);
    let mut compaction = world.compaction(&node, settings);
    for _ in 0..8 {
        world.produce(&node, &[(at(topic, 0), 1, 100)]).await;
    }
    node.log.barrier().await.unwrap();
    settle(&mut compaction).await;
    settle(&mut compaction).await;
    restore(&mut world, Vec::new()).await;
    let (begun, left) = revive(&mut world).await;
    assert_eq!(begun.incarnation.number, IncarnationNumber(3));
    let node = world.node().await;
    verify_or_named(&mut world, &node, &left).await;
}
