//! `DeleteRecords`: raises log start offsets.
//!
//! Invariants: RET-1 (the fold refuses to go past the last stable offset).

use std::sync::Arc;

use esker_kafka::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use esker_kafka::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use esker_kafka::{ErrorCode, TopicRef};
use esker_model::EntryVerdict;
use esker_model::entry::{Entry, Trim};
use esker_model::verdict::TrimVerdict;
use esker_segment::id::{Offset, TopicPartition};

use super::partition_of;
use crate::agent::Agent;
use crate::internal_topics::is_internal;
use crate::settings::CleanupPolicy;

/// The offset that means "everything that there is now".
const HIGH_WATERMARK: i64 = -1;

/// Answers; every partition of the request is in the answer.
pub async fn answer(agent: &Arc<Agent>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let view = agent.topic(&TopicRef::Name(topic.name.clone())).await;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let trimmed = match partition_of(&view, asked.partition_index) {
                Ok(_) if is_internal(&topic.name) => Err(ErrorCode::InvalidTopic),
                // Whose records only go when a newer one has their key keeps them.
                Ok(_) if view.as_ref().is_ok_and(|topic| compacts_only(topic.settings.cleanup)) => {
                    Err(ErrorCode::PolicyViolation)
                }
                Ok(at) => trim(agent, at, &asked).await,
                Err(code) => Err(code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: trimmed.map_or(-1, |start| start.0),
                error_code: trimmed.err().unwrap_or(ErrorCode::None).code(),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

fn compacts_only(policy: CleanupPolicy) -> bool {
    policy.compacts() && !policy.deletes()
}

async fn trim(agent: &Arc<Agent>, at: TopicPartition, asked: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    agent.barrier().await.map_err(|_| ErrorCode::LeaderNotAvailable)?;
    let offsets = agent
        .replica
        .fold()
        .partition(at)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let wanted = if asked.offset == HIGH_WATERMARK {
        offsets.high_watermark
    } else {
        Offset(asked.offset)
    };
    if wanted < Offset(0) || wanted > offsets.high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if wanted <= offsets.log_start {
        return Ok(offsets.log_start);
    }
    let proposed = agent
        .log
        .propose(vec![Entry::Trim(Trim {
            partition: at,
            log_start: wanted,
        })])
        .await;
    let verdicts = proposed.map_err(super::propose_code)?;
    match verdicts.first() {
        Some(EntryVerdict::Trim(TrimVerdict::Trimmed { log_start } | TrimVerdict::AlreadyThere { log_start })) => {
            Ok(*log_start)
        }
        Some(EntryVerdict::Trim(TrimVerdict::PastStable { .. })) => Err(ErrorCode::OffsetOutOfRange),
        _ => Err(ErrorCode::UnknownTopicOrPartition),
    }
}
