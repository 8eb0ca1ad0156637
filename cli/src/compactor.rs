//! Compaction, beside an agent (on its fold, in its session) or as `esker compactor`, a process of its own.
//!
//! Owns: the seams of `esker_compaction` over the agent, the order of starting and stopping of `esker compactor`.
//! Does not own: compaction.

use std::io::{self, Write as _};
use std::sync::{Arc, Once};

use anyhow::Context as _;
use async_trait::async_trait;
use clap::Args;
use esker_agent::agent::Agent;
use esker_agent::broker_configs::settings_under;
use esker_agent::clock::{Clock as _, SystemClock};
use esker_agent::http::Readiness;
use esker_agent::settings::{Profile, Settings as AgentSettings, TopicSettings};
use esker_agent::writer::LogWriter;
use esker_compaction::process::{Process, ProcessParts};
use esker_compaction::seams::{LogAccess, NotApplied, TopicPolicy};
use esker_compaction::service::{Compaction, Parts};
use esker_compaction::settings::{Scope, Settings};
use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::config::Configs;
use esker_metadata::keys::topic::Topic;
use esker_model::EntryVerdict;
use esker_model::entry::Entry;
use esker_segment::id::{Timestamp, TopicId};
use tokio_util::sync::CancellationToken;

use crate::args::{self, LogFormat, SettingArgs, StoreArgs};
use crate::listen::Listen;
use crate::process::{self, Parts as Tasks};
use crate::{shutdown, stores};

struct AgentLog(LogWriter);

#[async_trait]
impl LogAccess for AgentLog {
    fn session(&self) -> Option<LiveSession> {
        self.0.session()
    }

    async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied> {
        self.0
            .propose(entries)
            .await
            .map_err(|error| NotApplied(error.to_string()))
    }
}

/// Run a compactor of a cluster, over etcd and a bucket.
///
/// It merges what agents write, applies retention, and deletes what nothing refers to any more. Run as many as you like: one
/// works, the others stand by. Agents go on without one, until too much waits to be merged.
///
/// When it is ready, one line goes to stdout: `ready http=H:P cluster=ID`. Logs go to stderr. SIGTERM and SIGINT hand over and
/// exit with 0.
#[derive(Args, Debug)]
pub(crate) struct CompactorArgs {
    #[command(flatten)]
    stores: StoreArgs,
    /// Where /livez, /readyz and /metrics are [default: 127.0.0.1:9096]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Listen on addresses that other machines can reach, without TLS or authentication
    #[arg(long)]
    insecure_listen: bool,
    #[command(flatten)]
    settings: SettingArgs,
}

/// Everything that `esker compactor` was told.
#[derive(Debug)]
pub(crate) struct CompactorOptions {
    http: Listen,
    settings: AgentSettings,
    pub(crate) log_format: LogFormat,
}

impl CompactorArgs {
    /// Resolves the settings and checks the rest.
    pub(crate) fn into_options(self) -> anyhow::Result<CompactorOptions> {
        let mut said = self.stores.assignments();
        let insecure = self.insecure_listen.then(|| "true".to_owned());
        said.extend(args::flags([
            ("esker.http", "--http", &self.http),
            ("esker.insecure.listen", "--insecure-listen", &insecure),
        ]));
        let log_format = self.settings.log_format;
        let settings = self.settings.resolve(Profile::Standard, said)?;
        let http = args::listen("--http", &settings.process.http)?;
        if !settings.process.insecure_listen {
            args::refuse_open_listener(&http)?;
        }
        Ok(CompactorOptions {
            http,
            settings,
            log_format,
        })
    }
}

/// Runs until a signal, or until it must not go on.
pub(crate) fn run(options: CompactorOptions) -> anyhow::Result<()> {
    process::block_on(serve(options))
}

async fn serve(options: CompactorOptions) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone()).context("cannot listen for signals")?;
    let http = options.http.bind().await?;
    let http_at = http.local_addr()?;
    let readiness = Readiness::default();
    let mut tasks = Tasks::new(stop.clone());
    process::serve_http(&mut tasks, http, &readiness)?;
    readiness.starting("waiting for the metadata store and the bucket");
    let settings = Arc::new(options.settings);
    let open = stores::open_shared(&settings.process, settings.flush.hedge_percent);
    let Some(stores) = stop.run_until_cancelled(stores::claimed(open)).await.transpose()? else {
        return tasks.finish().await;
    };
    readiness.starting("reading the log");
    let objects = stores.named();
    let clock = SystemClock;
    let policies = Arc::clone(&settings);
    let compactor = Process::start(ProcessParts {
        cluster: stores.joined,
        objects,
        policy_of: Arc::new(move |topic, brokers| policy_of(&policies, topic, brokers)),
        clock: Arc::new(move || Timestamp(clock.now_ms())),
        random: Arc::new(stores::random),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings: upkeep(&settings, Scope::Everything, Settings::default()),
    })
    .await
    .context("cannot start the compactor")?;
    let stop_compactor = stop.clone();
    tasks.spawn("compactor", async move {
        compactor.run(stop_compactor).await.map_err(io::Error::other)
    });
    readiness.ready();
    let line = format!("ready http={http_at} cluster={}\n", stores.cluster);
    io::stdout()
        .write_all(line.as_bytes())
        .context("cannot write the ready line to stdout")?;
    stop.cancelled().await;
    readiness.draining();
    tasks.finish().await
}

/// The policy that follows from a topic's record, and where it says nothing from what was set for all brokers and from the settings.
/// Every topic has a record; where one is missing, nobody knows what was to be kept, so everything is.
fn policy_of(settings: &AgentSettings, topic: Option<&Topic>, brokers: &Configs) -> TopicPolicy {
    let Some(topic) = topic else {
        return without_record();
    };
    let settings = &settings_under(settings, [brokers]);
    let configs = topic.configs.iter();
    let configs = configs.map(|(name, value)| (name.as_str(), value.as_str()));
    // A config that this version does not know must not make old records go: nothing is trimmed then.
    let Ok(topic) = TopicSettings::resolve(settings, configs) else {
        return TopicPolicy::default();
    };
    policy(&topic)
}

/// Retention does nothing. Said once for a process: policies are asked for all the time.
fn without_record() -> TopicPolicy {
    static SAID: Once = Once::new();
    SAID.call_once(|| tracing::warn!("a topic has no record in the coordination store: it keeps everything"));
    TopicPolicy::default()
}

fn policy(topic: &TopicSettings) -> TopicPolicy {
    TopicPolicy {
        retention: topic.retention,
        retention_bytes: topic.retention_bytes,
        deletes: topic.cleanup.deletes(),
        compacts: topic.cleanup.compacts(),
    }
}

/// How compaction works under the settings of the process.
fn upkeep(ours: &AgentSettings, scope: Scope, mut settings: Settings) -> Settings {
    settings.scope = scope;
    settings.checkpoint.commits_max = u64::from(ours.checkpoint.commits);
    settings.checkpoint.interval = ours.checkpoint.interval;
    settings.retention.interval = ours.upkeep.retention_check_interval;
    settings.garbage.grace = ours.upkeep.gc_grace;
    settings.merge.segments_min = usize::try_from(ours.upkeep.merge_segments).unwrap_or(usize::MAX);
    settings.merge.age_max = ours.upkeep.merge_age;
    settings.expiry.producers_after = ours.producers.id_expiration;
    settings.expiry.producer_windows_max = usize::try_from(ours.producers.state_max).unwrap_or(usize::MAX);
    settings
}

/// Compaction for the agent of this process.
pub(crate) fn beside(agent: &Arc<Agent>, scope: Scope) -> Compaction {
    let catalog = Arc::clone(&agent.catalog);
    let clock = Arc::clone(&agent.clock);
    let parts = Parts {
        cluster: agent.follower.cluster().clone(),
        log: agent.follower.clone(),
        replica: Arc::clone(&agent.replica),
        merged: agent.merged.clone(),
        access: Arc::new(AgentLog(agent.log.clone())),
        policies: Arc::new(move |topic: TopicId| {
            let settings = catalog.known_settings(topic);
            settings.as_ref().map_or_else(without_record, policy)
        }),
        clock: Arc::new(move || Timestamp(clock.now_ms())),
        random: Arc::clone(&agent.random),
    };
    let defaults = match scope {
        Scope::Everything => Settings::local(),
        Scope::Checkpoints => Settings::default(),
    };
    Compaction::new(parts, upkeep(&agent.settings, scope, defaults))
}

#[cfg(test)]
mod tests {
    //! What is kept of a topic.

    use super::*;

    #[test]
    fn a_topic_without_a_record_keeps_everything() {
        let (settings, brokers) = (AgentSettings::default(), Configs::default());
        assert!(!policy_of(&settings, None, &brokers).deletes);
        let plain = Topic {
            id: TopicId(1),
            replication_factor: 1,
            configs: Vec::new(),
        };
        let policy = policy_of(&settings, Some(&plain), &brokers);
        assert!(policy.deletes && policy.retention.is_some(), "{policy:?}");
    }
}
