//! `ListConfigResources`: what there is that has configs (KIP-1142; before it only client metrics subscriptions, KIP-714).
//!
//! Invariants: LOG-6 (a list without a topic denies it, so it is made after a read barrier).

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_kafka::messages::list_config_resources_request::ListConfigResourcesRequest;
use esker_kafka::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};
use esker_kafka::{ErrorCode, Str};
use esker_metadata::keys::config::{self, Owner};

use super::describe_configs::ResourceType;
use super::stored;
use crate::agent::Agent;

const ALL: [ResourceType; 5] = [
    ResourceType::Topic,
    ResourceType::Broker,
    ResourceType::BrokerLogger,
    ResourceType::ClientMetrics,
    ResourceType::Group,
];

/// Answers.
pub async fn answer(
    agent: &Arc<Agent>,
    version: i16,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let types: Option<BTreeSet<ResourceType>> = match (version, &*request.resource_types) {
        (0, _) => Some(BTreeSet::from([ResourceType::ClientMetrics])),
        (_, []) => Some(BTreeSet::from(ALL)),
        (_, types) => types.iter().map(|code| ResourceType::from_code(*code)).collect(),
    };
    let listed = match types {
        Some(types) => list(agent, types).await,
        None => Err(ErrorCode::UnsupportedVersion),
    };
    let (config_resources, error) = match listed {
        Ok(resources) => (resources, ErrorCode::None),
        Err(error) => (Vec::new(), error),
    };
    ListConfigResourcesResponse {
        error_code: error.code(),
        config_resources,
        ..Default::default()
    }
}

async fn list(agent: &Arc<Agent>, types: BTreeSet<ResourceType>) -> Result<Vec<ConfigResource>, ErrorCode> {
    let mut resources = Vec::new();
    for of in types {
        let names: Vec<Str> = match of {
            ResourceType::Topic => {
                agent.barrier().await.map_err(|_| ErrorCode::RequestTimedOut)?;
                agent
                    .replica
                    .fold()
                    .topics()
                    .map(|topic| Str::from(topic.name))
                    .collect()
            }
            ResourceType::Broker | ResourceType::BrokerLogger => {
                let view = agent.members.view();
                view.members
                    .iter()
                    .map(|member| Str::from(member.node.to_string()))
                    .collect()
            }
            ResourceType::ClientMetrics => named(agent, Owner::ClientMetrics).await?,
            ResourceType::Group => named(agent, Owner::Group).await?,
        };
        resources.extend(names.into_iter().map(|resource_name| ConfigResource {
            resource_name,
            resource_type: of.code(),
        }));
    }
    Ok(resources)
}

/// Resources that have configs of their own.
async fn named(agent: &Agent, owner: Owner) -> Result<Vec<Str>, ErrorCode> {
    let found = stored::read_all(agent, config::prefix(owner))
        .await
        .map_err(|(code, _)| code)?;
    let names = found.iter().filter_map(|kv| config::parse_key(owner, &kv.key));
    Ok(names.map(Str::from).collect())
}
