//! `esker dev`: the whole system in one process.
//!
//! Owns: the order of starting and stopping, the ready line.
//! Does not own: the parts. So far there is the HTTP listener; Kafka connections are not served yet.
//!
//! Invariants: the ready line and `/readyz` come only after everything listens; exit 0 only after a full drain.

use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use esker_agent::http::{self, Pages, Readiness};
use esker_agent::settings::Settings;
use esker_agent::telemetry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::LogFormat;
use crate::broker;
use crate::compactor;
use crate::data_dir::DataDir;
use crate::listen::Listen;
use crate::shutdown;

/// How long what is under way may take to finish after the first signal.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Everything that `esker dev` was told.
#[derive(Debug)]
pub(crate) struct DevOptions {
    /// Where data is kept; if `ephemeral`, what the temporary directory lies in.
    pub(crate) data_dir: PathBuf,
    /// Keep data in a temporary directory that goes with the process.
    pub(crate) ephemeral: bool,
    pub(crate) kafka: Listen,
    pub(crate) grpc: Listen,
    pub(crate) http: Listen,
    /// What Kafka clients are told to connect to; `None` is where we listen.
    pub(crate) advertise: Option<HostPort>,
    pub(crate) settings: Settings,
    /// Whether an answer waits for the disk.
    pub(crate) fsync: bool,
    pub(crate) log_format: LogFormat,
}

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// `HOST:PORT`, an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let needed = || "HOST:PORT is needed".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(needed)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| needed())?;
        if host.is_empty() || port == 0 {
            return Err(needed());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl HostPort {
    /// Where a listener listens; an address that stands for all of them is one that nobody can connect to.
    fn of(address: std::net::SocketAddr) -> Self {
        let host = match address.ip() {
            std::net::IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            std::net::IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
            ip => ip.to_string(),
        };
        Self {
            host,
            port: address.port(),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Runs until a signal, or until a part fails.
pub(crate) fn run(options: DevOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run_node(options))
}

async fn run_node(options: DevOptions) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone()).context("cannot listen for signals")?;
    let dir = if options.ephemeral {
        DataDir::temporary(&options.data_dir)?
    } else {
        DataDir::create(&options.data_dir)?
    };
    let fsync = options.fsync && !options.ephemeral;
    tracing::info!(path = %dir.path().display(), fsync, "data directory");

    let (kafka, grpc, http) = (
        options.kafka.bind().await?,
        options.grpc.bind().await?,
        options.http.bind().await?,
    );
    let (kafka_at, grpc_at, http_at) = (kafka.local_addr()?, grpc.local_addr()?, http.local_addr()?);
    let readiness = Readiness::default();
    let metrics = telemetry::install()?;
    let mut parts = Parts::new(stop.clone());
    parts.spawn(
        "http",
        http::serve(
            http,
            Pages {
                readiness: readiness.clone(),
                metrics: metrics.clone(),
            },
            stop.clone(),
        ),
    );
    parts.spawn("grpc", http::placeholder::serve(grpc, stop.clone()));
    let upkeep_stop = stop.clone();
    parts.spawn("metrics", async move {
        upkeep_stop.run_until_cancelled(metrics.run_upkeep()).await;
        Ok(())
    });

    let advertised = options.advertise.unwrap_or_else(|| HostPort::of(kafka_at));
    tracing::info!(%advertised, "kafka");
    let started = broker::start(dir.path(), fsync, advertised, options.settings).await?;
    let broker::Started {
        mut node,
        cluster,
        node_id,
        metadata,
    } = started;
    let upkeep = compactor::beside(&node.agent());
    let upkeep_stop = stop.clone();
    parts.spawn("compaction", async move {
        upkeep.run(upkeep_stop).await;
        Ok(())
    });
    node.listen(kafka);
    let node_stop = stop.clone();
    parts.spawn(
        "node",
        async move { node.run(node_stop).await.map_err(io::Error::other) },
    );

    readiness.ready();
    let line = format!("ready kafka={kafka_at} grpc={grpc_at} http={http_at} cluster={cluster} node={node_id}\n");
    io::stdout()
        .write_all(line.as_bytes())
        .context("cannot write the ready line to stdout")?;

    stop.cancelled().await;
    readiness.draining();
    let drained = parts.finish().await;
    metadata.close().await;
    drained
}

/// The tracked tasks of the process, each under a name. One that ends before `stop` ends them all.
struct Parts {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Parts {
    fn new(stop: CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            stop,
        }
    }

    fn spawn(&mut self, name: &'static str, part: impl Future<Output = io::Result<()>> + Send + 'static) {
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
    async fn finish(mut self) -> anyhow::Result<()> {
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
