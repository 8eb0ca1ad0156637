//! Who is listed, who leads, and that any agent takes and serves anything.

use esker_kafka::Str;
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::metadata_response::MetadataResponse;

use crate::batches::{batch, values_of};
use crate::client::Client;
use crate::nodes::{Running, World, until};
use crate::requests::{FETCH, Topic, fetch, only_fetched};

const METADATA: i16 = 12;

async fn metadata(client: &mut Client, topic: &Topic) -> MetadataResponse {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.name.clone()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    client.call(METADATA, &request).await
}

async fn all_know(agents: &[&Running], nodes: &[i32]) {
    for agent in agents {
        until("members are known", || agent.listed() == nodes).await;
    }
}

#[tokio::test]
async fn all_agents_are_listed_with_their_zones() {
    let world = World::new();
    let (a, b, c) = (world.start("a").await, world.start("b").await, world.start("").await);
    all_know(&[&a, &b, &c], &[1, 2, 3]).await;
    let mut client = b.connect().await;
    let topic = client.create("t", 8, &[]).await;
    let seen = metadata(&mut client, &topic).await;
    let racks: Vec<_> = seen
        .brokers
        .iter()
        .map(|broker| (broker.node_id, broker.rack.as_deref()))
        .collect();
    assert_eq!(racks, [(1, Some("a")), (2, Some("b")), (3, None)]);
    let ports: Vec<_> = seen.brokers.iter().map(|broker| broker.port).collect();
    assert_eq!(ports, [a, b, c].map(|agent| i32::from(agent.address.port())));
    for partition in &seen.topics[0].partitions {
        assert_eq!(partition.leader_epoch, 1);
        assert_eq!(partition.replica_nodes[0], partition.leader_id);
        assert_eq!(partition.replica_nodes.len(), 3);
        assert_eq!(partition.isr_nodes, partition.replica_nodes);
    }
}

#[tokio::test]
async fn all_agents_name_the_same_leaders() {
    let world = World::new();
    let agents = [world.start("").await, world.start("").await, world.start("").await];
    let [a, b, c] = &agents;
    all_know(&[a, b, c], &[1, 2, 3]).await;
    let mut client = a.connect().await;
    let topic = client.create("t", 32, &[]).await;
    let mut answers = Vec::new();
    for agent in &agents {
        let seen = metadata(&mut agent.connect().await, &topic).await;
        answers.push(seen.topics[0].partitions.clone());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let leaders: std::collections::BTreeSet<i32> = answers[0].iter().map(|partition| partition.leader_id).collect();
    assert_eq!(leaders.len(), 3, "32 partitions are spread over three agents");
}

#[tokio::test]
async fn any_agent_takes_and_serves_any_partition() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    all_know(&[&a, &b], &[1, 2]).await;
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let topic = to_a.create("t", 1, &[]).await;
    assert_eq!(to_a.store(&topic, 0, &batch(&["x"])).await, 0);
    assert_eq!(to_b.store(&topic, 0, &batch(&["y"])).await, 1);
    // LOG-6: what one agent has acknowledged, the other does not deny.
    let (from_a, from_b) = (to_a.fetch(&topic, 0, 0).await, to_b.fetch(&topic, 0, 0).await);
    let both = [(0, "x".to_owned()), (1, "y".to_owned())];
    assert_eq!((values_of(&from_a), values_of(&from_b)), (both.to_vec(), both.to_vec()));
}

#[tokio::test]
async fn an_offset_that_another_agent_acknowledged_is_never_denied() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let topic = to_a.create("t", 1, &[]).await;
    for round in 0..50 {
        let (producer, reader) = if round % 2 == 0 {
            (&mut to_a, &mut to_b)
        } else {
            (&mut to_b, &mut to_a)
        };
        let offset = producer.store(&topic, 0, &batch(&["x"])).await;
        assert_eq!(reader.latest(&topic, 0).await, offset + 1);
        assert_eq!(reader.fetch(&topic, 0, offset + 1).await.error_code, 0);
    }
}

#[tokio::test]
async fn a_client_is_led_to_an_agent_of_its_rack() {
    let world = World::new();
    let (a, b) = (world.start("a").await, world.start("b").await);
    all_know(&[&a, &b], &[1, 2]).await;
    let mut client = a.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["x"])).await;
    for (rack, preferred, records) in [("", -1, 1), ("a", -1, 1), ("b", 2, 0), ("z", -1, 1)] {
        let mut request = fetch(&topic, 0, 0);
        request.rack_id = Str::from(rack);
        request.max_wait_ms = 10_000;
        let found = only_fetched(client.call(FETCH, &request).await);
        assert_eq!((found.error_code, found.high_watermark), (0, 1));
        assert_eq!(
            (found.preferred_read_replica, values_of(&found).len()),
            (preferred, records),
            "{rack}"
        );
    }
}

#[tokio::test]
async fn the_same_address_gets_its_node_id_back() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    all_know(&[&a, &b], &[1, 2]).await;
    let address = a.address;
    a.stop().await.unwrap();
    until("the one that went is not listed", || b.listed() == [2]).await;
    // While nobody has the address, its id is as free as any.
    let again = world.start_at(address, "").await;
    assert_eq!(again.node(), 1);
    // Killed, and back before its lease has ended.
    again.kill().await;
    let again = world.start_at(address, "").await;
    assert_eq!(again.node(), 1);
    all_know(&[&again, &b], &[1, 2]).await;
}
