//! Commits of one session: pipelined, in order, each at most once, and every answer definite.
//!
//! Owns: numbering, the transaction of a commit, what its outcome means. Design section 2 has the protocol;
//! `docs/decisions/0102-commit-outcomes.md` says what is done about refused commits and lost sessions.
//! Does not own: what is in a record.
//!
//! Invariants: LOG-4. A commit number is never used for two records. The identical transaction is sent until the answer
//! is definite, and nothing that depends on it is planned anew before that.

mod resolve;
mod run;
mod slot;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use esker_segment::id::{CommitNumber, LogIndex, SegmentNumber};
use tokio::sync::{mpsc, oneshot};

use super::position::LogPosition;
use super::session::Session;
use crate::keys::commit::Progress;
use crate::keys::record::RECORD_BYTES_MAX;
use crate::store::{Compare, Op, TXN_BYTES_MAX, TXN_OPS_MAX};
use run::Runner;
use slot::{FIXED_OPS, FIXED_READS, Submitted};

/// The window over a store that does not keep the order of what is sent. Measured on etcd with records of 16 KiB: 8 commits
/// under way cost 3.2 proposals each, 2 cost 1.1 and are no slower (docs/decisions/0401).
const UNORDERED_WINDOW_MAX: usize = 2;

/// How a committer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitterSettings {
    /// Commits that are sent before the first of them is answered; at most 2 where order is not kept.
    pub window: usize,
    /// Commits that wait to be sent; beyond it [`Committer::submit`] waits.
    pub queue: usize,
}

impl Default for CommitterSettings {
    fn default() -> Self {
        Self { window: 8, queue: 32 }
    }
}

/// Most further conditions of a commit, and most further changes.
pub const EXTRAS_MAX: usize = TXN_OPS_MAX
    - if FIXED_READS > FIXED_OPS {
        FIXED_READS
    } else {
        FIXED_OPS
    };
/// Most bytes of both together: what a transaction may have, without the longest record and what the committer adds.
pub const EXTRAS_BYTES_MAX: usize = TXN_BYTES_MAX - RECORD_BYTES_MAX - (32 << 10);

/// What further conditions and changes take of [`EXTRAS_BYTES_MAX`].
#[must_use]
pub fn extras_bytes(compares: &[Compare], ops: &[Op]) -> usize {
    let compared = compares.iter().map(|compare| match compare {
        Compare::Value(key, value) => key.len() + value.len(),
        other => other.key().len(),
    });
    let changed = ops.iter().map(|op| match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        other => other.key().len(),
    });
    compared.sum::<usize>() + changed.sum::<usize>()
}

/// What is to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The encoded entries; at most 1 MiB.
    pub record: Bytes,
    /// Every segment of the session up to this number is in this or an earlier commit, or never will be in any. It must
    /// not go back from commit to commit.
    pub segments_through: SegmentNumber,
    /// Further conditions, at most [`EXTRAS_MAX`]. When one does not hold, the commit is `Refused` and never happens.
    pub compares: Vec<Compare>,
    /// Further changes in the same transaction, on keys of the caller's. A lease they name must be the session's own.
    pub ops: Vec<Op>,
}

/// What became of a commit. All of them are definite but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitResult {
    /// It is in the log.
    Committed {
        /// Its number within the session; the follower names it.
        number: CommitNumber,
        /// Its place in the log; `None` when that could only be learned by folding up to it (use the read barrier).
        index: Option<LogIndex>,
    },
    /// It is not in the log and never will be, because the session is gone. It may be committed under another session.
    SessionLost,
    /// It is not in the log and never will be, because a condition of the caller did not hold.
    Refused {
        /// Which of [`Commit::compares`].
        compare: usize,
    },
    /// The session is gone, and whether the commit happened before that cannot be found out any more. It must neither be
    /// acknowledged nor committed again (LOG-4).
    Undecided,
}

/// Why a commit was not accepted. It had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The record is too large.
    #[error("commit record has {bytes} bytes, at most {RECORD_BYTES_MAX} are allowed")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// Too many conditions or changes, too large ones, or one key changed twice or that the committer changes itself.
    #[error("commit has {compares} conditions and {ops} changes of {bytes} bytes, or changes a key twice")]
    BadExtras {
        /// Conditions.
        compares: usize,
        /// Changes.
        ops: usize,
        /// Bytes of both.
        bytes: usize,
    },
    /// `segments_through` went back.
    #[error("segments went back from {from} to {to}")]
    SegmentsWentBack {
        /// What an earlier commit said.
        from: SegmentNumber,
        /// What this one says.
        to: SegmentNumber,
    },
    /// The committer is gone.
    #[error("committer has stopped")]
    Stopped,
}

/// The way into the log for one session. Dropping it lets what was submitted come to its end.
#[derive(Debug)]
pub struct Committer {
    inbox: mpsc::Sender<Submitted>,
    /// Where the session will be when all submitted commits are done.
    planned: Mutex<Progress>,
}

impl Committer {
    /// A committer for a session that has made no commit yet. There must be no other one for the session. `position`, the
    /// follower of this process, lets more commits be decided after a lost session.
    #[must_use]
    pub fn start(session: &Session, position: Option<LogPosition>, settings: CommitterSettings) -> Self {
        let (inbox, submitted) = mpsc::channel(settings.queue.max(1));
        let window_max = if session.cluster().store.keeps_order() {
            usize::MAX
        } else {
            UNORDERED_WINDOW_MAX
        };
        let window = settings.window.clamp(1, window_max);
        tokio::spawn(Runner::new(session, position, submitted, window).run());
        Self {
            inbox,
            planned: Mutex::new(Progress::default()),
        }
    }

    /// Puts a commit in line: the order of calls that have returned is the order of commits. Waits while the queue is
    /// full; cancelling it then has no effect. The result comes from the [`Pending`]; dropping that does not take the
    /// commit back.
    ///
    /// # Errors
    /// The commit breaks a rule, and had no effect.
    pub async fn submit(&self, commit: Commit) -> Result<Pending, SubmitError> {
        check(&commit)?;
        let permit = self.inbox.reserve().await.map_err(|_| SubmitError::Stopped)?;
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if commit.segments_through < planned.segments {
            return Err(SubmitError::SegmentsWentBack {
                from: planned.segments,
                to: commit.segments_through,
            });
        }
        let previous = *planned;
        let number = CommitNumber(previous.commits.0 + 1);
        *planned = Progress {
            commits: number,
            segments: commit.segments_through,
        };
        let (answer, result) = oneshot::channel();
        permit.send(Submitted {
            commit,
            previous,
            next: *planned,
            answer,
        });
        Ok(Pending { number, result })
    }
}

/// A commit in line.
#[derive(Debug)]
pub struct Pending {
    number: CommitNumber,
    result: oneshot::Receiver<CommitResult>,
}

impl Pending {
    /// Its number within the session. The follower may report it before this future is done.
    #[must_use]
    pub const fn number(&self) -> CommitNumber {
        self.number
    }
}

impl Future for Pending {
    type Output = CommitResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CommitResult> {
        // The runner answers everything unless it is torn down with its runtime.
        Pin::new(&mut self.result)
            .poll(context)
            .map(|result| result.unwrap_or(CommitResult::Undecided))
    }
}

fn check(commit: &Commit) -> Result<(), SubmitError> {
    if commit.record.len() > RECORD_BYTES_MAX {
        return Err(SubmitError::TooLarge {
            bytes: commit.record.len(),
        });
    }
    let mut changed = BTreeSet::new();
    let changes = commit.ops.iter().filter(|op| !matches!(op, Op::Get(_)));
    let sound = changes
        .map(Op::key)
        .all(|key| !key.is_empty() && !is_own_key(key) && changed.insert(key));
    let bytes = extras_bytes(&commit.compares, &commit.ops);
    let fits = commit.compares.len().max(commit.ops.len()) <= EXTRAS_MAX && bytes <= EXTRAS_BYTES_MAX;
    if sound && fits {
        Ok(())
    } else {
        Err(SubmitError::BadExtras {
            compares: commit.compares.len(),
            ops: commit.ops.len(),
            bytes,
        })
    }
}

/// Whether a key is one that only the committer changes.
fn is_own_key(key: &[u8]) -> bool {
    ["commit/", "void/", "log/"]
        .iter()
        .any(|prefix| key.starts_with(prefix.as_bytes()))
}
