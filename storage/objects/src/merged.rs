//! Where merged batches lie: from the published manifest down to positions in objects.
//!
//! Owns: following the manifest that the root names, pages and indexes in memory under one budget (`decoded`), look-ups by
//! offset and by timestamp.
//! Does not own: which manifest is published (coordination store), record bytes (`cache`), merging (compaction).
//!
//! Invariants: MEM-1. A look-up sees one manifest from beginning to end. What a manifest names and the bucket has not is
//! an error, never a gap: offsets are not skipped (LOG-3).

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError, RwLock};

use esker_segment::id::{IncarnationNumber, Offset, Timestamp, TopicPartition};
use esker_segment::manifest::{ManifestSlice, MergedObject};
use esker_segment::name::ObjectName;
use esker_segment::wire::FormatError;

use crate::named::NamedObjects;
use crate::store::{ObjectKey, StoreError};

mod decoded;
mod manifests;
#[cfg(test)]
mod tests;

pub use manifests::{Batch, Manifests, ObjectBatches};

/// Times that a look-up begins again because the manifest was replaced under it.
const ATTEMPTS: u32 = 4;

/// A manifest root in the bucket: which object, and its length.
pub type ManifestRef = (ObjectName, u64);

/// Where one merged batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedPlace {
    /// Offset of its first record.
    pub base: Offset,
    /// Offsets it takes.
    pub records: u32,
    /// Its length in bytes.
    pub bytes: u32,
    /// The object it lies in.
    pub name: ObjectName,
    /// Length of that object.
    pub length_bytes: u64,
    /// First byte of the batch in the object.
    pub position: u64,
    /// The leader epoch to serve it with. `None`: base offset and leader epoch are already right in its bytes.
    pub epoch: Option<IncarnationNumber>,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
    /// Whether it is the marker of a transaction's end.
    pub control: bool,
}

impl MergedPlace {
    /// The offset after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.base.plus(self.records)
    }
}

/// Why a look-up has no answer. Retriable: another manifest, or a repaired object, may have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergedError {
    /// The bucket did not give what is needed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object is not what was written.
    #[error("object {key} is damaged: {why}")]
    Damaged {
        /// Which one.
        key: ObjectKey,
        /// What is wrong.
        why: FormatError,
    },
}

/// How a reader works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedSettings {
    /// Bytes of pages and indexes that are kept decoded.
    pub decoded_bytes_max: usize,
}

impl Default for MergedSettings {
    fn default() -> Self {
        Self {
            decoded_bytes_max: 32 << 20,
        }
    }
}

/// Finds merged batches. Clones share everything.
#[derive(Clone, Debug)]
pub struct MergedReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manifests: Manifests,
    root: RwLock<Option<ManifestRef>>,
}

impl MergedReader {
    /// A reader that knows of no manifest yet.
    #[must_use]
    pub fn new(objects: NamedObjects, settings: MergedSettings) -> Self {
        let shared = Shared {
            manifests: Manifests::new(objects, settings.decoded_bytes_max),
            root: RwLock::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The manifest that the published root names. To be called *before* the fold forgets what was merged, so that a batch
    /// is found in at least one of the two at any time.
    pub fn set_root(&self, root: Option<ManifestRef>) {
        *self.shared.root.write().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// The manifest that look-ups begin with.
    #[must_use]
    pub fn root(&self) -> Option<ManifestRef> {
        *self.shared.root.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pages and indexes, for those who look at whole manifests.
    #[must_use]
    pub fn manifests(&self) -> &Manifests {
        &self.shared.manifests
    }

    /// The batches of a partition from the one that contains `from` on (or the next one, where compaction has left a gap),
    /// those that begin below `end`: at least one if there is one, then as many as fit in `bytes_max`.
    ///
    /// # Errors
    /// See [`MergedError`]. What was found before the error is returned instead, if anything was.
    pub async fn locate(
        &self,
        at: TopicPartition,
        from: Offset,
        end: Offset,
        bytes_max: u64,
    ) -> Result<Vec<MergedPlace>, MergedError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let root = self.root();
            let outcome = match self.slices(root, at).await {
                Ok(slices) => self.locate_in(slices, from, end, bytes_max).await,
                Err(error) => Err(error),
            };
            if !self.replaced(root, &outcome, &mut attempts) {
                return outcome;
            }
        }
    }

    /// The first batch of records that ends above `from` and reaches a timestamp. Its records say which one does.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn locate_timestamp(
        &self,
        at: TopicPartition,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<MergedPlace>, MergedError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let root = self.root();
            let outcome = match self.slices(root, at).await {
                Ok(slices) => self.locate_timestamp_in(slices, from, timestamp).await,
                Err(error) => Err(error),
            };
            if !self.replaced(root, &outcome, &mut attempts) {
                return outcome;
            }
        }
    }

    /// The batch of records with the largest timestamp, the first of several, among those that begin in `[from, below)`.
    /// Where a log start offset cuts a batch, its header says nothing of what is left: look into it.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn locate_max_timestamp(
        &self,
        at: TopicPartition,
        from: Offset,
        below: Offset,
    ) -> Result<Option<MergedPlace>, MergedError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let root = self.root();
            let outcome = match self.slices(root, at).await {
                Ok(slices) => self.locate_max_timestamp_in(slices, from, below).await,
                Err(error) => Err(error),
            };
            if !self.replaced(root, &outcome, &mut attempts) {
                return outcome;
            }
        }
    }

    /// Whether a look-up failed because its manifest was replaced and what it named deleted meanwhile.
    fn replaced<T>(
        &self,
        root: Option<ManifestRef>,
        outcome: &Result<T, MergedError>,
        attempts: &mut std::ops::Range<u32>,
    ) -> bool {
        matches!(outcome, Err(MergedError::Store(StoreError::NotFound(_))))
            && self.root() != root
            && attempts.next().is_some()
    }

    async fn locate_in(
        &self,
        slices: Vec<Found>,
        from: Offset,
        end: Offset,
        bytes_max: u64,
    ) -> Result<Vec<MergedPlace>, MergedError> {
        let mut places: Vec<MergedPlace> = Vec::new();
        let mut bytes = 0;
        let wanted = |found: &Found| found.slice.end > from && found.slice.start < end;
        for found in slices.into_iter().filter(wanted) {
            let in_slice = match self.places(&found).await {
                Ok(in_slice) => in_slice,
                Err(error) if places.is_empty() => return Err(error),
                Err(_) => return Ok(places),
            };
            for place in in_slice.into_iter().filter(|place| place.end() > from) {
                bytes += u64::from(place.bytes);
                if place.base >= end || (!places.is_empty() && bytes > bytes_max) {
                    return Ok(places);
                }
                places.push(place);
            }
        }
        Ok(places)
    }

    async fn locate_timestamp_in(
        &self,
        slices: Vec<Found>,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<MergedPlace>, MergedError> {
        let reaches = |found: &Found| found.slice.end > from && found.slice.max_timestamp >= timestamp;
        for found in slices.into_iter().filter(reaches) {
            let hit = |place: &MergedPlace| !place.control && place.end() > from && place.max_timestamp >= timestamp;
            if let Some(place) = self.places(&found).await?.into_iter().find(hit) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    async fn locate_max_timestamp_in(
        &self,
        mut slices: Vec<Found>,
        from: Offset,
        below: Offset,
    ) -> Result<Option<MergedPlace>, MergedError> {
        slices.retain(|found| found.slice.end > from && found.slice.start < below);
        // Largest first; a slice can hold markers too, so the first one need not win.
        slices.sort_by_key(|found| Reverse(found.slice.max_timestamp));
        let mut best: Option<MergedPlace> = None;
        for found in slices {
            if best.is_some_and(|best| best.max_timestamp > found.slice.max_timestamp) {
                break;
            }
            let of_records = |place: &MergedPlace| !place.control && place.base >= from && place.base < below;
            let places = self.places(&found).await?.into_iter().filter(of_records);
            best = best
                .into_iter()
                .chain(places)
                .max_by_key(|place| (place.max_timestamp, Reverse(place.base)));
        }
        Ok(best)
    }

    /// All slices of a partition, ascending.
    async fn slices(&self, root: Option<ManifestRef>, at: TopicPartition) -> Result<Vec<Found>, MergedError> {
        let Some(root) = root else { return Ok(Vec::new()) };
        let manifests = &self.shared.manifests;
        let root = manifests.root(root).await?;
        let mut found = Vec::new();
        for page in root.pages_of(at) {
            let page = manifests.page(page).await?;
            for slice in page.slices_of(at) {
                let object = usize::try_from(slice.object).ok().and_then(|nth| page.objects.get(nth));
                let object = *object.expect("a page that decodes names only objects that it has");
                found.push(Found { slice: *slice, object });
            }
        }
        found.sort_by_key(|found| found.slice.start);
        Ok(found)
    }

    /// The batches of a slice.
    async fn places(&self, found: &Found) -> Result<Vec<MergedPlace>, MergedError> {
        let Found { slice, object } = found;
        let batches = self.shared.manifests.batches(object).await?;
        let place = |(base, batch): (Offset, &Batch)| MergedPlace {
            base,
            records: batch.records,
            bytes: batch.bytes,
            name: object.name,
            length_bytes: object.length_bytes,
            position: batch.position,
            epoch: batches.epoch(),
            max_timestamp: batch.max_timestamp,
            control: batch.control,
        };
        Ok(batches.of(slice).map(place).collect())
    }
}

/// A slice with the object it lies in.
#[derive(Clone, Copy, Debug)]
struct Found {
    slice: ManifestSlice,
    object: MergedObject,
}
