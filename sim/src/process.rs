//! A process as the stores see it: its calls go on after it was killed, its answers do not arrive any more.
//!
//! Owns: what a kill does to calls that are under way, and to those that a leftover task would make.
//! Does not own: the tasks of the process (`host`).

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Op, Revision, Snapshot, Txn, TxnOutcome, Watch, WatchEvent,
};
use esker_storage::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::oracle::Oracle;

/// One life of the process. Clones are the same life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    dead: CancellationToken,
    cut: CancellationToken,
    late: Arc<Mutex<Late>>,
}

/// Until when it is cut off.
#[derive(Clone, Copy, Debug, Default)]
struct Late {
    /// From everything.
    stalled: Option<Instant>,
    /// From events of the watch.
    lagging: Option<Instant>,
}

impl Process {
    /// Ends it. Calls under way still reach the stores unless they are `cut` off.
    pub(crate) fn kill(&self, cut: bool) {
        self.dead.cancel();
        if cut {
            self.cut.cancel();
        }
    }

    /// Holds calls, answers and events back for so long.
    pub(crate) fn stall(&self, length: Duration) {
        self.late().stalled = Some(Instant::now() + length);
    }

    /// Holds events back for so long.
    pub(crate) fn lag(&self, length: Duration) {
        self.late().lagging = Some(Instant::now() + length);
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn died(self) {
        self.dead.cancelled().await;
    }

    /// Waits while it is cut off from everything.
    async fn stalled(&self) {
        let until = self.late().stalled;
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Waits while it hears nothing of the log.
    async fn lagging(&self) {
        let late = *self.late();
        let until = late.stalled.max(late.lagging);
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Makes a call that nobody can take back: neither a dropped future nor the end of the process.
    async fn call<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        if self.dead.is_cancelled() {
            return std::future::pending().await;
        }
        let cut = self.cut.clone();
        let this = self.clone();
        let work = async move {
            this.stalled().await;
            let answer = work.await;
            this.stalled().await;
            answer
        };
        let under_way = tokio::spawn(async move { cut.run_until_cancelled_owned(work).await });
        tokio::select! {
            biased;
            () = self.dead.cancelled() => std::future::pending().await,
            done = under_way => match done {
                Ok(Some(answer)) => answer,
                Ok(None) => std::future::pending().await,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
        }
    }
}

/// The metadata store as a process reaches it.
pub(crate) struct ReachedMetadata {
    pub(crate) inner: Arc<dyn MetadataStore>,
    pub(crate) process: Process,
    pub(crate) oracle: Arc<Oracle>,
}

#[async_trait]
impl MetadataStore for ReachedMetadata {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        if txn.then.iter().any(|op| matches!(op, Op::Delete(_))) {
            // Truncation takes away what the oracle may not have read yet.
            self.oracle.catch_up();
        }
        let inner = Arc::clone(&self.inner);
        self.process.call(async move { inner.txn(txn).await }).await
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        let inner = Arc::clone(&self.inner);
        self.process.call(async move { inner.snapshot(ranges).await }).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        let inner = Arc::clone(&self.inner);
        let watch = self
            .process
            .call(async move { inner.watch(prefix, from).await })
            .await?;
        let process = self.process.clone();
        Ok(Box::new(ReachedWatch {
            watch,
            process,
            held: None,
        }))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        let inner = Arc::clone(&self.inner);
        self.process.call(async move { inner.grant_lease(ttl).await }).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        let inner = Arc::clone(&self.inner);
        self.process.call(async move { inner.keep_alive(lease).await }).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        let inner = Arc::clone(&self.inner);
        self.process.call(async move { inner.revoke_lease(lease).await }).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        let inner = Arc::clone(&self.inner);
        self.process.call(async move { inner.compact(revision).await }).await
    }
}

struct ReachedWatch {
    watch: Box<dyn Watch>,
    process: Process,
    /// What has come and is not told yet.
    held: Option<Result<Vec<WatchEvent>, MetadataError>>,
}

impl ReachedWatch {
    async fn late(&mut self) -> Result<Vec<WatchEvent>, MetadataError> {
        if self.held.is_none() {
            self.held = Some(self.watch.next().await);
        }
        self.process.lagging().await;
        self.held.take().expect("it was just put there")
    }
}

#[async_trait]
impl Watch for ReachedWatch {
    async fn next(&mut self) -> Result<Vec<WatchEvent>, MetadataError> {
        tokio::select! {
            biased;
            () = self.process.clone().died() => std::future::pending().await,
            events = self.late() => events,
        }
    }
}

/// The bucket as a process reaches it.
pub(crate) struct ReachedObjects {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) process: Process,
}

#[async_trait]
impl ObjectStore for ReachedObjects {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        self.process.call(async move { inner.create(&key, chunks).await }).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        self.process.call(async move { inner.read(&key, range).await }).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let (inner, prefix, after) = (Arc::clone(&self.inner), prefix.to_owned(), after.cloned());
        let call = async move { inner.list(&prefix, after.as_ref(), limit).await };
        self.process.call(call).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        self.process.call(async move { inner.delete(&key).await }).await
    }
}
