//! The metadata store inside the process: the whole key space in memory, made durable by a journal.
//!
//! Owns: the handle, opening and closing.
//! Does not own: judging (`keyspace`), the writer (`actor`), the file (`durable`, `journal`, `load`, `frame`, `disk`).
//!
//! Invariants: one process at a time; what was acknowledged survives `kill -9` and power loss (unless `no_fsync`).
//! Leases do not survive the process that held them: they end when the store is opened.

mod actor;
pub mod disk;
mod durable;
mod frame;
mod journal;
mod load;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::keyspace::{Keyspace, Limits};
use crate::lease_clock::LeaseClock;
use crate::metered::{self, TxnBytes};
use crate::signal::{self, signal};
use crate::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Revision, Snapshot, Txn, TxnOutcome, Watch, WatchEvent,
};
use actor::{Published, Request, Writer};
use disk::{Directory, DirectoryError, Medium};
use durable::Durable;

pub use load::OpenError;

/// Requests that wait for the writer.
const INBOX_MAX: usize = 512;
/// Events that one call of [`Watch::next`] returns, give or take one revision.
const WATCH_EVENTS_MAX: usize = 1024;

/// How the embedded store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether a commit waits for the disk. Without it a crash of the machine (not of the process) may lose the end of
    /// the log, or all of it.
    pub fsync: bool,
    /// How large it may grow.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fsync: true,
            limits: Limits::default(),
        }
    }
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file in it.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The store. Clones share it; it closes when the last one is gone.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    published: Arc<Published>,
    revision: signal::Receiver<Revision>,
    writer: mpsc::Sender<Request>,
    syncs: Arc<AtomicU64>,
}

impl EmbeddedStore {
    /// Opens the store in a data directory, creating both if need be. Needs a tokio runtime.
    ///
    /// # Errors
    /// `Directory(InUse)` when another process has it; others as the disk says.
    pub async fn open(path: &Path, settings: Settings) -> Result<Self, EmbeddedError> {
        let path = path.to_owned();
        let (syncs, durable, keyspace) = blocking(move || {
            let directory = Directory::lock(&path, settings.fsync)?;
            let syncs = directory.syncs();
            let (durable, keyspace) = open_blocking(Box::new(directory), settings.limits)?;
            Ok::<_, EmbeddedError>((syncs, durable, keyspace))
        })
        .await?;
        Ok(Self {
            syncs,
            ..Self::start(Some(durable), keyspace)
        })
    }

    /// Opens the store on anything that behaves like a file. Needs a tokio runtime.
    ///
    /// # Errors
    /// As the medium says.
    pub async fn open_on(medium: Box<dyn Medium>, limits: Limits) -> Result<Self, EmbeddedError> {
        let (durable, keyspace) = blocking(move || open_blocking(medium, limits)).await?;
        Ok(Self::start(Some(durable), keyspace))
    }

    /// A store that lives in memory only, for `--ephemeral` and tests. Needs a tokio runtime.
    #[must_use]
    pub fn in_memory(limits: Limits) -> Self {
        Self::start(None, Keyspace::new(limits))
    }

    /// Closes the store and waits until the directory is free. Other handles get errors from then on.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.writer.send(Request::Close(done)).await.is_ok() {
            let _closed_already = closed.await;
        }
    }

    /// How many times the file was synced; for measurements and tests.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn start(durable: Option<Durable>, keyspace: Keyspace) -> Self {
        let (waker, revision) = signal(keyspace.revision());
        let published = Arc::new(Published::new(keyspace));
        let (writer, inbox) = mpsc::channel(INBOX_MAX);
        let leases = LeaseClock::default();
        tokio::spawn(
            Writer {
                published: Arc::clone(&published),
                revision: waker,
                durable,
                leases,
                inbox,
            }
            .run(),
        );
        Self {
            published,
            revision,
            writer,
            syncs: Arc::default(),
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, MetadataError>>) -> Request,
    ) -> Result<T, MetadataError> {
        let (answer, answered) = oneshot::channel();
        if self.writer.send(request(answer)).await.is_err() {
            return Err(MetadataError::Failed("embedded metadata store is closed".to_owned()));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(MetadataError::Unknown("embedded metadata store went away".to_owned())))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// Opens the file and ends the leases that are in it: whoever held them is dead, because the directory was free.
fn open_blocking(medium: Box<dyn Medium>, limits: Limits) -> Result<(Durable, Keyspace), EmbeddedError> {
    Ok(Durable::open(medium, limits, |keyspace| {
        let mut held: Vec<LeaseId> = keyspace
            .iter()
            .map(|kv| kv.lease)
            .filter(|lease| *lease != LeaseId(0))
            .collect();
        held.sort_unstable();
        held.dedup();
        let mut group = keyspace.group();
        for lease in held {
            group.end_lease(lease);
        }
        let changes = group.finish();
        keyspace.apply(changes);
    })?)
}

#[async_trait]
impl MetadataStore for EmbeddedStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        let bytes = TxnBytes::of(&txn);
        let answer = self.ask(|answer| Request::Txn(txn, answer)).await;
        bytes.count(&answer);
        answer
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        let read = if self.writer.is_closed() {
            Err(MetadataError::Failed("embedded metadata store is closed".to_owned()))
        } else {
            Ok(self.published.read(|keyspace| keyspace.snapshot(&ranges)))
        };
        metered::count("read", &read);
        read
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        let begun = self.published.read(|keyspace| keyspace.events(&prefix, from, 0));
        metered::count("watch", &begun);
        begun?;
        let (published, revision) = (Arc::clone(&self.published), self.revision.clone());
        Ok(Box::new(EmbeddedWatch {
            published,
            revision,
            prefix,
            next: from,
        }))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        let answer = self.ask(|answer| Request::Grant(ttl, answer)).await;
        metered::count("grant", &answer);
        answer
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        let answer = self.ask(|answer| Request::KeepAlive(lease, answer)).await;
        metered::count("keep_alive", &answer);
        answer
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        let answer = self.ask(|answer| Request::Revoke(lease, answer)).await;
        metered::count("revoke", &answer);
        answer
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        let answer = self.ask(|answer| Request::Compact(revision, answer)).await;
        metered::count("compact", &answer);
        answer
    }
}

/// A position in the shared history. It holds no events, so a slow watcher costs nothing.
#[derive(Debug)]
struct EmbeddedWatch {
    published: Arc<Published>,
    revision: signal::Receiver<Revision>,
    prefix: Bytes,
    next: Revision,
}

#[async_trait]
impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<Vec<WatchEvent>, MetadataError> {
        loop {
            let (events, next) = self
                .published
                .read(|keyspace| keyspace.events(&self.prefix, self.next, WATCH_EVENTS_MAX))?;
            self.next = next;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.revision.wait_for(|revision| revision >= next).await.is_err() {
                return Err(MetadataError::Failed("embedded metadata store is closed".to_owned()));
            }
        }
    }
}
