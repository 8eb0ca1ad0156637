//! What goes on beside serving: the production compaction service, with intervals and sizes so small that everything that it
//! does happens within seconds.
//!
//! Owns: a session for it, its settings, the check of the cluster at rest.
//! Does not own: how anything is done (`esker_compaction`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use esker_agent::agent::Agent;
use esker_agent::writer::LogWriter;
use esker_compaction::check;
use esker_compaction::incarnation;
use esker_compaction::seams::{LogAccess, NotApplied, TopicPolicy};
use esker_compaction::service::{Compaction, Parts};
use esker_compaction::settings::{
    CheckpointSettings, ExpirySettings, GarbageSettings, MergeSettings, RetentionSettings, Scope, Settings,
};
use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::log::{Cluster, Session};
use esker_model::EntryVerdict;
use esker_model::entry::Entry;
use esker_segment::id::Timestamp;
use esker_storage::merged::{MergedReader, MergedSettings};
use esker_storage::named::NamedObjects;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::history::History;
use crate::trace::Trace;

/// Draws how the service works in a run.
pub(crate) fn settings(dice: &mut Dice) -> Settings {
    Settings {
        scope: Scope::Everything,
        checkpoint: CheckpointSettings {
            commits_max: dice.within(5..40),
            interval: dice.ms(200..1_500),
            history_kept: dice.ms(200..3_000),
            ..CheckpointSettings::default()
        },
        merge: MergeSettings {
            segments_min: usize::try_from(dice.within(2..30)).expect("small"),
            age_max: dice.ms(300..3_000),
            chunk_bytes_max: dice.within(256..20_000),
            round_bytes_max: dice.within(1_000..40_000),
            object_bytes_max: dice.within(500..8_000),
            object_batches_max: usize::try_from(dice.within(3..200)).expect("small"),
            fan_in: usize::try_from(dice.within(2..5)).expect("small"),
            level_max: 4,
            slice_bytes_max: dice.within(200..4_000),
            read_bytes: dice.within(100..4_000),
            requests_max: 4,
            page_slices_max: usize::try_from(dice.within(1..40)).expect("small"),
            read_attempts_max: 3,
            stay_bytes_min: dice.within(300..6_000),
        },
        retention: RetentionSettings {
            interval: Duration::from_secs(1),
        },
        garbage: GarbageSettings {
            grace: dice.ms(200..2_000),
            interval_min: dice.ms(200..1_000),
            ..GarbageSettings::default()
        },
        expiry: ExpirySettings {
            // Longer than anybody sends a batch again: what is forgotten earlier is stored twice, as in Kafka.
            producers_after: dice.ms(150_000..300_000),
            ..ExpirySettings::default()
        },
    }
}

/// What the service runs beside.
pub(crate) struct Upkeep {
    pub(crate) cluster: Cluster,
    pub(crate) agent: Arc<Agent>,
    pub(crate) settings: Settings,
    pub(crate) trace: Trace,
}

/// The way into the log, and the session of the service.
struct Access {
    session: Mutex<Option<LiveSession>>,
    log: LogWriter,
}

#[async_trait]
impl LogAccess for Access {
    fn session(&self) -> Option<LiveSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied> {
        let proposed = self.log.propose(entries).await;
        proposed.map_err(|error| NotApplied(error.to_string()))
    }
}

/// Claims the bucket, as every process does before it opens a session.
pub(crate) async fn claim(objects: &NamedObjects, cluster: &Cluster, trace: &Trace) {
    while let Err(error) = incarnation::claim(objects, cluster).await {
        trace.note(format_args!("bucket not claimed: {error}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Upkeep {
    /// Works until it is dropped.
    pub(crate) async fn run(self) {
        let access = Arc::new(Access {
            session: Mutex::default(),
            log: self.agent.log.clone(),
        });
        let (clock, random) = (Arc::clone(&self.agent.clock), Arc::clone(&self.agent.random));
        let parts = Parts {
            cluster: self.cluster.clone(),
            log: self.agent.follower.clone(),
            replica: Arc::clone(&self.agent.replica),
            merged: self.agent.merged.clone(),
            access: Arc::clone(&access) as Arc<dyn LogAccess>,
            policies: Arc::new(|_| TopicPolicy::default()),
            clock: Arc::new(move || Timestamp(clock.now_ms())),
            random,
        };
        let service = Compaction::new(parts, self.settings);
        tokio::join!(service.run(CancellationToken::new()), self.keep_session(&access));
    }

    async fn keep_session(&self, access: &Access) {
        loop {
            match Session::open(&self.cluster, |_| SessionInfo::default(), Duration::from_secs(5)).await {
                Ok(session) => {
                    let set = |live| *access.session.lock().unwrap_or_else(PoisonError::into_inner) = live;
                    set(Some(LiveSession::of(&session)));
                    session.lost().await;
                    set(None);
                }
                Err(error) => self.trace.note(format_args!("no session for compaction: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Checks the cluster at rest: every offset that was promised is there, and its bytes are those that were committed.
pub(crate) async fn check_at_rest(cluster: &Cluster, objects: NamedObjects, history: &History) {
    let reader = MergedReader::new(objects, MergedSettings::default());
    match check::check(cluster, reader.manifests()).await {
        Ok(report) => {
            for problem in &report.problems {
                history.violate(format!("LOG-3: at rest: {problem}"));
            }
        }
        Err(error) => history.violate(format!("LOG-3: at rest: {error}")),
    }
}
