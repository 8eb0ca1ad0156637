//! Agents in one process, over one simulated metadata store and one bucket in memory.
//!
//! Owns: starting, killing and stopping them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_agent::agent::{Agent, Endpoint};
use esker_agent::clock::SystemClock;
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeError, NodeParts};
use esker_agent::settings::{Assignment, Origin, Profile, Settings};
use esker_metadata::log::bootstrap;
use esker_metadata::simulated::{Faults, SimulatedStore};
use esker_segment::name::ClusterId;
use esker_storage::bucket::Bucket;
use esker_storage::store::ObjectStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the agents share.
pub(crate) struct World {
    pub(crate) store: SimulatedStore,
    pub(crate) bucket: Arc<dyn ObjectStore>,
    settings: Vec<(&'static str, &'static str)>,
    random: Arc<AtomicU64>,
}

/// A running agent.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) agent: Arc<Agent>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), NodeError>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            store: SimulatedStore::new(1, Faults::default()),
            bucket: Arc::new(Bucket::memory()),
            settings: vec![("esker.cache.bytes", "8MiB"), ("esker.flush.age", "1ms")],
            random: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Starts an agent in a zone, on a free port.
    pub(crate) async fn start(&self, zone: &str) -> Running {
        self.start_at("127.0.0.1:0".parse().unwrap(), zone).await
    }

    /// Starts an agent in a zone.
    pub(crate) async fn start_at(&self, address: SocketAddr, zone: &str) -> Running {
        // Who was killed here may still be letting go of the port.
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let address = listener.local_addr().unwrap();
        let assignments = self.settings.iter().map(|(name, value)| Assignment {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            origin: Origin::Default,
        });
        let counter = Arc::clone(&self.random);
        let random = move || (u128::from(counter.fetch_add(1, Ordering::SeqCst)) << 64) | 0x9e37_79b9;
        let mut node = Node::start(NodeParts {
            metadata: bootstrap(Arc::new(self.store.clone()), random()).await.unwrap(),
            cluster: "AAAAAAAAAAAAAAAAAAAAAQ".parse::<ClusterId>().unwrap(),
            objects: Arc::clone(&self.bucket),
            clock: Arc::new(SystemClock),
            announcement: Announcement {
                node: None,
                zone: zone.to_owned(),
                kafka: Endpoint {
                    host: address.ip().to_string(),
                    port: address.port(),
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
        let agent = node.agent();
        node.listen(listener);
        let stop = CancellationToken::new();
        let task = tokio::spawn(node.run(stop.clone()));
        Running {
            address,
            agent,
            stop,
            task,
        }
    }
}

impl Running {
    /// A new connection.
    pub(crate) async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    pub(crate) fn node(&self) -> i32 {
        self.agent.members.identity().node()
    }

    /// The nodes that it lists.
    pub(crate) fn listed(&self) -> Vec<i32> {
        self.agent
            .members
            .view()
            .members
            .iter()
            .map(|member| member.node)
            .collect()
    }

    /// Ends it as kill -9 would: nothing is finished, its session lives on until its lease ends.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    /// Drains it.
    pub(crate) async fn stop(self) -> Result<(), NodeError> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
