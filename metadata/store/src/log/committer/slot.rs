//! One commit in the making: its transaction, and what a refusal of it means. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_segment::id::{CommitNumber, LogIndex};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Commit, CommitResult};
use crate::keys::commit::Progress;
use crate::keys::head::Head;
use crate::keys::{commit, head, incarnation, record, session, void};
use crate::log::Cluster;
use crate::log::backoff::Backoff;
use crate::log::session::SessionFacts;
use crate::store::{Compare, KeyValue, Op, OpResult, Txn, TxnOutcome};

/// Changes that every commit makes: progress, record, head.
pub(super) const FIXED_OPS: usize = 3;
/// What a refused commit reads: session, progress, void, incarnation. As many compares come first.
pub(super) const FIXED_READS: usize = 4;
/// Compares that come before the caller's: session, progress, incarnation.
const FIXED_COMPARES: usize = 3;
/// The first of them; a number that is used up has no other, but a mark.
const PROGRESS_OPS: usize = 1;
/// Where the put of the head stands among the changes.
const HEAD_AT: usize = 2;

/// A commit as it was put in line.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) commit: Commit,
    pub(super) previous: Progress,
    pub(super) next: Progress,
    pub(super) answer: oneshot::Sender<CommitResult>,
}

/// Where a commit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A transaction is under way or waits out its back-off.
    Sent,
    /// It came before its predecessor and was refused, or is to be voided; to be sent when those before it are done.
    Parked,
    /// The result, which waits for those before it.
    Done(CommitResult),
}

/// A commit within the window.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: CommitNumber,
    pub(super) stage: Stage,
    /// An attempt of the commit itself may have applied without our knowing.
    pub(super) maybe: bool,
    /// The condition that did not hold. From then on the number is being voided.
    pub(super) refused: Option<usize>,
    /// It was too early once although it was first in line.
    pub(super) early_in_front: bool,
    /// An index that had been reached before the first attempt.
    pub(super) floor: LogIndex,
    pub(super) sent_at: Instant,
    pub(super) answer: oneshot::Sender<CommitResult>,
    pub(super) backoff: Backoff,
    txn: Txn,
}

/// Why a commit or a void was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The session or the incarnation is over: it will never apply from now on.
    SessionGone,
    /// An earlier attempt has applied.
    Committed,
    /// The number has been voided.
    Voided,
    /// Its predecessor has not applied yet.
    TooEarly,
    /// A condition of the caller does not hold.
    Compare(usize),
    /// Nothing that was read explains it.
    Unclear,
}

impl Slot {
    pub(super) fn new(cluster: &Cluster, session: &SessionFacts, floor: LogIndex, submitted: Submitted) -> Self {
        Self {
            number: submitted.next.commits,
            stage: Stage::Parked,
            maybe: false,
            refused: None,
            early_in_front: false,
            floor,
            sent_at: Instant::now(),
            backoff: Backoff::new(session.id.0 ^ submitted.next.commits.0.rotate_left(32)),
            txn: commit_txn(cluster, session, &submitted),
            answer: submitted.answer,
        }
    }

    /// The transaction to send: always the identical one, until the number is to be voided.
    pub(super) const fn txn(&self) -> &Txn {
        &self.txn
    }

    /// A condition of the caller does not hold. From now on the number is to be used up without a record, so that no earlier
    /// attempt of the commit can ever apply and the commits after it, which compare what it leaves behind, stay what they
    /// are.
    pub(super) fn refuse(&mut self, session: &SessionFacts, compare: usize) {
        self.refused = Some(compare);
        self.txn.compares.truncate(FIXED_COMPARES);
        self.txn.then.truncate(PROGRESS_OPS);
        self.txn.then.push(Op::Put {
            key: void::key(session.id),
            value: void::encode(self.number),
            lease: session.lease.id,
        });
        self.txn.otherwise.truncate(FIXED_READS);
    }

    /// What a transaction that applied has brought about.
    pub(super) fn applied(&self, cluster: &Cluster, outcome: TxnOutcome) -> CommitResult {
        if let Some(compare) = self.refused {
            return CommitResult::Refused { compare };
        }
        let replaced = outcome
            .results
            .into_iter()
            .nth(HEAD_AT)
            .and_then(OpResult::into_replaced);
        let before = replaced.map_or(0, |kv| kv.version);
        let index = LogIndex(cluster.incarnation.base.0 + before + 1);
        CommitResult::Committed {
            number: self.number,
            index: Some(index),
        }
    }

    /// What the reads of a refused transaction say.
    pub(super) fn why(&self, results: Vec<OpResult>) -> Why {
        let txn = self.txn();
        let found: Vec<Option<KeyValue>> = results.into_iter().map(OpResult::into_get).collect();
        let [session, progress, void, incarnation] = match found.get(..FIXED_READS) {
            Some([a, b, c, d]) => [a, b, c, d].map(Option::as_ref),
            _ => return Why::Unclear,
        };
        if !txn.compares[0].holds(session) || !txn.compares[2].holds(incarnation) {
            return Why::SessionGone;
        }
        let Some(Ok(progress)) = progress.map(|kv| Progress::decode(&kv.value)) else {
            return Why::Unclear;
        };
        if progress.commits >= self.number {
            let voided = void.is_some_and(|kv| void::decode(&kv.value) == Ok(self.number));
            return if voided { Why::Voided } else { Why::Committed };
        }
        if progress.commits.0 + 1 < self.number.0 {
            return Why::TooEarly;
        }
        self.failed_compare(txn, &found).map_or(Why::Unclear, Why::Compare)
    }

    fn failed_compare(&self, txn: &Txn, found: &[Option<KeyValue>]) -> Option<usize> {
        let extra = txn.compares.get(FIXED_COMPARES..)?;
        let reads = txn.otherwise.get(FIXED_READS..)?;
        extra.iter().position(|compare| {
            let at = reads.iter().position(|read| read.key() == compare.key());
            at.and_then(|at| found.get(FIXED_READS + at))
                .is_some_and(|found| !compare.holds(found.as_ref()))
        })
    }
}

fn commit_txn(cluster: &Cluster, session: &SessionFacts, submitted: &Submitted) -> Txn {
    let number = submitted.next.commits;
    let commit = &submitted.commit;
    let mut txn = Txn {
        compares: fixed_compares(cluster, session, submitted),
        then: vec![
            put_progress(session, submitted),
            Op::put(record::key(session.id, number), commit.record.clone()),
            Op::put(head::KEY, Head::of(&cluster.incarnation).encode()),
        ],
        otherwise: fixed_reads(session),
    };
    txn.compares.extend(commit.compares.iter().cloned());
    txn.then.extend(commit.ops.iter().cloned());
    let keys: BTreeSet<&Bytes> = commit.compares.iter().map(Compare::key).collect();
    txn.otherwise.extend(keys.into_iter().cloned().map(Op::Get));
    txn
}

fn fixed_compares(cluster: &Cluster, session: &SessionFacts, submitted: &Submitted) -> Vec<Compare> {
    vec![
        Compare::CreateRevision(session::key(session.id), session.created),
        Compare::Value(commit::key(session.id), submitted.previous.encode()),
        cluster.unchanged(),
    ]
}

fn fixed_reads(session: &SessionFacts) -> Vec<Op> {
    vec![
        Op::Get(session::key(session.id)),
        Op::Get(commit::key(session.id)),
        Op::Get(void::key(session.id)),
        Op::Get(incarnation::KEY),
    ]
}

fn put_progress(session: &SessionFacts, submitted: &Submitted) -> Op {
    Op::Put {
        key: commit::key(session.id),
        value: submitted.next.encode(),
        lease: session.lease.id,
    }
}
