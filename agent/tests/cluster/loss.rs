//! Sessions lost, stores out of reach: latency for those who wait, nothing else.

use std::time::Duration;

use esker_kafka::ErrorCode;
use tokio::time::Instant;

use crate::batches::{batch, values_of};
use crate::nodes::{World, until};
use crate::requests::{LIST_OFFSETS, code, list_offsets};

#[tokio::test]
async fn produce_and_fetch_go_on_through_others_when_one_is_killed() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    let topic = a.connect().await.create("t", 4, &[]).await;
    let mut to_a = a.connect().await;
    let mut stored = 0;
    for _ in 0..10 {
        stored = to_a.store(&topic, 0, &batch(&["x"])).await + 1;
    }
    let mut to_b = b.connect().await;
    a.kill().await;
    // Its session lives on; that is no reason to wait.
    let died = Instant::now();
    assert_eq!(to_b.store(&topic, 0, &batch(&["y"])).await, stored);
    assert_eq!(to_b.fetch(&topic, 0, stored).await.error_code, 0);
    assert!(died.elapsed() < Duration::from_millis(300), "{:?}", died.elapsed());
}

#[tokio::test]
async fn all_leases_revoked_at_once_cost_only_latency() {
    let world = World::new();
    let agents = [world.start("").await, world.start("").await, world.start("").await];
    let topic = agents[0].connect().await.create("t", 1, &[]).await;
    let mut clients = Vec::new();
    for agent in &agents {
        clients.push(agent.connect().await);
    }
    let mut next = 0;
    for round in 0..12 {
        if round % 4 == 2 {
            world.store.end_all_leases();
        }
        for client in &mut clients {
            assert_eq!(client.store(&topic, 0, &batch(&["x"])).await, next);
            next += 1;
        }
    }
    for agent in &agents {
        until("members are back", || agent.listed() == [1, 2, 3]).await;
    }
    assert_eq!(clients[0].latest(&topic, 0).await, next);
}

/// LOG-4, LOG-6 and the degradation of design section 3.
#[tokio::test]
async fn without_the_metadata_store_nothing_is_acknowledged_or_denied_and_known_data_is_served() {
    let world = World::new();
    let a = world.start("").await;
    let mut client = a.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["x"])).await;
    world.store.set_available(false);
    assert_eq!(values_of(&client.fetch(&topic, 0, 0).await), [(0, "x".to_owned())]);
    let denied = client.fetch(&topic, 0, 100).await;
    assert_eq!(code(denied.error_code), ErrorCode::LeaderNotAvailable);
    let latest = client.list_offset(LIST_OFFSETS, &list_offsets(&topic, 0, -1)).await;
    assert!(
        matches!(
            code(latest.error_code),
            ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower
        ),
        "{latest:?}"
    );
    let mut second = a.connect().await;
    let waiting = tokio::spawn({
        let topic = topic.clone();
        async move { second.produce(&topic, 0, &batch(&["y"])).await }
    });
    until("the session is given up", || a.agent.log.session().is_none()).await;
    assert!(!waiting.is_finished());
    world.store.set_available(true);
    let answer = waiting.await.unwrap();
    // Either it was in time, or nobody knows: never a refusal of something that is stored.
    match code(answer.error_code) {
        ErrorCode::None => assert_eq!(answer.base_offset, 1),
        refused => assert_eq!(refused, ErrorCode::RequestTimedOut),
    }
    until("there is a session again", || a.agent.log.session().is_some()).await;
    assert!(client.store(&topic, 0, &batch(&["z"])).await >= 1);
}

/// A process that was paused beyond its TTL acknowledges nothing in its old session, and does not deny what others did.
#[tokio::test]
async fn an_agent_that_lost_its_session_unnoticed_is_fenced_and_denies_nothing() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let topic = to_a.create("t", 1, &[]).await;
    for round in 0..20 {
        let live = a.agent.log.session();
        if let Some(live) = live {
            world.store.end_lease(live.lease);
        }
        let by_b = to_b.store(&topic, 0, &batch(&["b"])).await;
        let by_a = to_a.store(&topic, 0, &batch(&["a"])).await;
        assert_eq!((by_b, by_a), (2 * round, 2 * round + 1));
        assert_eq!(to_b.latest(&topic, 0).await, 2 * round + 2);
    }
}
