//! A local directory as a bucket.
//!
//! Owns: files named by keys under one root; a staging directory `.staging` beside them.
//! Does not own: who else uses the directory: several processes may, nothing is locked.
//!
//! Invariants: a small file under a key is complete whenever a living process sees it (staged, then renamed). When `create`
//! returns, the file and every directory entry on the way to it are on disk (LOG-3), unless durability is off. What a crash,
//! or a large object still being written, shows under a key that was never acknowledged may be torn: nothing refers to it.
//! docs/decisions/0010-local-directory-by-hand.md says why this is not the `object_store` crate's.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tracing::trace;

use crate::bucket::beyond_end;
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

use direct::{DIRECT_BYTES_MIN, Direct};

mod direct;
mod listing;
#[cfg(test)]
mod tests;

const STAGING: &str = ".staging";
/// Directories below the staging directory, used in turn.
const STAGING_LANES: u64 = 32;
/// Staged files this much older than the newest one are left-overs of a crash.
const STALE_AFTER_SECONDS: u64 = 3600;

/// When a write is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When file and directories are on disk.
    Fsync,
    /// When the operating system has it: a power failure may take it back. For tests and throw-away data.
    PageCache,
}

/// A bucket in a local directory.
#[derive(Clone, Debug)]
pub struct Directory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    durability: Durability,
    /// Directories whose own entry is known to be on disk, all the way up to the root.
    settled: Mutex<BTreeSet<PathBuf>>,
    /// Keeps our staged files apart from those of other processes.
    process: u32,
    staged: AtomicU64,
    direct: Direct,
    /// What was synced, in order, relative to the root.
    #[cfg(test)]
    synced: Mutex<Vec<PathBuf>>,
}

impl Directory {
    /// Opens a directory, creating it when there is none.
    ///
    /// # Errors
    /// When it cannot be created or read.
    pub fn open(root: impl Into<PathBuf>, durability: Durability) -> io::Result<Self> {
        let root = std::path::absolute(root.into())?;
        let found = root.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_owned);
        fs::create_dir_all(root.join(STAGING))?;
        spread_below(&root.join(STAGING));
        let lanes: Vec<_> = (0..STAGING_LANES).map(|lane| staging_lane(&root, lane)).collect();
        for lane in &lanes {
            fs::create_dir_all(lane)?;
        }
        if durability == Durability::Fsync {
            // From the root up to the directory that was there before, whose new entry must be on disk too.
            for directory in root.ancestors() {
                sync_directory(directory)?;
                if found.as_deref() == Some(directory) {
                    break;
                }
            }
        }
        sweep_staging(&lanes)?;
        let settled = Mutex::new(BTreeSet::from([root.clone()]));
        let shared = Shared {
            root,
            durability,
            settled,
            process: std::process::id(),
            staged: AtomicU64::new(0),
            direct: Direct::default(),
            #[cfg(test)]
            synced: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Runs file system work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        lost: impl FnOnce(String) -> StoreError,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(lost(error.to_string())),
        }
    }
}

fn staging_lane(root: &Path, lane: u64) -> PathBuf {
    root.join(STAGING).join(lane.to_string())
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Asks the file system to keep the directories in this one apart. ext4 puts a new file near its directory and a new directory
/// near its parent, unless that is marked; and without a journal it passes over every inode nearby that was deleted lately,
/// which takes up to a millisecond in a bucket (docs/decisions/0012-past-the-page-cache.md). A wish: what does not know it does without.
fn spread_below(directory: &Path) {
    let marked = File::open(directory).and_then(|opened| {
        let flags = ioctl_getflags(&opened)?;
        if !flags.contains(IFlags::TOPDIR) {
            ioctl_setflags(&opened, flags | IFlags::TOPDIR)?;
        }
        Ok(())
    });
    if let Err(cause) = marked {
        trace!(directory = %directory.display(), %cause, "directories below are not kept apart");
    }
}

/// Removes what crashed writers left. It needs no clock: the newest file says what time it is at least.
fn sweep_staging(lanes: &[PathBuf]) -> io::Result<()> {
    let mut files = Vec::new();
    for lane in lanes {
        for entry in fs::read_dir(lane)? {
            let entry = entry?;
            match entry.metadata().and_then(|meta| meta.modified()) {
                Ok(modified) => files.push((modified, entry.path())),
                Err(error) if error.kind() == ErrorKind::NotFound => {} // renamed by another process meanwhile
                Err(error) => return Err(error),
            }
        }
    }
    let Some(newest) = files.iter().map(|(modified, _)| *modified).max() else {
        return Ok(());
    };
    for (modified, path) in files {
        if newest
            .duration_since(modified)
            .is_ok_and(|age| age.as_secs() > STALE_AFTER_SECONDS)
        {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Shared {
    /// Where the file of a key lies. No part may be empty, hidden, or lead anywhere else.
    fn path(&self, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\0', '\\']);
        if key.0.split('/').all(plain) {
            Ok(self.root.join(&key.0))
        } else {
            Err(StoreError::failed(key, "not a key that a directory can hold"))
        }
    }

    fn create(&self, key: &ObjectKey, chunks: &[Bytes]) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let parent = path.parent().expect("a key lies under the root");
        self.settle(parent).map_err(|error| StoreError::failed(key, error))?;
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let large = u64::try_from(bytes).is_ok_and(|bytes| bytes >= DIRECT_BYTES_MIN);
        let in_place = if large {
            self.write_in_place(&path, chunks)
        } else {
            Ok(None)
        };
        let file = match in_place.map_err(|error| StoreError::failed(key, error))? {
            Some(file) => file,
            None => self.write_staged(key, &path, chunks)?,
        };
        self.sync_published(&file, &path, parent)
            .map_err(|error| StoreError::unknown(key, error))
    }

    /// Writes a large object straight to where it belongs: nobody knows its key before it is acknowledged. `None` when that
    /// cannot be done here; its space is given back then, as after a failure, but never its name, which may have become
    /// that of a later attempt.
    fn write_in_place(&self, path: &Path, chunks: &[Bytes]) -> io::Result<Option<File>> {
        let Some(file) = self.direct.create(path)? else {
            return Ok(None);
        };
        let written = self.direct.write(&file, chunks);
        if let Ok(true) = written {
            return Ok(Some(file));
        }
        let emptied = file.set_len(0);
        written.and(emptied).map(|()| None)
    }

    /// Writes an object under another name first, so that nobody ever sees a part of it.
    fn write_staged(&self, key: &ObjectKey, path: &Path, chunks: &[Bytes]) -> Result<File, StoreError> {
        let (mut file, staged) = self.stage().map_err(|error| StoreError::failed(key, error))?;
        write_chunks(&mut file, chunks).map_err(|error| {
            // Without the file nothing has happened; a left-over is swept later.
            let _ = remove_if_there(&staged);
            StoreError::failed(key, error)
        })?;
        if let Err(error) = fs::rename(&staged, path) {
            let _ = remove_if_there(&staged);
            let certain = matches!(
                error.kind(),
                ErrorKind::NotFound
                    | ErrorKind::IsADirectory
                    | ErrorKind::NotADirectory
                    | ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::StorageFull
            );
            return Err(if certain {
                StoreError::failed(key, error)
            } else {
                StoreError::unknown(key, error)
            });
        }
        Ok(file)
    }

    /// A new staged file. Its name may be taken: by a crashed process with our number, or by one that has the same number
    /// in another container.
    fn stage(&self) -> io::Result<(File, PathBuf)> {
        loop {
            let nth = self.staged.fetch_add(1, Ordering::Relaxed);
            let staged = staging_lane(&self.root, nth % STAGING_LANES).join(format!("{}-{nth}", self.process));
            match OpenOptions::new().write(true).create_new(true).open(&staged) {
                Ok(file) => return Ok((file, staged)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The file is synced only now, after the rename: one journal commit then carries both.
    fn sync_published(&self, file: &File, path: &Path, parent: &Path) -> io::Result<()> {
        if self.durability == Durability::PageCache {
            return Ok(());
        }
        file.sync_data()?;
        self.note_synced(path);
        self.sync_directory(parent)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        sync_directory(directory)?;
        self.note_synced(directory);
        Ok(())
    }

    #[cfg(test)]
    fn note_synced(&self, path: &Path) {
        let below_root = path.strip_prefix(&self.root).unwrap().to_owned();
        self.synced.lock().unwrap().push(below_root);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' twin uses it")]
    fn note_synced(&self, _path: &Path) {}

    /// Makes sure that a directory exists, on disk too. Whoever finds it there cannot know whether its creator had come
    /// to the fsync, so each process does it once for itself.
    fn settle(&self, directory: &Path) -> io::Result<()> {
        if self
            .settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(directory)
        {
            return Ok(());
        }
        let parent = directory.parent().expect("it lies under the root");
        fs::create_dir_all(parent)?;
        spread_below(parent);
        fs::create_dir_all(directory)?;
        let below_root = || directory.ancestors().take_while(|ancestor| *ancestor != self.root);
        if self.durability == Durability::Fsync {
            for ancestor in below_root() {
                self.sync_directory(ancestor.parent().expect("it lies under the root"))?;
            }
        }
        self.settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(below_root().map(Path::to_owned));
        Ok(())
    }

    fn read(&self, key: &ObjectKey, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let failed = |error| StoreError::failed(key, error);
        let absent = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory => StoreError::NotFound(key.clone()),
            _ => failed(error),
        };
        let path = self.path(key)?;
        let wanted = range.end.saturating_sub(range.start);
        if wanted >= DIRECT_BYTES_MIN
            && let Some(bytes) = self.direct.read(&path, range).map_err(absent)?
        {
            return whole(key, range, bytes);
        }
        let mut file = File::open(path).map_err(absent)?;
        if wanted == 0 {
            let meta = file.metadata().map_err(failed)?;
            if meta.is_dir() {
                return Err(StoreError::NotFound(key.clone()));
            }
            return if range.start <= meta.len() {
                Ok(Bytes::new())
            } else {
                Err(beyond_end(key, range))
            };
        }
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        }
        let mut bytes = Vec::new();
        let reserved = usize::try_from(wanted).is_ok_and(|wanted| bytes.try_reserve_exact(wanted).is_ok());
        if !reserved {
            return Err(StoreError::failed(key, "no memory for a range of this length"));
        }
        file.take(wanted).read_to_end(&mut bytes).map_err(absent)?;
        whole(key, range, bytes.into())
    }
}

/// What was read, if it is all that was asked for.
fn whole(key: &ObjectKey, range: &Range<u64>, bytes: Bytes) -> Result<Bytes, StoreError> {
    if u64::try_from(bytes.len()) == Ok(range.end - range.start) {
        Ok(bytes)
    } else {
        Err(beyond_end(key, range))
    }
}

fn write_chunks(file: &mut File, chunks: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut left = slices.as_mut_slice();
    IoSlice::advance_slices(&mut left, 0); // drops empty chunks at the beginning
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[async_trait]
impl ObjectStore for Directory {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let of = key.clone();
        self.blocking(
            |lost| StoreError::unknown(key, lost),
            move |shared| shared.create(&of, &chunks),
        )
        .await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let of = key.clone();
        self.blocking(
            |lost| StoreError::failed(key, lost),
            move |shared| shared.read(&of, &range),
        )
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let (asked, after) = (ObjectKey(prefix.to_owned()), after.cloned());
        let of = asked.clone();
        self.blocking(
            |lost| StoreError::failed(&asked, lost),
            move |shared| {
                listing::list(&shared.root, &of.0, after.as_ref(), limit).map_err(|e| StoreError::failed(&of, e))
            },
        )
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let of = key.clone();
        let work = move |shared: &Shared| {
            // Not synced: an object that comes back after a crash is garbage again, and found again.
            let path = shared.path(&of)?;
            remove_if_there(&path).map_err(|error| StoreError::unknown(&of, error))
        };
        self.blocking(|lost| StoreError::unknown(key, lost), work).await
    }
}
