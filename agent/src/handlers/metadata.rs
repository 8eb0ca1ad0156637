//! `Metadata`: brokers, topics, partitions, and topics created because somebody asked for them.
//!
//! Invariants: LOG-6 (a topic is denied only after a read barrier, by a list of all topics as well).

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use esker_kafka::{ErrorCode, Str, TopicRef, Uuid};
use esker_segment::id::{PartitionIndex, TopicPartition};
use tracing::debug;

use super::admin::describe_cluster::CLUSTER_OPERATIONS;
use super::create_topics::{NewTopic, create};
use crate::agent::{Absent, Agent};
use crate::internal_topics::{is_internal, is_reserved};
use crate::kafka::dispatch::RequestContext;
use crate::membership::{Member, MemberView};
use crate::topics::TopicView;

/// Everything that can be done with a topic, for nobody is refused: bits of Kafka's `AclOperation` (read, write, create, delete, alter,
/// describe, describe and alter configs).
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// Answers.
pub async fn answer(agent: &Arc<Agent>, context: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let everything = match &request.topics {
        None => true,
        // Version 0 has no null: an empty list means all.
        Some(topics) => context.version == 0 && topics.is_empty(),
    };
    // Before version 4 the client could not forbid it.
    let may_create = agent.settings.topics.auto_create && (context.version < 4 || request.allow_auto_topic_creation);
    let placed = Placed {
        view: agent.members.view(),
        zone: agent.zone_of(context.client_id.as_deref()),
        leader_epoch: agent.leader_epoch(),
    };
    let mut topics = Vec::new();
    if everything {
        // A list without a topic denies it. Without the log, what is known is better than nothing: clients ask again.
        if agent.barrier().await.is_err() {
            debug!("the list of topics may be old");
        }
        let known: Vec<_> = agent.replica.fold().topics().map(|topic| Uuid(topic.id.0)).collect();
        topics.extend(
            known
                .into_iter()
                .filter_map(|id| agent.known_topic(&TopicRef::Id(id)))
                .map(|t| found(&placed, &t)),
        );
    }
    let mut seen = BTreeSet::new();
    for asked in request.topics.into_iter().flatten().filter(|_| !everything) {
        if !seen.insert((asked.name.clone(), asked.topic_id)) {
            continue;
        }
        let by_id = asked.name.is_none() || !asked.topic_id.is_zero();
        let topic = match (&asked.name, asked.topic_id) {
            (Some(name), id) if id.is_zero() => named(agent, name, may_create).await,
            (_, id) => {
                let absent = |absent: Absent| absent.code(ErrorCode::UnknownTopicId, ErrorCode::LeaderNotAvailable);
                agent.topic(&TopicRef::Id(id)).await.map_err(absent)
            }
        };
        topics.push(match topic {
            Ok(topic) => found(&placed, &topic),
            Err(code) => MetadataResponseTopic {
                error_code: code.code(),
                name: match asked.name {
                    None if context.version < 12 => Some(Str::default()),
                    Some(_) if by_id => None,
                    name => name,
                },
                topic_id: asked.topic_id,
                ..Default::default()
            },
        });
    }
    if request.include_topic_authorized_operations {
        for topic in &mut topics {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    MetadataResponse {
        brokers: placed.view.members.iter().map(broker).collect(),
        cluster_id: Some(Str::from(agent.cluster.as_str())),
        // Every agent does what a controller does; this one certainly lives.
        controller_id: agent.members.identity().node(),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}

async fn named(agent: &Arc<Agent>, name: &Str, may_create: bool) -> Result<TopicView, ErrorCode> {
    let asked = TopicRef::Name(name.clone());
    match agent.topic(&asked).await {
        Ok(topic) => return Ok(topic),
        Err(Absent::MayBeBehind) => return Err(ErrorCode::LeaderNotAvailable),
        Err(Absent::Certainly) => {}
    }
    super::create_topics::check_name(name).map_err(|_| ErrorCode::InvalidTopic)?;
    if !may_create || is_reserved(name) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let new = NewTopic::on_demand(name.as_str(), &agent.settings);
    match create(agent, new, false).await {
        // Somebody else may have been first; then it is there now.
        Ok(_) | Err((ErrorCode::TopicAlreadyExists, _)) => {
            agent.topic(&asked).await.map_err(|_| ErrorCode::LeaderNotAvailable)
        }
        Err((ErrorCode::InvalidTopic, _)) => Err(ErrorCode::InvalidTopic),
        Err((ErrorCode::RequestTimedOut | ErrorCode::NotController, _)) => Err(ErrorCode::LeaderNotAvailable),
        Err((code, _)) => Err(code),
    }
}

/// What a client of one zone is told of leaders.
struct Placed<'a> {
    view: Arc<MemberView>,
    zone: Option<&'a str>,
    leader_epoch: i32,
}

fn broker(member: &Member) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id: member.node,
        host: Str::from(member.endpoint.host.as_str()),
        port: i32::from(member.endpoint.port),
        rack: Some(Str::from(&*member.zone)).filter(|zone| !zone.is_empty()),
    }
}

fn found(placed: &Placed<'_>, topic: &TopicView) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions).map(|index| {
        let at = TopicPartition {
            topic: topic.id,
            partition: PartitionIndex(index),
        };
        let replicas = placed.view.placement.replicas(at, placed.zone);
        MetadataResponsePartition {
            error_code: 0,
            partition_index: i32::try_from(index).unwrap_or(i32::MAX),
            leader_id: replicas.first().copied().unwrap_or(-1),
            leader_epoch: placed.leader_epoch,
            replica_nodes: replicas.clone(),
            isr_nodes: replicas,
            offline_replicas: Vec::new(),
        }
    });
    MetadataResponseTopic {
        error_code: 0,
        name: Some(Str::from(&*topic.name)),
        topic_id: Uuid(topic.id.0),
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
