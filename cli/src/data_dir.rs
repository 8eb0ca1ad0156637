//! The data directory: there, writable, and ours alone for as long as we run.
//!
//! Owns: creating it, the lock file in it, the temporary one of `--ephemeral`.
//! Does not own: what else lies in it (the stores).
//!
//! Invariants: two processes never hold one directory; the lock goes with the process, even after kill -9.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("there is no data directory {path}; name that of a node with --data-dir", path = path.display())]
    Missing { path: PathBuf },
    #[error("cannot create data directory {path}: {source}; choose another with --data-dir", path = path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write to data directory {path}: {source}; make it writable or choose another with --data-dir", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("data directory {path} is in use by another esker{holder}; stop it or choose another with --data-dir", path = path.display())]
    InUse { path: PathBuf, holder: String },
}

/// A directory that this process holds.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    temporary: bool,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be, and takes it.
    pub(crate) fn create(path: &Path) -> Result<Self, DataDirError> {
        std::fs::create_dir_all(path).map_err(|source| DataDirError::Create {
            path: path.to_owned(),
            source,
        })?;
        Self::hold(path, false)
    }

    /// Takes a directory that must be there already.
    pub(crate) fn existing(path: &Path) -> Result<Self, DataDirError> {
        if !path.is_dir() {
            return Err(DataDirError::Missing { path: path.to_owned() });
        }
        Self::hold(path, false)
    }

    /// Makes one inside `base` that is removed when dropped.
    pub(crate) fn temporary(base: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Create {
            path: base.to_owned(),
            source,
        };
        // The process id makes the name free; a directory that a dead process left under it is not taken over.
        let process = std::process::id();
        for attempt in 0..100 {
            let path = base.join(format!("esker-{process}-{attempt}"));
            match std::fs::create_dir_all(base).and_then(|()| std::fs::create_dir(&path)) {
                Ok(()) => return Self::hold(&path, true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn hold(path: &Path, temporary: bool) -> Result<Self, DataDirError> {
        let unwritable = |source| DataDirError::Write {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK_FILE)).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = named_holder(&mut lock);
                return Err(DataDirError::InUse {
                    path: path.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        // The process id is for the message above only; what excludes others is the lock. A full disk must not keep
        // a node from starting: it may be there to free space.
        let named = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = named {
            tracing::warn!(%error, "cannot note the process id in the lock file");
        }
        Ok(Self {
            path: path.to_owned(),
            temporary,
            _lock: lock,
        })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the temporary directory");
        }
    }
}

fn named_holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(32).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!(" (process {})", text.trim()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_once_and_free_after() {
        let outer = DataDir::temporary(&std::env::temp_dir()).unwrap();
        let path = outer.path().join("data");
        let held = DataDir::create(&path).unwrap();
        let refused = DataDir::create(&path).expect_err("held").to_string();
        let process = std::process::id();
        assert!(
            refused.contains(&format!("is in use by another esker (process {process})")),
            "{refused}"
        );
        drop(held);
        DataDir::existing(&path).unwrap();
    }

    #[test]
    fn a_temporary_directory_goes_when_dropped() {
        let dir = DataDir::temporary(&std::env::temp_dir()).unwrap();
        let path = dir.path().to_owned();
        std::fs::write(path.join("something"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let outer = DataDir::temporary(&std::env::temp_dir()).unwrap();
        let file = outer.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(DataDir::create(&file), Err(DataDirError::Create { .. })));
        assert!(matches!(DataDir::existing(&file), Err(DataDirError::Missing { .. })));
        assert!(matches!(
            DataDir::existing(&outer.path().join("none")),
            Err(DataDirError::Missing { .. })
        ));
    }
}
