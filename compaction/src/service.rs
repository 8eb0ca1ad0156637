//! The loop of compaction: checkpoint, merge, trim, collect, in turn.
//!
//! Owns: when each is due, what all of them know of the root, waiting longer after each failure.
//! Does not own: what they do (their modules).
//!
//! Invariants: an idle cluster costs no request. Nothing here panics because of a store; every step can be killed anywhere and
//! begun again by anybody. Steps never overlap within a process, so the objects that one has under way are not another's
//! garbage; between processes session and counter see to that (GC-1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::checkpoint::ObjectWriter;
use esker_metadata::keys::leader::Duty;
use esker_metadata::keys::root::Root;
use esker_metadata::log::{Cluster, HistoryKept, LogHandle, PublishedRoot, Truncation, resign};
use esker_metadata::replica::Replica;
use esker_segment::name::ObjectName;
use esker_storage::merged::{Manifests, MergedReader};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpointer::Pace;
use crate::duties::Duties;
use crate::expiry::Expiry;
use crate::garbage::Collector;
use crate::intake::ReadFailures;
use crate::liveness::Liveness;
use crate::seams::{LogAccess, Random, TopicPolicies, WallClock};
use crate::settings::{Scope, Settings};

mod backoff;
mod steps;

use backoff::Backoff;
pub use steps::StepError;

/// How often it is looked whether something is due. Costs no request.
const TICK: Duration = Duration::from_millis(250);

/// How long giving up a duty may take; its lease ends it otherwise.
const RESIGN_MAX: Duration = Duration::from_millis(500);

/// What the service is made of.
#[derive(Clone)]
pub struct Parts {
    /// The coordination store.
    pub cluster: Cluster,
    /// The log as this process follows it.
    pub log: LogHandle,
    /// This process's fold.
    pub replica: Arc<Replica>,
    /// Merged data, and the bucket behind it.
    pub merged: MergedReader,
    /// The way into the log.
    pub access: Arc<dyn LogAccess>,
    /// Policies of topics.
    pub policies: Arc<dyn TopicPolicies>,
    /// Wall clock.
    pub clock: WallClock,
    /// Random bits.
    pub random: Random,
}

/// What is done in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Makes sure that bucket and coordination store belong together, before anything else and once.
    Claim,
    /// Writes a checkpoint.
    Checkpoint,
    /// Removes log records that the root has made superfluous.
    Truncate,
    /// Merges fresh segments.
    Intake,
    /// Merges merged objects again.
    Levels,
    /// Trims.
    Retention,
    /// Forgets producers.
    Expiry,
    /// Collects garbage.
    Garbage,
}

impl Step {
    /// In the order in which they are done.
    const ALL: [Self; 8] = [
        Self::Claim,
        Self::Checkpoint,
        Self::Truncate,
        Self::Intake,
        Self::Levels,
        Self::Retention,
        Self::Expiry,
        Self::Garbage,
    ];

    /// The duty that it is part of; `None` for what every process does for itself.
    #[must_use]
    pub const fn duty(self) -> Option<Duty> {
        match self {
            Self::Claim => None,
            Self::Checkpoint | Self::Truncate | Self::Expiry => Some(Duty::Checkpoint),
            Self::Intake | Self::Levels | Self::Retention | Self::Garbage => Some(Duty::Compaction),
        }
    }

    /// For metrics and log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Checkpoint => "checkpoint",
            Self::Truncate => "truncate",
            Self::Intake => "intake",
            Self::Levels => "levels",
            Self::Retention => "retention",
            Self::Expiry => "expiry",
            Self::Garbage => "garbage",
        }
    }
}

/// The service of one process.
pub struct Compaction {
    parts: Parts,
    settings: Settings,
    /// When bucket and coordination store were last known to belong together.
    claimed_at: Option<Instant>,
    duties: Duties,
    /// Names objects for the session that this process has; none before the first, and after a publication was lost.
    names: Option<ObjectWriter>,
    /// Roots as the follower sees them.
    seen: watch::Receiver<Option<Root>>,
    /// The root as it stands in the store; read again when the follower sees another one.
    root: Option<PublishedRoot>,
    root_stale: bool,
    /// The root up to which records are truncated.
    truncated: bool,
    liveness: Liveness,
    /// Taken later, not reached by the root yet.
    liveness_next: Option<Liveness>,
    pace: Pace,
    truncation: Truncation,
    unread: ReadFailures,
    /// Since when fresh segments wait to be merged.
    waiting_since: Option<Instant>,
    /// Merged objects that could not be read, and when.
    avoid: BTreeMap<ObjectName, Instant>,
    survey_due: bool,
    retention_at: Instant,
    expiry: Expiry,
    garbage: Collector,
    garbage_due: bool,
    garbage_at: Instant,
    backoffs: BTreeMap<Step, Backoff>,
}

impl Compaction {
    /// The service of this process; [`Compaction::run`] is its task.
    #[must_use]
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let now = Instant::now();
        let kept = HistoryKept(settings.checkpoint.history_kept);
        Self {
            seen: parts.replica.root(),
            truncation: Truncation::new(parts.log.clone(), kept),
            parts,
            settings,
            claimed_at: None,
            duties: Duties::new(match settings.scope {
                Scope::Everything => vec![Duty::Checkpoint, Duty::Compaction],
                Scope::Checkpoints => vec![Duty::Checkpoint],
            }),
            names: None,
            root: None,
            root_stale: true,
            truncated: false,
            liveness: Liveness::default(),
            liveness_next: None,
            pace: Pace::default(),
            unread: ReadFailures::new(),
            waiting_since: None,
            avoid: BTreeMap::new(),
            survey_due: true,
            retention_at: now,
            expiry: Expiry::new(settings.expiry),
            garbage: Collector::default(),
            garbage_due: true,
            garbage_at: now,
            backoffs: BTreeMap::new(),
        }
    }

    /// Works until `stop`. What is under way then is dropped, which is safe; duties are given up.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
        for held in self.duties.take_held() {
            let resigned = tokio::time::timeout(RESIGN_MAX, resign(&self.parts.cluster, &held)).await;
            if let Ok(Err(error)) = resigned {
                tracing::debug!(%error, duty = ?held.duty(), "the lease ends a duty that was not given up");
            }
        }
    }

    async fn work(&mut self) {
        loop {
            if !self.cycle().await {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Does what is due, each step at most once. Says whether something was done that may have made more due.
    pub async fn cycle(&mut self) -> bool {
        let mut worked = false;
        for step in Step::ALL {
            let is_ours = step.duty().is_none_or(|duty| self.duties.takes(duty));
            if !is_ours || (step != Step::Claim && self.claimed_at.is_none()) {
                continue;
            }
            if self.backoffs.get(&step).is_some_and(Backoff::is_waiting) {
                continue;
            }
            match self.step(step).await {
                Ok(done) => {
                    self.backoffs.remove(&step);
                    worked |= done;
                }
                Err(error) => self.on_error(step, &error),
            }
        }
        worked
    }

    fn on_error(&mut self, step: Step, error: &StepError) {
        let step_name = step.name();
        let backoff = self.backoffs.entry(step).or_default();
        let wait = backoff.fail((self.parts.random)());
        metrics::counter!("esker_compaction_errors_total", "step" => step_name).increment(1);
        tracing::warn!(step = step_name, %error, ?wait, "compaction will try again");
        // Whatever it was, what is known may be out of date.
        if let Some(duty) = step.duty() {
            self.duties.doubt(duty);
        }
        self.names = None;
        self.root_stale = true;
    }

    fn manifests(&self) -> &Manifests {
        self.parts.merged.manifests()
    }
}

#[cfg(test)]
mod tests {
    //! Names of steps are label values of a metric.

    use super::Step;

    #[test]
    fn steps_have_different_names() {
        let names: std::collections::BTreeSet<_> = Step::ALL.iter().map(|step| step.name()).collect();
        assert_eq!(names.len(), Step::ALL.len());
    }
}
