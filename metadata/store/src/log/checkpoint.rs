//! Publishing checkpoints, and removing what they make superfluous.
//!
//! Owns: the compare that publishes a root, truncation, compaction of the store's history.
//! Does not own: what a checkpoint holds and when there is one.
//!
//! Invariants: a record is removed only while a root at or above it is published, oldest first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::LogIndex;
use tokio::time::Instant;

use super::backoff::{Backoff, definite};
use super::bootstrap::Cluster;
use super::follower::AppliedCommit;
use super::follower::listing::indexed_records;
use super::position::{LiveRecord, LogHandle};
use super::session::head_index;
use crate::keys::root::{self, Root};
use crate::keys::{head, record};
use crate::store::{Compare, KeyRange, KeyValue, MetadataError, Op, OpResult, Revision, Txn};

/// Records that one transaction removes.
const TRUNCATE_MAX: usize = 100;
/// Attempts of one transaction.
const ATTEMPTS: u32 = 5;
/// How much history of the store is kept, unless it is too much.
const HISTORY_KEPT: Duration = Duration::from_secs(5 * 60);
/// Most bytes of removed records that are kept as history: with the live ones, it must fit well into the smallest etcd.
const HISTORY_BYTES_MAX: u64 = 64 << 20;
/// Removed bytes after which there is another sample.
const SAMPLE_BYTES: u64 = 4 << 20;
/// How often the store is asked how far it is.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(60);
/// Samples of the revision, so that the one of five minutes ago is known.
const SAMPLES_MAX: usize = 600;

/// A root that stands in the store, or stood there once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedRoot {
    /// The root.
    pub root: Root,
    /// Revision at which it was published.
    pub revision: Revision,
}

/// The log as it stands in the store, read at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSnapshot {
    /// The root, if one was published.
    pub root: Option<PublishedRoot>,
    /// Where the log ends.
    pub head: LogIndex,
    /// The records that are not truncated, oldest first.
    pub records: Vec<AppliedCommit>,
}

/// Reads root and records at one revision.
///
/// # Errors
/// The store does not answer, or what it holds is damaged.
pub async fn read_log(cluster: &Cluster) -> Result<LogSnapshot, MetadataError> {
    let ranges = vec![
        KeyRange::Key(root::KEY),
        KeyRange::Key(head::KEY),
        KeyRange::Prefix(Bytes::from_static(record::PREFIX.as_bytes())),
    ];
    let mut ranges = cluster.store.snapshot(ranges).await?.ranges.into_iter();
    let mut next = || ranges.next().unwrap_or_default();
    let (root, head, records) = (next().pop(), next().pop(), next());
    let damaged = |error: &dyn std::fmt::Display| MetadataError::Failed(format!("log cannot be read: {error}"));
    let records = indexed_records(&cluster.incarnation, head.as_ref(), records).map_err(|error| damaged(&error))?;
    Ok(LogSnapshot {
        root: root.as_ref().map(published).transpose()?,
        head: head_index(cluster, head).map_err(|error| damaged(&error))?,
        records,
    })
}

/// What came of publishing a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootOutcome {
    /// It is the root now.
    Published(Box<PublishedRoot>),
    /// Someone else has published one meanwhile.
    Raced,
    /// The caller does not lead any more, or the cluster has begun another incarnation.
    NotLeading,
}

/// Reads the root.
///
/// # Errors
/// The store does not answer, or the root is damaged.
pub async fn read_root(cluster: &Cluster) -> Result<Option<PublishedRoot>, MetadataError> {
    let snapshot = cluster.store.snapshot(vec![KeyRange::Key(root::KEY)]).await?;
    let found = snapshot.ranges.into_iter().flatten().next();
    found.as_ref().map(published).transpose()
}

fn published(kv: &KeyValue) -> Result<PublishedRoot, MetadataError> {
    let root =
        Root::decode(&kv.value).map_err(|error| MetadataError::Failed(format!("root cannot be read: {error}")))?;
    Ok(PublishedRoot {
        root,
        revision: kv.mod_revision,
    })
}

/// Publishes a root in place of the one that was seen at a revision (`None`: there was none), under the conditions that
/// say that the caller still may, and with further changes in the same transaction.
///
/// # Errors
/// `Unknown`: it may have been published; read the root again before anything else.
pub async fn publish_root(
    cluster: &Cluster,
    seen: Option<Revision>,
    leading: Vec<Compare>,
    root: Root,
    also: Vec<Op>,
) -> Result<RootOutcome, MetadataError> {
    let unmoved = match seen {
        Some(revision) => Compare::ModRevision(root::KEY, revision),
        None => Compare::Absent(root::KEY),
    };
    // Read back with the others: under another incarnation nobody may conclude what was not published.
    let leading: Vec<Compare> = [cluster.unchanged()].into_iter().chain(leading).collect();
    let value = root.encode();
    let reads = leading.iter().map(|compare| Op::Get(compare.key().clone()));
    let txn = Txn {
        compares: [vec![unmoved], leading.clone()].concat(),
        then: [vec![Op::put(root::KEY, value.clone())], also].concat(),
        otherwise: [Op::Get(root::KEY)].into_iter().chain(reads).collect(),
    };
    let outcome = definite(&*cluster.store, &txn, ATTEMPTS, Backoff::new(root.index.0)).await?;
    if outcome.succeeded {
        return Ok(RootOutcome::Published(Box::new(PublishedRoot {
            root,
            revision: outcome.revision,
        })));
    }
    let mut results = outcome.results.into_iter().map(OpResult::into_get);
    let found = results.next().flatten();
    // An attempt whose answer was lost: objects are never written twice, so an equal root is ours.
    if let Some(found) = found.filter(|kv| kv.value == value) {
        return Ok(RootOutcome::Published(Box::new(PublishedRoot {
            root,
            revision: found.mod_revision,
        })));
    }
    let still = leading
        .iter()
        .zip(results)
        .all(|(compare, found)| compare.holds(found.as_ref()));
    Ok(if still {
        RootOutcome::Raced
    } else {
        RootOutcome::NotLeading
    })
}

/// What truncation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// So many records are gone; nothing at or below the root is left.
    Done {
        /// How many.
        records: usize,
    },
    /// The root is not the one that was named any more.
    RootMoved,
}

/// How much history [`Truncation`] keeps: for so long, but no more than 64 MiB of removed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryKept(pub Duration);

impl Default for HistoryKept {
    fn default() -> Self {
        Self(HISTORY_KEPT)
    }
}

/// Removes what checkpoints have made superfluous. Held by the process that leads; a new leader begins with a new one.
#[derive(Debug)]
pub struct Truncation {
    log: LogHandle,
    kept: HistoryKept,
    samples: VecDeque<Sample>,
    /// Bytes of records that were removed so far.
    removed_bytes: u64,
    /// When the store was last asked how far it is, and what it said.
    observed_at: Option<Instant>,
    observed: Revision,
}

/// Where the store was when some records had been removed.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    revision: Revision,
    removed_bytes: u64,
}

impl Truncation {
    /// A truncation that knows of no past revisions yet.
    #[must_use]
    pub const fn new(log: LogHandle, kept: HistoryKept) -> Self {
        Self {
            log,
            kept,
            samples: VecDeque::new(),
            removed_bytes: 0,
            observed_at: None,
            observed: Revision(0),
        }
    }

    /// Forgets past revisions: the process does not lead any more.
    pub fn forget(&mut self) {
        self.samples.clear();
    }

    /// Remembers now and then how far the store is, so that what others than the log write (generations of groups, settings) becomes
    /// history that may go too, also while nothing is truncated.
    ///
    /// # Errors
    /// The store.
    pub async fn observe(&mut self) -> Result<(), MetadataError> {
        let now = Instant::now();
        if self
            .observed_at
            .is_some_and(|at| now.duration_since(at) < OBSERVE_INTERVAL)
        {
            return Ok(());
        }
        self.observed_at = Some(now);
        let revision = self.log.cluster().store.snapshot(Vec::new()).await?.revision;
        if self.samples.back().is_none_or(|last| last.revision < revision) && self.observed < revision {
            self.observed = revision;
            self.sample(revision);
        }
        Ok(())
    }

    /// Whether there are records at or below a root, as far as this process has followed.
    #[must_use]
    pub fn has_records(&self, root: &PublishedRoot) -> bool {
        let through = root.root.index;
        self.log
            .shared()
            .live(|live| live.front().is_some_and(|record| record.index <= through))
    }

    /// Whether there is history that need not be kept.
    #[must_use]
    pub fn is_compaction_due(&self) -> bool {
        let now = Instant::now();
        self.samples.front().is_some_and(|sample| self.may_go(sample, now))
    }

    fn may_go(&self, sample: &Sample, now: Instant) -> bool {
        now.duration_since(sample.at) >= self.kept.0 || self.removed_bytes - sample.removed_bytes >= HISTORY_BYTES_MAX
    }

    /// Removes the records at or below the root, oldest first, at most 100 in one transaction.
    ///
    /// # Errors
    /// The store. Running it again is always safe.
    pub async fn truncate(&mut self, root: &PublishedRoot) -> Result<Truncated, MetadataError> {
        let mut records = 0;
        loop {
            let oldest = self.oldest(root.root.index);
            if oldest.is_empty() {
                return Ok(Truncated::Done { records });
            }
            let txn = Txn {
                compares: vec![
                    Compare::ModRevision(root::KEY, root.revision),
                    self.log.cluster().unchanged(),
                ],
                then: oldest
                    .iter()
                    .map(|live| Op::Delete(record::key(live.session, live.number)))
                    .collect(),
                otherwise: Vec::new(),
            };
            let store = &self.log.cluster().store;
            let outcome = definite(&**store, &txn, ATTEMPTS, Backoff::new(root.root.index.0)).await?;
            if !outcome.succeeded {
                return Ok(Truncated::RootMoved);
            }
            records += oldest.len();
            let last = oldest.last().map_or(LogIndex(0), |live| live.index);
            self.log.shared().live(|live| live.retain(|record| record.index > last));
            let bytes: usize = oldest.iter().map(|record| record.bytes).sum();
            self.removed_bytes += u64::try_from(bytes).expect("a length fits");
            self.sample(outcome.revision);
        }
    }

    /// Lets the store forget what is older than the history to be kept. Does nothing while the process has not led for
    /// that long.
    ///
    /// # Errors
    /// The store. Running it again is always safe.
    pub async fn compact(&mut self) -> Result<(), MetadataError> {
        let now = Instant::now();
        let mut old = None;
        while let Some(sample) = self.samples.front().filter(|sample| self.may_go(sample, now)) {
            old = Some(sample.revision);
            self.samples.pop_front();
        }
        match old {
            Some(revision) => self.log.cluster().store.compact(revision).await,
            None => Ok(()),
        }
    }

    fn oldest(&self, through: LogIndex) -> Vec<LiveRecord> {
        self.log.shared().live(|live| {
            live.iter()
                .take_while(|record| record.index <= through)
                .take(TRUNCATE_MAX)
                .copied()
                .collect()
        })
    }

    /// Remembers when a revision was reached, at most once a second.
    fn sample(&mut self, revision: Revision) {
        let now = Instant::now();
        let fresh = self.samples.back().is_some_and(|last| {
            now.duration_since(last.at) < Duration::from_secs(1)
                && self.removed_bytes - last.removed_bytes < SAMPLE_BYTES
        });
        if !fresh && self.samples.len() < SAMPLES_MAX {
            self.samples.push_back(Sample {
                at: now,
                revision,
                removed_bytes: self.removed_bytes,
            });
        }
    }
}
