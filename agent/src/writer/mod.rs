//! The writer: takes batches from the write-ahead buffer into the bucket and into the log.
//!
//! Owns: the flush loop, uploads in flight, the order of commits, what happens when a session is lost.
//! Does not own: validation of batches (`produce`), the fold's verdicts (`esker_model`).
//!
//! Invariants: LOG-3 and LOG-4 (a batch is answered from the verdict of this agent's own fold, or as not committed when that
//! is certain, else as unknown); IDM-1 (first in, first out).

pub mod inbox;
pub mod pipeline;
mod task;
pub mod upload;

use std::sync::Arc;

use esker_metadata::checkpoint::LiveSession;
use esker_metadata::store::{Compare, Op};
use esker_model::EntryVerdict;
use esker_model::entry::Entry;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::inbox::Inbox;
use self::pipeline::Proposal;
pub use self::task::{Writer, WriterParts};

/// Proposals that may wait for the writer.
pub const PROPOSALS_MAX: usize = 256;

/// Why proposed entries were not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// A compare that came with them did not hold; nothing changed.
    #[error("a condition of the commit did not hold")]
    Refused,
    /// The agent is shutting down; nothing changed.
    #[error("shutting down")]
    Closed,
    /// They do not fit into a commit record; nothing changed.
    #[error("the entries do not fit into a commit record")]
    TooLarge,
    /// Nobody knows whether they were or will be applied.
    #[error("outcome unknown")]
    Unknown,
}

/// The way into the log for everything but batches.
#[derive(Clone)]
pub struct LogWriter {
    proposals: mpsc::Sender<Proposal>,
    /// The way in for batches.
    pub inbox: Arc<Inbox>,
    session: watch::Receiver<Option<LiveSession>>,
}

/// The writer's end of a [`LogWriter`].
pub struct WriterEnd {
    pub(crate) proposals: mpsc::Receiver<Proposal>,
    inbox: Arc<Inbox>,
    session: watch::Sender<Option<LiveSession>>,
}

impl LogWriter {
    /// A handle, and the other end for the [`Writer`].
    #[must_use]
    pub fn new(inbox: Inbox) -> (Self, WriterEnd) {
        let inbox = Arc::new(inbox);
        let (proposals, queue) = mpsc::channel(PROPOSALS_MAX);
        let (tell, session) = watch::channel(None);
        let end = WriterEnd {
            proposals: queue,
            inbox: Arc::clone(&inbox),
            session: tell,
        };
        (
            Self {
                proposals,
                inbox,
                session,
            },
            end,
        )
    }

    /// The session under which this process commits now.
    #[must_use]
    pub fn session(&self) -> Option<LiveSession> {
        self.session.borrow().clone()
    }

    /// Tells of every session that this process takes, and of each that it loses.
    #[must_use]
    pub fn sessions(&self) -> watch::Receiver<Option<LiveSession>> {
        self.session.clone()
    }

    /// Commits entries and returns their verdicts, one each, once this agent's own fold has applied them.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, ProposeError> {
        self.propose_with(entries, Vec::new(), Vec::new()).await
    }

    /// The same, with keys that must hold and keys that change in the same transaction.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose_with(
        &self,
        entries: Vec<Entry>,
        compares: Vec<Compare>,
        ops: Vec<Op>,
    ) -> Result<Vec<EntryVerdict>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            entries,
            compares,
            ops,
            reply,
        };
        self.proposals.send(proposal).await.map_err(|_| ProposeError::Closed)?;
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Puts entries in line at once: the order of calls is the order in the log. The future waits for the verdicts; dropping
    /// it cancels nothing.
    ///
    /// # Errors
    /// The line is full; nothing changed.
    pub fn enqueue(
        &self,
        entries: Vec<Entry>,
    ) -> Result<impl Future<Output = Result<Vec<EntryVerdict>, ProposeError>> + Send + 'static, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            entries,
            compares: Vec::new(),
            ops: Vec::new(),
            reply,
        };
        self.proposals.try_send(proposal).map_err(|_| ProposeError::Closed)?;
        Ok(async move { answer.await.unwrap_or(Err(ProposeError::Unknown)) })
    }
}
