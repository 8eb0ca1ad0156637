//! OffsetFetch.
//!
//! What does not exist is answered with offset -1 and no error: a code would kill Streams, and an empty answer would make
//! consumers start over.

use esker_kafka::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use esker_kafka::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use esker_kafka::{ErrorCode, Str, Uuid};
use esker_segment::id::{PartitionIndex, TopicPartition};

use super::{LookedUp, RequestContext, TopicKey, group_id, look_up};
use crate::groups::coordinator::Coordinator;
use crate::groups::ids::GroupId;
use crate::groups::seams::{GroupOffset, Topic};

/// First version with an error for the whole answer.
const ERROR_CODE_SINCE: i16 = 2;
/// First version that asks for several groups.
const MANY_GROUPS_SINCE: i16 = 8;
/// First version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;

/// A topic that is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    key: TopicKey<'a>,
    partitions: &'a [i32],
}

impl<'a> Asked<'a> {
    fn old(topic: &'a OffsetFetchRequestTopic) -> Self {
        Self {
            key: TopicKey::Name(&topic.name),
            partitions: &topic.partition_indexes,
        }
    }

    fn new(topic: &'a OffsetFetchRequestTopics, by_id: bool) -> Self {
        let key = if by_id {
            TopicKey::Id(topic.topic_id)
        } else {
            TopicKey::Name(&topic.name)
        };
        Self {
            key,
            partitions: &topic.partition_indexes,
        }
    }
}

impl Coordinator {
    /// Answers OffsetFetch 1 to 10. Any agent can, coordinator or not.
    pub async fn offset_fetch(&self, request: &OffsetFetchRequest, ctx: &RequestContext<'_>) -> OffsetFetchResponse {
        let stable = request.require_stable;
        if ctx.version < MANY_GROUPS_SINCE {
            let asked = request
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(Asked::old).collect());
            let answer = self.fetch_group(&request.group_id, asked, stable, false).await;
            return in_old_form(answer, request, ctx.version);
        }
        let by_id = ctx.version >= TOPIC_IDS_SINCE;
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            let asked = group.topics.as_ref();
            let asked = asked.map(|topics| topics.iter().map(|topic| Asked::new(topic, by_id)).collect());
            groups.push(self.fetch_group(&group.group_id, asked, stable, by_id).await);
        }
        OffsetFetchResponse {
            groups,
            ..OffsetFetchResponse::default()
        }
    }

    async fn fetch_group(
        &self,
        group: &Str,
        asked: Option<Vec<Asked<'_>>>,
        stable: bool,
        by_id: bool,
    ) -> OffsetFetchResponseGroup {
        let id = group_id(group);
        let result = match asked {
            Some(asked) => self.fetch_some(&id, &asked, stable).await,
            None => self.fetch_every(&id, stable, by_id).await,
        };
        let (topics, error_code) = match result {
            Ok(topics) => (topics, ErrorCode::None.code()),
            Err(error) => (Vec::new(), error.code()),
        };
        OffsetFetchResponseGroup {
            group_id: group.clone(),
            topics,
            error_code,
        }
    }

    async fn fetch_some(
        &self,
        group: &GroupId,
        asked: &[Asked<'_>],
        stable: bool,
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        let keys: Vec<TopicKey<'_>> = asked.iter().map(|topic| topic.key).collect();
        let LookedUp { topics: found, certain } = look_up(&self.parts().topics, &keys).await;
        if !certain {
            // "No offset" makes a consumer start over: that is said only when it is known.
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let wanted = asked.iter().zip(&found).flat_map(|(topic, found)| {
            topic
                .partitions
                .iter()
                .filter_map(|index| partition(found.as_ref(), *index))
        });
        let wanted: Vec<TopicPartition> = wanted.collect();
        let offsets = self
            .parts()
            .offsets
            .fetch(group, &wanted)
            .await
            .map_err(|error| error.fetch_code())?;
        let mut offsets = offsets.into_iter();
        let answers = asked.iter().zip(&found).map(|(topic, found)| {
            let partitions = topic.partitions.iter().map(|index| {
                if let (None, TopicKey::Id(_)) = (found, topic.key) {
                    return answer(*index, None, ErrorCode::UnknownTopicId);
                }
                let offset = partition(found.as_ref(), *index).and_then(|_| offsets.next());
                settled(*index, offset.as_ref(), stable)
            });
            let partitions = partitions.collect();
            match topic.key {
                TopicKey::Name(name) => OffsetFetchResponseTopics {
                    name: name.clone(),
                    partitions,
                    ..OffsetFetchResponseTopics::default()
                },
                TopicKey::Id(topic_id) => OffsetFetchResponseTopics {
                    topic_id,
                    partitions,
                    ..OffsetFetchResponseTopics::default()
                },
            }
        });
        Ok(answers.collect())
    }

    async fn fetch_every(
        &self,
        group: &GroupId,
        stable: bool,
        by_id: bool,
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        let offsets = self
            .parts()
            .offsets
            .fetch_all(group)
            .await
            .map_err(|error| error.fetch_code())?;
        let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
        let mut current: Option<Topic> = None;
        for (at, offset) in &offsets {
            // Nothing is committed there: Kafka leaves it out, unless it may be in a moment.
            if offset.committed.is_none() && !(offset.staged && stable) {
                continue;
            }
            if current.as_ref().is_none_or(|topic| topic.id != at.topic) {
                // A topic that was deleted in this moment.
                let Some(topic) = self.parts().topics.by_id(at.topic) else {
                    continue;
                };
                topics.push(named(&topic, by_id));
                current = Some(topic);
            }
            let Ok(index) = i32::try_from(at.partition.0) else {
                continue;
            };
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(settled(index, Some(offset), stable));
            }
        }
        Ok(topics)
    }
}

fn named(topic: &Topic, by_id: bool) -> OffsetFetchResponseTopics {
    if by_id {
        return OffsetFetchResponseTopics {
            topic_id: Uuid(topic.id.0),
            ..OffsetFetchResponseTopics::default()
        };
    }
    OffsetFetchResponseTopics {
        name: Str::from(&*topic.name),
        ..OffsetFetchResponseTopics::default()
    }
}

fn partition(topic: Option<&Topic>, index: i32) -> Option<TopicPartition> {
    let partition = PartitionIndex(u32::try_from(index).ok()?);
    Some(TopicPartition {
        topic: topic?.id,
        partition,
    })
}

/// The committed offset, or, if the client insists, that it is about to change.
fn settled(index: i32, offset: Option<&GroupOffset>, stable: bool) -> OffsetFetchResponsePartitions {
    if stable && offset.is_some_and(|offset| offset.staged) {
        return answer(index, None, ErrorCode::UnstableOffsetCommit);
    }
    answer(index, offset, ErrorCode::None)
}

fn answer(index: i32, offset: Option<&GroupOffset>, error: ErrorCode) -> OffsetFetchResponsePartitions {
    let committed = offset.and_then(|offset| offset.committed.as_ref());
    let epoch = committed.and_then(|commit| commit.leader_epoch);
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: committed.map_or(-1, |commit| commit.offset.0),
        committed_leader_epoch: epoch.and_then(|epoch| i32::try_from(epoch).ok()).unwrap_or(-1),
        metadata: Some(committed.map(|commit| Str::from(&*commit.metadata)).unwrap_or_default()),
        error_code: error.code(),
    }
}

/// Versions before 8: one group; before 2 an error has to stand at every partition.
fn in_old_form(answer: OffsetFetchResponseGroup, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    if answer.error_code != ErrorCode::None.code() && version < ERROR_CODE_SINCE {
        return refused_everywhere(request, answer.error_code);
    }
    let topics = answer.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(old_partition).collect(),
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: answer.error_code,
        ..OffsetFetchResponse::default()
    }
}

fn old_partition(new: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: new.partition_index,
        committed_offset: new.committed_offset,
        committed_leader_epoch: new.committed_leader_epoch,
        metadata: new.metadata,
        error_code: new.error_code,
    }
}

fn refused_everywhere(request: &OffsetFetchRequest, error_code: i16) -> OffsetFetchResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let refused = answer(*index, None, ErrorCode::None);
            OffsetFetchResponsePartition {
                error_code,
                ..old_partition(refused)
            }
        });
        OffsetFetchResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        ..OffsetFetchResponse::default()
    }
}
