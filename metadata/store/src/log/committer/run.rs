//! The loop that sends a session's commits and settles their results in order.

use std::collections::VecDeque;
use std::time::Duration;

use esker_segment::id::{CommitNumber, LogIndex};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::CommitResult;
use super::resolve::resolve;
use super::slot::{Slot, Stage, Submitted, Why};
use crate::log::Cluster;
use crate::log::position::LogPosition;
use crate::log::session::{Session, SessionFacts};
use crate::store::{MetadataError, TxnOutcome};

type Answered = (CommitNumber, Result<TxnOutcome, MetadataError>);

/// The state of a committer.
pub(super) struct Runner {
    cluster: Cluster,
    session: SessionFacts,
    position: Option<LogPosition>,
    inbox: mpsc::Receiver<Submitted>,
    window: usize,
    slots: VecDeque<Slot>,
    under_way: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// The newest index that is known to have been reached.
    floor: LogIndex,
    session_gone: bool,
}

impl Runner {
    pub(super) fn new(
        session: &Session,
        position: Option<LogPosition>,
        inbox: mpsc::Receiver<Submitted>,
        window: usize,
    ) -> Self {
        Self {
            cluster: session.cluster().clone(),
            session: session.facts(),
            position,
            inbox,
            window,
            slots: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            floor: session.facts().floor,
            session_gone: false,
        }
    }

    /// Runs until the handle is gone and everything submitted has its result, or nobody wants it any more.
    pub(super) async fn run(mut self) {
        let mut open = true;
        while open || self.slots.iter().any(|slot| !slot.answer.is_closed()) {
            let may_admit = open && self.slots.len() < self.window;
            tokio::select! {
                biased;
                Some((number, answer)) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.on_answer(number, answer).await;
                }
                submitted = self.inbox.recv(), if may_admit => match submitted {
                    Some(submitted) => self.admit(submitted),
                    None => open = false,
                },
            }
            self.settle();
        }
    }

    fn admit(&mut self, submitted: Submitted) {
        if self.session_gone {
            finish(submitted.answer, CommitResult::SessionLost);
            return;
        }
        let folded = self.position.as_ref().and_then(LogPosition::get).unwrap_or_default();
        self.floor = self.floor.max(folded);
        let mut slot = Slot::new(&self.cluster, &self.session, self.floor, submitted);
        slot.stage = Stage::Sent;
        self.send(&slot, Duration::ZERO);
        self.slots.push_back(slot);
    }

    fn send(&self, slot: &Slot, delay: Duration) {
        let (store, txn, number) = (self.cluster.store.clone(), slot.txn().clone(), slot.number);
        self.under_way.push(Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            (number, store.txn(txn).await)
        }));
    }

    fn slot_at(&self, number: CommitNumber) -> Option<usize> {
        let first = self.slots.front()?.number;
        usize::try_from(number.0.checked_sub(first.0)?)
            .ok()
            .filter(|at| *at < self.slots.len())
    }

    async fn on_answer(&mut self, number: CommitNumber, answer: Result<TxnOutcome, MetadataError>) {
        let Some(at) = self.slot_at(number) else { return };
        match answer {
            Ok(outcome) if outcome.succeeded => {
                let result = self.slots[at].applied(&self.cluster, outcome);
                self.slots[at].stage = Stage::Done(result);
            }
            Ok(outcome) => {
                let why = self.slots[at].why(outcome.results);
                self.on_refusal(at, why).await;
            }
            Err(error) => {
                let unknown = matches!(error, MetadataError::Unknown(_));
                tracing::debug!(session = %self.session.id, commit = %number, %error, "commit is sent again");
                let slot = &mut self.slots[at];
                slot.maybe |= unknown && slot.refused.is_none();
                self.send_again(at);
            }
        }
    }

    async fn on_refusal(&mut self, at: usize, why: Why) {
        let slot = &mut self.slots[at];
        match why {
            Why::SessionGone => {
                // This attempt is over, and it had no effect.
                slot.stage = Stage::Parked;
                self.on_session_gone().await;
            }
            Why::Committed => {
                slot.stage = Stage::Done(CommitResult::Committed {
                    number: slot.number,
                    index: None,
                });
            }
            // Only a refused commit is ever voided.
            Why::Voided => {
                let compare = slot.refused.unwrap_or_default();
                slot.stage = Stage::Done(CommitResult::Refused { compare });
            }
            // First in line, and still too early: the store went back behind this session's commits. That is not for the
            // committer to mend, but it need not ask without a pause.
            Why::TooEarly if at == 0 && slot.early_in_front => self.send_again(at),
            Why::TooEarly => {
                slot.early_in_front |= at == 0;
                slot.stage = Stage::Parked;
            }
            // The number is voided when it is first in line. Before that an earlier void may not be known to have
            // happened, and this one would wipe out the mark that tells.
            Why::Compare(compare) => {
                slot.refuse(&self.session, compare);
                slot.backoff.reset();
                slot.stage = Stage::Parked;
            }
            Why::Unclear => self.send_again(at),
        }
    }

    fn send_again(&mut self, at: usize) {
        let delay = self.slots[at].backoff.next_delay();
        self.send(&self.slots[at], delay);
    }

    /// The session is over for good: nothing under way can apply from now on, though it may have before.
    async fn on_session_gone(&mut self) {
        self.session_gone = true;
        for slot in &mut self.slots {
            slot.maybe |= slot.stage == Stage::Sent && slot.refused.is_none();
        }
        self.under_way.clear();
        resolve(&self.cluster, self.session.id, self.position.as_ref(), &mut self.slots).await;
    }

    /// Hands out the results that are next in line, and sends what had to wait for them.
    fn settle(&mut self) {
        while let Some(Slot {
            stage: Stage::Done(result),
            ..
        }) = self.slots.front()
        {
            let result = *result;
            let slot = self.slots.pop_front().expect("there is a front");
            if let CommitResult::Committed { index: Some(index), .. } = result {
                self.floor = self.floor.max(index);
            }
            record_metrics(&slot, result);
            finish(slot.answer, result);
        }
        if self.slots.front().is_some_and(|front| front.stage == Stage::Parked) {
            self.send_parked();
        }
    }

    fn send_parked(&mut self) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.stage == Stage::Parked && (at == 0 || slot.refused.is_none()) {
                slot.stage = Stage::Sent;
                self.send(&self.slots[at], Duration::ZERO);
            }
        }
    }
}

fn finish(answer: tokio::sync::oneshot::Sender<CommitResult>, result: CommitResult) {
    // A caller that has gone away does not want to know.
    let _gone = answer.send(result);
}

fn record_metrics(slot: &Slot, result: CommitResult) {
    let outcome = match result {
        CommitResult::Committed { .. } => "committed",
        CommitResult::SessionLost => "session_lost",
        CommitResult::Refused { .. } => "refused",
        CommitResult::Undecided => "undecided",
    };
    metrics::counter!("esker_commits_total", "outcome" => outcome).increment(1);
    if let CommitResult::Committed { .. } = result {
        metrics::histogram!("esker_commit_seconds").record(slot.sent_at.elapsed().as_secs_f64());
    }
}
