//! The durable form of the key space: one redb table. The only file that names redb.
//!
//! Owns: the rows, one durable commit for each group of transactions, and getting back to a sound file after an I/O error.
//! Does not own: what transactions mean (`keyspace`), the file (`disk`).
//!
//! Invariants: after a success the changes are durable. After `Failed` they are not in the file and never will be.
//! `docs/decisions/0101-embedded-store-in-memory.md` says why memory is the truth while the process lives.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use esker_segment::wire::{Decoder, Encoder, FormatError};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::disk::{Disk, Medium};
use crate::keyspace::{Changes, Keyspace};
use crate::store::{KeyValue, LeaseId, Revision, WatchEvent};

/// Key to row. The empty key, which no key of the key space can be, holds the format version and the revision.
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("keys");
const HEAD: &[u8] = b"";
const FORMAT: u16 = 1;
/// Pages that redb keeps in memory. The live keys are in memory anyway, so this only serves its tree pages.
const CACHE_BYTES: usize = 2 << 20;

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

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// redb or the operating system refused.
    #[error("metadata file cannot be opened: {0}")]
    Storage(String),
    /// Its rows are not ours.
    #[error("metadata file is damaged: {0}")]
    Format(#[from] FormatError),
}

/// The open file, or what is known of a broken one.
#[derive(Debug)]
pub(super) struct Durable {
    medium: Box<dyn Medium>,
    state: State,
    /// A sync of the file has failed at any time since it was written anew: pages of it may be lost although reading them
    /// still works.
    untrusted: Arc<AtomicBool>,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// These keys may be in the file although memory does not have them so.
    Broken(BTreeSet<Bytes>),
}

impl Durable {
    /// Opens the file, or creates it holding nothing but the first revision.
    pub(super) fn open(medium: Box<dyn Medium>, first: Revision) -> Result<(Self, Revision, Vec<KeyValue>), OpenError> {
        let found = medium.open().map_err(|error| OpenError::Storage(error.to_string()))?;
        if let Some(disk) = found {
            let untrusted = Arc::new(AtomicBool::new(false));
            let database = open_database(disk, &untrusted).map_err(OpenError::Storage)?;
            let (revision, keys) = load(&database)?;
            return Ok((
                Self {
                    medium,
                    state: State::Open(database),
                    untrusted,
                },
                revision,
                keys,
            ));
        }
        let (database, untrusted) = create(&*medium, first, std::iter::empty()).map_err(OpenError::Storage)?;
        Ok((
            Self {
                medium,
                state: State::Open(database),
                untrusted,
            },
            first,
            Vec::new(),
        ))
    }

    /// Makes changes durable that were judged against `keyspace`.
    pub(super) fn persist(&mut self, keyspace: &Keyspace, changes: &Changes) -> Result<(), PersistError> {
        let database = self.healed(keyspace).map_err(PersistError::Failed)?;
        let (error, suspects) = match write(database, changes) {
            Ok(()) => return Ok(()),
            // Nothing was committed: redb writes its header only in `commit`.
            Err(WriteError::Before(error)) => (error, BTreeSet::new()),
            Err(WriteError::InCommit(error)) => (error, changes.events.iter().map(|e| e.key().clone()).collect()),
        };
        let certain = suspects.is_empty();
        self.state = State::Broken(suspects);
        // Taking the changes back makes the outcome certain, if the disk lets us.
        if self.healed(keyspace).is_ok() || certain {
            Err(PersistError::Failed(error))
        } else {
            Err(PersistError::Unknown(error))
        }
    }

    /// The open file, opened again if it was broken, with exactly the contents of `keyspace`.
    fn healed(&mut self, keyspace: &Keyspace) -> Result<&Database, String> {
        if let State::Broken(suspects) = &self.state {
            let trusted = !self.untrusted.load(Ordering::Acquire);
            let reset = trusted.then(|| reset(&*self.medium, keyspace, suspects, &self.untrusted));
            let database = match reset {
                Some(Ok(database)) => database,
                _ => {
                    let (database, untrusted) = create(&*self.medium, keyspace.revision(), keyspace.iter())?;
                    self.untrusted = untrusted;
                    database
                }
            };
            self.state = State::Open(database);
        }
        match &self.state {
            State::Open(database) => Ok(database),
            State::Broken(_) => Err("metadata file is broken".to_owned()),
        }
    }
}

/// Writes a whole new file and puts it in place: the way out after a failed sync, and the way a file is created.
fn create<'a>(
    medium: &dyn Medium,
    revision: Revision,
    keys: impl Iterator<Item = &'a KeyValue>,
) -> Result<(Database, Arc<AtomicBool>), String> {
    let untrusted = Arc::new(AtomicBool::new(false));
    let write = || -> Result<Database, String> {
        let database = open_database(medium.fresh().map_err(|error| error.to_string())?, &untrusted)?;
        rewrite(&database, revision, keys.map(|kv| (&kv.key, Some(kv)))).map_err(|error| error.to_string())?;
        Ok(database)
    };
    let database = write().inspect_err(|_| {
        // Half a file only takes space, and there may be too little of that already.
        let _emptied = medium.fresh();
    })?;
    medium.promote().map_err(|error| error.to_string())?;
    Ok((database, untrusted))
}

/// Opens the same file again and takes back what memory does not have. The commit also proves that the disk works.
fn reset(
    medium: &dyn Medium,
    keyspace: &Keyspace,
    suspects: &BTreeSet<Bytes>,
    untrusted: &Arc<AtomicBool>,
) -> Result<Database, String> {
    let disk = medium
        .open()
        .map_err(|error| error.to_string())?
        .ok_or("metadata file is gone")?;
    let database = open_database(disk, untrusted)?;
    let rows = suspects.iter().map(|key| (key, keyspace.get(key)));
    rewrite(&database, keyspace.revision(), rows).map_err(|error| error.to_string())?;
    Ok(database)
}

fn rewrite<'a>(
    database: &Database,
    revision: Revision,
    rows: impl Iterator<Item = (&'a Bytes, Option<&'a KeyValue>)>,
) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut table = txn.open_table(TABLE)?;
        for (key, row) in rows {
            match row {
                Some(kv) => table.insert(&key[..], &encode_row(kv)[..])?,
                None => table.remove(&key[..])?,
            };
        }
        table.insert(HEAD, &encode_head(revision)[..])?;
    }
    txn.commit()?;
    Ok(())
}

enum WriteError {
    Before(String),
    InCommit(String),
}

fn write(database: &Database, changes: &Changes) -> Result<(), WriteError> {
    let txn = stage(database, changes).map_err(|error| WriteError::Before(error.to_string()))?;
    txn.commit().map_err(|error| WriteError::InCommit(error.to_string()))
}

fn stage(database: &Database, changes: &Changes) -> Result<redb::WriteTransaction, redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut table = txn.open_table(TABLE)?;
        for event in &changes.events {
            match event {
                WatchEvent::Put(kv) => table.insert(&kv.key[..], &encode_row(kv)[..])?,
                WatchEvent::Delete { key, .. } => table.remove(&key[..])?,
            };
        }
        table.insert(HEAD, &encode_head(changes.revision)[..])?;
    }
    Ok(txn)
}

fn open_database(disk: Arc<dyn Disk>, untrusted: &Arc<AtomicBool>) -> Result<Database, String> {
    let backend = Backend {
        disk,
        untrusted: Arc::clone(untrusted),
    };
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.create_with_backend(backend).map_err(|error| error.to_string())
}

fn load(database: &Database) -> Result<(Revision, Vec<KeyValue>), OpenError> {
    let storage = |error: redb::Error| OpenError::Storage(error.to_string());
    let txn = database.begin_read().map_err(|error| storage(error.into()))?;
    let table = txn.open_table(TABLE).map_err(|error| storage(error.into()))?;
    let mut revision = None;
    let mut keys = Vec::new();
    for row in table.iter().map_err(|error| storage(error.into()))? {
        let (key, value) = row.map_err(|error| storage(error.into()))?;
        if key.value() == HEAD {
            revision = Some(decode_head(value.value())?);
        } else {
            keys.push(decode_row(key.value(), value.value())?);
        }
    }
    let revision = revision.ok_or(FormatError::Invalid { what: "head row" })?;
    Ok((revision, keys))
}

fn encode_head(revision: Revision) -> Vec<u8> {
    let mut out = Encoder::with_capacity(10);
    out.u16(FORMAT);
    out.u64(revision.0);
    out.finish()
}

fn decode_head(row: &[u8]) -> Result<Revision, FormatError> {
    let mut input = Decoder::new(row);
    let found = input.u16()?;
    if found != FORMAT {
        return Err(FormatError::Version {
            what: "metadata file",
            found,
            known: FORMAT,
        });
    }
    let revision = Revision(input.u64()?);
    input.finish()?;
    Ok(revision)
}

fn encode_row(kv: &KeyValue) -> Vec<u8> {
    let mut out = Encoder::with_capacity(32 + kv.value.len());
    out.u64(kv.create_revision.0);
    out.u64(kv.mod_revision.0);
    out.u64(kv.version);
    out.u64(kv.lease.0.cast_unsigned());
    out.raw(&kv.value);
    out.finish()
}

fn decode_row(key: &[u8], row: &[u8]) -> Result<KeyValue, FormatError> {
    let mut input = Decoder::new(row);
    Ok(KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: Revision(input.u64()?),
        mod_revision: Revision(input.u64()?),
        version: input.u64()?,
        lease: LeaseId(input.u64()?.cast_signed()),
        value: Bytes::copy_from_slice(input.rest()),
    })
}

/// A [`Disk`] as redb wants it. Remembers whether a sync ever failed.
#[derive(Debug)]
struct Backend {
    disk: Arc<dyn Disk>,
    untrusted: Arc<AtomicBool>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.disk.sync();
        if synced.is_err() {
            self.untrusted.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }
}
