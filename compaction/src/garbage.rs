//! Garbage collection: objects that nothing refers to and nothing ever will.
//!
//! Owns: the rule (`rule`), what a snapshot refers to (`references`), marking and sweeping.
//! Does not own: what becomes unreferenced and when.
//!
//! Invariants: GC-1. The listing comes first; session, counters, root and entries are read after it, at one revision. So an
//! object of the listing that no root, manifest or entry of that revision names, and that its session cannot commit or
//! publish any more (the session is dead, or its counter has passed the object), never will be named. The grace period is for
//! readers that have not heard yet, and is measured from when an object was first seen to be garbage: no wall clock is asked.

use std::collections::BTreeMap;

use esker_metadata::log::Cluster;
use esker_metadata::store::MetadataError;
use esker_segment::id::SessionId;
use esker_segment::name::ObjectName;
use esker_segment::wire::FormatError;
use esker_storage::merged::{Manifests, MergedError};
use esker_storage::named::NamedObjects;
use esker_storage::store::{ObjectKey, StoreError};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::incarnation::{self, IncarnationError};
use crate::settings::GarbageSettings;

mod references;
mod rule;

pub use references::{References, Standing, read};
pub use rule::{Verdict, judge};

/// Keys of one listing.
const PAGE: usize = 1_000;
/// Objects that are deleted at the same time.
const DELETES_MAX: usize = 16;

/// Why nothing was collected, or not everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GarbageError {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Merged(#[from] MergedError),
    /// Something that refers to objects cannot be read.
    #[error("{what} cannot be read: {why}")]
    Damaged {
        /// What it is.
        what: String,
        /// Why.
        why: FormatError,
    },
    /// The bucket holds objects of a session that the coordination store has not given out yet.
    #[error(
        "the bucket holds objects of session {found}, but the last one that the coordination store has given out is \
         {counter}: it was restored from an old copy; nothing is deleted, run esker recover"
    )]
    WentBack {
        /// The highest session of the bucket.
        found: SessionId,
        /// The highest that the coordination store knows of.
        counter: SessionId,
    },
    /// Bucket and coordination store do not belong together.
    #[error(transparent)]
    Incarnation(#[from] IncarnationError),
}

/// What one collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects of the cluster in the bucket.
    pub objects: usize,
    /// Objects that are garbage but were not long enough.
    pub waiting: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// Remembers since when objects are garbage.
#[derive(Debug, Default)]
pub struct Collector {
    marked: BTreeMap<ObjectName, Instant>,
}

impl Collector {
    /// Whether objects wait for their grace period to end.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.marked.is_empty()
    }

    /// Lists the bucket, and deletes what has been garbage for long enough.
    ///
    /// # Errors
    /// See [`GarbageError`]. Whatever was not deleted is found again.
    pub async fn collect(
        &mut self,
        cluster: &Cluster,
        manifests: &Manifests,
        settings: &GarbageSettings,
    ) -> Result<Collected, GarbageError> {
        let objects = manifests.objects();
        incarnation::verify(objects, &cluster.incarnation).await?;
        incarnation::verify_last(objects, &cluster.incarnation).await?;
        let listed = list(cluster, objects).await?;
        let standing = read(cluster, manifests).await?;
        went_back(cluster, &listed, &standing)?;
        let now = Instant::now();
        let mut collected = Collected {
            objects: listed.len(),
            ..Collected::default()
        };
        let mut garbage = BTreeMap::new();
        let mut due = Vec::new();
        for (name, bytes) in listed {
            if judge(&name, &standing, cluster.incarnation.number) != Verdict::Garbage {
                continue;
            }
            let since = self.marked.get(&name).copied().unwrap_or(now);
            if now.duration_since(since) >= settings.grace {
                due.push((name, bytes));
            }
            if garbage.len() < settings.marked_max {
                garbage.insert(name, since);
            }
        }
        self.marked = garbage;
        // Boxed and collected: the compiler cannot see that a lazy stream of them is `Send`.
        let delete = |(name, bytes)| {
            async move {
                let deleted = objects.delete(&name).await;
                (name, bytes, deleted)
            }
            .boxed()
        };
        let deletes: Vec<BoxFuture<'_, _>> = due.into_iter().map(delete).collect();
        let mut deletes = futures::stream::iter(deletes).buffer_unordered(DELETES_MAX);
        while let Some((name, bytes, deleted)) = deletes.next().await {
            match deleted {
                Ok(()) => {
                    self.marked.remove(&name);
                    collected.deleted += 1;
                    collected.deleted_bytes += bytes;
                }
                Err(error) => tracing::warn!(%error, "garbage is still there"),
            }
        }
        collected.waiting = self.marked.len();
        Ok(collected)
    }
}

/// Session ids are never given out twice, so an object of one that was not given out yet is of a future that the coordination
/// store has forgotten, and so may be everything that it does not refer to.
fn went_back(cluster: &Cluster, listed: &BTreeMap<ObjectName, u64>, standing: &Standing) -> Result<(), GarbageError> {
    let sessions = listed.keys().map(|name| match name {
        ObjectName::Segment(name) | ObjectName::Other { name, .. } => name,
    });
    let ours = sessions.filter(|name| name.incarnation == cluster.incarnation.number);
    let (found, counter) = (
        ours.map(|name| name.session).max().unwrap_or_default(),
        standing.counter,
    );
    if found > counter {
        return Err(GarbageError::WentBack { found, counter });
    }
    Ok(())
}

/// All objects of this incarnation, with their sizes. Keys that are no names are nobody's business here.
async fn list(cluster: &Cluster, objects: &NamedObjects) -> Result<BTreeMap<ObjectName, u64>, StoreError> {
    let prefix = objects.cluster.incarnation_prefix(cluster.incarnation.number);
    let (mut all, mut after): (_, Option<ObjectKey>) = (BTreeMap::new(), None);
    loop {
        let page = objects.store.list(&prefix, after.as_ref(), PAGE).await?;
        let full = page.len() >= PAGE;
        after = page.last().map(|meta| meta.key.clone()).or(after);
        for meta in page {
            if let Some(name) = ObjectName::parse(&objects.cluster, meta.key.as_str()) {
                all.insert(name, meta.size_bytes);
            }
        }
        if !full {
            return Ok(all);
        }
    }
}
