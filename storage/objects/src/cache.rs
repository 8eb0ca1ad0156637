//! The memory cache in front of a bucket: whole fresh segments, and blocks of everything else.
//!
//! A fresh segment is put in by its writer at commit, in the chunks it was uploaded in; a read then gives slices of them.
//! Everything else is read in aligned blocks, each once however many wait for it. What memory has no room for may be kept
//! on a disk (`disk`).
//!
//! Owns: what stays in memory, within a byte budget (MEM-1).
//! Does not own: retries (the store it is put in front of), whether bytes are right (who uses them checks them, and says so, so
//! that the next one need not: `checked`; who finds damage calls `forget` and reads again).
//!
//! Invariants: bytes are never copied together; a read that nobody may repeat (`Scan`) cannot push out the tail.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{CacheBuilder, CacheProperties, Hint, LruConfig};
use futures::future::try_join_all;
use metrics::counter;

use crate::bucket::beyond_end;
use crate::store::{ObjectKey, ObjectStore, StoreError};

mod checked;
pub mod disk;
#[cfg(test)]
mod tests;

use checked::CheckedRange;
use disk::DiskCache;

/// How much is kept, and in which portions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Most bytes kept.
    pub bytes_max: usize,
    /// Length of a block.
    pub block_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            bytes_max: 128 << 20,
            block_bytes: 1 << 20,
        }
    }
}

/// How likely the same bytes are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// At the tail, where other consumers follow.
    Tail,
    /// Cold catch-up: kept only while nothing better needs the room.
    Scan,
}

impl Access {
    fn properties(self) -> CacheProperties {
        CacheProperties::default().with_hint(match self {
            Self::Tail => Hint::Normal,
            Self::Scan => Hint::Low,
        })
    }
}

/// Share of the budget that scans leave alone, in tenths.
const TAIL_SHARE: f64 = 0.8;
/// An entry that takes more than this part of the budget is not kept: it would push out all others.
const ENTRY_SHARE: usize = 2;
/// What an entry costs besides its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 200;

/// Names what is kept: the hash of an object's key, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    object: u128,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    Block(u64),
}

impl CacheKey {
    fn new(key: &ObjectKey, part: Part) -> Self {
        Self {
            object: xxhash_rust::xxh3::xxh3_128(key.0.as_bytes()),
            part,
        }
    }
}

/// What the cache has of an object.
#[derive(Debug)]
struct Kept {
    chunks: Vec<Bytes>,
    checked: CheckedRange,
}

impl Kept {
    fn new(chunks: Vec<Bytes>) -> Arc<Self> {
        Arc::new(Self {
            chunks,
            checked: CheckedRange::default(),
        })
    }
}

/// A range of an object that was read.
#[derive(Debug)]
pub struct Read {
    /// Its bytes, in one piece or several.
    pub pieces: Vec<Bytes>,
    /// Where in the object they are kept.
    parts: Vec<(Range<u64>, Arc<Kept>)>,
}

impl Read {
    /// Whether somebody has found these bytes of the object to be right since they came into memory.
    #[must_use]
    pub fn is_checked(&self, range: &Range<u64>) -> bool {
        self.within(range).all(|(range, kept)| kept.checked.covers(&range))
    }

    /// These bytes of the object are right.
    pub fn set_checked(&self, range: &Range<u64>) {
        self.within(range).for_each(|(range, kept)| kept.checked.extend(&range));
    }

    /// What each part has of a range, counted from its own begin.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, &Kept)> {
        let touched = self
            .parts
            .iter()
            .filter(|(part, _)| part.start < range.end && range.start < part.end);
        touched.map(|(part, kept)| {
            let (start, end) = (range.start.max(part.start), range.end.min(part.end));
            (start - part.start..end - part.start, &**kept)
        })
    }
}

/// A cache in front of a bucket.
pub struct SegmentCache {
    store: Arc<dyn ObjectStore>,
    settings: CacheSettings,
    kept: foyer::Cache<CacheKey, Arc<Kept>>,
    disk: Option<Arc<DiskCache>>,
}

impl SegmentCache {
    /// An empty cache.
    ///
    /// # Panics
    /// When the block length is 0.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, settings: CacheSettings) -> Self {
        assert!(settings.block_bytes > 0, "blocks have a length");
        // One shard: the budget is then one, and whole segments fit a small one too.
        let kept = CacheBuilder::new(settings.bytes_max)
            .with_shards(1)
            .with_eviction_config(LruConfig {
                high_priority_pool_ratio: TAIL_SHARE,
            })
            .with_weighter(|_: &CacheKey, kept: &Arc<Kept>| weight(&kept.chunks))
            .build();
        Self {
            store,
            settings,
            kept,
            disk: None,
        }
    }

    /// With a disk between memory and bucket.
    #[must_use]
    pub fn with_disk(self, disk: DiskCache) -> Self {
        Self {
            disk: Some(Arc::new(disk)),
            ..self
        }
    }

    /// Bytes kept now, with what their bookkeeping takes.
    #[must_use]
    pub fn usage_bytes(&self) -> usize {
        self.kept.usage()
    }

    /// Puts in a whole object that was just written, of records that were checked when they came.
    pub fn insert(&self, key: &ObjectKey, chunks: Vec<Bytes>) {
        if self.fits(weight(&chunks)) {
            let kept = Kept::new(chunks);
            kept.checked.extend(&(0..u64::MAX));
            self.kept
                .insert_with_properties(CacheKey::new(key, Part::Whole), kept, Access::Tail.properties());
        }
    }

    fn fits(&self, weight: usize) -> bool {
        weight <= self.settings.bytes_max / ENTRY_SHARE
    }

    /// Drops everything of an object of this length, so that the next read asks the store.
    pub fn forget(&self, key: &ObjectKey, object_bytes: u64) {
        self.kept.remove(&CacheKey::new(key, Part::Whole));
        for block in 0..object_bytes.div_ceil(self.settings.block_bytes) {
            self.kept.remove(&CacheKey::new(key, Part::Block(block)));
            if let Some(disk) = &self.disk {
                disk.forget(key, &self.block(block, object_bytes));
            }
        }
    }

    fn block(&self, block: u64, object_bytes: u64) -> Range<u64> {
        let from = block * self.settings.block_bytes;
        from..object_bytes.min(from + self.settings.block_bytes)
    }

    /// Reads a range of an object of this length, in one piece or several.
    ///
    /// # Errors
    /// As [`ObjectStore::read`].
    pub async fn read(
        &self,
        key: &ObjectKey,
        object_bytes: u64,
        range: Range<u64>,
        access: Access,
    ) -> Result<Read, StoreError> {
        if range.end > object_bytes || range.start > range.end {
            return Err(beyond_end(key, &range));
        }
        if let Some(whole) = self.kept.get(&CacheKey::new(key, Part::Whole)) {
            count("hit");
            let whole = Arc::clone(whole.value());
            let pieces = slices(&whole.chunks, &range).ok_or_else(|| beyond_end(key, &range))?;
            return Ok(Read {
                pieces,
                parts: vec![(0..object_bytes, whole)],
            });
        }
        let block_bytes = self.settings.block_bytes;
        let blocks = range.start / block_bytes..range.end.div_ceil(block_bytes);
        let reads = blocks
            .clone()
            .map(|block| self.part(key, Part::Block(block), self.block(block, object_bytes), access));
        let parts = try_join_all(reads).await?;
        let first = blocks.start * block_bytes;
        let read: Vec<Bytes> = parts.iter().flat_map(|kept| kept.chunks.iter().cloned()).collect();
        let pieces = slices(&read, &(range.start - first..range.end - first)).ok_or_else(|| beyond_end(key, &range))?;
        let parts = blocks.map(|block| self.block(block, object_bytes)).zip(parts);
        Ok(Read {
            pieces,
            parts: parts.collect(),
        })
    }

    /// Reads a whole object with one request to the store, and keeps it whole: for a fresh segment of another writer, of
    /// which every part will be wanted.
    ///
    /// # Errors
    /// As [`ObjectStore::read`].
    pub async fn read_whole(&self, key: &ObjectKey, object_bytes: u64) -> Result<Vec<Bytes>, StoreError> {
        let kept = self.part(key, Part::Whole, 0..object_bytes, Access::Tail).await?;
        Ok(kept.chunks.clone())
    }

    /// One part, from the cache or, once for all who wait, from the store.
    async fn part(
        &self,
        key: &ObjectKey,
        part: Part,
        range: Range<u64>,
        access: Access,
    ) -> Result<Arc<Kept>, StoreError> {
        let name = CacheKey::new(key, part);
        if let Some(kept) = self.kept.get(&name) {
            count("hit");
            return Ok(Arc::clone(kept.value()));
        }
        count("miss");
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let (store, of, disk) = (Arc::clone(&self.store), key.clone(), self.disk.clone());
        if !self.fits(length.saturating_add(ENTRY_OVERHEAD_BYTES)) {
            return Ok(Kept::new(vec![store.read(&of, range).await?]));
        }
        let fetch = async move || {
            // Fresh segments stay in memory until they are merged, or nobody wants them.
            let read = match &disk {
                Some(disk) if part != Part::Whole => disk.read(&of, &range, store.read(&of, range.clone())).await,
                _ => store.read(&of, range).await,
            };
            let read = read.map_err(Fetch)?;
            Ok::<_, Fetch>((Kept::new(vec![read]), access.properties()))
        };
        match self.kept.get_or_fetch(&name, fetch).await {
            Ok(entry) => Ok(Arc::clone(entry.value())),
            Err(error) => Err(match error.downcast_ref::<Fetch>() {
                Some(Fetch(error)) => error.clone(),
                None => StoreError::failed(key, error),
            }),
        }
    }
}

/// A store's error on its way through the cache.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Fetch(StoreError);

fn count(outcome: &'static str) {
    counter!("esker_cache_requests_total", "outcome" => outcome).increment(1);
}

fn weight(chunks: &[Bytes]) -> usize {
    let bookkeeping = ENTRY_OVERHEAD_BYTES + size_of_val(chunks);
    chunks.iter().map(Bytes::len).sum::<usize>().saturating_add(bookkeeping)
}

/// The part of some chunks that lies in a range; `None` when it ends beyond them.
fn slices(chunks: &[Bytes], range: &Range<u64>) -> Option<Vec<Bytes>> {
    let (mut skip, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    let mut left = end.checked_sub(skip)?;
    let mut found = Vec::new();
    for chunk in chunks {
        if left == 0 {
            break;
        }
        if skip >= chunk.len() {
            skip -= chunk.len();
            continue;
        }
        let taken = left.min(chunk.len() - skip);
        found.push(chunk.slice(skip..skip + taken));
        (skip, left) = (0, left - taken);
    }
    (left == 0).then_some(found)
}
