//! The durable form of the key space: one file, appended to, and written anew when it is broken or has grown.
//!
//! Owns: which file is in use, and what a failure means for the changes that were being written.
//! Does not own: what transactions mean (`keyspace`), how the file is written (`journal`) and read (`load`), where it lives
//! (`disk`).
//!
//! Invariants: after a success the changes are durable. After `Failed` they are not in the file and never will be.
//! `docs/decisions/0105-metadata-file-is-a-journal.md` says why.

use std::io;

use tracing::warn;

use super::disk::Medium;
use super::journal::{AppendError, Journal};
use super::load::{self, OpenError};
use crate::keyspace::{Changes, Keyspace, Limits};

/// Why changes were not made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PersistError {
    /// They certainly are not, and never will be.
    #[error("{0}")]
    Failed(String),
    /// After a crash they may be there.
    #[error("{0}")]
    Unknown(String),
}

/// The file.
#[derive(Debug)]
pub(super) struct Durable {
    medium: Box<dyn Medium>,
    /// `None` when it must be written anew before it can be used: a write or a sync of it failed.
    journal: Option<Journal>,
}

impl Durable {
    /// Reads the file, or begins with an empty one, has `settle` change the key space, and writes it anew: a process that was killed
    /// after a failed sync left pages behind that can be read and are not on the disk. On a full disk the old file goes on.
    ///
    /// What `settle` does is not in the old file then: it is done again at each start.
    pub(super) fn open(
        medium: Box<dyn Medium>,
        limits: Limits,
        settle: impl FnOnce(&mut Keyspace),
    ) -> Result<(Self, Keyspace), OpenError> {
        let (journal, mut keyspace) = match medium.open()? {
            None => (None, Keyspace::new(limits)),
            Some(disk) => {
                let loaded = load::load(disk)?;
                let keys = loaded.keys.into_values().collect();
                (Some(loaded.journal), Keyspace::restore(limits, loaded.revision, keys))
            }
        };
        settle(&mut keyspace);
        let mut this = Self { medium, journal };
        match (this.write_anew(&keyspace), &this.journal) {
            (Ok(()), _) => {}
            (Err(error), Some(journal)) => {
                warn!("the metadata file cannot be written anew, the old one goes on: {error}");
                journal.restore()?;
            }
            (Err(error), None) => return Err(error.into()),
        }
        Ok((this, keyspace))
    }

    /// Makes changes durable that were judged against `keyspace`.
    pub(super) fn persist(&mut self, keyspace: &Keyspace, changes: &Changes) -> Result<(), PersistError> {
        let error = match self.append(keyspace, changes) {
            Ok(()) => return Ok(()),
            Err(AppendError::NotBegun(error)) => return Err(PersistError::Failed(error.to_string())),
            Err(AppendError::Broken(error)) => error.to_string(),
        };
        self.journal = None;
        // A file without the changes makes the outcome certain, if the disk lets us.
        match self.write_anew(keyspace) {
            Ok(()) => Err(PersistError::Failed(error)),
            Err(_) => Err(PersistError::Unknown(error)),
        }
    }

    fn append(&mut self, keyspace: &Keyspace, changes: &Changes) -> Result<(), AppendError> {
        self.ready(keyspace).map_err(AppendError::NotBegun)?.append(changes)
    }

    /// A file that holds exactly what `keyspace` does, and can be appended to.
    fn ready(&mut self, keyspace: &Keyspace) -> io::Result<&mut Journal> {
        let grown = self.journal.as_ref().is_some_and(Journal::has_grown);
        if grown || self.journal.is_none() {
            let written = self.write_anew(keyspace);
            match (written, &mut self.journal) {
                (Err(error), Some(journal)) => {
                    warn!("the metadata file cannot be written anew, the old one goes on growing: {error}");
                    journal.put_off();
                }
                (written, _) => written?,
            }
        }
        self.journal
            .as_mut()
            .ok_or_else(|| io::Error::other("metadata file is broken"))
    }

    /// Writes a whole new file and puts it in place. After an error the old one is as it was, unless `journal` is gone.
    fn write_anew(&mut self, keyspace: &Keyspace) -> io::Result<()> {
        let written = self.medium.fresh().and_then(|disk| Journal::create(disk, keyspace));
        let journal = written.inspect_err(|_| {
            // Half a file only takes space, and there may be too little of that already.
            let _emptied = self.medium.fresh();
        })?;
        // From here on either file may be in place until it is known which.
        self.journal = None;
        self.medium.promote()?;
        self.journal = Some(journal);
        Ok(())
    }
}
