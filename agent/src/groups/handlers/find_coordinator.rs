//! FindCoordinator: who coordinates a group or a transactional id.

use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use esker_kafka::{ErrorCode, Str};

/// First version that asks for several keys.
const MANY_KEYS_SINCE: i16 = 4;
/// What Kafka says beside no error, where one key is asked for and where several are.
const NO_ERROR_OLD: &str = "NONE";
const NO_ERROR: &str = "";

/// An agent as this client reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Node id.
    pub id: i32,
    /// Advertised host.
    pub host: Str,
    /// Advertised port.
    pub port: u16,
}

/// Answers FindCoordinator 0 to 6 with what `find` says of each key: `None` means that nobody coordinates it yet. Share groups
/// (type 2) have no coordinator here.
#[must_use]
pub fn find_coordinator(
    request: &FindCoordinatorRequest,
    version: i16,
    find: impl Fn(&str) -> Option<Node>,
) -> FindCoordinatorResponse {
    let none = |key: &Str, code: ErrorCode, why: String| Coordinator {
        key: key.clone(),
        node_id: -1,
        host: Str::new(),
        port: -1,
        error_code: code.code(),
        error_message: Some(Str::from(why)),
    };
    let answer = |key: &Str| match (request.key_type, find(key)) {
        (0 | 1, Some(node)) => Coordinator {
            key: key.clone(),
            node_id: node.id,
            host: node.host,
            port: i32::from(node.port),
            error_code: ErrorCode::None.code(),
            error_message: Some(Str::from_static(if version < MANY_KEYS_SINCE {
                NO_ERROR_OLD
            } else {
                NO_ERROR
            })),
        },
        (0 | 1, None) => none(
            key,
            ErrorCode::CoordinatorNotAvailable,
            "no agent has taken it over yet".to_owned(),
        ),
        (other, _) => none(
            key,
            ErrorCode::InvalidRequest,
            format!("there is no coordinator for keys of type {other}"),
        ),
    };
    if version >= MANY_KEYS_SINCE {
        let coordinators = request.coordinator_keys.iter().map(answer).collect();
        return FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        };
    }
    let one = answer(&request.key);
    FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: one.error_message,
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..FindCoordinatorResponse::default()
    }
}
