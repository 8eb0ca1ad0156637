//! Killed at any of its calls, before or after the effect, compaction loses nothing, deletes nothing that counts (GC-1), and
//! leaves nothing behind that its successor does not clean up.

use std::time::Duration;

use esker_compaction::seams::TopicPolicy;

use crate::fuse::{Fuse, Kill};
use crate::transactions;
use crate::world::{World, at, settle, small};

/// A world in which every step has something to do; a compactor that dies at the given call; and another one after it. Says
/// whether the first one died.
async fn run(kill: Kill, call: u64) -> bool {
    let mut world = World::new(call).await;
    let writer = world.node().await;
    let (kept, deleted) = (writer.create("kept", 2).await, writer.create("deleted", 1).await);
    let limited = writer.create("limited", 1).await;
    let policy = TopicPolicy {
        retention_bytes: Some(300),
        deletes: true,
        ..TopicPolicy::default()
    };
    world.set_policy(limited, policy);
    let producer = transactions::begin(&writer).await;
    for _ in 0..3 {
        world
            .produce(
                &writer,
                &[
                    (at(kept, 0), 1, 900),
                    (at(deleted, 0), 1, 900),
                    (at(limited, 0), 1, 200),
                ],
            )
            .await;
    }
    // An upload that is never committed, and a compactor that comes and merges what is there.
    writer.upload(&[(at(kept, 0), world.batch(1, 10))]).await;
    let mut settings = small();
    settings.merge.fan_in = 2;
    {
        let first = world.node().await;
        settle(&mut world.compaction(&first, settings)).await;
    }
    let batch = world.transactional(producer, 0, 2);
    world.produce_batches(&writer, vec![(at(kept, 1), batch)]).await;
    transactions::end(&writer, producer, false).await;
    for _ in 0..2 {
        world
            .produce(&writer, &[(at(kept, 0), 1, 900), (at(limited, 0), 1, 200)])
            .await;
    }
    writer.delete(deleted).await;

    let fuse = Fuse::new(call, kill);
    let died = {
        let (cluster, objects) = fuse.stores(&world);
        let work = async {
            let doomed = world.node_on(cluster, objects).await;
            let mut compaction = world.compaction(&doomed, settings);
            settle(&mut compaction).await;
        };
        tokio::select! {
            biased;
            () = fuse.blown() => true,
            () = work => false,
        }
    };
    world.verify(&writer).await;
    // The lease of the dead runs out.
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.produce(&writer, &[(at(kept, 0), 1, 100)]).await;
    let next = world.node().await;
    let mut compaction = world.compaction(&next, settings);
    settle(&mut compaction).await;
    world.verify(&writer).await;
    world.verify(&next).await;
    world.verify(&world.node().await).await;
    // The writer's upload may still be committed; everything else must be gone.
    drop(writer);
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.produce(&next, &[(at(kept, 0), 1, 100)]).await;
    settle(&mut compaction).await;
    world.verify_no_orphans().await;
    died
}

async fn every_call(kill: Kill) {
    let mut call = 1;
    while run(kill, call).await {
        call += 1;
    }
    assert!(call > 40, "only {call} calls: the scenario is too small");
}

#[tokio::test(start_paused = true)]
async fn killed_before_any_call_nothing_is_lost() {
    every_call(Kill::Before).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_call_nothing_is_lost() {
    every_call(Kill::After).await;
}
