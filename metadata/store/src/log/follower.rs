//! Following the log: each commit once and in order, whatever the watch does.
//!
//! Owns: bootstrap from a checkpoint, the watch, noticing that it missed something, reading again.
//! Does not own: the fold and everything else behind [`LogSink`].
//!
//! Invariants: LOG-5 rests on this: log indexes reach the sink exactly once, densely and in order; what is read is read at
//! one revision. The watch is only a hint: an index that jumps, a revision that does not rise, `Compacted`, any error, and
//! thirty seconds lead to a new read.

pub(super) mod listing;
mod revisions;
mod sink;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::LogIndex;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::bootstrap::Cluster;
use super::position::{LogHandle, Shared};
use crate::store::{Revision, Watch, WatchEvent};
use listing::{Listing, ListingError, Wanted};
use revisions::{Tracker, by_revision};
pub use sink::{AppliedCommit, LogSink, SinkError};

/// How a follower works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerSettings {
    /// How often everything is read again although the watch seems fine.
    pub relist_interval: Duration,
    /// Further families of keys that the sink wants to hear of; `topic/`, `session/` and `own/` always are reported.
    pub also: Vec<Bytes>,
    /// Seed of the jitter of retries.
    pub seed: u64,
}

impl Default for FollowerSettings {
    fn default() -> Self {
        Self {
            relist_interval: Duration::from_secs(30),
            also: Vec::new(),
            seed: 0,
        }
    }
}

/// Why following has ended. After any of these the process must not go on serving from its fold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowEnd {
    /// The cluster has begun another life.
    #[error("the cluster has another incarnation now")]
    OtherIncarnation,
    /// The log is shorter than what was applied already: the store was restored from a backup.
    #[error("log went back from {applied} to {head}")]
    WentBack {
        /// What was applied.
        applied: LogIndex,
        /// Where the log ends now.
        head: LogIndex,
    },
    /// The store is older than what was read from it already: it was restored from a backup.
    #[error("metadata store went back from revision {} to {}", .seen.0, .found.0)]
    RevisionWentBack {
        /// What was read.
        seen: Revision,
        /// Where the store is now.
        found: Revision,
    },
    /// The log holds another commit than the one that was applied: the store was restored from a backup and has gone on.
    #[error("log has another commit at {index} than the one that was applied")]
    Diverged {
        /// Where.
        index: LogIndex,
    },
    /// The sink cannot go on, for example because an entry needs a newer version of the software.
    #[error("log cannot be applied: {0}")]
    Sink(SinkError),
}

/// Why a step of following did not work out.
#[derive(Debug)]
enum Trouble {
    /// Read everything again.
    Missed(&'static str),
    /// Read everything again, a little later.
    Retry(String),
    /// It is over.
    End(FollowEnd),
}

impl From<FollowEnd> for Trouble {
    fn from(end: FollowEnd) -> Self {
        Self::End(end)
    }
}

/// The follower of one process.
pub struct Follower {
    cluster: Cluster,
    settings: FollowerSettings,
    shared: Arc<Shared>,
    tracker: Tracker,
    next_relist: Instant,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// A follower that has not begun, and the handle to what it will know.
    #[must_use]
    pub fn new(cluster: Cluster, sink: Box<dyn LogSink>, settings: FollowerSettings) -> (Self, LogHandle) {
        let (shared, moved) = Shared::new(cluster.clone());
        let handle = LogHandle::new(Arc::clone(&shared));
        let tracker = Tracker::new(&cluster, sink, Arc::clone(&shared), moved, &settings.also);
        (
            Self {
                cluster,
                settings,
                shared,
                tracker,
                next_relist: Instant::now(),
            },
            handle,
        )
    }

    /// Follows until there is a reason to end. Dropping the future ends it too, between two calls of the sink.
    pub async fn run(mut self) -> FollowEnd {
        let mut backoff = Backoff::new(self.settings.seed);
        loop {
            let trouble = match self.begin_watch().await {
                Ok(watch) => {
                    backoff.reset();
                    self.follow(watch).await
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::End(end) => {
                    tracing::error!(%end, "following the log has ended");
                    return end;
                }
                Trouble::Missed(why) => tracing::debug!(why, "log is read again"),
                Trouble::Retry(why) => {
                    tracing::warn!(why, "log is read again");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Reads everything and watches from there on.
    async fn begin_watch(&mut self) -> Result<Box<dyn Watch>, Trouble> {
        let seen = self.relist().await?;
        let from = Revision(seen.0 + 1);
        self.cluster
            .store
            .watch(Bytes::new(), from)
            .await
            .map_err(|error| Trouble::Retry(error.to_string()))
    }

    async fn follow(&mut self, mut watch: Box<dyn Watch>) -> Trouble {
        // Revisions of one watch must rise, whatever was read besides.
        let mut risen = Revision(0);
        loop {
            let done = tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.next_relist) => self.relist().await.map(drop),
                () = self.shared.nudge.notified() => self.relist().await.map(drop),
                events = watch.next() => match events {
                    Ok(events) => self.on_events(events, &mut risen),
                    Err(error) => Err(Trouble::Retry(error.to_string())),
                },
            };
            if let Err(trouble) = done {
                return trouble;
            }
        }
    }

    fn on_events(&mut self, events: Vec<WatchEvent>, risen: &mut Revision) -> Result<(), Trouble> {
        for (revision, events) in by_revision(events) {
            if revision <= *risen {
                return Err(Trouble::Missed("watch repeated or reordered revisions"));
            }
            *risen = revision;
            self.tracker.on_revision(revision, events)?;
        }
        Ok(())
    }

    /// Brings the sink up to the newest revision, and says which that is. The log itself is only read when it has grown
    /// or when nothing was read yet.
    async fn relist(&mut self) -> Result<Revision, Trouble> {
        self.next_relist = Instant::now() + self.settings.relist_interval;
        let wanted = if self.tracker.is_empty() {
            Wanted::Everything
        } else {
            Wanted::AllButRecords
        };
        let listing = self.read(wanted).await?;
        let listing = if self.tracker.lacks_records(&listing)? {
            self.read(Wanted::Everything).await?
        } else {
            listing
        };
        let revision = listing.revision;
        self.tracker.on_listing(listing).await?;
        Ok(revision)
    }

    async fn read(&self, wanted: Wanted) -> Result<Listing, Trouble> {
        listing::read(&self.cluster, wanted, &self.settings.also)
            .await
            .map_err(|error| match error {
                ListingError::OtherIncarnation => FollowEnd::OtherIncarnation.into(),
                error => Trouble::Retry(error.to_string()),
            })
    }
}
