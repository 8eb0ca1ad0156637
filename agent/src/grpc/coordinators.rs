//! Requests to the agent that coordinates a group, which may be another one.
//!
//! Owns: finding it, the connection to it.
//! Does not own: what is asked, whether it is asked again.
//!
//! Invariants: MEM-1 (memory for an answer is taken as its bytes come). Every request has a deadline.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_kafka::messages::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Status;

use super::calls::{Caller, decode, frame};
use super::errors::{check_group, refusal};
use crate::agent::Endpoint;

/// Longest answer of another agent.
const ANSWER_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// How long ordinary requests may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

static CORRELATION: AtomicI32 = AtomicI32::new(1);

/// Asks the agent that coordinates `group`.
pub(super) async fn ask<R: Request>(
    caller: &Caller,
    group: &str,
    version: i16,
    request: &R,
    patience: Duration,
) -> Result<R::Response, Status> {
    check_group(group)?;
    let found = caller.agent.shards.coordinator(group);
    let Some(found) = found else {
        let what = format!("group {group:?}");
        return Err(refusal(
            ErrorCode::CoordinatorNotAvailable,
            &what,
            Some("no agent has taken it over yet"),
        ));
    };
    ask_node(caller, found.node, &found.endpoint, version, request, patience).await
}

/// Asks one agent, perhaps this one.
pub(super) async fn ask_node<R: Request>(
    caller: &Caller,
    node: i32,
    endpoint: &Endpoint,
    version: i16,
    request: &R,
    patience: Duration,
) -> Result<R::Response, Status> {
    if node == caller.agent.members.identity().node() {
        return caller.call(version, request).await;
    }
    let asked = tokio::time::timeout(patience, ask_remote(caller, endpoint, version, request)).await;
    let lost = |why: &str| {
        let what = format!("agent {node} at {endpoint}");
        refusal(ErrorCode::CoordinatorNotAvailable, &what, Some(why))
    };
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Err(lost(&error.to_string())),
        Err(_elapsed) => Err(lost("no answer in time")),
    }
}

async fn ask_remote<R: Request>(
    caller: &Caller,
    endpoint: &Endpoint,
    version: i16,
    request: &R,
) -> std::io::Result<Result<R::Response, Status>> {
    let correlation = CORRELATION.fetch_add(1, Ordering::Relaxed);
    let frame = match frame(version, correlation, &caller.client_id, request) {
        Ok(frame) => frame,
        Err(status) => return Ok(Err(status)),
    };
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&frame).await?;
    let length = stream.read_u32().await?;
    if length > ANSWER_BYTES_MAX {
        return Err(std::io::Error::other(format!("an answer of {length} bytes")));
    }
    let mut answer = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut answer).await?;
    if answer.len() < usize::try_from(length).unwrap_or(usize::MAX) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(
        decode::<R>(version, Bytes::from(answer)).and_then(|(answered, response)| {
            if answered == correlation {
                Ok(response)
            } else {
                Err(Status::internal("the agent answered another request"))
            }
        }),
    )
}
