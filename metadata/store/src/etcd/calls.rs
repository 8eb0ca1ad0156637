//! Calls: each attempt with its time-out, and another endpoint when one does not answer.
//!
//! Invariants: a call that may have had an effect is not sent again from here.

use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Error, GetOptions, GetResponse, LeaseGrantOptions, Txn as EtcdTxn, TxnResponse,
};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Connections};
use super::fault::Fault;
use super::translate;
use crate::store::{Lease, LeaseId, MetadataError, Revision};

/// Largest answer that is taken: a page of a listing, a fragment of a watch.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a call is, for errors and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: &'static str,
    /// It changes nothing, so it may be sent again whatever has become of it.
    pub(super) reads: bool,
}

const TXN: Call = Call {
    name: "txn",
    reads: false,
};
const READ: Call = Call {
    name: "read",
    reads: true,
};
const GRANT: Call = Call {
    name: "grant",
    reads: false,
};
/// Doing it twice is the same as doing it once.
const REVOKE: Call = Call {
    name: "revoke",
    reads: true,
};
const COMPACT: Call = Call {
    name: "compact",
    reads: true,
};

/// The calls of a store, and the connections they go through.
#[derive(Debug)]
pub(super) struct Calls {
    connections: Connections,
}

impl Calls {
    pub(super) const fn new(connections: Connections) -> Self {
        Self { connections }
    }

    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Makes a call, at each endpoint at most once, until there is an answer, an error that is the call's own, or time is up.
    pub(super) async fn call<T, F>(&self, call: Call, send: impl Fn(Connection) -> F + Send) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let settings = self.connections.settings();
        let deadline = Instant::now() + settings.call_timeout * 2;
        let mut attempts = settings.endpoints.len();
        loop {
            attempts -= 1;
            let fault = match self.attempt(call, settings.call_timeout, &send).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let again = fault.blames_endpoint && (call.reads || fault.certain);
            if !again || attempts == 0 || Instant::now() >= deadline {
                return Err(fault);
            }
        }
    }

    async fn attempt<T, F>(
        &self,
        call: Call,
        patience: Duration,
        send: &(impl Fn(Connection) -> F + Send),
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let connection = self.connections.get().await?;
        let generation = connection.generation;
        let answer = match timeout(patience, send(connection)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Fault::timed_out(call.name)),
        };
        if let Err(fault) = &answer
            && fault.blames_endpoint
        {
            self.connections.give_up(generation, fault);
        }
        answer
    }

    /// Runs a transaction that may write.
    pub(super) async fn txn(&self, txn: EtcdTxn) -> Result<TxnResponse, MetadataError> {
        self.send_txn(TXN, txn).await.map_err(Fault::into_error)
    }

    /// Runs a transaction that only reads.
    pub(super) async fn read(&self, txn: EtcdTxn) -> Result<TxnResponse, Fault> {
        self.send_txn(READ, txn).await
    }

    async fn send_txn(&self, call: Call, txn: EtcdTxn) -> Result<TxnResponse, Fault> {
        let send = |connection: Connection| {
            let txn = txn.clone();
            async move {
                let mut kv = connection
                    .client
                    .kv_client()
                    .max_decoding_message_size(ANSWER_BYTES_MAX);
                kv.txn(txn).await.map_err(|error| Fault::of(call.name, &error))
            }
        };
        self.call(call, send).await
    }

    /// Reads keys from `key` on.
    pub(super) async fn get(&self, key: &[u8], options: GetOptions) -> Result<GetResponse, Fault> {
        let send = |connection: Connection| {
            let (key, options) = (key.to_vec(), options.clone());
            async move { get_over(&connection.client, key, options).await }
        };
        self.call(READ, send).await
    }

    pub(super) async fn grant(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds.max(1)).unwrap_or(i64::MAX);
        let send = |connection: Connection| async move {
            let mut leases = connection.client.lease_client();
            let granted = leases.grant(seconds, None::<LeaseGrantOptions>).await;
            granted.map_err(|error| Fault::of(GRANT.name, &error))
        };
        let granted = self.call(GRANT, send).await.map_err(Fault::into_error)?;
        let ttl = translate::ttl(granted.ttl())
            .ok_or_else(|| MetadataError::Unknown("etcd granted a lease that has run out".to_owned()))?;
        Ok(Lease {
            id: LeaseId(granted.id()),
            ttl,
        })
    }

    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<(), MetadataError> {
        let send = |connection: Connection| async move {
            let revoked = connection.client.lease_client().revoke(lease.0).await;
            revoked.map(drop).map_err(|error| Fault::of(REVOKE.name, &error))
        };
        match self.call(REVOKE, send).await {
            Err(fault) if !fault.absent => Err(fault.into_error()),
            _done => Ok(()),
        }
    }

    pub(super) async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        let revision = translate::to_etcd(revision);
        let send = |connection: Connection| async move {
            let mut kv = connection.client.kv_client();
            let compacted = kv.compact(revision, None::<CompactionOptions>).await;
            compacted.map(drop).map_err(|error| Fault::of(COMPACT.name, &error))
        };
        match self.call(COMPACT, send).await {
            Err(fault) if !fault.compacted => Err(fault.into_error()),
            _done => Ok(()),
        }
    }
}

/// Reads over one certain connection.
pub(super) async fn get_over(client: &Client, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, Fault> {
    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let got: Result<GetResponse, Error> = kv.get(key, Some(options)).await;
    got.map_err(|error| Fault::of(READ.name, &error))
}
