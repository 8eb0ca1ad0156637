//! Agents that listen for gRPC and Kafka clients, over one simulated metadata store and one bucket in memory.
//!
//! Owns: starting them, clients of both kinds, records with short names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use esker_agent::agent::Endpoint;
use esker_agent::clock::Clock;
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeError, NodeParts};
use esker_agent::settings::{Assignment, Origin, Profile, Settings};
use esker_metadata::log::bootstrap;
use esker_metadata::simulated::{Faults, SimulatedStore};
use esker_proto::v1::consumer_client::ConsumerClient;
use esker_proto::v1::producer_client::ProducerClient;
use esker_proto::v1::{ErrorDetail, Record};
use esker_segment::name::ClusterId;
use esker_storage::bucket::Bucket;
use esker_storage::store::ObjectStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use crate::client::Client;

/// What the agents' clocks say, always.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

struct StoppedClock;

impl Clock for StoppedClock {
    fn now_ms(&self) -> i64 {
        EPOCH_MS
    }
}

/// What the agents share.
pub(crate) struct World {
    store: SimulatedStore,
    bucket: Arc<dyn ObjectStore>,
    random: Arc<AtomicU64>,
}

/// A running agent; it ends as kill -9 would end it when this is dropped.
pub(crate) struct Broker {
    pub(crate) kafka: SocketAddr,
    pub(crate) grpc: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), NodeError>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            store: SimulatedStore::new(1, Faults::default()),
            bucket: Arc::new(Bucket::memory()),
            random: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Ends the sessions of all agents at once; they get new ones.
    pub(crate) fn end_all_sessions(&self) {
        self.store.end_all_leases();
    }

    /// Starts an agent with some settings changed.
    pub(crate) async fn start(&self, settings: &[(&str, &str)]) -> Broker {
        let small = [("esker.cache.bytes", "8MiB"), ("esker.flush.age", "1ms")];
        let assignments = small.iter().chain(settings).map(|(name, value)| Assignment {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            origin: Origin::Default,
        });
        let counter = Arc::clone(&self.random);
        let random = move || (u128::from(counter.fetch_add(1, Ordering::SeqCst)) << 64) | 0x9e37_79b9;
        let (kafka, grpc) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
        let (kafka, grpc) = (kafka.await.unwrap(), grpc.await.unwrap());
        let (kafka_at, grpc_at) = (kafka.local_addr().unwrap(), grpc.local_addr().unwrap());
        let mut node = Node::start(NodeParts {
            metadata: bootstrap(Arc::new(self.store.clone()), random()).await.unwrap(),
            cluster: "AAAAAAAAAAAAAAAAAAAAAQ".parse::<ClusterId>().unwrap(),
            objects: Arc::clone(&self.bucket),
            clock: Arc::new(StoppedClock),
            announcement: Announcement {
                node: None,
                zone: String::new(),
                kafka: Endpoint {
                    host: kafka_at.ip().to_string(),
                    port: kafka_at.port(),
                },
                http: None,
                peer: None,
                process: u64::try_from(random() >> 64).unwrap(),
            },
            random: Arc::new(random),
            settings: Arc::new(Settings::resolve(Profile::Dev, assignments).unwrap()),
        })
        .await
        .unwrap();
        node.listen(kafka);
        node.listen_to_grpc(grpc);
        let stop = CancellationToken::new();
        let task = tokio::spawn(node.run(stop.clone()));
        Broker {
            kafka: kafka_at,
            grpc: grpc_at,
            stop,
            task,
        }
    }
}

impl Broker {
    /// An agent of its own world.
    pub(crate) async fn start() -> Self {
        World::new().start(&[]).await
    }

    /// A Kafka client.
    pub(crate) async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.kafka).await.unwrap())
    }

    /// A connection of gRPC clients.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn producer(&self) -> ProducerClient<Channel> {
        ProducerClient::new(self.channel().await)
    }

    pub(crate) async fn consumer(&self) -> ConsumerClient<Channel> {
        ConsumerClient::new(self.channel().await)
    }

    /// Drains it.
    pub(crate) async fn stop(mut self) -> Result<(), NodeError> {
        self.stop.cancel();
        (&mut self.task).await.unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A record that only has a value.
pub(crate) fn record(value: &str) -> Record {
    Record {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    }
}

/// A record with a key.
pub(crate) fn keyed(key: &str, value: &str) -> Record {
    Record {
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        ..record(value)
    }
}

/// A record for a partition.
pub(crate) fn to(partition: i32, value: &str) -> Record {
    Record {
        partition: Some(partition),
        ..record(value)
    }
}

/// What a refused call says beside its message.
pub(crate) fn detail(status: &Status) -> ErrorDetail {
    esker_proto::error_detail(status).unwrap_or_else(|| panic!("no detail: {status:?}"))
}
