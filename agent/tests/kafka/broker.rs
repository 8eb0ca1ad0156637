//! A node over stores in memory, listening on a port of its own.
//!
//! Owns: putting a node together, its clock, which only moves when a test says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use esker_agent::agent::{Agent, Endpoint};
use esker_agent::clock::Clock;
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeParts};
use esker_agent::settings::{Assignment, Origin, Profile, Settings};
use esker_metadata::log::bootstrap;
use esker_segment::name::ClusterId;
use esker_storage::bucket::Bucket;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Client;
use crate::counted::Counted;

/// What the node's clock says at first.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;
/// Its node id.
pub(crate) const NODE_ID: i32 = 7;
/// The leader epoch of a new cluster.
pub(crate) const LEADER_EPOCH: i32 = 1;

/// A running node; it ends when this is dropped.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) agent: Arc<Agent>,
    clock: Arc<SetClock>,
    metadata: Arc<Counted>,
    _stop: DropGuard,
}

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Broker {
    /// A node with the settings of `esker dev`.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A node with some settings changed.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let small = [("esker.cache.bytes", "8MiB"), ("esker.flush.age", "1ms")];
        let assignments = small.iter().chain(settings).map(|(name, value)| Assignment {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            origin: Origin::Default,
        });
        let settings = Settings::resolve(Profile::Dev, assignments).unwrap();
        let counter = AtomicU64::new(1);
        let random = move || (u128::from(counter.fetch_add(1, Ordering::SeqCst)) << 64) | 0x9e37_79b9;
        let store = Arc::new(Counted::new());
        let metadata = Arc::clone(&store);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Arc::new(SetClock(AtomicI64::new(EPOCH_MS)));
        let mut node = Node::start(NodeParts {
            metadata: bootstrap(store, random()).await.unwrap(),
            cluster: "AAAAAAAAAAAAAAAAAAAAAQ".parse::<ClusterId>().unwrap(),
            objects: Arc::new(Bucket::memory()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(random),
            settings: Arc::new(settings),
            announcement: Announcement {
                node: Some(NODE_ID),
                zone: String::new(),
                kafka: Endpoint {
                    host: address.ip().to_string(),
                    port: address.port(),
                },
                http: None,
                peer: None,
                process: 1,
            },
        })
        .await
        .unwrap();
        let agent = node.agent();
        node.listen(listener);
        let stop = CancellationToken::new();
        tokio::spawn(node.run(stop.clone()));
        Self {
            address,
            agent,
            clock,
            metadata,
            _stop: stop.drop_guard(),
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// Ranges of the metadata store that the node has read so far, and the bytes of the longest key among them.
    pub(crate) fn metadata_reads(&self) -> (usize, usize) {
        self.metadata.reads()
    }

    /// Sets the node's wall clock.
    pub(crate) fn set_clock(&self, now_ms: i64) {
        self.clock.0.store(now_ms, Ordering::SeqCst);
    }
}
