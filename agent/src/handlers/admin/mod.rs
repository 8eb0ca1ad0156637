//! What administrators ask for: configs, partitions, sizes, and what tools want to see of a cluster.
//!
//! Owns: which requests these are, the way from their frames to the module of each.
//! Does not own: topics as such (`create_topics`, `delete_topics`), groups (`crate::groups`).

pub mod alter_configs;
pub mod client_quotas;
pub mod config_edits;
pub mod config_resources;
pub mod config_values;
pub mod create_partitions;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
mod lookup;
pub mod merged_sizes;
pub mod reassignments;
pub mod scram_credentials;
mod stored;
pub mod transactions;
pub mod update_features;

use std::sync::Arc;

use esker_kafka::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use esker_kafka::{ApiKey, Reader};

use crate::agent::Agent;
use crate::kafka::connection::{CloseConnection, ReplyChunks};
use crate::kafka::dispatch::{ReplyHeader, RequestContext, respond};

/// Whether a request is one of these.
#[must_use]
pub fn answers(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::DescribeConfigs
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::ListConfigResources
            | ApiKey::CreatePartitions
            | ApiKey::DescribeCluster
            | ApiKey::DescribeTopicPartitions
            | ApiKey::DescribeLogDirs
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::DescribeQuorum
            | ApiKey::UpdateFeatures
            | ApiKey::DescribeProducers
            | ApiKey::DescribeTransactions
            | ApiKey::ListTransactions
            | ApiKey::DescribeClientQuotas
            | ApiKey::AlterClientQuotas
            | ApiKey::DescribeUserScramCredentials
            | ApiKey::AlterUserScramCredentials
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
        ApiKey::CreatePartitions => respond(reply, body, async |m| create_partitions::answer(agent, m).await).await,
        ApiKey::DescribeCluster => {
            respond(reply, body, async |m| {
                describe_cluster::answer(agent, context.version, &m)
            })
            .await
        }
        ApiKey::DescribeTopicPartitions => {
            respond(reply, body, async |m| {
                describe_topic_partitions::answer(agent, context, m).await
            })
            .await
        }
        ApiKey::DescribeLogDirs => {
            respond(reply, body, async |m| {
                describe_log_dirs::answer(agent, context, m).await
            })
            .await
        }
        _ => answer_more(agent, key, context, reply, body).await,
    }
}

/// What operators ask less often, and for the most part need not do here.
async fn answer_more(
    agent: &Arc<Agent>,
    key: ApiKey,
    context: &RequestContext,
    reply: ReplyHeader,
    body: Reader,
) -> Result<ReplyChunks, CloseConnection> {
    match key {
        ApiKey::ElectLeaders => respond(reply, body, async |m| elect_leaders::answer(agent, m).await).await,
        ApiKey::AlterPartitionReassignments => {
            respond(reply, body, async |m| reassignments::alter(agent, context, m).await).await
        }
        ApiKey::ListPartitionReassignments => {
            respond(reply, body, async |_: ListPartitionReassignmentsRequest| {
                reassignments::list()
            })
            .await
        }
        ApiKey::DescribeQuorum => {
            respond(reply, body, async |m| {
                describe_quorum::answer(agent, context.version, m).await
            })
            .await
        }
        ApiKey::UpdateFeatures => {
            let node = agent.members.identity().node();
            respond(reply, body, async |m| update_features::answer(node, context.version, m)).await
        }
        ApiKey::DescribeProducers => respond(reply, body, async |m| describe_producers::answer(agent, m).await).await,
        ApiKey::DescribeTransactions => respond(reply, body, async |m| transactions::describe(m)).await,
        ApiKey::DescribeClientQuotas => respond(reply, body, async |m| client_quotas::describe(agent, m).await).await,
        ApiKey::AlterClientQuotas => respond(reply, body, async |m| client_quotas::alter(agent, m).await).await,
        ApiKey::DescribeUserScramCredentials => {
            respond(reply, body, async |m| scram_credentials::describe(agent, m).await).await
        }
        ApiKey::AlterUserScramCredentials => {
            respond(reply, body, async |m| scram_credentials::alter(agent, m).await).await
        }
        ApiKey::ListTransactions => respond(reply, body, async |m| transactions::list(m)).await,
        _ => Err(CloseConnection(format!("{} is not served", key.name()))),
    }
}
