//! Objects that are lost or damaged: exactly their offsets fail, everything else goes on.

use esker_storage::merged::MergedError;
use esker_storage::store::ObjectKey;

use crate::world::{World, at, settle, small};

#[tokio::test(start_paused = true)]
async fn a_lost_segment_does_not_hold_merging_up_and_fails_exactly_its_offsets() {
    let mut world = World::new(1).await;
    let node = world.node().await;
    let topic = node.create("a", 2).await;
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(
            world
                .produce(&node, &[(at(topic, 0), 2, 100), (at(topic, 1), 1, 100)])
                .await,
        );
    }
    let lost = ObjectKey(names[2].key(&world.objects.cluster));
    assert!(world.bucket.lose(&lost));
    let mut compaction = world.compaction(&node, small());
    settle(&mut compaction).await;
    assert_eq!(
        node.replica.fold().unmerged_stats().segments,
        0,
        "all but the lost one are merged"
    );
    let report = world.check().await;
    let concerned: Vec<_> = report
        .problems
        .iter()
        .filter(|problem| !problem.topic.is_empty())
        .map(|problem| (problem.partition, problem.from.0, problem.to.0))
        .collect();
    assert_eq!(concerned, [(0, 4, 6), (1, 2, 3)], "{:#?}", report.problems);
    let from = |offset| {
        node.merged.locate(
            at(topic, 0),
            esker_segment::id::Offset(offset),
            esker_segment::id::Offset(10),
            1 << 20,
        )
    };
    assert!(matches!(from(4).await, Err(MergedError::Store(_))), "never skipped");
    assert!(matches!(from(5).await, Err(MergedError::Store(_))));
    assert_eq!(
        from(0).await.unwrap().last().map(|place| place.end().0),
        Some(4),
        "up to the lost ones"
    );
    assert_eq!(from(6).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_segment_that_comes_back_is_read_where_it_is() {
    let mut world = World::new(2).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(
            world
                .produce(&node, &[(at(topic, 0), 2, 100), (at(topic, 0), 1, 50)])
                .await,
        );
    }
    let lost = ObjectKey(names[1].key(&world.objects.cluster));
    let size = world.objects.store.list(&lost.0, None, 1).await.unwrap()[0].size_bytes;
    let bytes = world.objects.store.read(&lost, 0..size).await.unwrap();
    world.bucket.lose(&lost);
    let mut compaction = world.compaction(&node, small());
    settle(&mut compaction).await;
    world.objects.store.create(&lost, vec![bytes]).await.unwrap();
    settle(&mut compaction).await;
    world.verify(&node).await;
    // It is referred to, and goes with its topic.
    assert_eq!(world.count("segment"), 1);
    node.delete(topic).await;
    settle(&mut compaction).await;
    assert_eq!(world.count("segment"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_a_segment_is_never_merged() {
    for bit in [8 * 70, 8 * 100, 8 * 140 + 3] {
        let mut world = World::new(3).await;
        let node = world.node().await;
        let topic = node.create("a", 1).await;
        world.produce(&node, &[(at(topic, 0), 1, 60)]).await;
        let name = world.produce(&node, &[(at(topic, 0), 1, 60)]).await;
        world.produce(&node, &[(at(topic, 0), 1, 60)]).await;
        let key = ObjectKey(name.key(&world.objects.cluster));
        assert!(world.bucket.corrupt(&key, bit));
        let mut compaction = world.compaction(&node, small());
        settle(&mut compaction).await;
        let report = world.check().await;
        let sound = bit < 8 * (64 + 8);
        // Base offset and leader epoch are no part of what was promised: they are patched.
        assert_eq!(report.is_clean(), sound, "bit {bit}: {:#?}", report.problems);
        let concerned = report.problems.iter().map(|problem| (problem.from.0, problem.to.0));
        assert!(
            concerned.eq(std::iter::once((1, 2)).filter(|_| !sound)),
            "{:#?}",
            report.problems
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_merged_object_is_left_alone_and_named() {
    let mut world = World::new(4).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    let mut settings = small();
    settings.merge.fan_in = 2;
    settings.merge.object_bytes_max = 1 << 20;
    let mut compaction = world.compaction(&node, settings);
    world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
    settle(&mut compaction).await;
    let key = world.keys().into_iter().find(|key| key.contains("/merged/")).unwrap();
    assert!(world.bucket.corrupt(&ObjectKey(key.clone()), 8 * 200));
    for _ in 0..5 {
        world.produce(&node, &[(at(topic, 0), 1, 500)]).await;
        settle(&mut compaction).await;
    }
    let report = world.check().await;
    assert_eq!(report.problems.len(), 1, "{:#?}", report.problems);
    let problem = &report.problems[0];
    assert_eq!((problem.from.0, problem.to.0), (0, 1));
    assert_eq!(problem.key.as_ref().map(|key| &key.0), Some(&key));
    assert!(
        problem.to_string().contains("a/0 offsets 0 to 0: batch is damaged"),
        "{problem}"
    );
}
