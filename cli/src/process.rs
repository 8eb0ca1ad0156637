//! A process that serves: the one way in which `esker dev` and `esker agent` start and stop.
//!
//! Owns: the order of starting and stopping, the ready line, what `/readyz` finds wanting.
//! Does not own: the parts; which stores they work on (`stores`), what is said on the command line (`args`).
//!
//! Invariants: the ready line and `/readyz` come only after everything listens; exit 0 only after a full drain.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use esker_agent::agent::{Agent, Endpoint};
use esker_agent::clock::SystemClock;
use esker_agent::health::StoreHealth;
use esker_agent::http::{self, Pages, Readiness};
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeParts};
use esker_agent::settings::Settings;
use esker_agent::telemetry;
use esker_compaction::service::Compaction;
use esker_kafka_client::HostPort;
use esker_segment::id::SegmentNumber;
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use esker_storage::store::ObjectKey;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::listen::Listen;
use crate::shutdown;
use crate::stores::{self, Stores, random};

/// How long what is under way may take to finish after the first signal.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether the bucket still answers. Costs no request.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// How often a bucket that is out of reach is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer. Longer than what counts as given up.
const ASK_MAX: Duration = Duration::from_secs(3);

/// What a process serves, and how.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) settings: Settings,
    pub(crate) kafka: Listen,
    pub(crate) grpc: Listen,
    pub(crate) http: Listen,
    /// For other agents; none when there are none.
    pub(crate) peer: Option<Listen>,
    /// What Kafka clients are told to connect to; `None` is where we listen.
    pub(crate) advertise: Option<HostPort>,
    /// What other agents are told to connect to; `None` is where we listen.
    pub(crate) advertise_peer: Option<HostPort>,
    /// The node id of a process that is alone by construction.
    pub(crate) node: Option<i32>,
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(future)
}

/// The listeners of a process, taken before anything else so that a port in use is noticed at once.
struct Listeners {
    kafka: TcpListener,
    grpc: TcpListener,
    http: TcpListener,
    peer: Option<TcpListener>,
}

impl Listeners {
    async fn bind(serving: &Serving) -> anyhow::Result<Self> {
        let peer = match serving.peer {
            Some(peer) => Some(peer.bind().await?),
            None => None,
        };
        Ok(Self {
            kafka: serving.kafka.bind().await?,
            grpc: serving.grpc.bind().await?,
            http: serving.http.bind().await?,
            peer,
        })
    }

    /// Where they listen.
    fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            kafka: self.kafka.local_addr()?,
            grpc: self.grpc.local_addr()?,
            http: self.http.local_addr()?,
            peer: self.peer.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

/// Where a process listens.
struct Addresses {
    kafka: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
    peer: Option<SocketAddr>,
}

impl Addresses {
    /// What the process says of itself.
    fn announcement(&self, serving: &Serving) -> Announcement {
        let told = |advertised: &Option<HostPort>, at: SocketAddr| {
            let address = advertised.clone().unwrap_or_else(|| HostPort::of(at));
            Endpoint {
                host: address.host,
                port: address.port,
            }
        };
        Announcement {
            node: serving.node,
            zone: serving.settings.process.zone.clone(),
            kafka: told(&serving.advertise, self.kafka),
            http: Some(told(&None, self.http)),
            peer: self.peer.map(|at| told(&serving.advertise_peer, at)),
            process: u64::try_from(random() & u128::from(u64::MAX)).expect("masked"),
        }
    }

    /// The one line on stdout.
    fn say_ready(&self, agent: &Agent) -> anyhow::Result<()> {
        let Self { kafka, grpc, http, .. } = self;
        let (cluster, node) = (&agent.cluster, agent.members.identity().node());
        let line = format!("ready kafka={kafka} grpc={grpc} http={http} cluster={cluster} node={node}\n");
        io::stdout()
            .write_all(line.as_bytes())
            .context("cannot write the ready line to stdout")
    }
}

/// Runs until a signal, or until a part fails. `open` opens the stores; `upkeep` says what is done beside the agent.
pub(crate) async fn run(
    serving: Serving,
    open: impl Future<Output = anyhow::Result<Stores>>,
    upkeep: impl FnOnce(&Arc<Agent>) -> Compaction,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone()).context("cannot listen for signals")?;
    let listeners = Listeners::bind(&serving).await?;
    let addresses = listeners.addresses()?;
    let readiness = Readiness::default();
    let mut parts = Parts::new(stop.clone());
    let pages_stop = CancellationToken::new();
    let mut pages = Parts::new(pages_stop.clone());
    serve_http(&mut pages, listeners.http, &readiness)?;

    readiness.starting("waiting for the metadata store and the bucket");
    let Some(stores) = stop.run_until_cancelled(stores::claimed(open)).await.transpose()? else {
        return parts.finish().await;
    };
    readiness.starting("reading the log");
    let (closer, health) = (stores.closer(), stores.health.clone());
    let announcement = addresses.announcement(&serving);
    tracing::info!(advertised = %announcement.kafka, zone = announcement.zone, "kafka");
    let starting = Node::start(NodeParts {
        metadata: stores.joined,
        cluster: stores.cluster,
        objects: stores.objects,
        clock: Arc::new(SystemClock),
        random: Arc::new(random),
        settings: Arc::new(serving.settings),
        announcement,
    });
    let Some(started) = stop.run_until_cancelled(starting).await else {
        return parts.finish().await;
    };
    let mut node = started.context("cannot start the agent")?;
    let agent = node.agent();
    let upkeep = upkeep(&agent);
    let upkeep_stop = stop.clone();
    parts.spawn("compaction", async move {
        upkeep.run(upkeep_stop).await;
        Ok(())
    });
    node.listen(listeners.kafka);
    node.listen_to_grpc(listeners.grpc);
    if let Some(peer) = listeners.peer {
        node.listen_to_peers(peer);
    }
    let ask = ask_bucket(Arc::clone(&agent), health.clone(), pages_stop.clone());
    pages.spawn("bucket", ask);
    let watch = watch_health(Arc::clone(&agent), health, readiness.clone(), pages_stop.clone());
    pages.spawn("health", watch);
    let node_stop = stop.clone();
    parts.spawn(
        "node",
        async move { node.run(node_stop).await.map_err(io::Error::other) },
    );

    readiness.ready();
    addresses.say_ready(&agent)?;
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = pages_stop.cancelled() => stop.cancel(),
    }
    readiness.draining();
    let drained = parts.finish().await;
    // Until the end they say that the process drains.
    pages_stop.cancel();
    let drained = drained.and(pages.finish().await);
    if let Some(embedded) = closer {
        embedded.close().await;
    }
    drained
}

/// Asks a bucket that is out of reach whether it is back: an agent that stands aside has nothing else to ask it.
async fn ask_bucket(agent: Arc<Agent>, bucket: StoreHealth, stop: CancellationToken) -> io::Result<()> {
    let number = agent.follower.cluster().incarnation.number;
    let key = ObjectKey(agent.objects.cluster.incarnation_key(number));
    let asking = async {
        loop {
            tokio::time::sleep(ASK_INTERVAL).await;
            // The store notes what came of it; one that hangs is noted when it is given up.
            if bucket.refuses_uploads() {
                let _noted = tokio::time::timeout(ASK_MAX, try_upload(&agent)).await;
            } else if bucket.trouble().is_some() {
                let _noted = tokio::time::timeout(ASK_MAX, agent.objects.store.read(&key, 0..1)).await;
            }
        }
    };
    stop.run_until_cancelled(asking).await;
    Ok(())
}

/// Uploads an object that means nothing, and deletes it. One that stays is garbage from the start: what a session publishes it
/// counts from 1, and recovery reads only merged objects that something names.
async fn try_upload(agent: &Agent) {
    let Some(live) = agent.log.session() else {
        return;
    };
    let name = ObjectName::Other {
        kind: ObjectKind::Merged,
        name: SegmentName {
            incarnation: agent.follower.cluster().incarnation.number,
            session: live.id,
            number: SegmentNumber(0),
            // A key is never used again.
            attempt: u32::try_from(random() & u128::from(u32::MAX)).expect("masked"),
        },
    };
    let (key, store) = (ObjectKey::of(&agent.objects.cluster, &name), &agent.objects.store);
    if store.create(&key, vec![Bytes::from_static(b"?")]).await.is_ok()
        && let Err(error) = store.delete(&key).await
    {
        tracing::debug!(%key, %error, "left to the collection of garbage");
    }
}

/// Says on `/readyz`, and to the table of members, what keeps this agent from acknowledging anything.
async fn watch_health(
    agent: Arc<Agent>,
    bucket: StoreHealth,
    readiness: Readiness,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut session = agent.log.sessions();
    while !stop.is_cancelled() {
        let none = session.borrow_and_update().is_none();
        let lost = "this agent has no session: the metadata store does not answer, or has ended it";
        readiness.trouble("session", none.then(|| lost.to_owned()));
        let trouble = bucket.trouble();
        agent.members.set_no_bucket(trouble.is_some());
        readiness.trouble("bucket", trouble);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = session.changed() => {}
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
    Ok(())
}

/// The pages that every process has: probes and metrics.
pub(crate) fn serve_http(parts: &mut Parts, http: TcpListener, readiness: &Readiness) -> anyhow::Result<()> {
    let metrics = telemetry::install()?;
    let stop = parts.stop.clone();
    let pages = Pages {
        readiness: readiness.clone(),
        metrics: metrics.clone(),
    };
    parts.spawn("http", http::serve(http, pages, stop.clone()));
    parts.spawn("metrics", async move {
        stop.run_until_cancelled(metrics.run_upkeep()).await;
        Ok(())
    });
    Ok(())
}

/// The tracked tasks of the process, each under a name. One that ends before `stop` ends them all.
pub(crate) struct Parts {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Parts {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            stop,
        }
    }

    pub(crate) fn spawn(&mut self, name: &'static str, part: impl Future<Output = io::Result<()>> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let ended = part.await.map_err(anyhow::Error::from);
            let asked = stop.is_cancelled();
            stop.cancel();
            let outcome = if asked {
                ended
            } else {
                ended.and_then(|()| Err(anyhow::anyhow!("ended by itself")))
            };
            (name, outcome)
        });
    }

    /// Waits for all of them, for at most `DRAIN_MAX`.
    pub(crate) async fn finish(mut self) -> anyhow::Result<()> {
        let mut first_failure = Ok(());
        let drain = async {
            while let Some(joined) = self.tasks.join_next().await {
                let failed = match joined {
                    Ok((name, outcome)) => outcome.context(name),
                    Err(error) => Err(anyhow::Error::from(error)),
                };
                if first_failure.is_ok() {
                    first_failure = failed;
                }
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drain).await.is_err() {
            anyhow::bail!("not everything was finished within {} s", DRAIN_MAX.as_secs());
        }
        first_failure
    }
}
