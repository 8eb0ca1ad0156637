//! Idle producers are forgotten after their time, not before, and go on when they come back.

use std::time::Duration;

use esker_compaction::settings::Settings;
use esker_kafka::records::{Batch, BatchBuilder, Codec, Headers};
use esker_metadata::log::read_log;
use esker_model::entry::{Entry, ProducerIds};
use esker_segment::id::ProducerId;
use tokio_util::sync::CancellationToken;

use crate::world::{Node, World, at};

const DAY: Duration = Duration::from_secs(86_400);

async fn grant(node: &Node) {
    let ids = Entry::ProducerIds(ProducerIds { count: 10 });
    node.access.commit(vec![ids]).await.unwrap();
}

fn batch(producer: i64, sequence: i32) -> Batch {
    let mut builder = BatchBuilder::new(Codec::default()).producer(producer, 0, sequence);
    builder.append(0, None, Some(b"x"), &Headers::new()).unwrap();
    builder.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn idle_producers_are_forgotten_after_a_day_and_go_on_when_they_come_back() {
    let mut world = World::new(1).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    grant(&node).await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.compaction(&node, Settings::local()).run(stop.clone()));
    for producer in 0..3 {
        world
            .produce_batches(&node, vec![(at(topic, 0), batch(producer, 0))])
            .await;
    }
    tokio::time::sleep(DAY / 2).await;
    world.produce_batches(&node, vec![(at(topic, 0), batch(2, 1))]).await;
    tokio::time::sleep(DAY / 2 - Duration::from_secs(60)).await;
    assert_eq!(node.replica.fold().producer_windows(), 3, "not before its time");
    tokio::time::sleep(DAY / 10).await;
    {
        let fold = node.replica.fold();
        assert_eq!(fold.producer_windows(), 1);
        assert!(
            fold.producer(at(topic, 0), ProducerId(2)).is_some(),
            "the one that was not idle"
        );
        assert!(fold.may_begin_anywhere(at(topic, 0), ProducerId(0)));
    }
    // Redpanda #22670: a producer that was idle goes on with its next sequence.
    world.produce_batches(&node, vec![(at(topic, 0), batch(0, 1))]).await;
    assert_eq!(world.stored[&at(topic, 0)].len(), 5);
    world.verify(&node).await;
    stop.cancel();
    working.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_gets_no_expiry_entries() {
    let mut world = World::new(2).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    grant(&node).await;
    world.produce_batches(&node, vec![(at(topic, 0), batch(0, 0))]).await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.compaction(&node, Settings::local()).run(stop.clone()));
    tokio::time::sleep(2 * DAY).await;
    let head = read_log(&world.cluster).await.unwrap().head;
    assert_eq!(node.replica.fold().producer_windows(), 0);
    tokio::time::sleep(3 * DAY).await;
    assert_eq!(read_log(&world.cluster).await.unwrap().head, head, "one was enough");
    stop.cancel();
    working.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_too_many_producers_the_longest_idle_are_forgotten() {
    let mut world = World::new(3).await;
    let node = world.node().await;
    let topic = node.create("a", 1).await;
    grant(&node).await;
    let mut settings = Settings::local();
    settings.expiry.producer_windows_max = 8;
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.compaction(&node, settings).run(stop.clone()));
    for producer in 0..10 {
        world
            .produce_batches(&node, vec![(at(topic, 0), batch(producer, 0))])
            .await;
    }
    tokio::time::sleep(DAY / 24).await;
    let left: Vec<i64> = node
        .replica
        .fold()
        .producer_ids([at(topic, 0)])
        .into_values()
        .flatten()
        .map(|id| id.0)
        .collect();
    assert_eq!(left, (3..10).collect::<Vec<_>>());
    stop.cancel();
    working.await.unwrap();
}
