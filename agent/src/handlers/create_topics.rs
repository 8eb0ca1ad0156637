//! `CreateTopics`, and topics created on demand.
//!
//! Owns: the checks of a new topic, its record and entry in one transaction.
//! Does not own: limits and name collisions, which the fold decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_kafka::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use esker_kafka::{ErrorCode, Str, Uuid};
use esker_metadata::keys::topic::{self, Topic};
use esker_metadata::store::{Compare, Op};
use esker_model::EntryVerdict;
use esker_model::entry::{Entry, TOPIC_NAME_BYTES_MAX, TopicCreate, TopicDelete};
use esker_model::verdict::TopicCreateVerdict;
use esker_segment::id::TopicId;

use super::admin::config_values::{TopicDefaults, Wanted};
use super::propose_code;
use crate::agent::Agent;
use crate::internal_topics;
use crate::kafka::dispatch::RequestContext;
use crate::settings::Settings;

/// A topic to create, defaults filled in.
#[derive(Clone, Debug)]
pub struct NewTopic {
    name: String,
    partitions: u32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
}

/// A Kafka error with its text.
pub type Refused = (ErrorCode, String);

impl NewTopic {
    /// A topic with nothing but a name.
    #[must_use]
    pub fn with_defaults(name: &str, settings: &Settings) -> Self {
        Self {
            name: name.to_owned(),
            partitions: settings.topics.partitions,
            replication_factor: i16::try_from(settings.topics.replication_factor).unwrap_or(i16::MAX),
            configs: BTreeMap::new(),
        }
    }

    /// A topic that is created because somebody looks for it.
    #[must_use]
    pub fn on_demand(name: &str, settings: &Settings) -> Self {
        let mut new = Self::with_defaults(name, settings);
        if let Some((partitions, configs)) = internal_topics::defaults(name, settings) {
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            new.partitions = partitions;
            new.configs = configs.into_iter().map(owned).collect();
        }
        new
    }
}

/// Answers; every topic of the request is in the answer.
pub async fn answer(
    agent: &Arc<Agent>,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times: BTreeMap<Str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut topics: Vec<CreatableTopicResult> = Vec::with_capacity(times.len());
    let mut planned = Planned::default();
    let defaults = TopicDefaults::of(agent);
    for topic in request.topics {
        let name = topic.name.clone();
        let created = match times.get(&name) {
            Some(1) if request.validate_only => match one(agent, topic, true).await {
                Ok((id, new)) => planned.add(agent, &new).map(|()| (id, new)),
                refused => refused,
            },
            Some(1) => one(agent, topic, false).await,
            Some(0) | None => continue,
            Some(_) => {
                times.insert(name.clone(), 0);
                Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()))
            }
        };
        topics.push(match created {
            Ok((id, new)) => result(context.version, name, id, &new, &defaults),
            Err((code, message)) => CreatableTopicResult {
                name,
                error_code: code.code(),
                error_message: Some(Str::from(message)),
                num_partitions: -1,
                replication_factor: -1,
                configs: Some(Vec::new()),
                ..Default::default()
            },
        });
    }
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

/// Topics of the same request that would have been created by now if it were not to validate only.
#[derive(Debug, Default)]
struct Planned {
    /// By what they would collide over.
    names: BTreeMap<String, String>,
    partitions: u32,
}

impl Planned {
    fn add(&mut self, agent: &Agent, new: &NewTopic) -> Result<(), Refused> {
        let fold = agent.replica.fold();
        let left = fold.limits().partitions_max.saturating_sub(fold.partition_total());
        let left = left.saturating_sub(self.partitions);
        if let Some(first) = self.names.insert(new.name.replace('.', "_"), new.name.clone()) {
            return Err(collides(&new.name, &first));
        }
        if new.partitions > left {
            let verdict = TopicCreateVerdict::TooManyPartitions { left };
            let exists = (ErrorCode::TopicAlreadyExists, String::new());
            return Err(refused(agent, &new.name, verdict, exists));
        }
        self.partitions += new.partitions;
        Ok(())
    }
}

fn result(version: i16, name: Str, id: TopicId, new: &NewTopic, defaults: &TopicDefaults) -> CreatableTopicResult {
    let all = Wanted {
        names: None,
        synonyms: false,
        documentation: false,
    };
    // KIP-525: every config that the topic now has, wherever it comes from.
    let configs = || {
        let told = defaults.describe(&new.configs, all).into_iter();
        let told = told.map(|config| CreatableTopicConfigs {
            // As it was said.
            value: new
                .configs
                .get(config.name.as_str())
                .map(|said| Str::from(said.as_str()))
                .or(config.value),
            name: config.name,
            read_only: config.read_only,
            config_source: config.config_source,
            is_sensitive: config.is_sensitive,
        });
        told.collect()
    };
    CreatableTopicResult {
        name,
        topic_id: Uuid(id.0),
        error_message: None,
        num_partitions: i32::try_from(new.partitions).unwrap_or(i32::MAX),
        replication_factor: new.replication_factor,
        configs: (version >= 5).then(configs),
        ..Default::default()
    }
}

async fn one(agent: &Arc<Agent>, asked: CreatableTopic, validate_only: bool) -> Result<(TopicId, NewTopic), Refused> {
    check_name(&asked.name)?;
    if internal_topics::is_reserved(&asked.name) {
        let message = format!("Creation of internal topic {} is prohibited.", asked.name);
        return Err((ErrorCode::InvalidRequest, message));
    }
    let new = describe(agent, asked)?;
    let id = create(agent, new.clone(), validate_only).await?;
    Ok((id, new))
}

/// Fills in defaults and checks what does not depend on the log.
fn describe(agent: &Agent, asked: CreatableTopic) -> Result<NewTopic, Refused> {
    let mut new = NewTopic::with_defaults(&asked.name, &agent.settings);
    if asked.assignments.is_empty() {
        if asked.num_partitions != -1 {
            new.partitions = u32::try_from(asked.num_partitions)
                .ok()
                .filter(|count| *count > 0)
                .ok_or_else(|| {
                    let message = "Number of partitions was set to an invalid non-positive value.";
                    (ErrorCode::InvalidPartitions, message.to_owned())
                })?;
        }
        if asked.replication_factor != -1 {
            if asked.replication_factor <= 0 {
                let message = "Replication factor was set to an invalid non-positive value.";
                return Err((ErrorCode::InvalidReplicationFactor, message.to_owned()));
            }
            new.replication_factor = asked.replication_factor;
        }
    } else {
        (new.partitions, new.replication_factor) = from_assignments(&asked)?;
    }
    for config in asked.configs {
        let value = config.value.ok_or_else(|| {
            (
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {:.250}", config.name),
            )
        })?;
        new.configs
            .insert(config.name.as_str().to_owned(), value.as_str().to_owned());
    }
    let configs = new.configs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    agent
        .catalog
        .check(configs)
        .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
    Ok(new)
}

fn from_assignments(asked: &CreatableTopic) -> Result<(u32, i16), Refused> {
    let refuse = |message: &str| Err((ErrorCode::InvalidReplicaAssignment, message.to_owned()));
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let message = "Both numPartitions or replicationFactor and replicasAssignments were set.";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let mut indexes: Vec<i32> = asked
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let replicas = asked.assignments[0].broker_ids.len();
    if asked
        .assignments
        .iter()
        .any(|assignment| assignment.broker_ids.len() != replicas)
        || replicas == 0
    {
        return refuse("All partitions should have the same number of replicas.");
    }
    if !indexes
        .iter()
        .copied()
        .eq(0..i32::try_from(indexes.len()).unwrap_or(i32::MAX))
    {
        return refuse("partitions should be a consecutive 0-based integer sequence");
    }
    for assignment in &asked.assignments {
        let distinct: BTreeSet<i32> = assignment.broker_ids.iter().copied().collect();
        if distinct.len() < replicas {
            return refuse("The manual partition assignment includes a broker more than once.");
        }
        if distinct.first().is_some_and(|broker| *broker < 0) {
            return refuse("The manual partition assignment includes a broker with a negative id.");
        }
    }
    let partitions = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
    Ok((partitions, i16::try_from(replicas).unwrap_or(i16::MAX)))
}

/// Whether a name is legal, as in Kafka. Texts repeat no more of a name than a legal one has: an answer holds strings of at most
/// 32,767 bytes, and none at all could be sent.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION` with the reason.
pub fn check_name(name: &str) -> Result<(), Refused> {
    let refuse = |why: String| Err((ErrorCode::InvalidTopic, format!("Topic name is invalid: {why}")));
    if name.is_empty() {
        return refuse("the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return refuse(format!("'{name:.250}' is not allowed"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse(format!(
            "the length of '{name:.250}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
        ));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    {
        return refuse(format!(
            "'{name:.250}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Creates a topic: its record and its entry in one transaction.
///
/// # Errors
/// What the client is told.
pub async fn create(agent: &Arc<Agent>, new: NewTopic, validate_only: bool) -> Result<TopicId, Refused> {
    if validate_only {
        let behind = |error| (ErrorCode::RequestTimedOut, format!("the log cannot be read: {error}"));
        agent.barrier().await.map_err(behind)?;
    }
    let exists = (
        ErrorCode::TopicAlreadyExists,
        format!("Topic '{:.250}' already exists.", new.name),
    );
    let id = TopicId((agent.random)());
    let entry = TopicCreate {
        topic: id,
        name: Box::from(new.name.as_str()),
        partitions: new.partitions,
    };
    // What the fold would refuse needs no entry. It judges again when the entry is there: others may come first.
    let judged = agent.replica.fold().judge_topic(&entry);
    match judged {
        TopicCreateVerdict::Created if validate_only => return Ok(id),
        TopicCreateVerdict::Created => {}
        verdict => return Err(refused(agent, &new.name, verdict, exists)),
    }
    let record = Topic {
        id,
        replication_factor: new.replication_factor,
        configs: new.configs.into_iter().collect(),
    };
    let key = topic::key(&new.name);
    let value = record.encode();
    let proposed = agent
        .log
        .propose_with(
            vec![Entry::TopicCreate(entry)],
            vec![Compare::Absent(key.clone())],
            vec![Op::put(key.clone(), value.clone())],
        )
        .await;
    let verdicts = proposed.map_err(|error| match propose_code(error) {
        ErrorCode::TopicAlreadyExists => exists.clone(),
        code => (code, error.to_string()),
    })?;
    let verdict = match verdicts.first() {
        Some(EntryVerdict::TopicCreate(TopicCreateVerdict::Created)) => return Ok(id),
        Some(EntryVerdict::TopicCreate(verdict)) => *verdict,
        _ => return Err((ErrorCode::InvalidRequest, "the entry was rejected".to_owned())),
    };
    // The fold refused what the transaction had let through: the record goes again.
    let undo = vec![Entry::TopicDelete(TopicDelete { topic: id })];
    let undone = agent
        .log
        .propose_with(undo, vec![Compare::Value(key.clone(), value)], vec![Op::Delete(key)])
        .await;
    if let Err(error) = undone {
        tracing::warn!(topic = new.name, %error, "record of a refused topic not removed");
    }
    Err(refused(agent, &new.name, verdict, exists))
}

fn refused(agent: &Agent, name: &str, verdict: TopicCreateVerdict, exists: Refused) -> Refused {
    match verdict {
        TopicCreateVerdict::Created | TopicCreateVerdict::NameTaken { .. } | TopicCreateVerdict::IdTaken => exists,
        TopicCreateVerdict::NameCollides { with } => {
            let fold = agent.replica.fold();
            let existing = fold.topics().find(|topic| topic.id == with);
            collides(name, existing.map_or("", |topic| topic.name))
        }
        TopicCreateVerdict::NameInvalid => (ErrorCode::InvalidTopic, format!("'{name:.250}' is not a legal name")),
        TopicCreateVerdict::PartitionsOutOfRange { max } => (
            ErrorCode::InvalidPartitions,
            format!("a topic has 1 to {max} partitions"),
        ),
        TopicCreateVerdict::TooManyPartitions { left } => (
            ErrorCode::InvalidPartitions,
            format!("the cluster has room for {left} more partitions"),
        ),
    }
}

/// `.` and `_` count as the same.
fn collides(name: &str, existing: &str) -> Refused {
    let message = format!("Topic '{name:.250}' collides with existing topic: {existing}");
    (ErrorCode::InvalidTopic, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_names_are_refused() {
        for name in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "...", "A.b_c-9", &"x".repeat(249)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
