//! The seam to the coordination store: a small, linearizable, revisioned key space with transactions, leases and
//! watches, as etcd offers it.
//!
//! Owns: the contract. Every implementation (embedded, simulated, etcd) passes the same conformance suite.
//! Does not own: which keys exist (`keys`) or what their values mean.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Most operations (and compares) in one list of a transaction.
pub const TXN_OPS_MAX: usize = 128;

/// Most bytes of keys and values in one transaction: etcd's default request limit.
pub const TXN_BYTES_MAX: usize = 1536 << 10;

/// A point in the history of the whole store; rises by one with every transaction that changed something, also by those of
/// others with whom the store is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A lease; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A lease as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The time to live that the store *granted*, which may be longer than asked. Only this one counts.
    pub ttl: Duration,
}

/// One live key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, without the cluster prefix.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Revision at which it was created; it changes when a deleted key is put again.
    pub create_revision: Revision,
    /// Revision of its last change.
    pub mod_revision: Revision,
    /// How often it was put since it was created; the creating put makes it 1.
    pub version: u64,
    /// The lease it hangs on.
    pub lease: LeaseId,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(Bytes),
    /// The key was created at this revision (and still exists).
    CreateRevision(Bytes, Revision),
    /// The key was last changed at this revision.
    ModRevision(Bytes, Revision),
    /// The key exists and has this value.
    Value(Bytes, Bytes),
}

impl Compare {
    /// The key it looks at.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Absent(key) | Self::CreateRevision(key, _) | Self::ModRevision(key, _) | Self::Value(key, _) => key,
        }
    }

    /// Whether it holds when its key holds `found`.
    #[must_use]
    pub fn holds(&self, found: Option<&KeyValue>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::CreateRevision(_, revision) => found.is_some_and(|kv| kv.create_revision == *revision),
            Self::ModRevision(_, revision) => found.is_some_and(|kv| kv.mod_revision == *revision),
            Self::Value(_, value) => found.is_some_and(|kv| kv.value == *value),
        }
    }
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Put a key; the answer holds what was there before.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease it hangs on from now on; 0 for none. A lease that does not exist refuses the transaction.
        lease: LeaseId,
    },
    /// Delete a key; deleting an absent one is fine.
    Delete(Bytes),
    /// Read a key.
    Get(Bytes),
}

impl Op {
    /// A put without a lease.
    #[must_use]
    pub const fn put(key: Bytes, value: Bytes) -> Self {
        Self::Put {
            key,
            value,
            lease: LeaseId(0),
        }
    }

    /// The key it touches.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete(key) | Self::Get(key) => key,
        }
    }
}

/// IF all compares hold THEN one list ELSE the other, atomically, at one revision.
///
/// Operations are done in order, and a read sees what stands before it in the list. At most [`TXN_OPS_MAX`] operations a
/// list and [`TXN_BYTES_MAX`] bytes in all; no list changes a key twice; no key is empty. What breaks a rule is refused
/// as a whole, with `Failed`. A transaction that changes nothing does not move the revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Done when they hold.
    pub then: Vec<Op>,
    /// Done when one does not.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// The same with one more condition.
    #[must_use]
    pub fn also_compare(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }
}

/// The answer to one operation, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// What the key held before the put.
    Put(Option<KeyValue>),
    /// Whether there was a key to delete.
    Delete(bool),
    /// What the key holds.
    Get(Option<KeyValue>),
}

impl OpResult {
    /// What a read found.
    #[must_use]
    pub fn into_get(self) -> Option<KeyValue> {
        match self {
            Self::Get(found) => found,
            Self::Put(_) | Self::Delete(_) => None,
        }
    }

    /// What a put replaced.
    #[must_use]
    pub fn into_replaced(self) -> Option<KeyValue> {
        match self {
            Self::Put(replaced) => replaced,
            Self::Get(_) | Self::Delete(_) => None,
        }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// Whether the compares held. A lost race is this value, not an error.
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: Revision,
    /// One result for each operation of the list that was done.
    pub results: Vec<OpResult>,
}

/// Keys to read in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// One key.
    Key(Bytes),
    /// All keys that begin so.
    Prefix(Bytes),
}

/// Several ranges read at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision; a watch from the one after it misses nothing.
    pub revision: Revision,
    /// The keys of each range asked for, in key order.
    pub ranges: Vec<Vec<KeyValue>>,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// It was put.
    Put(KeyValue),
    /// It was deleted, or its lease ran out.
    Delete {
        /// The key.
        key: Bytes,
        /// When.
        revision: Revision,
    },
}

impl WatchEvent {
    /// The key it is about.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Put(kv) => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// When it happened.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Put(kv) => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// A stream of events under a prefix. It is a *hint*: consumers must notice gaps themselves and read again.
#[async_trait]
pub trait Watch: Send {
    /// The next events, in revision order (within a revision in the order of the transaction), never empty. The events
    /// of one revision come together, never spread over two calls. Cancel-safe.
    ///
    /// # Errors
    /// After any error the watch is over: read a snapshot and watch again.
    async fn next(&mut self) -> Result<Vec<WatchEvent>, MetadataError>;
}

/// Why a call to the store gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The call certainly had no effect and never will.
    #[error("metadata store refused: {0}")]
    Failed(String),
    /// Whether the call took effect, or will, is not known. Only the *identical* transaction may be sent again.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The revision asked for is older than what the store keeps.
    #[error("history before revision {oldest:?} is gone")]
    Compacted {
        /// The oldest revision that can be watched from.
        oldest: Revision,
    },
}

/// A linearizable, revisioned key space.
///
/// All calls are linearizable. Implementations bring their own time-outs; a call that has none pending returns.
#[async_trait]
pub trait MetadataStore: Send + Sync + 'static {
    /// Runs a transaction. What it did is durable before the answer, and visible to every call that begins after it.
    ///
    /// Dropping the future does not take the transaction back: its outcome is then unknown.
    ///
    /// # Errors
    /// `Failed` or `Unknown`. Sending the identical transaction again is the caller's way out of `Unknown`.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError>;

    /// Reads several ranges at one revision, the newest.
    ///
    /// # Errors
    /// `Failed` only: a read has no effect.
    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError>;

    /// Watches all keys that begin with `prefix`, from revision `from` on; a `from` in the future is fine.
    ///
    /// # Errors
    /// `Compacted` when `from` is too old, `Failed` when the store cannot be reached. `Compacted` may also come later,
    /// from [`Watch::next`], when the watch is overtaken.
    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError>;

    /// Grants a lease of at least `ttl`. It ends when it was not kept alive for that long: its keys are deleted at one
    /// revision. It may end early or late: leases are for liveness, compares for safety.
    ///
    /// # Errors
    /// `Failed` or `Unknown` (then the lease runs out by itself).
    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError>;

    /// Keeps a lease alive for its TTL from now on, and says the TTL; `None` means that it has run out.
    ///
    /// # Errors
    /// `Failed` or `Unknown`.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError>;

    /// Ends a lease and deletes its keys, all at one revision; one that has ended already is fine.
    ///
    /// # Errors
    /// `Failed` or `Unknown`.
    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError>;

    /// Whether transactions that are sent one after the other, without waiting for answers, are carried out in that order
    /// as a rule. Where they are not, most of those that depend on their predecessor are refused and sent again.
    fn keeps_order(&self) -> bool {
        true
    }

    /// Forgets history before `revision`: watches from before it get `Compacted`. Live keys stay. One that is older than
    /// an earlier one changes nothing.
    ///
    /// # Errors
    /// `Failed` or `Unknown`.
    async fn compact(&self, revision: Revision) -> Result<(), MetadataError>;
}
