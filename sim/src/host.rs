//! The machine: it starts the node, lets clients connect, and crashes.
//!
//! Owns: the life of the node's tasks and connections; restarts.
//! Does not own: the stores, which survive; when it crashes (`scenario`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_agent::agent::{Agent, Endpoint};
use esker_agent::clock::Clock;
use esker_agent::kafka::budget::ByteBudget;
use esker_agent::kafka::connection::{self, ConnectionContext, ConnectionLimits, Service};
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeError, NodeParts};
use esker_agent::settings::Settings;
use esker_metadata::log::{Cluster, FollowEnd, SessionError, bootstrap};
use esker_metadata::store::MetadataStore;
use esker_segment::name::ClusterId;
use esker_storage::named::NamedObjects;
use esker_storage::random::Random;
use esker_storage::retrying::{RetrySettings, Retrying};
use esker_storage::store::ObjectStore;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dice::Seed;
use crate::history::History;
use crate::oracle::Oracle;
use crate::planted::{self, Bug};
use crate::process::{Process, ReachedMetadata, ReachedObjects};
use crate::trace::Trace;
use crate::upkeep::{self, Upkeep};

/// Bytes that a connection holds in each direction.
const PIPE_BYTES: usize = 64 << 10;
/// Wall clock of the node when a run begins, in milliseconds.
const WALL_START_MS: i64 = 1_700_000_000_000;

/// What survives a crash, and what every machine is told to do.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) seed: Seed,
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) compaction: esker_compaction::settings::Settings,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) history: Arc<History>,
    pub(crate) trace: Trace,
    pub(crate) bug: Option<Bug>,
}

/// The machine.
pub(crate) struct Host {
    machine: Machine,
    /// Which of the machines; also its node id.
    number: u32,
    life: Mutex<Life>,
    /// The node is up. (A `tokio::sync::watch` would wake clients in random order.)
    up: Notify,
}

/// What a crash ends.
#[derive(Default)]
struct Life {
    process: Process,
    /// The running node, for clients.
    agent: Option<Arc<Agent>>,
    node: Option<AbortHandle>,
    connections: Vec<AbortHandle>,
    connected: u64,
    lives: u64,
}

/// The cluster's id.
pub(crate) fn cluster_id() -> ClusterId {
    "sim".parse().expect("a sound cluster id")
}

/// Wall time that runs with tokio's clock.
struct WallClock {
    begun: Instant,
}

impl Clock for WallClock {
    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        WALL_START_MS.saturating_add(since)
    }
}

impl Host {
    pub(crate) fn new(machine: Machine, number: u32) -> Arc<Self> {
        Arc::new(Self {
            machine,
            number,
            life: Mutex::default(),
            up: Notify::new(),
        })
    }

    /// Starts the node, over and over if it does not start.
    pub(crate) fn start(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let node = tokio::spawn(async move { this.supervise().await });
        self.lock().node = Some(node.abort_handle());
    }

    /// Whether clients can connect now.
    pub(crate) fn is_up(&self) -> bool {
        self.lock().agent.is_some()
    }

    /// Everything that the node says to its stores, and hears of them, is late by so much for a while: it is cut off, or its
    /// machine stands still.
    pub(crate) fn stall(&self, length: Duration) {
        self.note(format_args!("stands still for {length:?}"));
        self.lock().process.stall(length);
    }

    /// The node hears nothing of the log for a while, unless it asks.
    pub(crate) fn lag(&self, length: Duration) {
        self.note(format_args!("watch lags for {length:?}"));
        self.lock().process.lag(length);
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.machine.trace.note(format_args!("machine {}: {what}", self.number));
    }

    /// Ends the node's tasks and connections at once. Its calls under way still reach the stores unless they are cut off.
    pub(crate) fn crash(&self, cut: bool) {
        self.note(format_args!("crash, calls cut off: {cut}"));
        let mut life = self.lock();
        life.agent = None;
        life.process.kill(cut);
        for task in life
            .node
            .take()
            .into_iter()
            .chain(std::mem::take(&mut life.connections))
        {
            task.abort();
        }
    }

    /// The running node, when there is one.
    pub(crate) async fn agent(&self) -> Arc<Agent> {
        loop {
            let up = self.up.notified();
            if let Some(agent) = &self.lock().agent {
                return Arc::clone(agent);
            }
            up.await;
        }
    }

    /// A connection to the node, when there is one.
    pub(crate) async fn connect(&self) -> DuplexStream {
        let agent = self.agent().await;
        let (client, server) = duplex(PIPE_BYTES);
        let mut life = self.lock();
        life.connected += 1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
        let context = ConnectionContext {
            id: life.connected,
            peer: address,
            local: address,
        };
        let limits = ConnectionLimits {
            request_bytes_max: 1 << 20,
            idle_max: Duration::from_secs(600),
        };
        let service = planted::service(self.machine.bug, agent as Arc<dyn Service>);
        let budget = ByteBudget::new(8 << 20);
        let serving = connection::run(server, context, service, budget, limits, CancellationToken::new());
        life.connections.push(tokio::spawn(serving).abort_handle());
        client
    }

    /// Keeps the node running, as an init system does.
    async fn supervise(&self) {
        loop {
            let (process, nth) = {
                let mut life = self.lock();
                life.process = Process::default();
                life.lives += 1;
                (life.process.clone(), life.lives)
            };
            let ended = self.live(process.clone(), nth).await;
            process.kill(false);
            {
                let mut life = self.lock();
                life.agent = None;
                for connection in std::mem::take(&mut life.connections) {
                    connection.abort();
                }
            }
            self.on_ended(ended);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn on_ended(&self, ended: Result<(), NodeError>) {
        self.note(format_args!("node ended: {ended:?}"));
        let never = match &ended {
            // The store did not answer while the node started: it is started again.
            Ok(()) | Err(NodeError::Metadata(_) | NodeError::SetUp(_)) => false,
            Err(NodeError::Session(error)) => *error == SessionError::OtherIncarnation,
            Err(NodeError::Follow(
                FollowEnd::OtherIncarnation
                | FollowEnd::WentBack { .. }
                | FollowEnd::RevisionWentBack { .. }
                | FollowEnd::Diverged { .. }
                | FollowEnd::Sink(_),
            )) => true,
            Err(NodeError::Task(_) | NodeError::NotDrained | NodeError::Cache(_)) => true,
        };
        if never {
            self.machine.history.violate(format!("the node gave up: {ended:?}"));
        }
    }

    async fn live(&self, process: Process, nth: u64) -> Result<(), NodeError> {
        let machine = &self.machine;
        let part = format!("machine {} node {nth}", self.number);
        let metadata: Arc<dyn MetadataStore> = Arc::new(ReachedMetadata {
            inner: Arc::clone(&machine.metadata),
            process: process.clone(),
            oracle: Arc::clone(&machine.oracle),
        });
        let reached = ReachedObjects {
            inner: Arc::clone(&machine.objects),
            process,
        };
        let retries = RetrySettings {
            attempt_timeout: Duration::from_secs(2),
            ..RetrySettings::default()
        };
        let jitter = Random::new(machine.seed.of(&part));
        let objects: Arc<dyn ObjectStore> = Arc::new(Retrying::new(Arc::new(reached), retries, jitter));
        let random = machine.seed.bits(&part);
        let joined = bootstrap(metadata, random()).await?;
        let named = NamedObjects::new(Arc::clone(&objects), cluster_id());
        upkeep::claim(&named, &joined, &machine.trace).await;
        let node = Node::start(self.parts(joined.clone(), Arc::clone(&objects), random)).await?;
        self.note(format_args!("node {nth} is up"));
        let agent = node.agent();
        let mut beside = JoinSet::new();
        let upkeep = Upkeep {
            cluster: joined,
            agent: Arc::clone(&agent),
            settings: machine.compaction,
            trace: machine.trace.clone(),
        };
        beside.spawn(upkeep.run());
        self.lock().agent = Some(agent);
        self.up.notify_waiters();
        node.run(CancellationToken::new()).await
    }

    fn parts(
        &self,
        metadata: Cluster,
        objects: Arc<dyn ObjectStore>,
        random: Arc<dyn Fn() -> u128 + Send + Sync>,
    ) -> NodeParts {
        NodeParts {
            metadata,
            cluster: cluster_id(),
            objects,
            clock: Arc::new(WallClock { begun: Instant::now() }),
            random,
            settings: Arc::clone(&self.machine.settings),
            announcement: Announcement {
                node: i32::try_from(self.number).ok(),
                zone: String::new(),
                kafka: Endpoint {
                    host: format!("node-{}", self.number),
                    port: 9092,
                },
                http: None,
                peer: None,
                process: u64::from(self.number),
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
