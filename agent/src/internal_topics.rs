//! Topics that Kafka's brokers keep for themselves: which names are theirs, and making the one that clients look for.
//!
//! Owns: the names, what such a topic is created with, that only one creation of it is under way.
//! Does not own: what is in them: nothing. Offsets are entries of the log (`offset_queue`); the topic is there for those who look
//! for it, as Kafka's has been since the first group was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker_kafka::{ErrorCode, Str, TopicRef};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::agent::Agent;
use crate::handlers::create_topics::{NewTopic, create};
use crate::settings::Settings;

/// Committed offsets, in Kafka.
pub const OFFSETS: &str = "__consumer_offsets";
/// All names that are internal.
const NAMES: [&str; 3] = [OFFSETS, "__transaction_state", "__share_group_state"];
/// The topic of Kafka's controllers, which is in no list: it cannot be created.
const CLUSTER_METADATA: &str = "__cluster_metadata";
/// The client that may append to internal topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";

/// Whether a topic is internal.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether nobody may create a topic of this name.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name == CLUSTER_METADATA
}

/// Whether a client may append to a topic.
#[must_use]
pub fn may_append(client_id: Option<&str>, name: &str) -> bool {
    !is_internal(name) || client_id == Some(ADMIN_CLIENT)
}

/// What an internal topic has when nobody says otherwise: partitions and configs.
#[must_use]
pub fn defaults(name: &str, settings: &Settings) -> Option<(u32, Vec<(&'static str, &'static str)>)> {
    let configs = vec![
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        // The default of `offsets.topic.segment.bytes`.
        ("segment.bytes", "104857600"),
    ];
    (name == OFFSETS).then_some((settings.groups.offsets_topic_partitions, configs))
}

/// Creates internal topics beside those who look for them.
#[derive(Debug, Default)]
pub struct InternalTopics {
    tasks: TaskTracker,
    offsets_under_way: AtomicBool,
}

impl InternalTopics {
    /// A client looks for the coordinator of a group: from now on there is a topic of offsets, or soon. If it cannot be created
    /// the next client is the next attempt.
    pub fn on_group_looked_for(&self, agent: &Arc<Agent>) {
        let named = TopicRef::Name(Str::from_static(OFFSETS));
        if agent.known_topic(&named).is_some() || self.offsets_under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let agent = Arc::clone(agent);
        self.tasks.spawn(async move {
            match create(&agent, NewTopic::on_demand(OFFSETS, &agent.settings), false).await {
                // Another agent may be first.
                Ok(_) | Err((ErrorCode::TopicAlreadyExists, _)) => {}
                Err((code, why)) => debug!(topic = OFFSETS, code = code.name(), why, "internal topic not created"),
            }
            agent.internal_topics.offsets_under_way.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kafkas_names_are_internal_and_only_its_admin_client_appends() {
        for name in NAMES {
            assert!(is_internal(name) && !may_append(Some("app"), name) && !may_append(None, name));
            assert!(may_append(Some(ADMIN_CLIENT), name));
        }
        for name in [
            "__consumer_offset",
            "_consumer_offsets",
            "__consumer_offsets2",
            "orders",
        ] {
            assert!(!is_internal(name) && may_append(None, name), "{name}");
        }
    }
}
