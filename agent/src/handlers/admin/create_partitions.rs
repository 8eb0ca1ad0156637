//! `CreatePartitions`: more partitions for topics that exist.
//!
//! Owns: the checks that do not depend on the log.
//! Does not own: limits, which the fold decides.
//!
//! Invariants: LOG-6 (a topic is denied only after a read barrier).

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_kafka::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use esker_kafka::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use esker_kafka::{ErrorCode, Str};
use esker_model::EntryVerdict;
use esker_model::entry::{Entry, PartitionsGrow};
use esker_model::verdict::GrowVerdict;

use super::lookup::Lookup;
use crate::agent::{Absent, Agent};
use crate::handlers::create_topics::Refused;
use crate::handlers::propose_code;
use crate::writer::ProposeError;

/// Answers; every topic of the request is in the answer.
pub async fn answer(agent: &Arc<Agent>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut times: BTreeMap<Str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut lookup = Lookup::new(agent);
    let mut results = Vec::with_capacity(times.len());
    for topic in request.topics {
        let grown = match times.get(&topic.name) {
            Some(1) => grow(agent, &mut lookup, &topic, request.validate_only).await,
            Some(0) | None => continue,
            Some(_) => {
                times.insert(topic.name.clone(), 0);
                Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()))
            }
        };
        let (error_code, error_message) = match grown {
            Ok(()) => (ErrorCode::None, None),
            Err((code, message)) => (code, Some(Str::from(message))),
        };
        results.push(CreatePartitionsTopicResult {
            name: topic.name,
            error_code: error_code.code(),
            error_message,
        });
    }
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

async fn grow(
    agent: &Arc<Agent>,
    lookup: &mut Lookup<'_>,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refused> {
    let absent = |absent: Absent| {
        let code = absent.code(ErrorCode::UnknownTopicOrPartition, ErrorCode::RequestTimedOut);
        (code, format!("there is no topic {:.250}", asked.name))
    };
    let topic = lookup.topic(&asked.name).await.map_err(absent)?;
    let wanted = u32::try_from(asked.count).unwrap_or(0);
    check(asked, topic.partitions, wanted)?;
    if validate_only {
        return would_grow(agent, topic.partitions, wanted);
    }
    let grow = PartitionsGrow {
        topic: topic.id,
        partitions: wanted,
    };
    let proposed = agent.log.propose(vec![Entry::PartitionsGrow(grow)]).await;
    let verdicts = proposed.map_err(|error| match error {
        ProposeError::Refused => (ErrorCode::RequestTimedOut, error.to_string()),
        ProposeError::Closed | ProposeError::TooLarge | ProposeError::Unknown => {
            (propose_code(error), error.to_string())
        }
    })?;
    match verdicts.first() {
        Some(EntryVerdict::PartitionsGrow(verdict)) => judged(asked, *verdict),
        _ => Err((ErrorCode::InvalidRequest, "the entry was rejected".to_owned())),
    }
}

fn check(asked: &CreatePartitionsTopic, current: u32, wanted: u32) -> Result<(), Refused> {
    let invalid = |message: String| Err((ErrorCode::InvalidPartitions, message));
    if wanted == current {
        return invalid(format!("Topic already has {current} partition(s)."));
    }
    if wanted < current {
        let count = asked.count;
        return invalid(format!(
            "The topic {} currently has {current} partition(s); {count} would not be an increase.",
            asked.name
        ));
    }
    let Some(assignments) = &asked.assignments else {
        return Ok(());
    };
    let added = usize::try_from(wanted - current).unwrap_or(usize::MAX);
    let given = assignments.len();
    let problem = if given != added {
        format!("Attempted to add {added} additional partition(s), but only {given} assignment(s) were specified.")
    } else if assignments.iter().any(|assignment| assignment.broker_ids.is_empty()) {
        "The manual partition assignment includes an empty replica list.".to_owned()
    } else {
        return Ok(());
    };
    Err((ErrorCode::InvalidReplicaAssignment, problem))
}

/// What the fold would say.
fn would_grow(agent: &Agent, current: u32, wanted: u32) -> Result<(), Refused> {
    let fold = agent.replica.fold();
    let limits = fold.limits();
    let left = limits.partitions_max.saturating_sub(fold.partition_total());
    if wanted > limits.topic_partitions_max {
        let max = limits.topic_partitions_max;
        return Err((
            ErrorCode::InvalidPartitions,
            format!("a topic has 1 to {max} partitions"),
        ));
    }
    if wanted - current > left {
        let message = format!("the cluster has room for {left} more partitions");
        return Err((ErrorCode::InvalidPartitions, message));
    }
    Ok(())
}

fn judged(asked: &CreatePartitionsTopic, verdict: GrowVerdict) -> Result<(), Refused> {
    let invalid = |message: String| Err((ErrorCode::InvalidPartitions, message));
    match verdict {
        GrowVerdict::Grown => Ok(()),
        GrowVerdict::NoSuchTopic => Err((
            ErrorCode::UnknownTopicOrPartition,
            format!("there is no topic {:.250}", asked.name),
        )),
        GrowVerdict::NotMore { current } => invalid(format!("Topic already has {current} partition(s).")),
        GrowVerdict::PartitionsOutOfRange { max } => invalid(format!("a topic has 1 to {max} partitions")),
        GrowVerdict::TooManyPartitions { left } => invalid(format!("the cluster has room for {left} more partitions")),
    }
}
