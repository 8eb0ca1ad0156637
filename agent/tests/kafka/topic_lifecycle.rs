//! Topics that go and come back, and records that are deleted.

use esker_kafka::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_kafka::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use esker_kafka::messages::delete_topics_response::DeletableTopicResult;
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::{ErrorCode, Str, Uuid};

use crate::batches::{batch, sequenced, values_of};
use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{FETCH, PRODUCE, code, fetch, only_fetched, only_produced, produce};

/// The newest version.
const DELETE_TOPICS: i16 = 6;

fn by_name(name: &str) -> DeleteTopicState {
    DeleteTopicState {
        name: Some(Str::from(name)),
        topic_id: Uuid::ZERO,
    }
}

fn by_id(topic_id: Uuid) -> DeleteTopicState {
    DeleteTopicState { name: None, topic_id }
}

async fn delete(client: &mut Client, topics: Vec<DeleteTopicState>) -> Vec<DeletableTopicResult> {
    let request = DeleteTopicsRequest {
        topics,
        timeout_ms: 10_000,
        ..Default::default()
    };
    client.call(DELETE_TOPICS, &request).await.responses
}

#[tokio::test]
async fn every_version_deletes() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 1..=DELETE_TOPICS {
        let topic = client.create("t", 1, &[]).await;
        let mut request = DeleteTopicsRequest {
            timeout_ms: 10_000,
            ..Default::default()
        };
        if version >= 6 {
            request.topics = vec![by_name("t")];
        } else {
            request.topic_names = vec![topic.name.clone()];
        }
        let deleted = client.call(version, &request).await.responses;
        assert_eq!((deleted.len(), deleted[0].error_code), (1, 0));
        assert_eq!(deleted[0].name.as_deref(), Some("t"));
        if version >= 6 {
            assert_eq!(deleted[0].topic_id, topic.id);
        }
        let again = client.call(version, &request).await.responses;
        assert_eq!(code(again[0].error_code), ErrorCode::UnknownTopicOrPartition);
    }
}

#[tokio::test]
async fn trap_27_every_topic_to_delete_is_in_the_answer() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let one = client.create("one", 1, &[]).await;
    client.create("two", 1, &[]).await;
    let asked = vec![by_name("missing"), by_id(one.id), by_id(Uuid(404)), by_name("two")];
    let answered = delete(&mut client, asked).await;
    let found: Vec<_> = answered
        .iter()
        .map(|topic| (topic.name.as_deref(), code(topic.error_code)))
        .collect();
    let wanted = [
        (Some("missing"), ErrorCode::UnknownTopicOrPartition),
        (Some("one"), ErrorCode::None),
        (None, ErrorCode::UnknownTopicId),
        (Some("two"), ErrorCode::None),
    ];
    assert_eq!(found, wanted);
    assert_eq!((answered[1].topic_id, answered[2].topic_id), (one.id, Uuid(404)));
    let everything = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(client.call(12, &everything).await.topics, []);
}

#[tokio::test]
async fn topic_to_delete_that_is_named_twice_stays() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let (one, other) = (client.create("one", 1, &[]).await, client.create("other", 1, &[]).await);
    client.create("gone", 1, &[]).await;
    let asked = vec![
        by_name("one"),
        by_name("gone"),
        by_name("one"),
        by_id(other.id),
        by_name("other"),
        by_id(Uuid(9)),
        by_id(Uuid(9)),
    ];
    let found: Vec<_> = delete(&mut client, asked)
        .await
        .into_iter()
        .map(|topic| (topic.name.map(|name| name.as_str().to_owned()), code(topic.error_code)))
        .collect();
    let named = |name: &str| Some(name.to_owned());
    let wanted = [
        (named("one"), ErrorCode::InvalidRequest),
        (named("gone"), ErrorCode::None),
        // In both ways: answered once, where it is named, as in Kafka.
        (named("other"), ErrorCode::InvalidRequest),
        (None, ErrorCode::InvalidRequest),
    ];
    assert_eq!(found, wanted);
    assert_eq!(client.store(&other, 0, &batch(&["a"])).await, 0);
    assert_eq!(client.store(&one, 0, &batch(&["a"])).await, 0);
}

#[tokio::test]
async fn topic_must_be_named_in_one_way() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let both = DeleteTopicState {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
    };
    for asked in [both, by_id(Uuid::ZERO)] {
        let refused = delete(&mut client, vec![asked]).await;
        assert_eq!(code(refused[0].error_code), ErrorCode::InvalidRequest);
    }
    assert_eq!(client.latest(&topic, 0).await, 0, "it is still there");
}

#[tokio::test]
async fn recreated_topic_has_a_new_id_and_nothing_of_the_old_one() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let old = client.create("t", 2, &[("cleanup.policy", "compact")]).await;
    let id = client.producer_id().await;
    for partition in 0..2 {
        for sequence in 0..3 {
            let keyless = client.produce(&old, partition, &sequenced(id, 0, sequence, 1)).await;
            assert_eq!(
                code(keyless.error_code),
                ErrorCode::InvalidRecord,
                "the old topic is compacted"
            );
        }
    }
    assert_eq!(delete(&mut client, vec![by_id(old.id)]).await[0].error_code, 0);
    let new = client.create("t", 1, &[]).await;
    assert_ne!(new.id, old.id);

    let produced = only_produced(client.call(PRODUCE, &produce(&old, 0, &batch(&["a"]))).await);
    assert_eq!(code(produced.error_code), ErrorCode::UnknownTopicId);
    let data = only_fetched(client.call(FETCH, &fetch(&old, 0, 0)).await);
    assert_eq!(code(data.error_code), ErrorCode::UnknownTopicId);
    let by_old_id = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: None,
            topic_id: old.id,
        }]),
        ..Default::default()
    };
    let described = client.call(12, &by_old_id).await;
    assert_eq!(code(described.topics[0].error_code), ErrorCode::UnknownTopicId);
    assert_eq!(
        code(delete(&mut client, vec![by_id(old.id)]).await[0].error_code),
        ErrorCode::UnknownTopicId
    );

    assert_eq!(client.latest(&new, 0).await, 0);
    assert_eq!(client.store(&new, 0, &batch(&["new"])).await, 0);
    assert_eq!(values_of(&client.fetch(&new, 0, 0).await), [(0, "new".to_owned())]);
    let second = client.produce(&new, 1, &batch(&["a"])).await;
    assert_eq!(
        code(second.error_code),
        ErrorCode::UnknownTopicOrPartition,
        "it has one partition"
    );
}

#[tokio::test]
async fn idempotent_producer_outlives_the_recreation_of_its_topic() {
    let broker = Broker::with(&[("esker.produce.order.wait", "100ms")]).await;
    let mut client = broker.connect().await;
    let old = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    for sequence in 0..3 {
        client.store(&old, 0, &sequenced(id, 0, sequence, 1)).await;
    }
    delete(&mut client, vec![by_name("t")]).await;
    let new = client.create("t", 1, &[]).await;
    assert_eq!(client.store(&new, 0, &sequenced(id, 0, 3, 1)).await, 0);
}

#[tokio::test]
async fn every_version_of_delete_records_raises_the_log_start() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["0", "1", "2", "3", "4"])).await;
    for version in 0..=2 {
        let offset = i64::from(version) + 1;
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.name.clone(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset,
                }],
            }],
            timeout_ms: 10_000,
        };
        let answer = &client.call(version, &request).await.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (0, offset));
        let data = client.fetch(&topic, 0, offset).await;
        assert_eq!((data.error_code, data.log_start_offset), (0, offset));
        let below = client.fetch(&topic, 0, offset - 1).await;
        assert_eq!(code(below.error_code), ErrorCode::OffsetOutOfRange);
    }
}

#[tokio::test]
async fn delete_records_stops_at_the_high_watermark() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["0", "1", "2"])).await;
    for offset in [4, i64::MAX, -2, i64::MIN] {
        let refused = client.delete_records(&topic, 0, offset).await;
        assert_eq!(code(refused.error_code), ErrorCode::OffsetOutOfRange, "{offset}");
        assert_eq!(refused.low_watermark, -1);
    }
    assert_eq!(client.delete_records(&topic, 0, 2).await.low_watermark, 2);
    // Going back changes nothing.
    let back = client.delete_records(&topic, 0, 1).await;
    assert_eq!((back.error_code, back.low_watermark), (0, 2));
    let all = client.delete_records(&topic, 0, -1).await;
    assert_eq!((all.error_code, all.low_watermark), (0, 3));
    assert_eq!(client.store(&topic, 0, &batch(&["3"])).await, 3);
    assert_eq!(values_of(&client.fetch(&topic, 0, 3).await), [(3, "3".to_owned())]);
}

#[tokio::test]
async fn trap_27_every_partition_of_delete_records_is_in_the_answer() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 2, &[]).await;
    client.store(&topic, 1, &batch(&["a"])).await;
    let partition = |partition_index| DeleteRecordsPartition {
        partition_index,
        offset: -1,
    };
    let asked = |name: &str, partitions: &[i32]| DeleteRecordsTopic {
        name: Str::from(name),
        partitions: partitions.iter().copied().map(partition).collect(),
    };
    let request = DeleteRecordsRequest {
        topics: vec![asked("missing", &[0, 1]), asked("t", &[2, 1, -1, 0])],
        timeout_ms: 10_000,
    };
    let response = client.call(2, &request).await;
    let found: Vec<_> = response
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |p| (&*topic.name, p)))
        .map(|(name, p)| (name, p.partition_index, code(p.error_code), p.low_watermark))
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let wanted = [
        ("missing", 0, unknown, -1),
        ("missing", 1, unknown, -1),
        ("t", 2, unknown, -1),
        ("t", 1, ErrorCode::None, 1),
        ("t", -1, unknown, -1),
        ("t", 0, ErrorCode::None, 0),
    ];
    assert_eq!(found, wanted);
}
