//! `DescribeQuorum`: the log of commits, as this agent has folded it, in the words of Kafka's metadata log.
//!
//! Coordination is the metadata store's; no agent is a voter of anything. Each tells of itself as the one that leads, because what a
//! controller does every agent does.

use std::sync::Arc;

use esker_kafka::messages::describe_quorum_request::DescribeQuorumRequest;
use esker_kafka::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use esker_kafka::{ErrorCode, Str};

use crate::agent::Agent;

/// What Kafka calls its metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Answers; every partition of the request is in the answer.
pub async fn answer(agent: &Arc<Agent>, version: i16, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    // How far the log has come is told, nothing is denied.
    drop(agent.barrier().await);
    let topics = request.topics.into_iter().map(|topic| {
        let is_metadata = topic.topic_name == METADATA_TOPIC;
        let partitions = topic.partitions.iter().map(|asked| match asked.partition_index {
            0 if is_metadata => metadata_log(agent),
            other => PartitionData {
                partition_index: other,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                error_message: Some(Str::from_static("only __cluster_metadata-0 has a quorum")),
                ..Default::default()
            },
        });
        TopicData {
            partitions: partitions.collect(),
            topic_name: topic.topic_name,
        }
    });
    let own = agent.members.identity().member();
    let node = Node {
        node_id: own.node,
        listeners: vec![Listener {
            name: Str::from_static("PLAINTEXT"),
            host: Str::from(own.endpoint.host),
            port: own.endpoint.port,
        }],
    };
    DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        // Version 2 tells where voters are (KIP-853).
        nodes: if version >= 2 { vec![node] } else { Vec::new() },
        ..Default::default()
    }
}

fn metadata_log(agent: &Agent) -> PartitionData {
    let index = i64::try_from(agent.replica.fold().index().0).unwrap_or(i64::MAX);
    let now = agent.clock.now_ms();
    let own = agent.members.identity().node();
    PartitionData {
        error_message: None,
        leader_id: own,
        leader_epoch: agent.leader_epoch(),
        high_watermark: index,
        current_voters: vec![ReplicaState {
            replica_id: own,
            log_end_offset: index,
            last_fetch_timestamp: now,
            last_caught_up_timestamp: now,
            ..Default::default()
        }],
        ..Default::default()
    }
}
