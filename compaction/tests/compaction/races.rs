//! Two compactors at once, over stores that fail in every way they may: work is wasted, nothing is lost.

use std::time::Duration;

use esker_compaction::seams::TopicPolicy;
use esker_metadata::simulated::Faults as StoreFaults;
use esker_storage::random::PerMillion;
use esker_storage::simulated::{Faults as BucketFaults, Latency};

use crate::world::{World, at, calm, settle, small};

fn rough_bucket() -> BucketFaults {
    BucketFaults {
        fail_before: PerMillion(20_000),
        fail_after: PerMillion(20_000),
        vanish: PerMillion(10_000),
        late: PerMillion(10_000),
        late_by: Duration::from_secs(1)..Duration::from_secs(30),
        stale_list: PerMillion(100_000),
        stale_by: Duration::from_millis(100)..Duration::from_secs(10),
        latency: Latency {
            usual: Duration::from_millis(1)..Duration::from_millis(60),
            ..Latency::NONE
        },
        ..BucketFaults::NONE
    }
}

async fn race(seed: u64, rough: bool) {
    let mut world = World::new(seed).await;
    let (writer, one, two) = (world.node().await, world.node().await, world.node().await);
    let (kept, gone) = (writer.create("kept", 3).await, writer.create("gone", 1).await);
    let limited = writer.create("limited", 1).await;
    let policy = TopicPolicy {
        retention_bytes: Some(2_000),
        deletes: true,
        ..TopicPolicy::default()
    };
    world.set_policy(limited, policy);
    let mut settings = small();
    settings.merge.fan_in = 2;
    // Garbage goes faster than a round takes: what is under way must not look like it.
    settings.garbage.grace = Duration::from_millis(20);
    settings.garbage.interval_min = Duration::ZERO;
    settings.merge.chunk_bytes_max = 600;
    let mut compactions = [world.compaction(&one, settings), world.compaction(&two, settings)];
    let (metadata, bucket) = (world.metadata.clone(), world.bucket.clone());
    let only_slow = BucketFaults {
        latency: rough_bucket().latency,
        ..BucketFaults::NONE
    };
    let work = compactions.iter_mut().map(|compaction| async {
        loop {
            compaction.cycle().await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    let work = futures::future::join_all(work);
    let produce = async {
        for round in 0..40_u32 {
            // The writer has no retries of its own: it writes while all is well.
            if !rough || round % 4 == 0 {
                metadata.set_faults(calm());
                bucket.set_faults(only_slow.clone());
                // One that is behind might find its own commits below the next checkpoint, without verdicts.
                writer.log.barrier().await.unwrap();
                let mut batches = vec![(at(kept, round % 3), 1, 300), (at(limited, 0), 2, 300)];
                if round < 20 {
                    batches.push((at(gone, 0), 1, 300));
                }
                let pause = Duration::from_millis(u64::from(round % 5) * 300);
                world.produce_slowly(&writer, &batches, pause).await;
                if round == 24 {
                    writer.delete(gone).await;
                }
            } else if rough {
                metadata.set_faults(StoreFaults {
                    lease_early: Default::default(),
                    ..StoreFaults::rough(4)
                });
                bucket.set_faults(rough_bucket());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Whoever leads is told late that it does not any more.
            world.dethrone().await;
        }
    };
    tokio::select! {
        biased;
        _ = work => unreachable!("compaction works until it is dropped"),
        () = produce => {}
    }
    metadata.set_faults(calm());
    bucket.set_faults(BucketFaults::NONE);
    // Late effects come in, back-offs end.
    tokio::time::sleep(Duration::from_secs(60)).await;
    for compaction in &mut compactions {
        settle(compaction).await;
    }
    world.verify(&writer).await;
    world.verify(&world.node().await).await;
}

#[tokio::test(start_paused = true)]
async fn two_compactors_at_once_lose_nothing() {
    for seed in 0..10 {
        race(seed, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_compactors_at_once_lose_nothing_over_stores_that_fail() {
    for seed in 100..130 {
        race(seed, true).await;
    }
}

/// A compactor whose fold stands still must not take a topic that it has never heard of for a deleted one.
async fn lagging(first_merges: bool) {
    let mut world = World::new(7).await;
    let (writer, one, two) = (world.node().await, world.node().await, world.node().await);
    let old = writer.create("old", 1).await;
    world.produce(&writer, &[(at(old, 0), 1, 300)]).await;
    let mut settings = small();
    settings.merge.fan_in = 2;
    if first_merges {
        settle(&mut world.compaction(&two, settings)).await;
    }
    two.log.barrier().await.unwrap();
    two.freeze();
    let new = writer.create("new", 1).await;
    for _ in 0..8 {
        world.produce(&writer, &[(at(new, 0), 1, 300)]).await;
    }
    if !first_merges {
        settings.merge.segments_min = usize::MAX;
        settings.merge.age_max = Duration::from_secs(1 << 30);
    }
    settle(&mut world.compaction(&one, settings)).await;
    world.dethrone().await;
    // It has heard of the new root all the same.
    let mut lagging = world.compaction(&two, small());
    settle(&mut lagging).await;
    world.verify(&writer).await;
    world.verify(&world.node().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_lagging_compactor_keeps_merged_data_of_topics_that_it_does_not_know() {
    lagging(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_lagging_compactor_merges_no_further_than_it_knows() {
    lagging(false).await;
}
