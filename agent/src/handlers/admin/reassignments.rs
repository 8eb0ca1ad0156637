//! `AlterPartitionReassignments` and `ListPartitionReassignments`: records lie in the bucket, so nothing ever moves.
//!
//! Invariants: LOG-6 (a partition is denied only after a read barrier).

use std::sync::Arc;

use esker_kafka::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use esker_kafka::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use esker_kafka::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;
use esker_kafka::{ErrorCode, Str, TopicRef};

use crate::agent::{Absent, Agent};
use crate::handlers::partition_of;
use crate::kafka::dispatch::RequestContext;
use crate::topics::TopicView;

/// Answers; every partition of the request is in the answer.
pub async fn alter(
    agent: &Arc<Agent>,
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let zone = agent.zone_of(context.client_id.as_deref());
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = agent.topic(&TopicRef::Name(asked.name.clone())).await;
        let partition = |wanted: ReassignablePartition| {
            let (code, message) = match judge(agent, zone, &topic, &wanted) {
                Ok(()) => (ErrorCode::None, None),
                Err((code, message)) => (code, Some(Str::from_static(message))),
            };
            ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_code: code.code(),
                error_message: message,
            }
        };
        responses.push(ReassignableTopicResponse {
            partitions: asked.partitions.into_iter().map(partition).collect(),
            name: asked.name,
        });
    }
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        responses,
        ..Default::default()
    }
}

/// Nothing can be moved, but a partition may be told to stay where it is.
fn judge(
    agent: &Agent,
    zone: Option<&str>,
    topic: &Result<TopicView, Absent>,
    wanted: &ReassignablePartition,
) -> Result<(), (ErrorCode, &'static str)> {
    let at = partition_of(topic, wanted.partition_index).map_err(|code| (code, "no such topic or partition"))?;
    let Some(replicas) = &wanted.replicas else {
        return Err((ErrorCode::NoReassignmentInProgress, "no reassignment is in progress"));
    };
    if *replicas == agent.members.view().placement.replicas(at, zone) {
        return Ok(());
    }
    let message = "records lie in the bucket and leaders follow from the agents that live: replicas cannot be assigned";
    Err((ErrorCode::InvalidReplicaAssignment, message))
}

/// Answers: none is under way.
#[must_use]
pub fn list() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse {
        error_message: None,
        ..Default::default()
    }
}
