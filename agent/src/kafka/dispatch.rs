//! From a frame to the handler of its API, and back to a framed reply.
//!
//! Owns: request headers, the list of APIs that are served, versions outside it, framing of replies.
//! Does not own: what the handlers do (`handlers`, `produce`, `fetch`, `groups`).

use std::sync::Arc;

use esker_kafka::EncodeError;
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{ApiKey, Reader, Str, Writer};
use tracing::{debug, error};

use super::connection::{Accepted, CloseConnection, ConnectionContext, Frame, ReplyChunks, Service};
use crate::agent::Agent;
use crate::{fetch, handlers, produce};

/// What `ApiVersions` lists. An API that is not here closes the connection, as in Kafka.
pub const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::AlterUserScramCredentials,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
];

/// What a handler may need to know of a request beside its body.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The version of the body.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<Str>,
    /// Where it came from.
    pub connection: ConnectionContext,
}

/// A request's frame for the reply: correlation id and header version.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHeader {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl ReplyHeader {
    /// The same request, answered in another version.
    #[must_use]
    pub fn at_version(self, version: i16) -> Self {
        Self { version, ..self }
    }

    /// Frames a response.
    ///
    /// # Errors
    /// A response that its version cannot carry is a bug of the handler; the connection is closed.
    pub fn frame<M: Message>(self, response: &M) -> Result<ReplyChunks, CloseConnection> {
        let framed = || -> Result<Vec<bytes::Bytes>, EncodeError> {
            let mut writer = Writer::framed();
            writer.i32(self.correlation_id);
            if self.key.response_header_version(self.version) >= 1 {
                writer.uvarint(0);
            }
            response.encode(&mut writer, self.version)?;
            writer.finish()
        };
        framed().map(Some).map_err(|cause| {
            error!(api = self.key.name(), version = self.version, %cause, "response cannot be encoded");
            CloseConnection(format!("{} response: {cause}", self.key.name()))
        })
    }
}

#[async_trait::async_trait]
impl Service for Agent {
    async fn accept(&self, connection: &ConnectionContext, frame: Frame) -> Result<Accepted, CloseConnection> {
        let (header, key, body) = parse_header(frame.bytes.clone())?;
        let reply = ReplyHeader {
            key,
            version: header.request_api_version,
            correlation_id: header.correlation_id,
        };
        let context = RequestContext {
            version: header.request_api_version,
            client_id: header.client_id.map(|id| id.detached()),
            connection: connection.clone(),
        };
        debug!(api = key.name(), version = context.version, peer = %connection.peer, "request");
        if key == ApiKey::Produce {
            return produce::accept(self.shared(), context, reply, body, frame.budget).await;
        }
        let agent = self.shared();
        let answer = async move {
            let answered = answer(&agent, key, context, reply, body).await;
            drop(frame.budget);
            answered
        };
        Ok(Accepted {
            reply: Box::pin(answer),
            pipelined: false,
        })
    }
}

fn parse_header(bytes: bytes::Bytes) -> Result<(RequestHeader, ApiKey, Reader), CloseConnection> {
    let mut reader = Reader::new(bytes.clone());
    let first = || -> Result<(i16, i16), esker_kafka::DecodeError> {
        let mut reader = Reader::new(bytes);
        Ok((reader.i16()?, reader.i16()?))
    };
    let malformed = |cause: esker_kafka::DecodeError| CloseConnection(format!("request header: {cause}"));
    let (code, version) = first().map_err(malformed)?;
    let key = ApiKey::try_from(code).map_err(|unknown| CloseConnection(unknown.to_string()))?;
    if !SERVED.contains(&key) {
        return Err(CloseConnection(format!("{} is not served", key.name())));
    }
    let served = key.stable_versions();
    if !served.contains(version) {
        if key == ApiKey::ApiVersions {
            // Only the correlation id of such a request can be trusted to be where it always was (KIP-511).
            let header = RequestHeader::decode(&mut reader, 1).map_err(malformed)?;
            return Ok((header, key, reader));
        }
        return Err(CloseConnection(format!(
            "{} version {version} is not served",
            key.name()
        )));
    }
    let header = RequestHeader::decode(&mut reader, key.request_header_version(version)).map_err(malformed)?;
    Ok((header, key, reader))
}

async fn answer(
    agent: &Arc<Agent>,
    key: ApiKey,
    context: RequestContext,
    reply: ReplyHeader,
    body: Reader,
) -> Result<ReplyChunks, CloseConnection> {
    match key {
        ApiKey::ApiVersions => handlers::api_versions::answer(context.version, reply, body),
        ApiKey::Metadata => {
            respond(reply, body, async |m| {
                handlers::metadata::answer(agent, &context, m).await
            })
            .await
        }
        ApiKey::Fetch => respond(reply, body, async |m| fetch::answer(agent, &context, m).await).await,
        ApiKey::ListOffsets => {
            respond(reply, body, async |m| {
                handlers::list_offsets::answer(agent, &context, m).await
            })
            .await
        }
        ApiKey::CreateTopics => {
            respond(reply, body, async |m| {
                handlers::create_topics::answer(agent, &context, m).await
            })
            .await
        }
        ApiKey::DeleteTopics => {
            respond(reply, body, async |m| {
                handlers::delete_topics::answer(agent, &context, m).await
            })
            .await
        }
        ApiKey::DeleteRecords => respond(reply, body, async |m| handlers::delete_records::answer(agent, m).await).await,
        ApiKey::InitProducerId => {
            respond(reply, body, async |m| {
                handlers::init_producer_id::answer(agent, m).await
            })
            .await
        }
        ApiKey::OffsetForLeaderEpoch => {
            respond(reply, body, async |m| {
                handlers::offset_for_leader_epoch::answer(agent, m).await
            })
            .await
        }
        key if handlers::admin::answers(key) => handlers::admin::answer(agent, key, &context, reply, body).await,
        _ => handlers::groups::answer(agent, key, &context, reply, body).await,
    }
}

/// Decodes a request, lets a handler answer it, frames the answer.
///
/// What follows the request in its frame is ignored, as in Kafka: librdkafka leaves three bytes there when it asks for
/// the metadata of all topics.
pub async fn respond<R: Request>(
    reply: ReplyHeader,
    mut body: Reader,
    handle: impl AsyncFnOnce(R) -> R::Response,
) -> Result<ReplyChunks, CloseConnection> {
    let request = R::decode(&mut body, reply.version)
        .map_err(|cause| CloseConnection(format!("{} version {}: {cause}", reply.key.name(), reply.version)))?;
    // In a place of its own, as large as this API needs: a request that waits long would else hold as much as the largest of all.
    let response = Box::pin(handle(request)).await;
    reply.frame(&response)
}
