//! OffsetCommit.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_kafka::ErrorCode;
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use esker_model::entry::{OffsetAction, OffsetChange, OffsetCommit};
use esker_segment::id::{Offset, PartitionIndex, Timestamp};

use super::{RequestContext, TopicKey, group_id, instance_id, look_up, member_id};
use crate::groups::coordinator::{Committer, Coordinator};
use crate::groups::ids::Generation;
use crate::groups::seams::Topic;

/// First version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;

impl Coordinator {
    /// Answers OffsetCommit 2 to 10. The retention time of versions 2 to 4 is ignored; KIP-211 took it out of
    /// the request.
    pub async fn offset_commit(
        self: &Arc<Self>,
        request: &OffsetCommitRequest,
        ctx: &RequestContext<'_>,
    ) -> OffsetCommitResponse {
        let by_id = ctx.version >= TOPIC_IDS_SINCE;
        let keys: Vec<TopicKey<'_>> = request.topics.iter().map(|topic| key(topic, by_id)).collect();
        let found = look_up(&self.parts().topics, &keys).await;
        let now = (self.parts().wall_clock)();
        let mut changes = BTreeMap::new();
        let mut answers: Vec<Vec<ErrorCode>> = Vec::with_capacity(request.topics.len());
        for ((topic, key), found_topic) in request.topics.iter().zip(&keys).zip(&found.topics) {
            let missing = if found.certain {
                key.unknown()
            } else {
                ErrorCode::CoordinatorLoadInProgress
            };
            let codes = topic.partitions.iter().map(|partition| {
                let found_topic = found_topic.as_ref().ok_or(missing)?;
                let change = self.change(found_topic, partition, now)?;
                // The last one counts, as if they had come one after the other.
                changes.insert((change.topic, change.partition), change);
                Ok(())
            });
            answers.push(codes.map(|one| one.err().unwrap_or(ErrorCode::None)).collect());
        }
        let outcome = if changes.is_empty() {
            ErrorCode::None
        } else {
            self.commit_changes(request, changes.into_values().collect()).await
        };
        respond(request, &answers, outcome, by_id)
    }

    fn change(
        &self,
        topic: &Topic,
        partition: &OffsetCommitRequestPartition,
        now: Timestamp,
    ) -> Result<OffsetChange, ErrorCode> {
        let index = u32::try_from(partition.partition_index).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
        if index >= topic.partitions {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
        // Kafka counts the characters of a Java string.
        if metadata.encode_utf16().count() > self.settings().offset_metadata_bytes_max {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        let commit = OffsetCommit {
            // Also what no partition can have: kafkajs resets a group by committing -1 or -2, and reads that back.
            offset: Offset(partition.committed_offset),
            leader_epoch: u32::try_from(partition.committed_leader_epoch).ok(),
            metadata: metadata.into(),
            timestamp: now,
        };
        Ok(OffsetChange {
            topic: topic.id,
            partition: PartitionIndex(index),
            action: OffsetAction::Commit(commit),
        })
    }

    async fn commit_changes(self: &Arc<Self>, request: &OffsetCommitRequest, changes: Vec<OffsetChange>) -> ErrorCode {
        let committer = Committer {
            member: member_id(&request.member_id),
            instance: instance_id(request.group_instance_id.as_ref()),
            generation: Generation(request.generation_id_or_member_epoch),
        };
        let queued = match self.commit(&group_id(&request.group_id), &committer, changes) {
            Ok(queued) => queued,
            Err(refusal) => return refusal.code(),
        };
        match queued.await {
            Ok(()) => ErrorCode::None,
            Err(error) => error.commit_code(),
        }
    }
}

const fn key(topic: &OffsetCommitRequestTopic, by_id: bool) -> TopicKey<'_> {
    if by_id {
        TopicKey::Id(topic.topic_id)
    } else {
        TopicKey::Name(&topic.name)
    }
}

/// A partition that was refused by itself keeps its own code; the others share that of the commit.
fn respond(
    request: &OffsetCommitRequest,
    answers: &[Vec<ErrorCode>],
    outcome: ErrorCode,
    by_id: bool,
) -> OffsetCommitResponse {
    let topics = request.topics.iter().zip(answers).map(|(topic, codes)| {
        let partitions = topic
            .partitions
            .iter()
            .zip(codes)
            .map(|(partition, own)| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: if *own == ErrorCode::None {
                    outcome.code()
                } else {
                    own.code()
                },
            });
        let partitions = partitions.collect();
        let mut answer = OffsetCommitResponseTopic {
            partitions,
            ..OffsetCommitResponseTopic::default()
        };
        if by_id {
            answer.topic_id = topic.topic_id;
        } else {
            answer.name = topic.name.clone();
        }
        answer
    });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    }
}
