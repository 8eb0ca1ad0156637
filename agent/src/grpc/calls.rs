//! Kafka requests from inside the agent, answered by the handlers that answer Kafka clients.
//!
//! Owns: the way of a request through `kafka::dispatch` and back.
//! Does not own: what is asked.
//!
//! Invariants: MEM-1 (a request holds its share of the budget of all frames, as one that came over TCP).

use std::sync::Arc;

use bytes::Bytes;
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::response_header::ResponseHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{ApiKey, Reader, Str, Writer};
use tonic::Status;

use super::errors::{internal, no_budget};
use super::limits::Received;
use crate::agent::Agent;
use crate::kafka::budget::{BudgetShare, ByteBudget, Purpose};
use crate::kafka::connection::{ConnectionContext, Frame, Reply, ReplyChunks, Service};
use crate::kafka::dispatch::RequestContext;

/// A length stands before every frame.
const LENGTH_BYTES: usize = 4;

/// Asks in the name of one gRPC client.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) agent: Arc<Agent>,
    pub(super) budget: ByteBudget,
    /// What the messages of the call hold of it.
    pub(super) received: Received,
    pub(super) client_id: Str,
    pub(super) connection: ConnectionContext,
}

/// A request that was taken in. A produce request is in the write-ahead buffer by then.
pub(super) struct Taken {
    version: i16,
    reply: Reply,
}

impl Caller {
    /// Asks, and waits for the answer.
    pub(super) async fn call<R: Request>(&self, version: i16, request: &R) -> Result<R::Response, Status> {
        self.take::<R>(version, request).await?.answer::<R>().await
    }

    /// Has a request taken in.
    pub(super) async fn take<R: Request>(&self, version: i16, request: &R) -> Result<Taken, Status> {
        self.take_under(None, version, request).await
    }

    /// Has a request taken in under the budget of the message that it was made from, if that has any.
    pub(super) async fn take_under<R: Request>(
        &self,
        held: Option<Arc<BudgetShare>>,
        version: i16,
        request: &R,
    ) -> Result<Taken, Status> {
        let bytes = frame(version, 0, &self.client_id, request)?.slice(LENGTH_BYTES..);
        let purpose = if R::KEY == ApiKey::Produce {
            Purpose::Produce
        } else {
            Purpose::Other
        };
        let share = match held {
            Some(share) => share,
            None => {
                let granted = self.budget.take(purpose, bytes.len(), bytes.len()).await;
                Arc::new(granted.map_err(|cause| no_budget(&cause))?)
            }
        };
        let frame = Frame {
            bytes,
            budget: Some(share),
        };
        let accepted = Service::accept(&*self.agent, &self.connection, frame).await;
        let reply = accepted
            .map_err(|cause| Status::invalid_argument(cause.to_string()))?
            .reply;
        Ok(Taken { version, reply })
    }

    /// What handlers that are called without a frame want to know.
    pub(super) fn context(&self, version: i16) -> RequestContext {
        RequestContext {
            version,
            client_id: Some(self.client_id.clone()),
            connection: self.connection.clone(),
        }
    }
}

impl Taken {
    /// Waits for the answer to the request, which was an `R`.
    pub(super) async fn answer<R: Request>(self) -> Result<R::Response, Status> {
        let chunks = self.reply.await;
        let chunks: ReplyChunks = chunks.map_err(|cause| internal(R::NAME, &cause))?;
        let chunks = chunks.ok_or_else(|| internal(R::NAME, &"no answer"))?;
        let bytes = match <[Bytes; 1]>::try_from(chunks) {
            Ok([only]) => only,
            Err(several) => Bytes::from(several.concat()),
        };
        decode::<R>(self.version, bytes.slice(LENGTH_BYTES..)).map(|(_, response)| response)
    }
}

/// A request as it goes over the wire, length first.
pub(super) fn frame<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: &Str,
    request: &R,
) -> Result<Bytes, Status> {
    let mut writer = Writer::framed();
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: Some(client_id.clone()),
    };
    let encoded = header
        .encode(&mut writer, R::KEY.request_header_version(version))
        .and_then(|()| request.encode(&mut writer, version))
        .and_then(|()| writer.into_bytes());
    // Names that are too long, most likely.
    encoded.map_err(|cause| Status::invalid_argument(format!("{cause}; shorten what is too long")))
}

/// The answer in a frame without its length, and which request it answers.
pub(super) fn decode<R: Request>(version: i16, frame: Bytes) -> Result<(i32, R::Response), Status> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version));
    let header = header.map_err(|cause| internal(R::NAME, &cause))?;
    let response = <R::Response as Message>::decode(&mut reader, version);
    let response = response.map_err(|cause| internal(R::NAME, &cause))?;
    Ok((header.correlation_id, response))
}
