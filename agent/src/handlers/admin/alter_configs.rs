//! `IncrementalAlterConfigs` and `AlterConfigs`.
//!
//! A topic's configs change in one transaction with an entry of the log that changes nothing (it trims to 0), so that every read
//! barrier after the answer finds them, on every agent. Configs of anything else are a key of the metadata store each.
//!
//! Owns: which resources can be changed, storing the change.
//! Does not own: what a change makes of configs (`config_edits`).

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_kafka::messages::alter_configs_request::AlterConfigsRequest;
use esker_kafka::messages::alter_configs_response::{
    AlterConfigsResourceResponse as ReplacedResource, AlterConfigsResponse,
};
use esker_kafka::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use esker_kafka::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use esker_kafka::{ErrorCode, Str, TopicRef};
use esker_metadata::keys::config::{self, CONFIGS_MAX, Configs};
use esker_metadata::keys::topic::{self, Topic};
use esker_metadata::store::{Compare, Op};
use esker_model::entry::{Entry, Trim};
use esker_segment::id::{Offset, PartitionIndex, TopicId, TopicPartition};

use super::config_edits::{Edit, EditKind, Target, check, edited};
use super::config_values::SetConfigs;
use super::describe_configs::{ResourceType, check_broker, decode, owner_of};
use super::stored::{self, ALTERATIONS_MAX, Census, Change, FAMILY_MAX, NAME_BYTES_MAX};
use crate::agent::Agent;
use crate::handlers::create_topics::{Refused, check_name};
use crate::handlers::propose_code;
use crate::writer::ProposeError;

/// Resources that one request changes; what comes after is refused.
const RESOURCES_MAX: usize = 1_000;
/// How often a change of a topic is tried.
const ATTEMPTS: usize = 8;

/// What a request does to the configs of a resource.
enum Alteration<'a> {
    Edit(Vec<Edit<'a>>),
    Replace(SetConfigs),
}

/// What is to be changed, and how.
struct Asked<'a> {
    of: i8,
    name: &'a Str,
    alteration: Result<Alteration<'a>, Refused>,
}

/// Answers; every resource of the request is in the answer.
pub async fn answer_incremental(
    agent: &Arc<Agent>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.iter().map(|resource| {
        let edits = resource.configs.iter().map(|config| {
            let kind = EditKind::from_code(config.config_operation);
            let kind = kind.ok_or_else(|| {
                let message = format!("Unknown operation type {}", config.config_operation);
                (ErrorCode::InvalidRequest, message)
            })?;
            Ok(Edit {
                name: &config.name,
                kind,
                value: config.value.as_deref(),
            })
        });
        Asked {
            of: resource.resource_type,
            name: &resource.resource_name,
            alteration: edits.collect::<Result<_, _>>().map(Alteration::Edit),
        }
    });
    let refusals = alter_all(agent, &asked.collect::<Vec<_>>(), request.validate_only).await;
    let responses = request.resources.into_iter().zip(refusals);
    let responses = responses.map(|(resource, refused)| {
        let (error_code, error_message) = told(refused);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        }
    });
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

/// Answers; every resource of the request is in the answer.
pub async fn answer_replacing(agent: &Arc<Agent>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let asked = request.resources.iter().map(|resource| {
        let mut configs = SetConfigs::new();
        let mut problem = None;
        for config in &resource.configs {
            match config.value.as_deref() {
                None => problem = Some(format!("Null value not supported for : {:.250}", config.name)),
                Some(value) => {
                    if configs
                        .insert(config.name.as_str().to_owned(), value.to_owned())
                        .is_some()
                    {
                        problem = Some("Error due to duplicate config keys".to_owned());
                    }
                }
            }
        }
        let alteration = match problem {
            Some(message) => Err((ErrorCode::InvalidRequest, message)),
            None => Ok(Alteration::Replace(configs)),
        };
        Asked {
            of: resource.resource_type,
            name: &resource.resource_name,
            alteration,
        }
    });
    let refusals = alter_all(agent, &asked.collect::<Vec<_>>(), request.validate_only).await;
    let responses = request.resources.into_iter().zip(refusals);
    let responses = responses.map(|(resource, refused)| {
        let (error_code, error_message) = told(refused);
        ReplacedResource {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        }
    });
    AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn told(refused: Option<Refused>) -> (i16, Option<Str>) {
    match refused {
        None => (0, None),
        Some((code, message)) => (code.code(), Some(Str::from(message))),
    }
}

/// Changes one resource after the other; says of each what was refused.
async fn alter_all(agent: &Arc<Agent>, asked: &[Asked<'_>], validate_only: bool) -> Vec<Option<Refused>> {
    let mut times: BTreeMap<(i8, &Str), usize> = BTreeMap::new();
    for resource in asked {
        *times.entry((resource.of, resource.name)).or_default() += 1;
    }
    let mut refusals = Vec::with_capacity(asked.len());
    let mut census = Census::default();
    // Groups and subscriptions: clients make up their names, so each may be one more key.
    let mut made_up = 0;
    for (index, resource) in asked.iter().enumerate() {
        let altered = if times.get(&(resource.of, resource.name)) != Some(&1) {
            let message = "Each resource must appear at most once.";
            Err((ErrorCode::InvalidRequest, message.to_owned()))
        } else if made_up_by_clients(resource.of) && made_up >= ALTERATIONS_MAX {
            let message =
                format!("a request may change at most {ALTERATIONS_MAX} groups and client metrics subscriptions");
            Err((ErrorCode::InvalidRequest, message))
        } else if index >= RESOURCES_MAX {
            let message = format!("a request may change at most {RESOURCES_MAX} resources");
            Err((ErrorCode::InvalidRequest, message))
        } else {
            made_up += usize::from(made_up_by_clients(resource.of));
            match &resource.alteration {
                Ok(alteration) => {
                    alter(
                        agent,
                        &mut census,
                        resource.of,
                        resource.name,
                        alteration,
                        validate_only,
                    )
                    .await
                }
                Err(refused) => Err(refused.clone()),
            }
        };
        refusals.push(altered.err());
    }
    refusals
}

/// Whether resources of a type need not exist to have configs.
fn made_up_by_clients(of: i8) -> bool {
    matches!(
        ResourceType::from_code(of),
        Some(ResourceType::Group | ResourceType::ClientMetrics)
    )
}

async fn alter(
    agent: &Arc<Agent>,
    census: &mut Census,
    of: i8,
    name: &Str,
    alteration: &Alteration<'_>,
    validate_only: bool,
) -> Result<(), Refused> {
    let unexpected = || (ErrorCode::InvalidRequest, format!("Unexpected resource type {of}."));
    let of = ResourceType::from_code(of).ok_or_else(unexpected)?;
    let target = match of {
        ResourceType::Topic => return alter_topic(agent, name, alteration, validate_only).await,
        ResourceType::BrokerLogger => {
            let message = "log levels are chosen at start and cannot be changed";
            return Err((ErrorCode::InvalidRequest, message.to_owned()));
        }
        ResourceType::Broker if name.is_empty() => Target::Broker,
        ResourceType::Broker => check_broker(agent, name).map(|_| Target::Broker)?,
        ResourceType::Group => Target::Group,
        ResourceType::ClientMetrics => Target::ClientMetrics,
    };
    if target != Target::Broker && (name.is_empty() || name.len() > NAME_BYTES_MAX) {
        let message = format!("a name of 1 to {NAME_BYTES_MAX} bytes is needed");
        return Err((ErrorCode::InvalidRequest, message));
    }
    let owner = owner_of(of).ok_or_else(unexpected)?;
    let key = config::key(owner, name);
    if !validate_only && target != Target::Broker {
        census.admit(agent, config::prefix(owner), &key, FAMILY_MAX).await?;
    }
    let decide = |held: Option<&bytes::Bytes>| {
        let old = decode(held)?;
        let new = altered(target, &old, alteration)?;
        check(target, &old, &new)?;
        if new == old || validate_only {
            return Ok(Change::Nothing);
        }
        if new.is_empty() {
            return Ok(Change::Delete);
        }
        if new.len() > CONFIGS_MAX {
            return Err((ErrorCode::InvalidRequest, "too many configs".to_owned()));
        }
        let configs = new.into_iter().collect();
        Ok(Change::Put(Configs { configs }.encode()))
    };
    stored::change(agent, key, decide).await?;
    if target == Target::Broker && !validate_only {
        // When this returns it counts on this agent, and on others after their next barrier.
        let folded = agent.log.propose(vec![nothing(TopicId(0))]).await;
        folded.map_err(|error| (propose_code(error), error.to_string()))?;
    }
    Ok(())
}

fn altered(target: Target, old: &SetConfigs, alteration: &Alteration<'_>) -> Result<SetConfigs, Refused> {
    match alteration {
        Alteration::Edit(edits) => edited(target, old, edits),
        Alteration::Replace(configs) => Ok(configs.clone()),
    }
}

async fn alter_topic(
    agent: &Arc<Agent>,
    name: &Str,
    alteration: &Alteration<'_>,
    validate_only: bool,
) -> Result<(), Refused> {
    check_name(name)?;
    let mut problem = (ErrorCode::RequestTimedOut, "others change it all the time".to_owned());
    for _ in 0..ATTEMPTS {
        let behind = |error| (ErrorCode::RequestTimedOut, format!("the log cannot be read: {error}"));
        agent.barrier().await.map_err(behind)?;
        let known = agent.known_topic(&TopicRef::Name(name.clone()));
        let record = agent.replica.topic_record(name);
        let missing = || {
            (
                ErrorCode::UnknownTopicOrPartition,
                format!("The topic '{name:.250}' does not exist."),
            )
        };
        let record = known.and(record).ok_or_else(missing)?;
        let old: SetConfigs = record.configs.iter().cloned().collect();
        let new = altered(Target::Topic, &old, alteration)?;
        let pairs = new.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let checked = agent.catalog.check(pairs);
        checked.map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        if new == old || validate_only {
            return Ok(());
        }
        let changed = Topic {
            configs: new.into_iter().collect(),
            ..record.clone()
        };
        match put_topic(agent, name, &record, &changed).await {
            Ok(()) => return Ok(()),
            Err(ProposeError::Refused) => {}
            Err(error @ ProposeError::Unknown) => problem = (propose_code(error), error.to_string()),
            Err(error @ (ProposeError::Closed | ProposeError::TooLarge)) => {
                return Err((propose_code(error), error.to_string()));
            }
        }
    }
    Err(problem)
}

/// Replaces the record of a topic. When this returns, this agent has the new one, and others have after their next barrier.
async fn put_topic(agent: &Arc<Agent>, name: &str, old: &Topic, new: &Topic) -> Result<(), ProposeError> {
    let key = topic::key(name);
    let compare = Compare::Value(key.clone(), old.encode());
    let put = Op::put(key, new.encode());
    agent
        .log
        .propose_with(vec![nothing(old.id)], vec![compare], vec![put])
        .await
        .map(drop)
}

/// An entry that changes nothing.
pub(super) fn nothing(topic: TopicId) -> Entry {
    Entry::Trim(Trim {
        partition: TopicPartition {
            topic,
            partition: PartitionIndex(0),
        },
        log_start: Offset(0),
    })
}
