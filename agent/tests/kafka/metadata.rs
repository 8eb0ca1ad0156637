//! Metadata: who is there, which topics, and topics created because somebody asked.

use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use esker_kafka::{ErrorCode, Str, Uuid};

use crate::broker::{Broker, LEADER_EPOCH, NODE_ID};
use crate::client::{Client, framed};
use crate::requests::{Topic, code};

/// The newest version.
const METADATA: i16 = 13;
/// First version in which a topic can be asked for by id.
const BY_ID_FROM: i16 = 10;

fn of(topics: Option<Vec<MetadataRequestTopic>>) -> MetadataRequest {
    MetadataRequest {
        topics,
        allow_auto_topic_creation: false,
        ..Default::default()
    }
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(Str::from(name)),
        topic_id: Uuid::ZERO,
    }
}

fn with_id(topic_id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic { name: None, topic_id }
}

fn names(response: &MetadataResponse) -> Vec<&str> {
    let mut names: Vec<&str> = response
        .topics
        .iter()
        .map(|topic| topic.name.as_deref().unwrap())
        .collect();
    names.sort_unstable();
    names
}

async fn ask_one(
    client: &mut Client,
    version: i16,
    asked: MetadataRequestTopic,
    create: bool,
) -> MetadataResponseTopic {
    let mut request = of(Some(vec![asked]));
    request.allow_auto_topic_creation = create || version < 4;
    let response = client.call(version, &request).await;
    let [topic] = <[_; 1]>::try_from(response.topics).unwrap();
    topic
}

#[tokio::test]
async fn every_version_describes_broker_and_topic() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 3, &[]).await;
    for version in 0..=METADATA {
        let mut request = of(Some(vec![named("t")]));
        request.allow_auto_topic_creation = version < 4;
        let response = client.call(version, &request).await;
        assert_eq!(response.brokers.len(), 1);
        let node = &response.brokers[0];
        assert_eq!((node.node_id, node.host.as_str()), (NODE_ID, "127.0.0.1"));
        assert_eq!(node.port, i32::from(broker.address.port()));
        if version >= 1 {
            assert_eq!(response.controller_id, NODE_ID);
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
        }
        let found = &response.topics[0];
        assert_eq!(
            (found.error_code, found.name.as_deref(), found.is_internal),
            (0, Some("t"), false)
        );
        if version >= BY_ID_FROM {
            assert_eq!(found.topic_id, topic.id);
        }
        assert_eq!(found.partitions.len(), 3);
        for (index, partition) in (0..).zip(&found.partitions) {
            assert_eq!(
                (partition.error_code, partition.partition_index, partition.leader_id),
                (0, index, NODE_ID)
            );
            assert_eq!(
                (&partition.replica_nodes, &partition.isr_nodes),
                (&vec![NODE_ID], &vec![NODE_ID])
            );
            assert_eq!(partition.leader_epoch, if version >= 7 { LEADER_EPOCH } else { -1 });
        }
    }
}

#[tokio::test]
async fn empty_list_means_all_in_v0_and_none_since_v1() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("a", 1, &[]).await;
    client.create("b", 1, &[]).await;
    for version in 0..=METADATA {
        let mut request = of(Some(Vec::new()));
        request.allow_auto_topic_creation = version < 4;
        let response = client.call(version, &request).await;
        let wanted: &[&str] = if version == 0 { &["a", "b"] } else { &[] };
        assert_eq!(names(&response), wanted, "version {version}");
        assert_eq!(response.brokers.len(), 1);
        if version >= 1 {
            request.topics = None;
            assert_eq!(names(&client.call(version, &request).await), ["a", "b"]);
        }
    }
}

/// librdkafka 2 reserves four bytes for the count of topics and leaves them all zero when it asks for all topics.
#[tokio::test]
async fn bytes_after_a_request_are_ignored() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("a", 1, &[]).await;
    let mut request = of(None);
    request.allow_auto_topic_creation = false;
    let mut frame = framed(METADATA, 7, &request).to_vec();
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
    frame[..4].copy_from_slice(&(length + 3).to_be_bytes());
    frame.extend([0; 3]);
    client.send_raw(&frame).await;
    let (id, response) = client.receive::<MetadataRequest>(METADATA).await;
    assert_eq!((id, names(&response)), (7, vec!["a"]));
    assert_eq!(names(&client.call(METADATA, &request).await), ["a"]);
}

#[tokio::test]
async fn topics_are_found_by_id() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 2, &[]).await;
    for version in BY_ID_FROM..=METADATA {
        let found = ask_one(&mut client, version, with_id(topic.id), true).await;
        assert_eq!((found.error_code, found.name.as_deref()), (0, Some("t")));
        assert_eq!((found.topic_id, found.partitions.len()), (topic.id, 2));
        let missing = ask_one(&mut client, version, with_id(Uuid(404)), true).await;
        assert_eq!(code(missing.error_code), ErrorCode::UnknownTopicId);
        assert_eq!((missing.topic_id, missing.partitions.len()), (Uuid(404), 0));
        // The name is nullable only since version 12.
        assert_eq!(missing.name.is_none(), version >= 12);
    }
}

#[tokio::test]
async fn every_topic_that_is_asked_for_is_answered() {
    let broker = Broker::with(&[("auto.create.topics.enable", "false")]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let asked = vec![
        named("missing"),
        with_id(topic.id),
        named("a b"),
        with_id(Uuid(404)),
        named("t"),
    ];
    let response = client.call(12, &of(Some(asked))).await;
    let found: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_deref(), code(topic.error_code)))
        .collect();
    let wanted = [
        (Some("missing"), ErrorCode::UnknownTopicOrPartition),
        (Some("t"), ErrorCode::None),
        (Some("a b"), ErrorCode::InvalidTopic),
        (None, ErrorCode::UnknownTopicId),
        (Some("t"), ErrorCode::None),
    ];
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn auto_created_topics_have_num_partitions() {
    let broker = Broker::with(&[("num.partitions", "5")]).await;
    let mut client = broker.connect().await;
    for version in 0..=METADATA {
        let name = format!("made-by-v{version}");
        let made = ask_one(&mut client, version, named(&name), true).await;
        assert_eq!((code(made.error_code), made.partitions.len()), (ErrorCode::None, 5));
        let again = ask_one(&mut client, METADATA, named(&name), false).await;
        assert_eq!((again.error_code, again.partitions.len()), (0, 5));
        if version >= BY_ID_FROM {
            assert_eq!(again.topic_id, made.topic_id);
        }
    }
}

#[tokio::test]
async fn topics_are_not_created_when_client_or_broker_forbids_it() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 4..=METADATA {
        let missing = ask_one(&mut client, version, named("missing"), false).await;
        assert_eq!(code(missing.error_code), ErrorCode::UnknownTopicOrPartition);
    }
    assert_eq!(
        names(
            &client
                .call(
                    1,
                    &MetadataRequest {
                        topics: None,
                        ..Default::default()
                    }
                )
                .await
        ),
        [""; 0]
    );

    let broker = Broker::with(&[("auto.create.topics.enable", "false")]).await;
    let mut client = broker.connect().await;
    for version in 0..=METADATA {
        let missing = ask_one(&mut client, version, named("missing"), true).await;
        assert_eq!(code(missing.error_code), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(missing.name.as_deref(), Some("missing"));
    }
}

#[tokio::test]
async fn illegal_names_are_not_created() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", "a:b", &long] {
        for version in [0, 1, 4, 9, 13] {
            let refused = ask_one(&mut client, version, named(name), true).await;
            assert_eq!(code(refused.error_code), ErrorCode::InvalidTopic, "{name:?}");
            assert_eq!((refused.name.as_deref(), refused.partitions.len()), (Some(name), 0));
        }
    }
    let colliding = client.create("a.b", 1, &[]).await;
    let refused = ask_one(&mut client, METADATA, named("a_b"), true).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidTopic);
    let everything = client.call(METADATA, &of(None)).await;
    assert_eq!(names(&everything), ["a.b"]);
    assert_eq!(everything.topics[0].topic_id, colliding.id);
}

#[tokio::test]
async fn clients_that_create_the_same_topic_at_once_get_the_same_one() {
    let broker = Broker::start().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = broker.connect().await;
        let mut request = of(Some(vec![named("t")]));
        request.allow_auto_topic_creation = true;
        client.send(METADATA, &request).await;
        clients.push(client);
    }
    let mut found: Vec<Topic> = Vec::new();
    for client in &mut clients {
        let (_, response) = client.receive::<MetadataRequest>(METADATA).await;
        let topic = &response.topics[0];
        assert_eq!(code(topic.error_code), ErrorCode::None);
        found.push(Topic {
            name: topic.name.clone().unwrap(),
            id: topic.topic_id,
        });
    }
    assert!(found.iter().all(|topic| topic.id == found[0].id));
}

#[tokio::test]
async fn topics_named_twice_are_told_once() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    for version in 0..=METADATA {
        let asked = vec![named("t"), named("t"), named("nope"), named("nope")];
        let mut request = of(Some(asked));
        request.allow_auto_topic_creation = version < 4;
        let response = client.call(version, &request).await;
        assert_eq!(names(&response), ["nope", "t"], "version {version}");
    }
}

#[tokio::test]
async fn what_may_be_done_is_told_where_asked_for() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    for (asked, topic, cluster) in [(true, 3576, 8096), (false, i32::MIN, i32::MIN)] {
        let mut request = of(Some(vec![named("t")]));
        request.include_topic_authorized_operations = asked;
        request.include_cluster_authorized_operations = asked;
        let response = client.call(10, &request).await;
        let told = response.topics[0].topic_authorized_operations;
        assert_eq!((told, response.cluster_authorized_operations), (topic, cluster));
    }
}

#[tokio::test]
async fn an_id_counts_before_a_name() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("a", 1, &[]).await;
    client.create("b", 1, &[]).await;
    let id = ask_one(&mut client, 12, named("a"), false).await.topic_id;
    let asked = MetadataRequestTopic {
        topic_id: id,
        ..named("b")
    };
    let found = ask_one(&mut client, 12, asked, false).await;
    assert_eq!((found.name.as_deref(), found.topic_id), (Some("a"), id));
}
