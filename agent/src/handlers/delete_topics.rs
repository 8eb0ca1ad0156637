//! `DeleteTopics`, by name or by id.

use std::sync::Arc;

use esker_kafka::messages::delete_topics_request::DeleteTopicsRequest;
use esker_kafka::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use esker_kafka::{ErrorCode, Str, TopicRef, Uuid};
use esker_metadata::keys::topic;
use esker_metadata::store::{Compare, Op};
use esker_model::EntryVerdict;
use esker_model::entry::{Entry, TopicDelete};
use esker_model::verdict::TopicDeleteVerdict;

use crate::agent::Agent;
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
    let mut responses = Vec::with_capacity(asked.len());
    for (name, id) in asked {
        let by_id = name.is_none();
        let named = name.clone().map_or(TopicRef::Id(id), TopicRef::Name);
        // Exactly one of the two must be there.
        if by_id == id.is_zero() {
            responses.push(result(name, id, ErrorCode::InvalidRequest));
            continue;
        }
        let (name, id, code) = match agent.topic(&named).await {
            Some(found) => {
                let code = delete(agent, &found).await;
                (Some(Str::from(&*found.name)), Uuid(found.id.0), code)
            }
            None if by_id => (None, id, ErrorCode::UnknownTopicId),
            None => (name, Uuid::ZERO, ErrorCode::UnknownTopicOrPartition),
        };
        responses.push(result(name, id, code));
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

fn result(name: Option<Str>, topic_id: Uuid, code: ErrorCode) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: code.code(),
        error_message: (code != ErrorCode::None).then(|| Str::from(code.name())),
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
