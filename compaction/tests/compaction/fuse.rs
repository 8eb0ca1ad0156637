//! A process that is killed at its k-th call: from then on no call of it has an effect or an answer.
//!
//! Owns: both stores as such a process sees them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::log::Cluster;
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Revision, Snapshot, Txn, TxnOutcome, Watch,
};
use esker_storage::named::NamedObjects;
use esker_storage::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};
use tokio::sync::Notify;

use crate::world::World;

/// When the process is killed, relative to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// The call never arrives.
    Before,
    /// The call has its effect.
    After,
}

/// Counts calls.
#[derive(Debug)]
pub(crate) struct Fuse {
    at: u64,
    kill: Kill,
    calls: AtomicU64,
    blown: Notify,
}

impl Fuse {
    /// Blows at that call; the first is 1.
    pub(crate) fn new(at: u64, kill: Kill) -> Arc<Self> {
        Arc::new(Self {
            at,
            kill,
            calls: AtomicU64::new(0),
            blown: Notify::new(),
        })
    }

    /// Waits until the process is killed.
    pub(crate) async fn blown(&self) {
        self.blown.notified().await;
    }

    /// The stores of a world as the process sees them.
    pub(crate) fn stores(self: &Arc<Self>, world: &World) -> (Cluster, NamedObjects) {
        let store = Fused {
            fuse: Arc::clone(self),
            inner: Arc::clone(&world.cluster.store),
        };
        let cluster = Cluster {
            store: Arc::new(store),
            incarnation: world.cluster.incarnation,
        };
        let bucket = Fused {
            fuse: Arc::clone(self),
            inner: Arc::clone(&world.objects.store),
        };
        (
            cluster,
            NamedObjects::new(Arc::new(bucket), world.objects.cluster.clone()),
        )
    }

    async fn through<T>(&self, call: impl Future<Output = T>) -> T {
        let nth = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if nth > self.at || (nth == self.at && self.kill == Kill::Before) {
            self.blown.notify_one();
            return std::future::pending().await;
        }
        let answer = call.await;
        if nth == self.at {
            self.blown.notify_one();
            return std::future::pending().await;
        }
        answer
    }
}

struct Fused<S: ?Sized> {
    fuse: Arc<Fuse>,
    inner: Arc<S>,
}

#[async_trait]
impl ObjectStore for Fused<dyn ObjectStore> {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.fuse.through(self.inner.create(key, chunks)).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.fuse.through(self.inner.read(key, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.fuse.through(self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.fuse.through(self.inner.delete(key)).await
    }
}

#[async_trait]
impl MetadataStore for Fused<dyn MetadataStore> {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        self.fuse.through(self.inner.txn(txn)).await
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        self.fuse.through(self.inner.snapshot(ranges)).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        self.inner.watch(prefix, from).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        if self.fuse.calls.load(Ordering::SeqCst) >= self.fuse.at {
            return std::future::pending().await;
        }
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        self.inner.revoke_lease(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        self.fuse.through(self.inner.compact(revision)).await
    }
}
