//! `ElectLeaders`: leaders follow from the agents that live, so there is never one to elect.
//!
//! Invariants: LOG-6 (a partition is denied only after a read barrier).

use std::sync::Arc;

use esker_kafka::messages::elect_leaders_request::ElectLeadersRequest;
use esker_kafka::messages::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};
use esker_kafka::{ErrorCode, Str};

use super::lookup::Lookup;
use crate::agent::Agent;
use crate::handlers::partition_of;

/// Preferred and unclean elections, as requests number them (KIP-460).
const KINDS: std::ops::RangeInclusive<i8> = 0..=1;

/// Answers. Who asks about all partitions is told of those that got a leader: none.
pub async fn answer(agent: &Arc<Agent>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if !KINDS.contains(&request.election_type) {
        return ElectLeadersResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
    }
    let mut lookup = Lookup::new(agent);
    let mut results = Vec::new();
    for asked in request.topic_partitions.into_iter().flatten() {
        let topic = lookup.topic(&asked.topic).await;
        let partition = |index: i32| {
            let code = partition_of(&topic, index)
                .err()
                .unwrap_or(ErrorCode::ElectionNotNeeded);
            let name = &asked.topic;
            let message = match code {
                ErrorCode::ElectionNotNeeded => "Leader election not needed for topic partition.".to_owned(),
                _ if topic.is_ok() => format!("No such partition as {name:.250}-{index}"),
                _ => format!("No such topic as {name:.250}"),
            };
            PartitionResult {
                partition_id: index,
                error_code: code.code(),
                error_message: Some(Str::from(message)),
            }
        };
        results.push(ReplicaElectionResult {
            partition_result: asked.partitions.iter().copied().map(partition).collect(),
            topic: asked.topic,
        });
    }
    ElectLeadersResponse {
        replica_election_results: results,
        ..Default::default()
    }
}
