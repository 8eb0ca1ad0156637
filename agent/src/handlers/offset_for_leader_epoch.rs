//! `OffsetForLeaderEpoch`: where a leader epoch ended (KIP-320). Epochs are incarnations of the cluster.

use std::sync::Arc;

use esker_kafka::messages::offset_for_leader_epoch_request::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition};
use esker_kafka::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use esker_kafka::{ErrorCode, TopicRef};
use esker_segment::id::{IncarnationNumber, Offset, TopicPartition};

use super::partition_of;
use crate::agent::Agent;

/// Answers.
pub async fn answer(agent: &Arc<Agent>, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let view = agent.topic(&TopicRef::Name(topic.topic.clone())).await;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let found = match partition_of(&view, asked.partition) {
                Ok(at) => epoch_end(agent, at, &asked).await,
                Err(code) => Err(code),
            };
            partitions.push(match found {
                Ok(Some((epoch, end))) => EpochEndOffset {
                    error_code: 0,
                    partition: asked.partition,
                    leader_epoch: i32::try_from(epoch.0).unwrap_or(i32::MAX),
                    end_offset: end.0,
                },
                Ok(None) => none(asked.partition, ErrorCode::None),
                Err(code) => none(asked.partition, code),
            });
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions,
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

fn none(partition: i32, code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset {
        error_code: code.code(),
        partition,
        leader_epoch: -1,
        end_offset: -1,
    }
}

async fn epoch_end(
    agent: &Arc<Agent>,
    at: TopicPartition,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(IncarnationNumber, Offset)>, ErrorCode> {
    agent.check_leader_epoch(asked.current_leader_epoch)?;
    // The end of the current epoch is the high watermark, which must not be one that lags.
    agent.barrier().await.map_err(|_| ErrorCode::LeaderNotAvailable)?;
    let Ok(epoch) = u32::try_from(asked.leader_epoch) else {
        return Ok(None);
    };
    let fold = agent.replica.fold();
    if IncarnationNumber(epoch) > fold.incarnation().0 {
        return Ok(None);
    }
    Ok(fold.leader_epoch_end(at, IncarnationNumber(epoch)))
}
