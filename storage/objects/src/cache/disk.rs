//! The disk part of the cache: blocks that were read from a bucket, found again after it left memory, and after a restart.
//!
//! Owns: a directory of bounded size, and its lock; with `cache`, the only places that name the `foyer` crate.
//! Does not own: single flight, what is read (`cache`); whether bytes are right (see there; each entry has a checksum of the
//! disk's own besides).
//!
//! Invariants: nothing hangs on what is in it: an entry that is missing, or cannot be read, is read from the bucket. Objects never
//! change, so what a former process left is as good. MEM-1: what waits to be written is bounded; beyond that it is not kept.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode,
};
use metrics::counter;
use tokio::time::timeout;
use tracing::debug;

use crate::store::{ObjectKey, StoreError};

/// The disk is written and freed in areas, each a file that stays open; an entry fits into one. At least so long,
const AREA_BYTES_MIN: usize = 16 << 20;
/// and so many, or a few more.
const AREAS: usize = 64;
/// A disk that takes longer to read from is as good as none.
const READ_MAX: Duration = Duration::from_secs(1);
/// What is between memory and disk.
const MEMORY_BYTES: usize = 8 << 20;

/// Why there is no disk cache.
#[derive(Debug, thiserror::Error)]
pub enum DiskCacheError {
    /// The directory cannot be made, locked or read.
    #[error("cache directory {path}: {source}", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("cache directory {path} is in use by another process; each agent needs one of its own", path = path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Smaller than the least that works.
    #[error("a disk cache needs at least {} MiB", (4 * AREA_BYTES_MIN) >> 20)]
    TooSmall,
    /// The cache itself.
    #[error("disk cache: {0}")]
    Cache(#[from] foyer::Error),
}

/// A cache in a directory.
#[derive(Debug)]
pub struct DiskCache {
    kept: HybridCache<u128, Bytes>,
    /// Held for as long as the cache is.
    _lock: File,
}

impl DiskCache {
    /// Opens a directory, made if need be, which nobody else uses. It takes up to `bytes_max` of disk.
    ///
    /// # Errors
    /// See [`DiskCacheError`].
    pub async fn open(path: &Path, bytes_max: u64) -> Result<Self, DiskCacheError> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        if bytes_max < 4 * AREA_BYTES_MIN {
            return Err(DiskCacheError::TooSmall);
        }
        let failed = |source| DiskCacheError::Directory {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = lock(path)?;
        // Another size has other areas: it is another cache, and the old one goes.
        let blocks = format!("blocks-{bytes_max}");
        remove_others(path, &blocks).map_err(failed)?;
        let area_bytes = (bytes_max / AREAS).next_power_of_two().max(AREA_BYTES_MIN);
        let device = FsDeviceBuilder::new(path.join(blocks))
            .with_capacity(bytes_max)
            .build()?;
        let kept = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(MEMORY_BYTES)
            .with_shards(1)
            .with_weighter(|_: &u128, bytes: &Bytes| bytes.len())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(BlockEngineConfig::new(device).with_block_size(area_bytes))
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await?;
        Ok(Self { kept, _lock: lock })
    }

    /// A range of an object, from the disk, else from `fetch`.
    pub(super) async fn read(
        &self,
        key: &ObjectKey,
        range: &Range<u64>,
        fetch: impl Future<Output = Result<Bytes, StoreError>>,
    ) -> Result<Bytes, StoreError> {
        let name = name(key, range);
        match timeout(READ_MAX, self.kept.get(&name)).await {
            Ok(Ok(Some(entry))) => {
                count("hit");
                return Ok(entry.value().clone());
            }
            Ok(Ok(None)) => {}
            Ok(Err(cause)) => debug!(%key, %cause, "not read from the disk cache"),
            Err(cause) => debug!(%key, %cause, "the disk cache does not answer"),
        }
        count("miss");
        let read = fetch.await?;
        // A copy: the cache must not keep a larger buffer alive that this is a part of.
        self.kept.insert(name, Bytes::copy_from_slice(&read));
        Ok(read)
    }

    /// Waits until what was put in can be found again.
    #[cfg(test)]
    pub(super) async fn settle(&self) {
        self.kept.storage().wait().await;
    }

    /// Drops a range of an object.
    pub(super) fn forget(&self, key: &ObjectKey, range: &Range<u64>) {
        self.kept.remove(&name(key, range));
    }
}

/// Removes the areas of caches of other sizes.
fn remove_others(path: &Path, blocks: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with("blocks-") && name != blocks {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, DiskCacheError> {
    let failed = |source| DiskCacheError::Directory {
        path: path.to_owned(),
        source,
    };
    let file = File::create(path.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DiskCacheError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn name(key: &ObjectKey, range: &Range<u64>) -> u128 {
    xxhash_rust::xxh3::xxh3_128(format!("{}..{}/{}", range.start, range.end, key.0).as_bytes())
}

fn count(outcome: &'static str) {
    counter!("esker_cache_disk_requests_total", "outcome" => outcome).increment(1);
}
