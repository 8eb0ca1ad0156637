//! OffsetDelete.

use std::sync::Arc;

use esker_kafka::ErrorCode;
use esker_kafka::messages::offset_delete_request::OffsetDeleteRequest;
use esker_kafka::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use esker_model::entry::{OffsetAction, OffsetChange};
use esker_segment::id::PartitionIndex;

use super::{TopicKey, group_id, look_up};
use crate::groups::coordinator::Coordinator;
use crate::groups::seams::Topic;
use crate::groups::subscriptions::{Subscribed, subscribed_topics};

impl Coordinator {
    /// Answers OffsetDelete 0.
    pub async fn offset_delete(self: &Arc<Self>, request: &OffsetDeleteRequest) -> OffsetDeleteResponse {
        let refuse = |error: ErrorCode| OffsetDeleteResponse {
            error_code: error.code(),
            ..OffsetDeleteResponse::default()
        };
        let id = group_id(&request.group_id);
        if id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        if let Err(refusal) = self.check_owned(&id) {
            return refuse(refusal.code());
        }
        let known = self.describe(&id).is_some();
        if !known {
            match self.parts().offsets.fetch_all(&id).await {
                Ok(offsets) if offsets.is_empty() => return refuse(ErrorCode::GroupIdNotFound),
                Ok(_) => {}
                Err(error) => return refuse(error.commit_code()),
            }
        }
        let keys: Vec<TopicKey<'_>> = request.topics.iter().map(|topic| TopicKey::Name(&topic.name)).collect();
        let found = look_up(&self.parts().topics, &keys).await;
        if !found.certain {
            return refuse(ErrorCode::CoordinatorLoadInProgress);
        }
        let mut answers = Vec::new();
        let queued = self.delete_offsets(&id, |group| {
            let subscribed = group.map_or(Ok(Subscribed::none()), subscribed_topics)?;
            let (changes, codes) = plan(request, &found.topics, &subscribed);
            answers = codes;
            Ok(changes)
        });
        match queued {
            Err(refusal) => return refuse(refusal.code()),
            Ok(queued) => {
                if let Err(error) = queued.await {
                    return refuse(error.commit_code());
                }
            }
        }
        OffsetDeleteResponse {
            topics: answers,
            ..OffsetDeleteResponse::default()
        }
    }
}

fn plan(
    request: &OffsetDeleteRequest,
    found: &[Option<Topic>],
    subscribed: &Subscribed,
) -> (Vec<OffsetChange>, Vec<OffsetDeleteResponseTopic>) {
    let mut changes = Vec::new();
    let topics = request.topics.iter().zip(found).map(|(topic, found)| {
        let partitions = topic.partitions.iter().map(|partition| {
            let mut delete = || {
                let found = found.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?;
                let index = u32::try_from(partition.partition_index)
                    .ok()
                    .filter(|index| *index < found.partitions);
                let index = PartitionIndex(index.ok_or(ErrorCode::UnknownTopicOrPartition)?);
                if subscribed.contains(&topic.name) {
                    return Err(ErrorCode::GroupSubscribedToTopic);
                }
                changes.push(OffsetChange {
                    topic: found.id,
                    partition: index,
                    action: OffsetAction::Delete,
                });
                Ok(())
            };
            let error = delete().err().unwrap_or(ErrorCode::None);
            OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            }
        });
        OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    (changes, topics)
}
