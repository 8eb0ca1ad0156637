//! The metadata store that a cluster shares: etcd, 3.4 or newer.
//!
//! Owns: the handle. All that is known of the `etcd-client` crate is below this module.
//! Does not own: sending identical transactions again (`log`), the quality of the servers.
//!
//! Invariants: no call waits longer than its time-out. An error is `Failed` only when the call certainly had no effect.
//! A call is sent a second time only if the first certainly was not carried out, or reads.

mod calls;
mod connection;
mod fault;
mod health;
mod leases;
mod settings;
mod snapshot;
mod translate;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::keyspace::check_shape;
use crate::metered::{self, TxnBytes};
use crate::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Revision, Snapshot, Txn, TxnOutcome, Watch,
};
use calls::Calls;
use connection::Connections;
use leases::KeepAlives;
use translate::Namespace;

pub use health::MemberHealth;
pub use settings::{EtcdSettings, EtcdTls, EtcdUser, Secret};

/// A cluster's part of an etcd. Clones share its connections: have one a process.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    namespace: Namespace,
    /// For everything but keep-alives.
    calls: Calls,
    /// On a connection of their own, so that no amount of data holds them up.
    keep_alives: KeepAlives,
}

impl EtcdStore {
    /// Connects, and makes sure that somebody answers. A little later, what is unsafe about the servers is logged. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// `Failed` when the settings are wrong, or no endpoint answers in time.
    pub async fn connect(settings: EtcdSettings) -> Result<Self, MetadataError> {
        let store = Self::lazy(settings)?;
        store.snapshot(Vec::new()).await?;
        let shared = Arc::clone(&store.shared);
        // Bounded by its time-outs; nobody waits for it.
        tokio::spawn(async move { health::warn(shared.calls.connections().settings()).await });
        Ok(store)
    }

    /// What the members that can be reached say of themselves.
    pub async fn examine(&self) -> Vec<MemberHealth> {
        health::examine(self.shared.calls.connections().settings()).await
    }

    /// Connects when the first call needs it: for processes that start while etcd is away.
    ///
    /// # Errors
    /// `Failed` when the settings are wrong.
    pub fn lazy(settings: EtcdSettings) -> Result<Self, MetadataError> {
        settings.check()?;
        let settings = Arc::new(settings);
        Ok(Self {
            shared: Arc::new(Shared {
                namespace: Namespace::new(&settings.prefix),
                calls: Calls::new(Connections::new(Arc::clone(&settings))),
                keep_alives: KeepAlives::new(Connections::new(settings)),
            }),
        })
    }
}

impl Shared {
    async fn txn(&self, txn: &Txn) -> Result<TxnOutcome, MetadataError> {
        check_shape(txn)?;
        let answer = self.calls.txn(self.namespace.txn(txn)).await?;
        self.namespace.outcome(txn, &answer)
    }
}

#[async_trait]
impl MetadataStore for EtcdStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        let answer = self.shared.txn(&txn).await;
        TxnBytes::of(&txn).count(&answer);
        answer
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        let read = snapshot::read(&self.shared.calls, &self.shared.namespace, &ranges).await;
        metered::count("read", &read);
        read
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        let watch = watch::open(&self.shared.calls, &self.shared.namespace, &prefix, from).await;
        metered::count("watch", &watch);
        Ok(Box::new(watch?))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        let granted = self.shared.calls.grant(ttl).await;
        metered::count("grant", &granted);
        granted
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        let kept = self.shared.keep_alives.keep_alive(lease).await;
        metered::count("keep_alive", &kept);
        kept
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        self.shared.keep_alives.forget(lease);
        let revoked = self.shared.calls.revoke(lease).await;
        metered::count("revoke", &revoked);
        revoked
    }

    /// etcd proposes the requests of one connection in any order.
    fn keeps_order(&self) -> bool {
        false
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        let compacted = self.shared.calls.compact(revision).await;
        metered::count("compact", &compacted);
        compacted
    }
}
