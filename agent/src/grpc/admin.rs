//! Administration: what the Admin service answers.
//!
//! Owns: which Kafka request each call is, failures of single things.
//! Does not own: the requests (`handlers`), those about groups (`group_admin`).

use esker_kafka::Str;
use esker_kafka::messages::create_partitions_request::{
    CreatePartitionsRequest as KafkaCreatePartitions, CreatePartitionsTopic,
};
use esker_kafka::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest as KafkaCreateTopics,
};
use esker_kafka::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest as KafkaDeleteRecords, DeleteRecordsTopic,
};
use esker_kafka::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest as KafkaDeleteTopics};
use esker_kafka::messages::describe_cluster_request::DescribeClusterRequest as KafkaDescribeCluster;
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::metadata_response::MetadataResponseTopic;
use esker_proto::v1::admin_server::Admin;
use esker_proto::v1::{
    AlterConfigsRequest, AlterConfigsResponse, AlterGroupOffsetsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeletedRecords,
    DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, DescribeTopicsRequest, DescribeTopicsResponse, GroupOffsetsRequest,
    GroupOffsetsResponse, GroupResults, ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListTopicsRequest, ListTopicsResponse, NewTopic, Node, OffsetResults, PartitionDescription, PartitionOffset,
    TopicDescription, TopicListing, TopicResult, TopicResults,
};
use tonic::{Request, Response, Status};

use super::calls::Caller;
use super::consumer::{Place, offset_of};
use super::errors::{check, failure, failure_of};
use super::served::Served;
use super::{config_admin, group_admin};

const CREATE_TOPICS: i16 = 7;
const DELETE_TOPICS: i16 = 6;
const CREATE_PARTITIONS: i16 = 3;
const DELETE_RECORDS: i16 = 2;
const DESCRIBE_CLUSTER: i16 = 1;
const METADATA: i16 = 12;
/// How long the agent may take.
const TIMEOUT_MS: i32 = 30_000;
/// The broker's default.
const DEFAULT: i32 = -1;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for Served {
    async fn create_topics(&self, request: Request<CreateTopicsRequest>) -> Answer<TopicResults> {
        let caller = self.caller(&request);
        let request = request.into_inner();
        let request = KafkaCreateTopics {
            topics: request.topics.into_iter().map(creatable).collect(),
            timeout_ms: TIMEOUT_MS,
            validate_only: request.validate_only,
        };
        let answered = caller.call(CREATE_TOPICS, &request).await?;
        let results = answered.topics.into_iter();
        topic_results(results.map(|one| (one.name, one.error_code, one.error_message)))
    }

    async fn delete_topics(&self, request: Request<DeleteTopicsRequest>) -> Answer<TopicResults> {
        let caller = self.caller(&request);
        let topics = request.into_inner().topics.into_iter().map(|name| DeleteTopicState {
            name: Some(Str::from(name)),
            ..DeleteTopicState::default()
        });
        let request = KafkaDeleteTopics {
            topics: topics.collect(),
            timeout_ms: TIMEOUT_MS,
            ..KafkaDeleteTopics::default()
        };
        let answered = caller.call(DELETE_TOPICS, &request).await?;
        let results = answered.responses.into_iter();
        topic_results(results.map(|one| (one.name.unwrap_or_default(), one.error_code, one.error_message)))
    }

    async fn list_topics(&self, request: Request<ListTopicsRequest>) -> Answer<ListTopicsResponse> {
        let topics = metadata(&self.caller(&request), None).await?;
        let topics = topics.into_iter().map(|topic| TopicListing {
            name: topic.name.unwrap_or_default().into(),
            id: id_bytes(topic.topic_id),
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        });
        Ok(Response::new(ListTopicsResponse {
            topics: topics.collect(),
        }))
    }

    async fn describe_topics(&self, request: Request<DescribeTopicsRequest>) -> Answer<DescribeTopicsResponse> {
        let caller = self.caller(&request);
        let topics = metadata(&caller, Some(request.into_inner().topics)).await?;
        let topics = topics.into_iter().map(|topic| {
            let name = topic.name.unwrap_or_default();
            let partitions = topic.partitions.iter().map(|partition| PartitionDescription {
                partition: partition.partition_index,
                leader: partition.leader_id,
                leader_epoch: partition.leader_epoch,
            });
            TopicDescription {
                failure: failure(topic.error_code, &format!("topic {name:?}"), None),
                id: id_bytes(topic.topic_id),
                partitions: partitions.collect(),
                name: name.into(),
            }
        });
        Ok(Response::new(DescribeTopicsResponse {
            topics: topics.collect(),
        }))
    }

    async fn create_partitions(&self, request: Request<CreatePartitionsRequest>) -> Answer<TopicResults> {
        let caller = self.caller(&request);
        let request = request.into_inner();
        let topics = request.topics.into_iter().map(|topic| CreatePartitionsTopic {
            name: Str::from(topic.topic),
            count: topic.count,
            assignments: None,
        });
        let request = KafkaCreatePartitions {
            topics: topics.collect(),
            timeout_ms: TIMEOUT_MS,
            validate_only: request.validate_only,
        };
        let answered = caller.call(CREATE_PARTITIONS, &request).await?;
        let results = answered.results.into_iter();
        topic_results(results.map(|one| (one.name, one.error_code, one.error_message)))
    }

    async fn describe_configs(&self, request: Request<DescribeConfigsRequest>) -> Answer<DescribeConfigsResponse> {
        let caller = self.caller(&request);
        let described = config_admin::describe(&caller, request.into_inner()).await?;
        Ok(Response::new(described))
    }

    async fn alter_configs(&self, request: Request<AlterConfigsRequest>) -> Answer<AlterConfigsResponse> {
        let caller = self.caller(&request);
        let altered = config_admin::alter(&caller, request.into_inner()).await?;
        Ok(Response::new(altered))
    }

    async fn list_offsets(&self, request: Request<ListOffsetsRequest>) -> Answer<ListOffsetsResponse> {
        let caller = self.caller(&request);
        let request = request.into_inner();
        let mut results = Vec::with_capacity(request.partitions.len());
        for wanted in request.partitions {
            let place = Place {
                topic: Str::from(wanted.topic),
                partition: wanted.partition,
            };
            let found = offset_of(&caller, &place, wanted.at, request.read_committed).await;
            results.push(PartitionOffset {
                topic: place.topic.into(),
                partition: place.partition,
                offset: *found.as_ref().unwrap_or(&-1),
                failure: found.err().map(|status| failure_of(&status)),
            });
        }
        Ok(Response::new(ListOffsetsResponse { results }))
    }

    async fn delete_records(&self, request: Request<DeleteRecordsRequest>) -> Answer<DeleteRecordsResponse> {
        let caller = self.caller(&request);
        let topics = request
            .into_inner()
            .partitions
            .into_iter()
            .map(|wanted| DeleteRecordsTopic {
                name: Str::from(wanted.topic),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: wanted.partition,
                    offset: wanted.before_offset,
                }],
            });
        let request = KafkaDeleteRecords {
            topics: topics.collect(),
            timeout_ms: TIMEOUT_MS,
        };
        let answered = caller.call(DELETE_RECORDS, &request).await?;
        let results = answered.topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |deleted| {
                let what = format!("partition {} of {name:?}", deleted.partition_index);
                DeletedRecords {
                    topic: String::from(name.clone()),
                    partition: deleted.partition_index,
                    log_start_offset: deleted.low_watermark,
                    failure: failure(deleted.error_code, &what, None),
                }
            })
        });
        Ok(Response::new(DeleteRecordsResponse {
            results: results.collect(),
        }))
    }

    async fn list_groups(&self, request: Request<ListGroupsRequest>) -> Answer<ListGroupsResponse> {
        group_admin::list(&self.caller(&request)).await.map(Response::new)
    }

    async fn describe_groups(&self, request: Request<DescribeGroupsRequest>) -> Answer<DescribeGroupsResponse> {
        let caller = self.caller(&request);
        let described = group_admin::describe(&caller, request.into_inner()).await;
        Ok(Response::new(described))
    }

    async fn delete_groups(&self, request: Request<DeleteGroupsRequest>) -> Answer<GroupResults> {
        let caller = self.caller(&request);
        let deleted = group_admin::delete(&caller, request.into_inner()).await;
        Ok(Response::new(deleted))
    }

    async fn group_offsets(&self, request: Request<GroupOffsetsRequest>) -> Answer<GroupOffsetsResponse> {
        let caller = self.caller(&request);
        let offsets = group_admin::offsets(&caller, request.into_inner()).await?;
        Ok(Response::new(GroupOffsetsResponse { offsets }))
    }

    async fn alter_group_offsets(&self, request: Request<AlterGroupOffsetsRequest>) -> Answer<OffsetResults> {
        let caller = self.caller(&request);
        let request = request.into_inner();
        let committed = group_admin::commit(&caller, &request.group_id, None, request.offsets).await?;
        Ok(Response::new(committed))
    }

    async fn describe_cluster(&self, request: Request<DescribeClusterRequest>) -> Answer<DescribeClusterResponse> {
        let caller = self.caller(&request);
        let request = KafkaDescribeCluster {
            endpoint_type: 1,
            ..KafkaDescribeCluster::default()
        };
        let answered = caller.call(DESCRIBE_CLUSTER, &request).await?;
        check(answered.error_code, "the cluster", answered.error_message.as_deref())?;
        let nodes = answered.brokers.into_iter().map(|broker| Node {
            node: broker.broker_id,
            host: broker.host.into(),
            port: broker.port,
            zone: broker.rack.map(String::from),
        });
        Ok(Response::new(DescribeClusterResponse {
            cluster_id: answered.cluster_id.into(),
            nodes: nodes.collect(),
        }))
    }
}

fn creatable(topic: NewTopic) -> CreatableTopic {
    // Maps have no order; requests do.
    let mut configs: Vec<(String, String)> = topic.configs.into_iter().collect();
    configs.sort_unstable();
    let configs = configs.into_iter().map(|(name, value)| CreatableTopicConfig {
        name: Str::from(name),
        value: Some(Str::from(value)),
    });
    CreatableTopic {
        name: Str::from(topic.name),
        num_partitions: topic.partitions.unwrap_or(DEFAULT),
        replication_factor: -1,
        assignments: Vec::new(),
        configs: configs.collect(),
    }
}

fn topic_results(results: impl Iterator<Item = (Str, i16, Option<Str>)>) -> Answer<TopicResults> {
    let results = results.map(|(name, code, message)| TopicResult {
        failure: failure(code, &format!("topic {name:?}"), message.as_deref()),
        topic: name.into(),
    });
    Ok(Response::new(TopicResults {
        results: results.collect(),
    }))
}

fn id_bytes(id: esker_kafka::Uuid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&id.0.to_be_bytes())
}

/// What agents tell clients of topics; of all of them, if none are named.
async fn metadata(caller: &Caller, names: Option<Vec<String>>) -> Result<Vec<MetadataResponseTopic>, Status> {
    let topics = names.map(|names| {
        let named = names.into_iter().map(|name| MetadataRequestTopic {
            name: Some(Str::from(name)),
            ..MetadataRequestTopic::default()
        });
        named.collect()
    });
    let request = MetadataRequest {
        topics,
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    Ok(caller.call(METADATA, &request).await?.topics)
}
