//! The gRPC listener: Esker's own API (`esker_proto`) beside the Kafka protocol.
//!
//! Owns: translating gRPC calls to Kafka requests and back; limits of connections, streams and messages.
//! Does not own: what the requests do. There is one way into the log, the fold and the groups: the handlers that serve Kafka
//! clients. These services are a Kafka client inside the agent (`calls`).
//!
//! Invariants: MEM-1 (connections, streams, headers, messages and what is read ahead are bounded), LOG-6, IDM-1.

mod admin;
mod answer;
mod calls;
mod config_admin;
mod consumer;
mod contents;
mod coordinators;
mod errors;
mod gathered;
mod group_admin;
mod incoming;
mod limits;
mod measured;
mod member;
mod metered;
mod produce_stream;
mod producer;
mod readers;
mod records;
mod served;
mod subscribe;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use esker_proto::v1::admin_server::AdminServer;
use esker_proto::v1::consumer_server::ConsumerServer;
use esker_proto::v1::producer_server::ProducerServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::info;

use self::limits::Limits;
use self::served::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, Served};
use crate::agent::Agent;
use crate::kafka::budget::{ByteBudget, Purpose};

/// Calls that one connection may have open.
const STREAMS_MAX: u32 = 100;
/// What a peer may send ahead of who reads it, of one call and of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Headers of a call, all together.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Calls that a peer may open and cancel before anybody looks at them (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// A peer that says nothing is asked so often whether it is there, and must answer in time.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How long calls may take to end when the agent drains.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Serves gRPC until `stop`, then ends what is open.
///
/// # Errors
/// The services cannot be set up: a bug.
pub async fn serve(
    agent: Arc<Agent>,
    budget: ByteBudget,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = incoming::connections(&agent, listener, stop.clone());
    let limits = Limits::new(budget.clone());
    let served = Served::new(agent, budget);
    let tasks = served.tasks.clone();
    let router = router(served, &limits).await?;
    let serving = router.serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        biased;
        served = serving => served.map_err(io::Error::other)?,
        () = patience => info!("closing gRPC connections whose calls did not end in time"),
    }
    tasks.close();
    if tokio::time::timeout(DRAIN_MAX, tasks.wait()).await.is_err() {
        info!(
            members = tasks.len(),
            "members of groups could not leave in time; their sessions will end"
        );
    }
    info!("grpc listener closed");
    Ok(())
}

async fn router(served: Served, limits: &Limits) -> io::Result<Router> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ProducerServer<Served>>().await;
    health.set_serving::<ConsumerServer<Served>>().await;
    health.set_serving::<AdminServer<Served>>().await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(esker_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = described().build_v1().map_err(io::Error::other)?;
    // What Python's grpcio-reflection and older tools speak.
    let reflection_alpha = described().build_v1alpha().map_err(io::Error::other)?;
    let producer = ProducerServer::new(served.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(served.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
    let consumer = ConsumerServer::new(served).max_decoding_message_size(REQUEST_BYTES_MAX);
    let router = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_PATIENCE))
        .add_service(limits.limit(Purpose::Other, health_service))
        .add_service(limits.limit(Purpose::Other, reflection))
        .add_service(limits.limit(Purpose::Other, reflection_alpha))
        .add_service(limits.limit(Purpose::Produce, producer))
        .add_service(limits.limit(Purpose::Other, consumer))
        .add_service(limits.limit(Purpose::Other, admin));
    Ok(router)
}
