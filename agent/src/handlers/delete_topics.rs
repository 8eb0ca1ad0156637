//! `DeleteTopics`, by name or by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_kafka::messages::delete_topics_request::DeleteTopicsRequest;
use esker_kafka::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use esker_kafka::{ErrorCode, Str, TopicRef, Uuid};
use esker_metadata::keys::topic;
use esker_metadata::store::{Compare, Op};
use esker_model::EntryVerdict;
use esker_model::entry::{Entry, TopicDelete};
use esker_model::verdict::TopicDeleteVerdict;

use crate::agent::{Absent, Agent};
use crate::kafka::dispatch::RequestContext;
use crate::topics::TopicView;
use crate::writer::ProposeError;

/// First version with topic ids.
const TOPIC_ID_FROM: i16 = 6;

/// Answers; every topic of the request is in the answer.
pub async fn answer(
    agent: &Arc<Agent>,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked: Vec<(Option<Str>, Uuid)> = if context.version >= TOPIC_ID_FROM {
        request
            .topics
            .into_iter()
            .map(|topic| (topic.name, topic.topic_id))
            .collect()
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| (Some(name), Uuid::ZERO))
            .collect()
    };
    let mut times: BTreeMap<(Option<Str>, Uuid), usize> = BTreeMap::new();
    for topic in &asked {
        *times.entry(topic.clone()).or_default() += 1;
    }
    let both = in_both_ways(agent, &asked).await;
    let mut responses = Vec::with_capacity(times.len());
    for (name, id) in asked {
        let again = times.insert((name.clone(), id), 0).unwrap_or_default();
        let by_id = name.is_none();
        let what = if by_id { "id" } else { "name" };
        let (name, id, answer) = match again {
            0 => continue,
            // Exactly one of the two must be there.
            _ if by_id && id.is_zero() => (name, id, invalid("Neither topic name nor id were specified.")),
            _ if !by_id && !id.is_zero() => (name, id, invalid("You may not specify both topic name and topic id.")),
            // Named as well: it is refused there.
            1 if by_id && both.contains(&id) => continue,
            1 => one(agent, name, id, &both).await,
            _ => (name, id, invalid(&format!("Duplicate topic {what}."))),
        };
        responses.push(result(name, id, answer));
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

/// Ids of topics that the request names and whose id it gives, too.
async fn in_both_ways(agent: &Arc<Agent>, asked: &[(Option<Str>, Uuid)]) -> BTreeSet<Uuid> {
    let ids: BTreeSet<Uuid> = asked.iter().map(|(_, id)| *id).filter(|id| !id.is_zero()).collect();
    let mut both = BTreeSet::new();
    for name in asked.iter().filter_map(|(name, _)| name.as_ref()) {
        if ids.is_empty() {
            break;
        }
        let found = agent.topic(&TopicRef::Name(name.clone())).await;
        both.extend(found.ok().map(|found| Uuid(found.id.0)).filter(|id| ids.contains(id)));
    }
    both
}

/// Deletes a topic that stands once in the request.
async fn one(
    agent: &Arc<Agent>,
    name: Option<Str>,
    id: Uuid,
    both: &BTreeSet<Uuid>,
) -> (Option<Str>, Uuid, (ErrorCode, String)) {
    let by_id = name.is_none();
    let named = name.clone().map_or(TopicRef::Id(id), TopicRef::Name);
    match agent.topic(&named).await {
        Ok(found) if both.contains(&Uuid(found.id.0)) => {
            let twice = if by_id {
                "Duplicate topic id."
            } else {
                "The provided topic name maps to an ID that was already supplied."
            };
            (name, Uuid(found.id.0), invalid(twice))
        }
        Ok(found) => {
            let code = delete(agent, &found).await;
            (Some(Str::from(&*found.name)), Uuid(found.id.0), named_code(code))
        }
        Err(Absent::MayBeBehind) => (name, id, named_code(ErrorCode::RequestTimedOut)),
        Err(Absent::Certainly) if by_id => (None, id, named_code(ErrorCode::UnknownTopicId)),
        Err(Absent::Certainly) => (name, Uuid::ZERO, named_code(ErrorCode::UnknownTopicOrPartition)),
    }
}

fn invalid(message: &str) -> (ErrorCode, String) {
    (ErrorCode::InvalidRequest, message.to_owned())
}

/// An error with Kafka's text for it, where it has one that says more than the name.
fn named_code(code: ErrorCode) -> (ErrorCode, String) {
    let text = match code {
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::UnknownTopicId => "This server does not host this topic ID.",
        other => other.name(),
    };
    (code, text.to_owned())
}

fn result(name: Option<Str>, topic_id: Uuid, (code, message): (ErrorCode, String)) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: code.code(),
        error_message: (code != ErrorCode::None).then(|| Str::from(message)),
    }
}

async fn delete(agent: &Arc<Agent>, found: &TopicView) -> ErrorCode {
    let gone = ErrorCode::UnknownTopicOrPartition;
    let Some(record) = agent
        .replica
        .topic_record(&found.name)
        .filter(|record| record.id == found.id)
    else {
        return gone;
    };
    let key = topic::key(&found.name);
    let entries = vec![Entry::TopicDelete(TopicDelete { topic: found.id })];
    let compares = vec![Compare::Value(key.clone(), record.encode())];
    match agent.log.propose_with(entries, compares, vec![Op::Delete(key)]).await {
        Ok(verdicts) => match verdicts.first() {
            Some(EntryVerdict::TopicDelete(TopicDeleteVerdict::Deleted)) => ErrorCode::None,
            _ => gone,
        },
        // Somebody else changed or deleted it at this moment.
        Err(ProposeError::Refused) => ErrorCode::RequestTimedOut,
        Err(error) => super::propose_code(error),
    }
}
