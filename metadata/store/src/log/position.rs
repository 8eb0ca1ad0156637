//! How far this process has folded the log, and the read barrier.
//!
//! Owns: the position that the follower moves, waiting for it, the one read of `log/head` that all waiters share.
//! Does not own: moving it (`follower`).
//!
//! Invariants: LOG-6: a barrier that succeeds has folded everything that was committed before it began.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_segment::id::{CommitNumber, LogIndex, SessionId};
use tokio::sync::Notify;

use super::bootstrap::Cluster;
use super::recent::Recent;
use super::session::head_index;
use crate::keys::head;
use crate::signal::{self, signal};
use crate::store::{KeyRange, MetadataError};

/// How long the watch is given before the missing range is read directly.
const WATCH_LAG_MAX: Duration = Duration::from_millis(3);
/// How long to wait before a barrier that failed is tried again.
const BARRIER_PAUSE: Duration = Duration::from_millis(200);

/// How far the log has been folded.
#[derive(Clone, Debug)]
pub struct LogPosition {
    applied: signal::Receiver<Option<LogIndex>>,
    recent: Arc<Mutex<Recent>>,
}

impl LogPosition {
    /// The last index that was applied; `None` before the first checkpoint is loaded.
    #[must_use]
    pub fn get(&self) -> Option<LogIndex> {
        self.applied.get()
    }

    /// Waits until everything up to `index` is applied, and says how far it is then.
    ///
    /// # Errors
    /// `Failed` when the follower has ended.
    pub async fn reached(&self, index: LogIndex) -> Result<LogIndex, MetadataError> {
        let reached = |applied: Option<LogIndex>| applied.is_some_and(|applied| applied >= index);
        match self.applied.wait_for(reached).await {
            Ok(applied) => Ok(applied.expect("waited for")),
            Err(signal::Closed) => Err(MetadataError::Failed("log follower has ended".to_owned())),
        }
    }

    /// Looks at or changes what was applied lately.
    pub(super) fn recent<T>(&self, with: impl FnOnce(&mut Recent) -> T) -> T {
        with(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A record in the store whose index is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiveRecord {
    pub(super) index: LogIndex,
    pub(super) session: SessionId,
    pub(super) number: CommitNumber,
    /// How large its value is.
    pub(super) bytes: usize,
}

/// What a follower shares with those who look at it.
#[derive(Debug)]
pub(super) struct Shared {
    cluster: Cluster,
    pub(super) position: LogPosition,
    /// Asks the follower to read what it misses.
    pub(super) nudge: Notify,
    /// The records that are in the store, oldest first.
    live: Mutex<VecDeque<LiveRecord>>,
    /// Barriers that have begun.
    arrivals: AtomicU64,
    last_read: tokio::sync::Mutex<HeadRead>,
}

/// The newest read of `log/head`.
#[derive(Debug)]
struct HeadRead {
    /// Barriers that had begun when the read was sent: it serves them all.
    serves: u64,
    outcome: Result<LogIndex, MetadataError>,
}

/// What the rest of the process has of its follower. Clones share it.
#[derive(Clone, Debug)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

impl Shared {
    pub(super) fn new(cluster: Cluster) -> (Arc<Self>, signal::Sender<Option<LogIndex>>) {
        let (moved, position) = signal(None);
        let none = HeadRead {
            serves: 0,
            outcome: Ok(LogIndex(0)),
        };
        let shared = Self {
            cluster,
            position: LogPosition {
                applied: position,
                recent: Arc::default(),
            },
            nudge: Notify::new(),
            live: Mutex::default(),
            arrivals: AtomicU64::new(0),
            last_read: tokio::sync::Mutex::new(none),
        };
        (Arc::new(shared), moved)
    }

    /// Looks at or changes the list of live records.
    pub(super) fn live<T>(&self, with: impl FnOnce(&mut VecDeque<LiveRecord>) -> T) -> T {
        with(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The cluster that is followed.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// How far the log has been folded.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.shared.position.clone()
    }

    /// How many records are in the store, not yet truncated.
    #[must_use]
    pub fn live_records(&self) -> usize {
        self.shared.live(|live| live.len())
    }

    /// Waits until everything up to `index`, which some answer of the store has named, is applied. If the watch does not
    /// bring it within 3 ms, the follower reads it directly.
    ///
    /// # Errors
    /// `Failed` when the follower has ended. Waiting has no end of its own: use a deadline.
    pub async fn reached(&self, index: LogIndex) -> Result<LogIndex, MetadataError> {
        match tokio::time::timeout(WATCH_LAG_MAX, self.shared.position.reached(index)).await {
            Ok(reached) => reached,
            Err(_elapsed) => {
                self.shared.nudge.notify_one();
                self.shared.position.reached(index).await
            }
        }
    }

    /// Ends once everything up to a commit of this process is folded or was skipped by loading a checkpoint. Where its index
    /// is not known, that takes a read barrier, tried until it works: use a deadline, or wait for something else beside it.
    pub async fn folded(&self, index: Option<LogIndex>) {
        if let Some(index) = index {
            // When the follower has ended, nothing more comes.
            drop(self.reached(index).await);
            return;
        }
        while self.barrier().await.is_err() {
            tokio::time::sleep(BARRIER_PAUSE).await;
        }
    }

    /// The read barrier: when it returns, everything that was committed before the call is applied. Costs one read of
    /// `log/head`, shared by all calls that wait at that moment.
    ///
    /// # Errors
    /// The store does not answer: the caller's own answer must then be retriable.
    pub async fn barrier(&self) -> Result<LogIndex, MetadataError> {
        let head = self.read_head().await?;
        self.reached(head).await
    }

    /// The head of the log as a linearizable read that begins after this call shows it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn read_head(&self) -> Result<LogIndex, MetadataError> {
        let ticket = self.shared.arrivals.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.shared.last_read.lock().await;
        if last.serves < ticket {
            // Everyone who has arrived by now is served by this read, because it begins now.
            let serves = self.shared.arrivals.load(Ordering::SeqCst);
            let outcome = self.read_head_now().await;
            *last = HeadRead { serves, outcome };
        }
        last.outcome.clone()
    }

    async fn read_head_now(&self) -> Result<LogIndex, MetadataError> {
        let cluster = &self.shared.cluster;
        let snapshot = cluster.store.snapshot(vec![KeyRange::Key(head::KEY)]).await?;
        let found = snapshot.ranges.into_iter().flatten().next();
        head_index(cluster, found).map_err(|error| MetadataError::Failed(error.to_string()))
    }
}
