//! The writer's loop.
//!
//! Owns: see the parent module. One loop, one task; uploads and commits run beside it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::checkpoint::LiveSession;
use esker_metadata::log::{
    Cluster, Commit, CommitResult, Committer, CommitterSettings, LogHandle, Pending, Session, SessionError,
};
use esker_metadata::replica::Replica;
use esker_model::EntryVerdict;
use esker_segment::id::{SegmentNumber, SessionId};
use esker_segment::segment::{OrderList, Ordered};
use esker_storage::buffer::FlushDecision;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, trace, warn};

use super::pipeline::{Flushed, Group, Item, Pipeline, Ready, Uploaded, verdicts_in_order};
use super::upload::{Upload, Uploader};
use super::{ProposeError, WriterEnd};
use crate::membership::Membership;
use crate::produce::acks::Outcome;

/// Commits sent and not answered.
const COMMITS_MAX: usize = 16;
/// Commits in the order list of a segment.
const ORDER_MAX: usize = 4_096;
/// Items between buffer and log.
const PIPELINE_MAX: usize = 64;
/// How often a stuck queue is looked at for requests that nobody waits for any more.
const STUCK_CHECK: Duration = Duration::from_millis(500);
/// How long to wait before another session is tried.
const SESSION_PAUSE: Duration = Duration::from_millis(200);

/// What the writer is made of.
pub struct WriterParts {
    /// Where batches and other entries come from.
    pub end: WriterEnd,
    /// Uploads.
    pub uploader: Uploader,
    /// This agent's fold.
    pub replica: Arc<Replica>,
    /// The log as this process follows it.
    pub log: LogHandle,
    /// Segments being uploaded at once.
    pub uploads_max: usize,
    /// This process, as its sessions say it.
    pub members: Arc<Membership>,
    /// Drain and end.
    pub stop: CancellationToken,
}

/// The writer.
pub struct Writer {
    parts: WriterParts,
    session: Session,
    committer: Committer,
    segments_through: SegmentNumber,
    next_segment: SegmentNumber,
    pipeline: Pipeline,
    uploads: JoinSet<(SegmentNumber, Uploaded)>,
    /// The order lists of segments that were given up, for the next one.
    order_left: Vec<Ordered>,
    commits: FuturesOrdered<BoxFuture<'static, (Vec<Item>, GroupOutcome)>>,
    upload_handles: VecDeque<AbortHandle>,
    /// The session was lost, and everybody knows.
    told_lost: bool,
    /// The session was lost; these were certainly not committed and go first into the next one.
    orphans: Option<Vec<Item>>,
}

enum GroupOutcome {
    Applied(Vec<EntryVerdict>),
    Refused,
    SessionLost,
    Unknown,
}

async fn open_session(parts: &WriterParts) -> Result<(Session, Committer), SessionError> {
    let cluster: &Cluster = parts.log.cluster();
    let session = parts.members.identity().open_session(cluster).await?;
    // Before the first commit, so that no verdict is missed.
    parts.replica.expect_session(session.id());
    parts.end.session.send_replace(Some(LiveSession::of(&session)));
    parts.members.on_identity();
    let settings = CommitterSettings {
        window: COMMITS_MAX,
        queue: COMMITS_MAX,
    };
    let committer = Committer::start(&session, Some(parts.log.position()), settings);
    Ok((session, committer))
}

/// A process that was cut off may have missed much: it is up to date before it takes part again, lest it calls old ends of
/// partitions the ends.
async fn reopen(parts: &WriterParts) -> Result<(Session, Committer), SessionError> {
    parts.log.barrier().await?;
    open_session(parts).await
}

impl Writer {
    /// A writer with a fresh session.
    ///
    /// # Errors
    /// No session could be opened.
    pub async fn open(parts: WriterParts) -> Result<Self, SessionError> {
        let (session, committer) = open_session(&parts).await?;
        Ok(Self {
            parts,
            session,
            committer,
            segments_through: SegmentNumber(0),
            next_segment: SegmentNumber(1),
            pipeline: Pipeline::default(),
            uploads: JoinSet::new(),
            order_left: Vec::new(),
            commits: FuturesOrdered::new(),
            upload_handles: VecDeque::new(),
            told_lost: false,
            orphans: None,
        })
    }

    /// Runs until told to stop and everything that had entered is settled.
    ///
    /// # Errors
    /// The cluster has another incarnation: the process must stop.
    pub async fn run(mut self) -> Result<(), SessionError> {
        let mut open = true;
        loop {
            let wake_at = self.flush_what_is_due();
            self.submit_ready().await;
            if self.parts.stop.is_cancelled() && self.is_drained() {
                break;
            }
            let room = self.pipeline.len() < PIPELINE_MAX;
            tokio::select! {
                biased;
                Some((items, outcome)) = self.commits.next(), if !self.commits.is_empty() => {
                    self.on_committed(items, outcome).await?;
                }
                Some(joined) = self.uploads.join_next(), if !self.uploads.is_empty() => match joined {
                    Ok((number, uploaded)) => self.pipeline.on_uploaded(number, uploaded),
                    Err(cause) if cause.is_cancelled() => {}
                    Err(cause) => panic!("an upload panicked: {cause}"),
                },
                proposal = self.parts.end.proposals.recv(), if room && open => match proposal {
                    Some(proposal) => self.pipeline.push(Item::Entries(proposal)),
                    None => open = false,
                },
                () = self.parts.end.inbox.entered.notified(), if room => {}
                () = self.parts.stop.cancelled(), if !self.parts.stop.is_cancelled() => {}
                () = self.session.lost(), if self.commits.is_empty() => self.renew_session().await?,
                // What was sent must be decided first. Meanwhile nobody may believe in this session.
                () = self.session.lost(), if !self.told_lost => self.tell_lost(),
                () = tokio::time::sleep_until(wake_at) => self.fail_what_nobody_waits_for(),
            }
        }
        drop(self.committer);
        if let Err(cause) = self.session.close().await {
            warn!(%cause, "session not closed; it ends with its lease");
        }
        info!("writer drained");
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.pipeline.is_empty() && self.commits.is_empty() && self.parts.end.inbox.is_empty()
    }

    /// Flushes as often as the rules say so; returns when to look again.
    fn flush_what_is_due(&mut self) -> Instant {
        let inbox = Arc::clone(&self.parts.end.inbox);
        let later = Instant::now() + STUCK_CHECK;
        loop {
            if self.orphans.is_some()
                || self.uploads.len() >= self.parts.uploads_max
                || self.pipeline.len() >= PIPELINE_MAX
            {
                return later;
            }
            match inbox.decide_flush(self.uploads.len()) {
                FlushDecision::Flush(reason) => trace!(?reason, "flush"),
                FlushDecision::WaitUntil(at) => return inbox.instant(at).min(later),
                FlushDecision::Idle => return later,
            }
            let Some((segment, batches)) = inbox.take() else {
                return later;
            };
            let number = self.next_segment;
            self.next_segment = SegmentNumber(number.0 + 1);
            let mut order = std::mem::take(&mut self.order_left);
            order.extend(self.parts.replica.take_order());
            order.truncate(ORDER_MAX);
            let flushed = Flushed {
                number,
                segment: Arc::new(segment),
                batches,
                order,
            };
            self.start_upload(&flushed);
            self.pipeline.push(Item::Segment {
                flushed,
                uploaded: None,
            });
        }
    }

    fn start_upload(&mut self, flushed: &Flushed) {
        let upload = Upload {
            session: self.session.id(),
            number: flushed.number,
            batches: Arc::clone(&flushed.segment),
            order: OrderList {
                commits: flushed.order.clone(),
            },
        };
        let handle = self.uploads.spawn(self.parts.uploader.clone().run(upload));
        self.upload_handles.retain(|handle| !handle.is_finished());
        self.upload_handles.push_back(handle);
    }

    async fn submit_ready(&mut self) {
        while self.orphans.is_none() && self.commits.len() < COMMITS_MAX {
            let Group { record, items } = match self.pipeline.take_ready() {
                Some(Ready::Commit(group)) => group,
                Some(Ready::TooLarge(item)) => {
                    self.fail_too_large(item);
                    continue;
                }
                None => return,
            };
            let mut commit = Commit {
                record,
                segments_through: self.segments_through,
                ..Commit::default()
            };
            for item in &items {
                match item {
                    Item::Segment { flushed, .. } => commit.segments_through = flushed.number,
                    Item::Entries(proposal) => {
                        commit.compares.extend(proposal.compares.iter().cloned());
                        commit.ops.extend(proposal.ops.iter().cloned());
                    }
                }
            }
            self.segments_through = commit.segments_through;
            match self.committer.submit(commit).await {
                Ok(pending) => {
                    let (replica, log) = (Arc::clone(&self.parts.replica), self.parts.log.clone());
                    let judged = judge(replica, log, self.session.id(), pending);
                    self.commits.push_back(Box::pin(async move { (items, judged.await) }));
                }
                Err(cause) => {
                    error!(%cause, "commit not accepted");
                    for item in items {
                        self.fail_item(item, Outcome::NotCommitted);
                    }
                }
            }
        }
    }

    async fn on_committed(&mut self, items: Vec<Item>, outcome: GroupOutcome) -> Result<(), SessionError> {
        match outcome {
            GroupOutcome::Applied(verdicts) => self.settle(items, verdicts),
            GroupOutcome::Refused => {
                for item in items {
                    match item {
                        Item::Entries(proposal) => drop(proposal.reply.send(Err(ProposeError::Refused))),
                        Item::Segment { flushed, .. } => self.fail(flushed, Outcome::NotCommitted),
                    }
                }
            }
            GroupOutcome::Unknown => {
                for item in items {
                    self.fail_item(item, Outcome::Unknown);
                }
            }
            GroupOutcome::SessionLost => self.orphans.get_or_insert_default().extend(items),
        }
        if self.orphans.is_some() && self.commits.is_empty() {
            self.renew_session().await?;
        }
        Ok(())
    }

    /// Hands out verdicts, in order.
    fn settle(&self, items: Vec<Item>, verdicts: Vec<EntryVerdict>) {
        let mut verdicts = verdicts.into_iter();
        for item in items {
            match item {
                Item::Entries(proposal) => {
                    let own: Vec<_> = verdicts.by_ref().take(proposal.entries.len()).collect();
                    drop(proposal.reply.send(Ok(own)));
                }
                Item::Segment { flushed, uploaded } => {
                    let verdict = verdicts.next();
                    let in_order = uploaded
                        .as_ref()
                        .zip(verdict.as_ref())
                        .and_then(|(u, v)| verdicts_in_order(u, v));
                    let Some(in_order) = in_order else {
                        error!(number = %flushed.number, "segment entry was rejected by the fold");
                        self.fail(flushed, Outcome::NotCommitted);
                        continue;
                    };
                    self.parts
                        .end
                        .inbox
                        .settle(flushed.batches.iter().map(|batch| (batch.at, batch.meta)));
                    for (batch, verdict) in flushed.batches.into_iter().zip(in_order) {
                        batch.ack.fill(Outcome::Judged(verdict));
                    }
                }
            }
        }
    }

    fn fail(&self, flushed: Flushed, outcome: Outcome) {
        self.parts
            .end
            .inbox
            .settle(flushed.batches.iter().map(|batch| (batch.at, batch.meta)));
        for batch in flushed.batches {
            batch.ack.fill(outcome);
        }
    }

    fn fail_too_large(&self, item: Item) {
        match item {
            Item::Entries(proposal) => drop(proposal.reply.send(Err(ProposeError::TooLarge))),
            Item::Segment { flushed, .. } => {
                error!(number = %flushed.number, "segment entry does not fit into a commit record");
                self.fail(flushed, Outcome::NotCommitted);
            }
        }
    }

    fn fail_item(&self, item: Item, outcome: Outcome) {
        match item {
            Item::Segment { flushed, .. } => self.fail(flushed, outcome),
            Item::Entries(proposal) => {
                let error = if outcome == Outcome::NotCommitted {
                    ProposeError::Closed
                } else {
                    ProposeError::Unknown
                };
                drop(proposal.reply.send(Err(error)));
            }
        }
    }

    fn tell_lost(&mut self) {
        self.told_lost = true;
        self.parts.end.session.send_replace(None);
        self.parts.members.identity().on_lost();
        self.parts.members.on_identity();
    }

    /// Everything that was under way in a lost session certainly did not happen: it is uploaded again, in the same order,
    /// in a new one.
    async fn renew_session(&mut self) -> Result<(), SessionError> {
        warn!(session = %self.session.id(), "session lost, taking a new one");
        self.tell_lost();
        (self.session, self.committer) = loop {
            match reopen(&self.parts).await {
                Ok(opened) => break opened,
                Err(SessionError::OtherIncarnation) => return Err(SessionError::OtherIncarnation),
                Err(cause) => {
                    warn!(%cause, "no session");
                    tokio::time::sleep(SESSION_PAUSE).await;
                }
            }
        };
        self.told_lost = false;
        self.segments_through = SegmentNumber(0);
        self.uploads.shutdown().await;
        self.upload_handles.clear();
        self.next_segment = SegmentNumber(1);
        let mut items = self.orphans.take().unwrap_or_default();
        items.extend(self.pipeline.drain());
        for item in items {
            let item = match item {
                Item::Segment { mut flushed, .. } => {
                    flushed.number = self.next_segment;
                    self.next_segment = SegmentNumber(flushed.number.0 + 1);
                    self.start_upload(&flushed);
                    Item::Segment {
                        flushed,
                        uploaded: None,
                    }
                }
                entries @ Item::Entries(_) => entries,
            };
            self.pipeline.push(item);
        }
        Ok(())
    }

    /// When the segment at the head cannot be uploaded and all its requests have timed out, it is given up, and with it
    /// everything behind it: a later batch of the same connection must not overtake it.
    fn fail_what_nobody_waits_for(&mut self) {
        if !self.pipeline.head_is_abandoned() {
            return;
        }
        warn!(
            items = self.pipeline.len(),
            "uploads do not work, giving up what waits for them"
        );
        for handle in self.upload_handles.drain(..) {
            handle.abort();
        }
        let items: Vec<Item> = self.pipeline.drain().collect();
        for item in items {
            match item {
                Item::Segment { mut flushed, .. } => {
                    self.order_left.append(&mut flushed.order);
                    self.fail(flushed, Outcome::NotCommitted);
                }
                entries @ Item::Entries(_) => self.pipeline.push(entries),
            }
        }
        self.order_left.truncate(ORDER_MAX);
        while let Some((segment, batches)) = self.parts.end.inbox.take() {
            self.fail(
                Flushed {
                    number: self.next_segment,
                    segment: Arc::new(segment),
                    batches,
                    order: Vec::new(),
                },
                Outcome::NotCommitted,
            );
        }
    }
}

/// Waits for a commit and for the verdicts of this agent's own fold.
async fn judge(replica: Arc<Replica>, log: LogHandle, session: SessionId, pending: Pending) -> GroupOutcome {
    match pending.await {
        CommitResult::Committed { number, index } => {
            // A checkpoint may have been loaded over it before its answer came.
            match replica.own_verdicts_once(session, number, log.folded(index)).await {
                Some(verdicts) => GroupOutcome::Applied(verdicts),
                None => GroupOutcome::Unknown,
            }
        }
        CommitResult::Refused { .. } => GroupOutcome::Refused,
        CommitResult::SessionLost => GroupOutcome::SessionLost,
        CommitResult::Undecided => GroupOutcome::Unknown,
    }
}
