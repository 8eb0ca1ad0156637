//! The requests that most tests make, with short names and sensible values.

use bytes::Bytes;
use esker_kafka::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_kafka::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_kafka::messages::delete_records_response::DeleteRecordsPartitionResult;
use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use esker_kafka::messages::fetch_response::{FetchResponse, PartitionData};
use esker_kafka::messages::init_producer_id_request::InitProducerIdRequest;
use esker_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_kafka::messages::list_offsets_response::ListOffsetsPartitionResponse;
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use esker_kafka::records::Batch;
use esker_kafka::{ErrorCode, Records, Str, Uuid};

use crate::client::Client;

/// The newest version of each request.
pub(crate) const PRODUCE: i16 = 13;
pub(crate) const FETCH: i16 = 18;
pub(crate) const LIST_OFFSETS: i16 = 11;
pub(crate) const CREATE_TOPICS: i16 = 7;
pub(crate) const DELETE_RECORDS: i16 = 2;
pub(crate) const INIT_PRODUCER_ID: i16 = 5;

/// A topic by both of its names; each version of a request takes the one it knows.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
}

impl Topic {
    /// A topic that is not there.
    pub(crate) fn missing() -> Self {
        Self {
            name: Str::from_static("missing"),
            id: Uuid(404),
        }
    }
}

/// A topic to create.
pub(crate) fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: Str::from(*name),
        value: Some(Str::from(*value)),
    });
    CreatableTopic {
        name: Str::from(name),
        num_partitions: partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: configs.collect(),
    }
}

/// Records for several partitions of a topic.
pub(crate) fn produce_all(topic: &Topic, records: impl IntoIterator<Item = (i32, Option<Bytes>)>) -> ProduceRequest {
    let partition_data = records.into_iter().map(|(index, records)| PartitionProduceData {
        index,
        records: records.map(Records::from),
    });
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_data: partition_data.collect(),
        }],
        ..Default::default()
    }
}

/// One batch for one partition.
pub(crate) fn produce(topic: &Topic, partition: i32, batch: &Batch) -> ProduceRequest {
    produce_all(topic, [(partition, Some(batch.bytes().clone()))])
}

/// The answer for the only partition of a request.
pub(crate) fn only_produced(response: ProduceResponse) -> PartitionProduceResponse {
    let [topic] = <[_; 1]>::try_from(response.responses).unwrap();
    let [partition] = <[_; 1]>::try_from(topic.partition_responses).unwrap();
    partition
}

/// A fetch of several partitions that does not wait.
pub(crate) fn fetch_all(topic: &Topic, from: &[(i32, i64)]) -> FetchRequest {
    let partitions = from.iter().map(|(partition, fetch_offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: partitions.collect(),
        }],
        ..Default::default()
    }
}

/// A fetch of one partition that does not wait.
pub(crate) fn fetch(topic: &Topic, partition: i32, offset: i64) -> FetchRequest {
    fetch_all(topic, &[(partition, offset)])
}

/// The answer for the only partition of a request.
pub(crate) fn only_fetched(response: FetchResponse) -> PartitionData {
    assert_eq!((response.error_code, response.session_id), (0, 0));
    let [topic] = <[_; 1]>::try_from(response.responses).unwrap();
    let [partition] = <[_; 1]>::try_from(topic.partitions).unwrap();
    partition
}

/// An offset by timestamp, or by one of the special ones below zero.
pub(crate) fn list_offsets(topic: &Topic, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.name.clone(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                timestamp,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

impl Client {
    /// Creates a topic.
    pub(crate) async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        let request = CreateTopicsRequest {
            topics: vec![new_topic(name, partitions, configs)],
            ..Default::default()
        };
        let response = self.call(CREATE_TOPICS, &request).await;
        let [created] = <[_; 1]>::try_from(response.topics).unwrap();
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
        Topic {
            name: created.name,
            id: created.topic_id,
        }
    }

    /// Produces one batch.
    pub(crate) async fn produce(&mut self, topic: &Topic, partition: i32, batch: &Batch) -> PartitionProduceResponse {
        only_produced(self.call(PRODUCE, &produce(topic, partition, batch)).await)
    }

    /// Produces one batch that must be taken; returns its base offset.
    pub(crate) async fn store(&mut self, topic: &Topic, partition: i32, batch: &Batch) -> i64 {
        let answer = self.produce(topic, partition, batch).await;
        assert_eq!(code(answer.error_code), ErrorCode::None, "{:?}", answer.error_message);
        answer.base_offset
    }

    /// Fetches what there is of a partition, without waiting.
    pub(crate) async fn fetch(&mut self, topic: &Topic, partition: i32, offset: i64) -> PartitionData {
        only_fetched(self.call(FETCH, &fetch(topic, partition, offset)).await)
    }

    /// Lists one offset, at any version.
    pub(crate) async fn list_offset(
        &mut self,
        version: i16,
        request: &ListOffsetsRequest,
    ) -> ListOffsetsPartitionResponse {
        let response = self.call(version, request).await;
        let [topic] = <[_; 1]>::try_from(response.topics).unwrap();
        let [partition] = <[_; 1]>::try_from(topic.partitions).unwrap();
        partition
    }

    /// The end of a partition's log.
    pub(crate) async fn latest(&mut self, topic: &Topic, partition: i32) -> i64 {
        let found = self
            .list_offset(LIST_OFFSETS, &list_offsets(topic, partition, -1))
            .await;
        assert_eq!(found.error_code, 0);
        found.offset
    }

    /// Deletes the records of a partition below an offset.
    pub(crate) async fn delete_records(
        &mut self,
        topic: &Topic,
        partition: i32,
        offset: i64,
    ) -> DeleteRecordsPartitionResult {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.name.clone(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: partition,
                    offset,
                }],
            }],
            timeout_ms: 10_000,
        };
        let response = self.call(DELETE_RECORDS, &request).await;
        let [topic] = <[_; 1]>::try_from(response.topics).unwrap();
        let [partition] = <[_; 1]>::try_from(topic.partitions).unwrap();
        partition
    }

    /// A producer id of its own.
    pub(crate) async fn producer_id(&mut self) -> i64 {
        let granted = self.call(INIT_PRODUCER_ID, &init_producer_id()).await;
        assert_eq!((granted.error_code, granted.producer_epoch), (0, 0));
        granted.producer_id
    }
}

/// Asks for a producer id without a transactional id.
pub(crate) fn init_producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    }
}

/// The name of an error code, so that a failing assertion is readable.
pub(crate) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap()
}
