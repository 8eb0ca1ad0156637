//! What the members of a consumer group read: their subscriptions under the chosen protocol.
//!
//! Owns: reading them. Does not own: what follows for offsets (`handlers`: OffsetDelete, `coordinator`: expiry).

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_kafka::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use esker_kafka::{Reader, Str};

use super::error::GroupError;
use super::group::{Group, State};

/// Protocol type of consumers, whose subscriptions can be read.
const CONSUMER: &str = "consumer";

/// What the members of a group read: these offsets must stay.
pub(super) enum Subscribed {
    /// Exactly these topics.
    To(BTreeSet<Str>),
    /// Somebody's subscription cannot be read.
    PerhapsToAll,
}

impl Subscribed {
    pub(super) const fn none() -> Self {
        Self::To(BTreeSet::new())
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        match self {
            Self::To(topics) => topics.contains(topic),
            Self::PerhapsToAll => true,
        }
    }
}

/// The topics that a group subscribes to. Groups of other kinds than consumers say nothing that could be read here: they must be
/// empty.
pub(super) fn subscribed_topics(group: &Group) -> Result<Subscribed, GroupError> {
    match group.state() {
        State::Empty => return Ok(Subscribed::none()),
        State::Dead => return Err(GroupError::NoSuchGroup),
        State::PreparingRebalance | State::CompletingRebalance | State::Stable => {}
    }
    if group
        .protocol_type()
        .is_none_or(|protocol_type| protocol_type.as_str() != CONSUMER)
    {
        return Err(GroupError::NotEmpty);
    }
    let subscriptions: Option<Vec<Vec<Str>>> = group.subscriptions().map(topics_of).collect();
    Ok(subscriptions.map_or(Subscribed::PerhapsToAll, |topics| {
        Subscribed::To(topics.into_iter().flatten().collect())
    }))
}

/// The topics of a subscription; `None` if it cannot be read.
fn topics_of(metadata: Bytes) -> Option<Vec<Str>> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16().ok()?.min(ConsumerProtocolSubscription::VERSION_MAX);
    let subscription = ConsumerProtocolSubscription::decode(&mut reader, version).ok()?;
    Some(subscription.topics)
}
