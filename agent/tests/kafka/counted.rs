//! A metadata store in memory that counts what is read.
//!
//! Owns: the counts. Does not own: the store itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::embedded::EmbeddedStore;
use esker_metadata::keyspace::Limits;
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Revision, Snapshot, Txn, TxnOutcome, Watch,
};

/// See the module.
pub(crate) struct Counted {
    inner: EmbeddedStore,
    ranges: AtomicUsize,
    longest: AtomicUsize,
}

impl Counted {
    /// An empty store.
    pub(crate) fn new() -> Self {
        Self {
            inner: EmbeddedStore::in_memory(Limits::default()),
            ranges: AtomicUsize::new(0),
            longest: AtomicUsize::new(0),
        }
    }

    /// Ranges read, and the bytes of the longest key among them.
    pub(crate) fn reads(&self) -> (usize, usize) {
        (self.ranges.load(Ordering::SeqCst), self.longest.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl MetadataStore for Counted {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        self.inner.txn(txn).await
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        self.ranges.fetch_add(ranges.len(), Ordering::SeqCst);
        for range in &ranges {
            if let KeyRange::Key(key) = range {
                self.longest.fetch_max(key.len(), Ordering::SeqCst);
            }
        }
        self.inner.snapshot(ranges).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        self.inner.watch(prefix, from).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        self.inner.revoke_lease(lease).await
    }

    fn keeps_order(&self) -> bool {
        self.inner.keeps_order()
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        self.inner.compact(revision).await
    }
}
