//! `DescribeCluster`: the agents that there are.

use std::sync::Arc;

use esker_kafka::messages::describe_cluster_request::DescribeClusterRequest;
use esker_kafka::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use esker_kafka::{ErrorCode, Str};

use crate::agent::Agent;

/// Endpoints of brokers, as requests number them (KIP-919).
const BROKERS: i8 = 1;
/// Endpoints of controllers: no agent has one.
const CONTROLLERS: i8 = 2;
/// What may be done to a cluster, as bits numbered like ACL operations: create, alter, describe, cluster action, describe and alter
/// configs, idempotent write. Everybody may, for there are no ACLs.
pub const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// Answers.
pub fn answer(agent: &Arc<Agent>, version: i16, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let cluster_id = Str::from(agent.cluster.as_str());
    // Before version 1 only brokers could be asked for.
    let wrong = match request.endpoint_type {
        _ if version == 0 => None,
        BROKERS => None,
        CONTROLLERS => Some(ErrorCode::MismatchedEndpointType),
        _ => Some(ErrorCode::UnsupportedEndpointType),
    };
    if let Some(code) = wrong {
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Str::from_static("agents tell of brokers only")),
            endpoint_type: BROKERS,
            ..Default::default()
        };
    }
    let view = agent.members.view();
    let brokers = view.members.iter().map(|member| DescribeClusterBroker {
        broker_id: member.node,
        host: Str::from(member.endpoint.host.as_str()),
        port: i32::from(member.endpoint.port),
        rack: Some(Str::from(&*member.zone)).filter(|zone| !zone.is_empty()),
        is_fenced: false,
    });
    DescribeClusterResponse {
        error_message: None,
        endpoint_type: BROKERS,
        cluster_id,
        // Every agent does what a controller does; this one certainly lives.
        controller_id: agent.members.identity().node(),
        brokers: brokers.collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}
