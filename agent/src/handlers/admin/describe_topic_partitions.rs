//! `DescribeTopicPartitions`: topics page by page (KIP-966).
//!
//! Invariants: LOG-6 (a topic is denied only after a read barrier, by a list of all topics as well).

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_kafka::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use esker_kafka::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use esker_kafka::{ErrorCode, Str, TopicRef, Uuid};
use esker_segment::id::{PartitionIndex, TopicPartition};

use crate::agent::Agent;
use crate::handlers::create_topics::check_name;
use crate::handlers::metadata::TOPIC_OPERATIONS;
use crate::internal_topics::is_internal;
use crate::kafka::dispatch::RequestContext;
use crate::topics::TopicView;

/// Partitions in one answer, `max.request.partition.size.limit` of Kafka.
const PARTITIONS_MAX: usize = 2_000;

/// Answers: topics in the order of their names from the cursor on, until there are enough partitions.
pub async fn answer(
    agent: &Arc<Agent>,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let behind = agent.barrier().await.is_err();
    let everything = request.topics.is_empty();
    let from = request
        .cursor
        .as_ref()
        .map(|cursor| cursor.topic_name.as_str())
        .unwrap_or_default();
    let mut names: BTreeSet<Str> = if everything {
        agent
            .replica
            .fold()
            .topics()
            .map(|topic| Str::from(topic.name))
            .collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    if let Some(cursor) = &request.cursor
        && (cursor.partition_index < 0 || !(everything || names.contains(&cursor.topic_name)))
    {
        let refused = names.into_iter().map(|name| refused(&name, ErrorCode::InvalidRequest));
        return DescribeTopicPartitionsResponse {
            topics: refused.collect(),
            ..Default::default()
        };
    }
    names.retain(|name| name.as_str() >= from);
    let limit = usize::try_from(request.response_partition_limit)
        .unwrap_or(0)
        .clamp(1, PARTITIONS_MAX);
    let mut page = Page {
        agent,
        zone: agent.zone_of(context.client_id.as_deref()),
        left: limit,
        topics: Vec::new(),
    };
    let mut next_cursor = None;
    for name in names {
        let start = match &request.cursor {
            Some(cursor) if cursor.topic_name == name => cursor.partition_index,
            _ => 0,
        };
        // Topics that are told without a partition count as well: a request may name any number that do not exist.
        let resume = if page.topics.len() >= PARTITIONS_MAX {
            Some(start)
        } else {
            page.add(&name, start, behind)
        };
        if let Some(partition_index) = resume {
            if page.topics.last().is_some_and(|topic| {
                topic.partitions.is_empty() && topic.error_code == 0 && topic.name.as_ref() == Some(&name)
            }) {
                page.topics.pop();
            }
            next_cursor = Some(Cursor {
                topic_name: name,
                partition_index,
            });
            break;
        }
    }
    DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor,
        ..Default::default()
    }
}

fn refused(name: &Str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.clone()),
        ..Default::default()
    }
}

struct Page<'a> {
    agent: &'a Arc<Agent>,
    zone: Option<&'a str>,
    /// Partitions that still fit.
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page<'_> {
    /// Adds a topic from a partition on; the partition to go on with if not all fitted.
    fn add(&mut self, name: &Str, start: i32, behind: bool) -> Option<i32> {
        let topic = self.agent.known_topic(&TopicRef::Name(name.clone()));
        let (topic, start) = match (topic, u32::try_from(start)) {
            (Some(topic), Ok(start)) => (topic, start),
            (Some(_), Err(_)) => {
                self.topics.push(refused(name, ErrorCode::InvalidRequest));
                return None;
            }
            (None, _) => {
                let code = match check_name(name) {
                    Err((code, _)) => code,
                    Ok(()) if behind => ErrorCode::LeaderNotAvailable,
                    Ok(()) => ErrorCode::UnknownTopicOrPartition,
                };
                self.topics.push(DescribeTopicPartitionsResponseTopic {
                    topic_authorized_operations: TOPIC_OPERATIONS,
                    ..refused(name, code)
                });
                return None;
            }
        };
        let fitting = u32::try_from(self.left).unwrap_or(u32::MAX);
        let end = topic.partitions.min(start.saturating_add(fitting));
        let partitions: Vec<_> = (start..end).map(|index| self.partition(&topic, index)).collect();
        self.left -= partitions.len();
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: 0,
            name: Some(name.clone()),
            topic_id: Uuid(topic.id.0),
            is_internal: is_internal(name),
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
        });
        (end < topic.partitions).then(|| i32::try_from(end).unwrap_or(i32::MAX))
    }

    fn partition(&self, topic: &TopicView, index: u32) -> DescribeTopicPartitionsResponsePartition {
        let at = TopicPartition {
            topic: topic.id,
            partition: PartitionIndex(index),
        };
        let replicas = self.agent.members.view().placement.replicas(at, self.zone);
        DescribeTopicPartitionsResponsePartition {
            error_code: 0,
            partition_index: i32::try_from(index).unwrap_or(i32::MAX),
            leader_id: replicas.first().copied().unwrap_or(-1),
            leader_epoch: self.agent.leader_epoch(),
            replica_nodes: replicas.clone(),
            isr_nodes: replicas,
            // Never null: Java's client does not look.
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: Vec::new(),
        }
    }
}
