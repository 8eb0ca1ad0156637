//! What the embedded store needs of a file, and the file itself.
//!
//! Owns: the [`Disk`] and [`Medium`] seams (tests put faulty ones there), the data directory: its lock, creation and
//! replacement of the file, directory fsync.
//! Does not own: what is in the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file that holds the key space.
const FILE: &str = "metadata.journal";
/// A replacement that is still being written.
const FRESH_FILE: &str = "metadata.journal.new";
/// What earlier builds had in its place.
const EARLIER_FILE: &str = "metadata.redb";
/// Locked for as long as a process uses the directory.
const LOCK_FILE: &str = "metadata.lock";

/// An open file of bytes. What was written is durable once a later [`Disk::sync`] succeeded, not before.
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    ///
    /// # Errors
    /// As [`Disk::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from this position; an end of file before that is an error.
    ///
    /// # Errors
    /// As the operating system says.
    fn read(&self, position: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at this position.
    ///
    /// # Errors
    /// As the operating system says; part of it may have been written.
    fn write(&self, position: u64, data: &[u8]) -> io::Result<()>;

    /// Cuts it.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// As the operating system says. Nothing that was not durable before may ever be counted on again: a kernel drops the
    /// dirty mark of pages that it could not write, so a later success proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// Where the one file lives.
pub trait Medium: std::fmt::Debug + Send + 'static {
    /// Opens the file; `None` when there is none yet.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self) -> io::Result<Option<Arc<dyn Disk>>>;

    /// An empty file that does not replace the real one yet; one left over from before is emptied.
    ///
    /// # Errors
    /// As the operating system says.
    fn fresh(&self) -> io::Result<Arc<dyn Disk>>;

    /// Puts the fresh file, already synced, in the place of the real one, atomically and durably.
    ///
    /// # Errors
    /// As the operating system says; either file may then be in place.
    fn promote(&self) -> io::Result<()>;
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it open.
    #[error("data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Its metadata is of a build before this format.
    #[error(
        "{} holds {EARLIER_FILE}, which an earlier build wrote and this one cannot read; begin with an empty data directory. What \
         is in the objects directory beside it can be had again as a cluster over etcd: esker recover --new-incarnation",
        path.display()
    )]
    Earlier {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("data directory {} cannot be used: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A file in a data directory that this process has locked.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fsync: bool,
    syncs: Arc<AtomicU64>,
    /// The lock goes when the file is closed, also by a kill.
    lock: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing is not enough while a child that was forked a moment ago still has the file. If this fails, closing does it.
        let _ = self.lock.unlock();
    }
}

impl Directory {
    /// Creates the directory if there is none, and locks it. Without `fsync` nothing survives a crash of the machine.
    ///
    /// # Errors
    /// `InUse` when another process (or this one) has it open, `Earlier` when what it holds cannot be read any more.
    pub fn lock(path: &Path, fsync: bool) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let this = Self {
            path: path.to_owned(),
            fsync,
            syncs: Arc::default(),
            lock,
        };
        let has = |file| path.join(file).try_exists();
        if has(EARLIER_FILE).map_err(failed)? && !has(FILE).map_err(failed)? {
            return Err(DirectoryError::Earlier { path: path.to_owned() });
        }
        this.sync_ancestors().map_err(failed)?;
        // A process before may have died between a rename and this.
        this.sync_entries().map_err(failed)?;
        Ok(this)
    }

    /// How many fsyncs of the file there have been; for measurements.
    #[must_use]
    pub fn syncs(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.syncs)
    }

    fn file(&self, file: File) -> Arc<dyn Disk> {
        Arc::new(FileDisk {
            file,
            fsync: self.fsync,
            syncs: Arc::clone(&self.syncs),
        })
    }

    /// Makes the directory's entries durable.
    fn sync_entries(&self) -> io::Result<()> {
        if self.fsync {
            File::open(&self.path)?.sync_all()
        } else {
            Ok(())
        }
    }

    /// Makes the directory itself durable: its entry in its parent and so on. Another process may have created any of
    /// them a moment before it died.
    fn sync_ancestors(&self) -> io::Result<()> {
        if !self.fsync {
            return Ok(());
        }
        for ancestor in self.path.canonicalize()?.ancestors().skip(1) {
            match File::open(ancestor).and_then(|directory| directory.sync_all()) {
                // We did not create what we may not even read, and some file systems have nothing to sync.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                    ) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

impl Medium for Directory {
    fn open(&self) -> io::Result<Option<Arc<dyn Disk>>> {
        match OpenOptions::new().read(true).write(true).open(self.path.join(FILE)) {
            Ok(file) => Ok(Some(self.file(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fresh(&self) -> io::Result<Arc<dyn Disk>> {
        let path = self.path.join(FRESH_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(self.file(file))
    }

    fn promote(&self) -> io::Result<()> {
        std::fs::rename(self.path.join(FRESH_FILE), self.path.join(FILE))?;
        self.sync_entries()
    }
}

/// A real file.
#[derive(Debug)]
struct FileDisk {
    file: File,
    fsync: bool,
    syncs: Arc<AtomicU64>,
}

impl Disk for FileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, position)
    }

    fn write(&self, position: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, position)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.fsync { self.file.sync_data() } else { Ok(()) }
    }
}
