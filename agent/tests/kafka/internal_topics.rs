//! The topic of committed offsets: there once a client has looked for a group, internal, and empty.

use std::time::Duration;

use esker_kafka::messages::create_topics_request::CreateTopicsRequest;
use esker_kafka::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use esker_kafka::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_kafka::messages::describe_topic_partitions_request::{DescribeTopicPartitionsRequest, TopicRequest};
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::metadata_response::MetadataResponseTopic;
use esker_kafka::{ErrorCode, Str};

use crate::batches::batch;
use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{CREATE_TOPICS, Topic, code, new_topic};

const OFFSETS: &str = "__consumer_offsets";
const METADATA: i16 = 13;
/// Key types of FindCoordinator.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

async fn look_for(client: &mut Client, key: &str, key_type: i8) {
    let request = FindCoordinatorRequest {
        key_type,
        coordinator_keys: vec![Str::from(key)],
        ..Default::default()
    };
    let found = client.call(6, &request).await.coordinators.remove(0);
    assert_eq!(code(found.error_code), ErrorCode::None, "it is not what is waited for");
}

async fn told(client: &mut Client, create: bool) -> MetadataResponseTopic {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Str::from(OFFSETS)),
            ..Default::default()
        }]),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    client.call(METADATA, &request).await.topics.remove(0)
}

/// The topic, as soon as it is there.
async fn there(client: &mut Client) -> MetadataResponseTopic {
    let comes = async {
        loop {
            let topic = told(client, false).await;
            if code(topic.error_code) == ErrorCode::None {
                return topic;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), comes).await.unwrap()
}

/// Names and values of what was set for the topic.
async fn set_for(client: &mut Client) -> Vec<(String, String)> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: Str::from(OFFSETS),
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let described = client.call(4, &request).await.results.remove(0);
    // Dynamic configs of the topic.
    let set = described.configs.into_iter().filter(|config| config.config_source == 1);
    set.map(|config| (config.name.to_string(), config.value.unwrap().to_string()))
        .collect()
}

const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
];

fn is_as_kafkas(mut set: Vec<(String, String)>) -> bool {
    set.sort();
    set.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .eq(CONFIGS)
}

#[tokio::test]
async fn offsets_topic_is_there_once_a_group_was_looked_for() {
    let settings = [
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.num.partitions", "7"),
    ];
    let broker = Broker::with(&settings).await;
    let mut client = broker.connect().await;
    look_for(&mut client, "t", TRANSACTION).await;
    assert_eq!(
        code(told(&mut client, true).await.error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    for n in 0..50 {
        look_for(&mut client, &format!("g{n}"), GROUP).await;
    }
    let topic = there(&mut client).await;
    assert!(topic.is_internal);
    assert_eq!(topic.partitions.len(), 7);
    assert!(is_as_kafkas(set_for(&mut client).await));
    let all = client
        .call(
            METADATA,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await
        .topics;
    let all: Vec<_> = all
        .iter()
        .map(|topic| (topic.name.as_deref().unwrap(), topic.is_internal))
        .collect();
    assert_eq!(all, [(OFFSETS, true)], "and nothing else is there");
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest {
            name: Str::from(OFFSETS),
        }],
        response_partition_limit: 100,
        ..Default::default()
    };
    assert!(client.call(0, &request).await.topics[0].is_internal);
}

#[tokio::test]
async fn offsets_topic_that_was_deleted_comes_again_for_the_next_who_looks() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    look_for(&mut client, "g", GROUP).await;
    let first = there(&mut client).await;
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(Str::from(OFFSETS)),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(client.call(6, &delete).await.responses[0].error_code, 0);
    assert_eq!(
        code(told(&mut client, false).await.error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    look_for(&mut client, "g", GROUP).await;
    assert_ne!(there(&mut client).await.topic_id, first.topic_id);
}

#[tokio::test]
async fn offsets_topic_that_is_asked_for_by_name_is_created_as_if_a_group_were_looked_for() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = told(&mut client, true).await;
    assert_eq!((code(topic.error_code), topic.partitions.len()), (ErrorCode::None, 50));
    assert!(topic.is_internal && is_as_kafkas(set_for(&mut client).await));
}

#[tokio::test]
async fn clients_neither_append_to_the_offsets_topic_nor_delete_its_records() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    look_for(&mut client, "g", GROUP).await;
    let found = there(&mut client).await;
    let topic = Topic {
        name: Str::from(OFFSETS),
        id: found.topic_id,
    };
    let refused = client.produce(&topic, 0, &batch(&["a"])).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidTopic);
    assert_eq!(client.latest(&topic, 0).await, 0);
    let refused = client.delete_records(&topic, 0, -1).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidTopic);
}

#[tokio::test]
async fn topic_of_kafkas_controllers_cannot_be_created() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let request = CreateTopicsRequest {
        topics: vec![new_topic("__cluster_metadata", 1, &[])],
        ..Default::default()
    };
    let created = client.call(CREATE_TOPICS, &request).await;
    assert_eq!(code(created.topics[0].error_code), ErrorCode::InvalidRequest);
}
