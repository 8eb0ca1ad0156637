//! The requests about groups: from frames to `crate::groups`.

use std::sync::Arc;

use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::{ApiKey, Reader, Str};

use crate::agent::Agent;
use crate::groups::handlers::{Node, RequestContext as GroupContext, find_coordinator};
use crate::kafka::connection::{CloseConnection, ReplyChunks};
use crate::kafka::dispatch::{ReplyHeader, RequestContext, respond};

/// The type of keys that are groups.
const GROUP: i8 = 0;

/// Answers any of them.
///
/// # Errors
/// A request that does not decode, or an API that is not about groups, closes the connection.
pub async fn answer(
    agent: &Arc<Agent>,
    key: ApiKey,
    context: &RequestContext,
    reply: ReplyHeader,
    body: Reader,
) -> Result<ReplyChunks, CloseConnection> {
    let host = format!("/{}", context.connection.peer.ip());
    let context = GroupContext {
        version: context.version,
        client_id: context.client_id.as_deref().unwrap_or_default(),
        client_host: &host,
    };
    let context = &context;
    let groups = &agent.groups;
    match key {
        ApiKey::FindCoordinator => {
            let find = |key: &str| {
                let found = agent.shards.coordinator(key)?;
                Some(Node {
                    id: found.node,
                    host: Str::from(found.endpoint.host.as_str()),
                    port: found.endpoint.port,
                })
            };
            respond(reply, body, async |request: FindCoordinatorRequest| {
                if request.key_type == GROUP {
                    agent.internal_topics.on_group_looked_for(agent);
                }
                find_coordinator(&request, context.version, find)
            })
            .await
        }
        ApiKey::JoinGroup => respond(reply, body, async |request| groups.join_group(&request, context).await).await,
        ApiKey::SyncGroup => respond(reply, body, async |request| groups.sync_group(&request, context).await).await,
        ApiKey::Heartbeat => respond(reply, body, async |request| groups.heartbeat_group(&request)).await,
        ApiKey::LeaveGroup => respond(reply, body, async |request| groups.leave_group(&request, context).await).await,
        ApiKey::OffsetCommit => {
            respond(reply, body, async |request| {
                groups.offset_commit(&request, context).await
            })
            .await
        }
        ApiKey::OffsetFetch => {
            respond(reply, body, async |request| {
                groups.offset_fetch(&request, context).await
            })
            .await
        }
        ApiKey::OffsetDelete => respond(reply, body, async |request| groups.offset_delete(&request).await).await,
        ApiKey::DescribeGroups => {
            respond(reply, body, async |request| {
                groups.describe_groups(&request, context).await
            })
            .await
        }
        ApiKey::ListGroups => respond(reply, body, async |request| groups.list_groups(&request).await).await,
        ApiKey::DeleteGroups => respond(reply, body, async |request| groups.delete_groups(&request).await).await,
        _ => Err(CloseConnection(format!("{} is not served", key.name()))),
    }
}
