//! Compaction as a process of its own: its own session, its own follower and fold, its own way into the log.
//!
//! Owns: what stands in for an agent: following the log, a session for as long as the process runs, commits of its entries.
//! Does not own: what is done (`service`), the stores, which are handed in.
//!
//! Invariants: LOG-4: entries are reported applied only when this process's own fold has applied them. A process whose
//! cluster has begun another incarnation ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::config::Configs;
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::keys::topic::Topic;
use esker_metadata::log::{
    Cluster, Commit, CommitResult, Committer, CommitterSettings, FollowEnd, Follower, FollowerSettings, LogHandle,
    Session, SessionError,
};
use esker_metadata::replica::{Replica, ReplicaSink};
use esker_metadata::store::MetadataError;
use esker_model::entry::Entry;
use esker_model::{CommitRecord, EntryVerdict};
use esker_segment::id::TopicId;
use esker_storage::merged::{MergedReader, MergedSettings};
use esker_storage::named::NamedObjects;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::incarnation::{self, IncarnationError};
use crate::seams::{LogAccess, NotApplied, Random, TopicPolicy, WallClock};
use crate::service::{Compaction, Parts};
use crate::settings::Settings;

/// The TTL that sessions ask for.
const SESSION_TTL: Duration = Duration::from_secs(5);
/// How far behind the log a fold is at most, when all is well.
const VERDICTS_WAIT: Duration = Duration::from_secs(30);
/// How long to wait before another session is tried.
const SESSION_PAUSE: Duration = Duration::from_millis(200);
/// The node id of a process that serves no clients.
const NO_NODE: i32 = -1;

/// What a policy follows from: a topic's record, `None` for a topic without one, and the configs that were set for all brokers.
pub type PolicyOf = Arc<dyn Fn(Option<&Topic>, &Configs) -> TopicPolicy + Send + Sync>;

/// What the process is made of.
pub struct ProcessParts {
    /// The coordination store.
    pub cluster: Cluster,
    /// The bucket.
    pub objects: NamedObjects,
    /// Policies of topics.
    pub policy_of: PolicyOf,
    /// Wall clock.
    pub clock: WallClock,
    /// Random bits.
    pub random: Random,
    /// The software it runs.
    pub version: String,
    /// How it works.
    pub settings: Settings,
}

/// Why the process did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The bucket is not this cluster's.
    #[error(transparent)]
    Incarnation(#[from] IncarnationError),
    /// The coordination store does not answer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The log can no longer be followed.
    #[error("the log cannot be followed: {0}")]
    Follow(FollowEnd),
    /// No session can be had any more.
    #[error(transparent)]
    Session(SessionError),
    /// A task panicked.
    #[error("a task of the compactor ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A running compactor.
pub struct Process {
    service: Compaction,
    access: Arc<ProcessLog>,
    tasks: JoinSet<ProcessError>,
}

impl Process {
    /// Follows the log up to its head. Nothing is written before [`Process::run`], but for the claim of a new bucket.
    ///
    /// # Errors
    /// See [`ProcessError`].
    pub async fn start(parts: ProcessParts) -> Result<Self, ProcessError> {
        incarnation::claim(&parts.objects, &parts.cluster).await?;
        let replica = Arc::new(Replica::new());
        let merged = MergedReader::new(parts.objects.clone(), MergedSettings::default());
        let sink = ReplicaSink::new(Arc::clone(&replica), merged.clone(), parts.objects);
        let follower = FollowerSettings {
            also: ReplicaSink::also(),
            ..FollowerSettings::default()
        };
        let (follower, log) = Follower::new(parts.cluster.clone(), Box::new(sink), follower);
        let mut tasks = JoinSet::new();
        tasks.spawn(async { ProcessError::Follow(follower.run().await) });
        tokio::select! {
            biased;
            reached = log.barrier() => drop(reached?),
            Some(ended) = tasks.join_next() => return Err(ended?),
        }
        let access = Arc::new(ProcessLog {
            replica: Arc::clone(&replica),
            live: Mutex::default(),
        });
        let keeper = Keeper {
            cluster: parts.cluster.clone(),
            log: log.clone(),
            access: Arc::clone(&access),
            version: parts.version,
        };
        tasks.spawn(keeper.run());
        let (policy_of, topics) = (parts.policy_of, Arc::clone(&replica));
        let policy = move |topic: TopicId| {
            let name = topics.fold().topic(topic).map(|found| found.name.to_owned());
            let record = name.and_then(|name| topics.topic_record(&name));
            let record = record.as_ref().filter(|record| record.id == topic);
            policy_of(record, &topics.broker_configs(""))
        };
        let service = Compaction::new(
            Parts {
                cluster: parts.cluster,
                log,
                replica,
                merged,
                access: Arc::clone(&access) as Arc<dyn LogAccess>,
                policies: Arc::new(policy),
                clock: parts.clock,
                random: parts.random,
            },
            parts.settings,
        );
        Ok(Self { service, access, tasks })
    }

    /// Works until `stop`, or until it must not go on.
    ///
    /// # Errors
    /// See [`ProcessError`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ProcessError> {
        let ended = tokio::select! {
            biased;
            () = self.service.run(stop) => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(ended.unwrap_or_else(ProcessError::from)),
        };
        self.tasks.shutdown().await;
        self.access.close().await;
        ended
    }
}

/// A session and its commits.
struct Live {
    session: Session,
    committer: Committer,
}

/// The process's way into the log.
struct ProcessLog {
    replica: Arc<Replica>,
    live: Mutex<Option<Arc<Live>>>,
}

impl ProcessLog {
    fn live(&self) -> Option<Arc<Live>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone().filter(|live| !live.session.is_lost())
    }

    fn set(&self, live: Option<Arc<Live>>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Ends the session at once, if nothing uses it any more.
    async fn close(&self) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(live) = live.and_then(|live| Arc::try_unwrap(live).ok())
            && let Err(error) = live.session.close().await
        {
            tracing::debug!(%error, "session not closed; it ends with its lease");
        }
    }
}

#[async_trait]
impl LogAccess for ProcessLog {
    fn session(&self) -> Option<LiveSession> {
        self.live().map(|live| LiveSession::of(&live.session))
    }

    async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied> {
        let failed = |error: &dyn std::fmt::Display| NotApplied(error.to_string());
        let live = self.live().ok_or_else(|| NotApplied("no session".to_owned()))?;
        let record = CommitRecord { entries }.encode().map_err(|error| failed(&error))?;
        let commit = Commit {
            record: record.into(),
            ..Commit::default()
        };
        let pending = live.committer.submit(commit).await.map_err(|error| failed(&error))?;
        let number = pending.number();
        match pending.await {
            CommitResult::Committed { .. } => {}
            other => return Err(NotApplied(format!("{other:?}"))),
        }
        // The fold of a lost session's commit may be past them, and never say them any more.
        let verdicts = self.replica.own_verdicts(live.session.id(), number);
        let verdicts = tokio::time::timeout(VERDICTS_WAIT, verdicts).await.ok().flatten();
        verdicts.ok_or_else(|| NotApplied("verdicts are not known".to_owned()))
    }
}

/// Keeps a session for the process.
struct Keeper {
    cluster: Cluster,
    log: LogHandle,
    access: Arc<ProcessLog>,
    version: String,
}

impl Keeper {
    /// Returns when no session can be had any more.
    async fn run(self) -> ProcessError {
        loop {
            let info = SessionInfo {
                node_id: NO_NODE,
                version: self.version.clone(),
                ..SessionInfo::default()
            };
            match Session::open(&self.cluster, |_| info.clone(), SESSION_TTL).await {
                Ok(session) => {
                    self.access.replica.expect_session(session.id());
                    let position = Some(self.log.position());
                    let committer = Committer::start(&session, position, CommitterSettings::default());
                    let lost = session.lost();
                    self.access.set(Some(Arc::new(Live { session, committer })));
                    lost.await;
                    tracing::warn!("session lost, taking a new one");
                    self.access.set(None);
                }
                Err(SessionError::OtherIncarnation) => return ProcessError::Session(SessionError::OtherIncarnation),
                Err(error) => {
                    tracing::warn!(%error, "no session");
                    tokio::time::sleep(SESSION_PAUSE).await;
                }
            }
        }
    }
}
