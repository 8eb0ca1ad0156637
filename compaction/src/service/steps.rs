//! The steps of a cycle: each looks whether it is due, and does its work if so.
//!
//! Owns: what each step needs to know and what it leaves behind for the others.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_metadata::checkpoint::{LiveSession, ObjectWriter, PublishError};
use esker_metadata::keys::leader::Duty;
use esker_metadata::log::{Leadership, PublishedRoot, Truncated, read_root};
use esker_metadata::store::MetadataError;
use esker_model::EntryVerdict;
use esker_segment::id::LogIndex;
use esker_segment::name::ObjectName;
use esker_storage::merged::MergedError;
use futures::FutureExt;
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use super::{Compaction, Step};
use crate::checkpointer::{CheckpointOutcome, CheckpointerError, checkpoint};
use crate::garbage::GarbageError;
use crate::incarnation::{self, IncarnationError};
use crate::intake::{self, IntakeParts};
use crate::levels::{self, LevelError};
use crate::liveness::Liveness;
use crate::retention::{self, RetentionError};
use crate::round::{RoundContext, RoundError, RoundOutcome, RoundWriter};
use crate::seams::NotApplied;
use crate::survey::survey;

/// How long an object that could not be read is left out of plans.
const AVOID_FOR: Duration = Duration::from_secs(600);
/// How long bucket and coordination store are known to belong together once it was looked at.
const CLAIM_FOR: Duration = Duration::from_secs(10);
/// Index objects that wait to be merged, whatever is in them, before they are.
const INDEXES_WAITING_MAX: usize = 64;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The bucket is not this cluster's.
    #[error(transparent)]
    Incarnation(#[from] IncarnationError),
    /// Of a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointerError),
    /// Of the coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Of naming objects.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Of a merge.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// Of merging again.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// Of a survey.
    #[error(transparent)]
    Merged(#[from] MergedError),
    /// Of retention.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Of expiry.
    #[error(transparent)]
    NotApplied(#[from] NotApplied),
    /// Of garbage collection.
    #[error(transparent)]
    Garbage(#[from] GarbageError),
}

impl Compaction {
    pub(super) async fn step(&mut self, step: Step) -> Result<bool, StepError> {
        // Boxed, so that one that is not `Send` is named here and not where the service is spawned.
        match step {
            Step::Claim => self.claim().await,
            Step::Checkpoint => self.checkpoint().boxed().await,
            Step::Truncate => self.truncate().boxed().await,
            Step::Intake => self.intake().boxed().await,
            Step::Levels => self.levels().boxed().await,
            Step::Retention => self.retention().boxed().await,
            Step::Expiry => self.expiry().boxed().await,
            Step::Garbage => self.garbage().boxed().await,
        }
    }

    /// Nothing is written to or deleted from a bucket of another cluster.
    async fn claim(&mut self) -> Result<bool, StepError> {
        if self.claimed_at.is_none() {
            incarnation::claim(self.manifests().objects(), &self.parts.cluster).await?;
            self.claimed_at = Some(Instant::now());
        }
        Ok(false)
    }

    /// The session and the duty to do something that is due, if this process is the one that does it.
    async fn lead(&mut self, duty: Duty) -> Result<Option<(LiveSession, Leadership)>, StepError> {
        let Some(session) = self.parts.access.session() else {
            return Ok(None);
        };
        let held = self.duties.lead(&self.parts.cluster, duty, &session).await?;
        Ok(held.map(|held| (session, held)))
    }

    /// Knows the root as it stands in the store, and what counts under it.
    async fn refresh(&mut self) -> Result<(), StepError> {
        let moved = self.seen.has_changed().unwrap_or(false);
        if moved || self.root_stale {
            let follower = self.seen.borrow_and_update().clone();
            if self.root_stale || follower.as_ref() != self.root.as_ref().map(|root| &root.root) {
                let root = read_root(&self.parts.cluster).await?;
                if root != self.root {
                    self.on_root(root);
                }
                self.root_stale = false;
            }
        }
        let index = self.parts.replica.fold().index();
        let taken = self
            .liveness_next
            .as_ref()
            .map_or(self.liveness.index(), Liveness::index);
        // One view waits at a time: it becomes the current one as soon as the root has reached it.
        if self.liveness_next.is_none() && taken < index {
            self.liveness_next = Some(Liveness::of(&self.parts.replica.fold()));
        }
        if let Some(root) = &self.root
            && let Some(next) = self.liveness_next.take_if(|next| next.index() <= root.root.index)
        {
            self.liveness = next;
            self.survey_due = true;
        }
        Ok(())
    }

    fn on_root(&mut self, root: Option<PublishedRoot>) {
        self.root = root;
        self.truncated = false;
        self.survey_due = true;
        self.garbage_due = true;
    }

    /// A writer and the duty to publish what it names; `None` while the process has no session or another one does it. The
    /// bucket is compared again, as it may have been given to another life of the cluster meanwhile.
    async fn writer(&mut self, duty: Duty) -> Result<Option<(ObjectWriter, Leadership)>, StepError> {
        let Some((session, held)) = self.lead(duty).await? else {
            return Ok(None);
        };
        if self.claimed_at.is_none_or(|at| at.elapsed() >= CLAIM_FOR) {
            self.claimed_at = None;
            incarnation::verify(self.manifests().objects(), &self.parts.cluster.incarnation).await?;
            self.claimed_at = Some(Instant::now());
        }
        if let Some(names) = self.names.take().filter(|names| names.session() == session.id) {
            return Ok(Some((names, held)));
        }
        let nonce = (self.parts.random)() & u128::from(u32::MAX);
        let nonce = u32::try_from(nonce).expect("masked");
        let names = ObjectWriter::begin(&self.parts.cluster, session, nonce).await?;
        Ok(Some((names, held)))
    }

    async fn checkpoint(&mut self) -> Result<bool, StepError> {
        self.refresh().await?;
        let base = self.parts.cluster.incarnation.base;
        let at_root = self.root.as_ref().map_or(base, |root| root.root.index);
        let (index, segments) = {
            let fold = self.parts.replica.fold();
            (fold.index(), fold.unmerged_stats().segments)
        };
        // What waits below the root is not merged any sooner by another checkpoint.
        let merged = self.root.as_ref().is_none_or(|root| root.root.indexes.is_empty());
        let segments = if merged { segments } else { 0 };
        let settings = &self.settings.checkpoint;
        if !self.pace.is_due((index, at_root), segments, Instant::now(), settings) {
            return Ok(false);
        }
        let Some((mut names, duty)) = self.writer(Duty::Checkpoint).await? else {
            return Ok(false);
        };
        let (parts, begun) = (&self.parts, Instant::now());
        let objects = parts.merged.manifests().objects();
        let (mut view, seen) = (None, self.root.as_ref());
        let at_cut = |fold: &esker_model::Fold| view = Some(Liveness::of(fold));
        let outcome = checkpoint(&parts.cluster, objects, &parts.replica, seen, &mut names, &duty, at_cut).await?;
        match outcome {
            CheckpointOutcome::Published(root) => {
                histogram!("esker_checkpoint_seconds").record(begun.elapsed().as_secs_f64());
                tracing::debug!(index = %root.root.index, took = ?begun.elapsed(), "checkpoint");
                self.names = Some(names);
                // The root has reached it: everything below the root can be merged.
                self.liveness_next = view;
                self.on_root(Some(*root));
                Ok(true)
            }
            CheckpointOutcome::Nothing => {
                self.names = Some(names);
                Ok(false)
            }
            CheckpointOutcome::Lost => {
                self.root_stale = true;
                self.duties.doubt(Duty::Checkpoint);
                Ok(false)
            }
        }
    }

    async fn truncate(&mut self) -> Result<bool, StepError> {
        self.truncation.observe().await?;
        let superfluous = self.root.as_ref().is_some_and(|root| self.truncation.has_records(root));
        if !self.truncated && !superfluous {
            self.truncated = true;
        }
        if self.truncated && !self.truncation.is_compaction_due() {
            return Ok(false);
        }
        if self.lead(Duty::Checkpoint).await?.is_none() {
            // What it knew of old revisions is another's to use now.
            self.truncation.forget();
            return Ok(false);
        }
        if let Some(root) = self.root.as_ref().filter(|_| !self.truncated) {
            match self.truncation.truncate(root).await? {
                Truncated::Done { .. } => self.truncated = true,
                Truncated::RootMoved => self.root_stale = true,
            }
        }
        self.truncation.compact().await?;
        Ok(false)
    }

    /// The root, if what is known to count fits it.
    async fn ready(&mut self) -> Result<Option<PublishedRoot>, StepError> {
        self.refresh().await?;
        Ok(self.root.clone().filter(|root| self.liveness.fits(&root.root)))
    }

    async fn intake(&mut self) -> Result<bool, StepError> {
        let Some(base) = self.ready().await? else {
            return Ok(false);
        };
        if !self.intake_is_due(&base) {
            return Ok(false);
        }
        let Some((mut names, duty)) = self.writer(Duty::Compaction).await? else {
            return Ok(false);
        };
        let (parts, settings) = (&self.parts, self.settings.merge);
        let context = RoundContext {
            cluster: &parts.cluster,
            duty: &duty,
            manifests: parts.merged.manifests(),
            settings,
        };
        let mut writer = RoundWriter::new(context, &mut names);
        let of_round = IntakeParts {
            root: &base.root,
            liveness: &self.liveness,
            replica: &parts.replica,
            policies: &*parts.policies,
            settings,
        };
        let intake = intake::run(of_round, &mut self.unread, &mut writer).await?;
        let outcome = writer
            .publish(&base, &intake.edit, &self.liveness, intake.merged_through)
            .await?;
        let bytes = writer.bytes();
        tracing::debug!(through = %intake.merged_through, segments = intake.segments, bytes, "merged fresh segments");
        Ok(self.on_round(outcome, names, "fresh", bytes))
    }

    fn intake_is_due(&mut self, base: &PublishedRoot) -> bool {
        let limit = base.root.index.min(self.liveness.index());
        let waits = base.root.indexes.iter().any(|index| index.first <= limit);
        if !waits || base.root.merged_through >= limit {
            self.waiting_since = None;
            return false;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let merge = &self.settings.merge;
        let segments = self.parts.replica.fold().unmerged_stats().segments;
        segments >= u64::try_from(merge.segments_min).unwrap_or(u64::MAX)
            || base.root.indexes.len() >= INDEXES_WAITING_MAX
            || since.elapsed() >= merge.age_max
    }

    async fn levels(&mut self) -> Result<bool, StepError> {
        let Some(base) = self.ready().await? else {
            return Ok(false);
        };
        let Some(manifest) = base.root.manifest_ref().filter(|_| self.survey_due) else {
            return Ok(false);
        };
        let settings = self.settings.merge;
        self.avoid.retain(|_, since| since.elapsed() < AVOID_FOR);
        let surveyed = survey(self.manifests(), Some(manifest), &self.liveness, &*self.parts.policies).await?;
        gauge!("esker_merged_objects").set(as_gauge(surveyed.objects.len()));
        let avoid: BTreeSet<ObjectName> = self.avoid.keys().copied().collect();
        let Some(plan) = levels::plan(&surveyed, &avoid, &settings) else {
            self.survey_due = false;
            return Ok(false);
        };
        let Some((mut names, duty)) = self.writer(Duty::Compaction).await? else {
            return Ok(false);
        };
        let parts = &self.parts;
        let manifests = parts.merged.manifests();
        let context = RoundContext {
            cluster: &parts.cluster,
            duty: &duty,
            manifests,
            settings,
        };
        let mut writer = RoundWriter::new(context, &mut names);
        let policies = &*parts.policies;
        let made = levels::run(
            &plan,
            manifest,
            &self.liveness,
            policies,
            settings,
            &mut writer,
            manifests,
        )
        .await;
        let edit = match made {
            Ok(edit) => edit,
            Err(error) => {
                if let LevelError::Unreadable { name, .. } = &error {
                    self.avoid.insert(*name, Instant::now());
                }
                return Err(error.into());
            }
        };
        let through: LogIndex = base.root.merged_through;
        let outcome = writer.publish(&base, &edit, &self.liveness, through).await?;
        let bytes = writer.bytes();
        tracing::debug!(
            merged = plan.merge.len(),
            dropped = plan.drop.len(),
            level = plan.level,
            bytes,
            "merged again"
        );
        Ok(self.on_round(outcome, names, "levels", bytes))
    }

    fn on_round(&mut self, outcome: RoundOutcome, names: ObjectWriter, kind: &'static str, bytes: u64) -> bool {
        match outcome {
            RoundOutcome::Published(root) => {
                counter!("esker_merge_rounds_total", "kind" => kind).increment(1);
                counter!("esker_merged_bytes_total", "kind" => kind).increment(bytes);
                self.names = Some(names);
                self.on_root(Some(*root));
                self.waiting_since = None;
                true
            }
            RoundOutcome::Lost => {
                self.root_stale = true;
                self.duties.doubt(Duty::Compaction);
                false
            }
        }
    }

    async fn retention(&mut self) -> Result<bool, StepError> {
        if Instant::now() < self.retention_at {
            return Ok(false);
        }
        if self.lead(Duty::Compaction).await?.is_none() {
            return Ok(false);
        }
        self.refresh().await?;
        let parts = &self.parts;
        let manifest = self.root.as_ref().and_then(|root| root.root.manifest_ref());
        let (manifests, policies) = (parts.merged.manifests(), &*parts.policies);
        let now = (parts.clock)();
        let trimmed = retention::run(manifests, manifest, &parts.replica, policies, &*parts.access, now).await?;
        self.retention_at = Instant::now() + self.settings.retention.interval;
        counter!("esker_trimmed_partitions_total").increment(u64::try_from(trimmed).unwrap_or(u64::MAX));
        Ok(trimmed > 0)
    }

    async fn expiry(&mut self) -> Result<bool, StepError> {
        let entry = self.expiry.decide(&self.parts.replica.fold(), Instant::now());
        let Some(entry) = entry else { return Ok(false) };
        if self.lead(Duty::Checkpoint).await?.is_none() {
            return Ok(false);
        }
        let proposed = self.parts.access.propose(vec![entry]).await;
        let verdicts = proposed.inspect_err(|_| self.expiry.again(Instant::now()))?;
        if let Some(EntryVerdict::ExpireProducers(expired)) = verdicts.first() {
            counter!("esker_expired_producer_windows_total").increment(u64::from(expired.windows));
            tracing::debug!(windows = expired.windows, "idle producers forgotten");
        }
        Ok(false)
    }

    async fn garbage(&mut self) -> Result<bool, StepError> {
        let due = self.garbage_due || self.garbage.is_waiting();
        if !due || Instant::now() < self.garbage_at {
            return Ok(false);
        }
        if self.lead(Duty::Compaction).await?.is_none() {
            return Ok(false);
        }
        let settings = self.settings.garbage;
        // What changes from here on makes another collection due.
        self.garbage_due = false;
        let parts = &self.parts;
        let collected = self
            .garbage
            .collect(&parts.cluster, parts.merged.manifests(), &settings)
            .await;
        self.garbage_at = Instant::now() + settings.interval_min.max(settings.grace);
        let collected = collected.inspect_err(|_| self.garbage_due = true)?;
        gauge!("esker_bucket_objects").set(as_gauge(collected.objects - collected.deleted));
        counter!("esker_garbage_deleted_total").increment(u64::try_from(collected.deleted).unwrap_or(u64::MAX));
        counter!("esker_garbage_deleted_bytes_total").increment(collected.deleted_bytes);
        tracing::debug!(?collected, "garbage");
        Ok(false)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn as_gauge(value: usize) -> f64 {
    value as f64
}
