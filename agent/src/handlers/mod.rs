//! The Kafka requests that are neither produce, fetch nor about groups: one module per API.

pub mod admin;
pub mod api_versions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod groups;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;

use esker_kafka::ErrorCode;
use esker_segment::id::{PartitionIndex, TopicPartition};

use crate::agent::Absent;
use crate::topics::TopicView;
use crate::writer::ProposeError;

/// What a client is told when the log did not take an entry.
pub(crate) fn propose_code(error: ProposeError) -> ErrorCode {
    match error {
        ProposeError::Refused => ErrorCode::TopicAlreadyExists,
        ProposeError::TooLarge => ErrorCode::InvalidRequest,
        ProposeError::Closed => ErrorCode::NotController,
        ProposeError::Unknown => ErrorCode::RequestTimedOut,
    }
}

/// The partition that a request names, if the topic has it; else what the client is told.
pub(crate) fn partition_of(topic: &Result<TopicView, Absent>, index: i32) -> Result<TopicPartition, ErrorCode> {
    let missing = ErrorCode::UnknownTopicOrPartition;
    let absent = |absent: &Absent| absent.code(missing, ErrorCode::NotLeaderOrFollower);
    let topic = topic.as_ref().map_err(absent)?;
    let index = u32::try_from(index).ok().filter(|index| *index < topic.partitions);
    Ok(TopicPartition {
        topic: topic.id,
        partition: PartitionIndex(index.ok_or(missing)?),
    })
}
