//! What administrators ask for: configs, partitions, sizes, and what tools want to see of a cluster.
//!
//! Owns: which requests these are, the way from their frames to the module of each.
//! Does not own: topics as such (`create_topics`, `delete_topics`), groups (`crate::groups`).

pub mod alter_configs;
pub mod config_edits;
pub mod config_resources;
pub mod config_values;
pub mod describe_configs;
mod stored;

use std::sync::Arc;

use esker_kafka::{ApiKey, Reader};

use crate::agent::Agent;
use crate::kafka::connection::{CloseConnection, ReplyChunks};
use crate::kafka::dispatch::{ReplyHeader, RequestContext, respond};

/// Whether a request is one of these.
#[must_use]
pub fn answers(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::DescribeConfigs | ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs | ApiKey::ListConfigResources
    )
}

/// Answers any of them.
///
/// # Errors
/// A request that does not decode, or one that is none of these, closes the connection.
pub async fn answer(
    agent: &Arc<Agent>,
    key: ApiKey,
    context: &RequestContext,
    reply: ReplyHeader,
    body: Reader,
) -> Result<ReplyChunks, CloseConnection> {
    match key {
        ApiKey::DescribeConfigs => respond(reply, body, async |m| describe_configs::answer(agent, m).await).await,
        ApiKey::AlterConfigs => respond(reply, body, async |m| alter_configs::answer_replacing(agent, m).await).await,
        ApiKey::IncrementalAlterConfigs => {
            respond(reply, body, async |m| alter_configs::answer_incremental(agent, m).await).await
        }
        ApiKey::ListConfigResources => {
            respond(reply, body, async |m| {
                config_resources::answer(agent, context.version, m).await
            })
            .await
        }
        _ => Err(CloseConnection(format!("{} is not served", key.name()))),
    }
}
