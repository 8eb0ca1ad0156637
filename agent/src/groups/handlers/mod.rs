//! The Kafka requests about groups: messages in, messages out.
//!
//! Owns: which field means what in which version, and which code answers what.
//! Does not own: decisions (`group`), waiting (`coordinator`), authorisation and framing (the connection).
//!
//! Invariants: LOG-6: nothing is denied before the read barrier. Every code is one that clients of that API expect.

mod admin;
mod find_coordinator;
mod members;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
#[cfg(test)]
mod tests;

pub use find_coordinator::{Node, find_coordinator};

use std::sync::Arc;

use esker_kafka::{ErrorCode, Str, Uuid};
use esker_segment::id::TopicId;

use super::error::GroupError;
use super::ids::{GroupId, InstanceId, MemberId, ProtocolName};
use super::seams::{Topic, TopicNames};

/// What a handler knows of a request besides its body.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// API version.
    pub version: i16,
    /// Client id of the request header; empty for none.
    pub client_id: &'a str,
    /// Where the client is; Kafka shows `/127.0.0.1`.
    pub client_host: &'a str,
}

fn code<T>(result: &Result<T, GroupError>) -> i16 {
    match result {
        Ok(_) => ErrorCode::None.code(),
        Err(error) => error.code().code(),
    }
}

fn group_id(text: &Str) -> GroupId {
    GroupId::from(text.as_str())
}

fn member_id(text: &Str) -> MemberId {
    MemberId::from(text.as_str())
}

fn instance_id(text: Option<&Str>) -> Option<InstanceId> {
    text.map(|text| InstanceId::from(text.as_str()))
}

fn wire(name: Option<&ProtocolName>) -> Option<Str> {
    name.map(|name| Str::from(name.as_str()))
}

/// How a request names a topic: by name, or from OffsetCommit and OffsetFetch version 10 on by id.
#[derive(Clone, Copy, Debug)]
enum TopicKey<'a> {
    Name(&'a Str),
    Id(Uuid),
}

impl TopicKey<'_> {
    /// The topic; after the barrier, if the first look does not find it.
    fn look_up(self, topics: &dyn TopicNames) -> Option<Topic> {
        match self {
            TopicKey::Name(name) => topics.by_name(name),
            TopicKey::Id(id) => topics.by_id(TopicId(id.0)),
        }
    }

    /// What a partition of a topic that does not exist is answered.
    const fn unknown(self) -> ErrorCode {
        match self {
            TopicKey::Name(_) => ErrorCode::UnknownTopicOrPartition,
            TopicKey::Id(_) => ErrorCode::UnknownTopicId,
        }
    }
}

/// What became of looking for topics.
struct LookedUp {
    /// In the order of the keys.
    topics: Vec<Option<Topic>>,
    /// False if something is missing and the barrier was not reached, so that its absence is not certain.
    certain: bool,
}

async fn look_up(topics: &Arc<dyn TopicNames>, keys: &[TopicKey<'_>]) -> LookedUp {
    let find = || -> Vec<Option<Topic>> { keys.iter().map(|key| key.look_up(topics.as_ref())).collect() };
    let found = find();
    if found.iter().all(Option::is_some) {
        return LookedUp {
            topics: found,
            certain: true,
        };
    }
    match topics.catch_up().await {
        Ok(()) => LookedUp {
            topics: find(),
            certain: true,
        },
        Err(_) => LookedUp {
            topics: found,
            certain: false,
        },
    }
}
