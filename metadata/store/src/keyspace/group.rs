//! Judging transactions: a group of them over a key space that does not change meanwhile.
//!
//! Owns: what a transaction does and answers, and what makes one refused.
//! Does not own: when the result takes effect ([`super::Keyspace::apply`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Keyspace, footprint};
use crate::store::{
    Compare, KeyValue, LeaseId, MetadataError, Op, OpResult, Revision, TXN_BYTES_MAX, TXN_OPS_MAX, Txn, TxnOutcome,
    WatchEvent,
};

/// Why a transaction was refused as a whole. It had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A list is longer than [`TXN_OPS_MAX`].
    #[error("transaction has {found} operations in one list, at most {TXN_OPS_MAX} are allowed")]
    TooManyOps {
        /// How long it is.
        found: usize,
    },
    /// Keys and values together are more than [`TXN_BYTES_MAX`].
    #[error("transaction has {found} bytes, at most {TXN_BYTES_MAX} are allowed")]
    TooLarge {
        /// How many there are.
        found: usize,
    },
    /// A list puts or deletes one key twice.
    #[error("transaction changes key {key:?} twice")]
    DuplicateKey {
        /// The key.
        key: Bytes,
    },
    /// A key is empty.
    #[error("a key is empty")]
    EmptyKey,
    /// A put names a lease that does not exist.
    #[error("lease {lease:?} does not exist")]
    NoSuchLease {
        /// The lease.
        lease: LeaseId,
    },
    /// The key space has reached its bound.
    #[error("key space is full: {live} of {max} bytes")]
    Full {
        /// What it holds.
        live: usize,
        /// What it may hold.
        max: usize,
    },
}

impl From<Refusal> for MetadataError {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.to_string())
    }
}

/// What a group of transactions changes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The revision it was judged at.
    pub from: Revision,
    /// The revision after it.
    pub revision: Revision,
    /// Every change, in revision order.
    pub events: Vec<WatchEvent>,
    /// Leases that ended.
    pub ended: Vec<LeaseId>,
}

impl Changes {
    /// Whether there is anything to make durable.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// Transactions being judged, one after the other.
#[derive(Debug)]
pub struct Group<'a> {
    base: &'a Keyspace,
    overlay: BTreeMap<Bytes, Option<KeyValue>>,
    live_bytes: usize,
    revision: Revision,
    events: Vec<WatchEvent>,
    ended: Vec<LeaseId>,
}

impl<'a> Group<'a> {
    pub(super) fn new(base: &'a Keyspace) -> Self {
        Self {
            base,
            overlay: BTreeMap::new(),
            live_bytes: base.live_bytes,
            revision: base.revision,
            events: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Judges and executes one transaction.
    ///
    /// # Errors
    /// The transaction is refused and changed nothing.
    pub fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Refusal> {
        check_shape(txn)?;
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        self.check_ops(ops)?;
        let next = Revision(self.revision.0 + 1);
        let results = ops.iter().map(|op| self.execute(op, next)).collect();
        self.seal(next);
        Ok(TxnOutcome {
            succeeded,
            revision: self.revision,
            results,
        })
    }

    /// Ends a lease: deletes its keys at one revision. Says whether the lease existed.
    pub fn end_lease(&mut self, lease: LeaseId) -> bool {
        if !self.has_lease(lease) {
            return false;
        }
        let mut keys: BTreeSet<Bytes> = self.base.keys_of(lease).cloned().collect();
        keys.extend(self.overlay.keys().cloned());
        let next = Revision(self.revision.0 + 1);
        for key in keys {
            if self.get(&key).is_some_and(|kv| kv.lease == lease) {
                self.delete(&key, next);
            }
        }
        self.seal(next);
        self.ended.push(lease);
        true
    }

    /// What the group did.
    #[must_use]
    pub fn finish(self) -> Changes {
        Changes {
            from: self.base.revision,
            revision: self.revision,
            events: self.events,
            ended: self.ended,
        }
    }

    fn get(&self, key: &Bytes) -> Option<&KeyValue> {
        match self.overlay.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key),
        }
    }

    fn has_lease(&self, lease: LeaseId) -> bool {
        self.base.has_lease(lease) && !self.ended.contains(&lease)
    }

    fn holds(&self, compare: &Compare) -> bool {
        compare.holds(self.get(compare.key()))
    }

    /// Everything that can refuse the chosen list, before any of it is done.
    fn check_ops(&self, ops: &[Op]) -> Result<(), Refusal> {
        let mut grown = 0;
        for op in ops {
            if let Op::Put { key, value, lease } = op {
                if *lease != LeaseId(0) && !self.has_lease(*lease) {
                    return Err(Refusal::NoSuchLease { lease: *lease });
                }
                let old = self.get(key).map_or(0, footprint);
                grown += (key.len() + value.len() + super::KEY_OVERHEAD_BYTES).saturating_sub(old);
            }
        }
        let max = self.base.limits.live_bytes_max;
        if grown > 0 && self.live_bytes + grown > max {
            return Err(Refusal::Full {
                live: self.live_bytes,
                max,
            });
        }
        Ok(())
    }

    fn execute(&mut self, op: &Op, revision: Revision) -> OpResult {
        match op {
            Op::Put { key, value, lease } => OpResult::Put(self.put(key, value, *lease, revision)),
            Op::Delete(key) => OpResult::Delete(self.delete(key, revision)),
            Op::Get(key) => OpResult::Get(self.get(key).cloned()),
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: LeaseId, revision: Revision) -> Option<KeyValue> {
        let old = self.get(key).cloned();
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease,
        };
        self.live_bytes = self.live_bytes + footprint(&kv) - old.as_ref().map_or(0, footprint);
        self.overlay.insert(key.clone(), Some(kv.clone()));
        self.events.push(WatchEvent::Put(kv));
        old
    }

    fn delete(&mut self, key: &Bytes, revision: Revision) -> bool {
        let Some(old) = self.get(key) else { return false };
        self.live_bytes -= footprint(old);
        self.overlay.insert(key.clone(), None);
        self.events.push(WatchEvent::Delete {
            key: key.clone(),
            revision,
        });
        true
    }

    /// Moves to `next` if anything happened at it.
    fn seal(&mut self, next: Revision) {
        if self.events.last().is_some_and(|event| event.revision() == next) {
            self.revision = next;
        }
    }
}

pub(crate) fn check_shape(txn: &Txn) -> Result<(), Refusal> {
    let mut bytes = 0;
    for found in [txn.compares.len(), txn.then.len(), txn.otherwise.len()] {
        if found > TXN_OPS_MAX {
            return Err(Refusal::TooManyOps { found });
        }
    }
    for compare in &txn.compares {
        bytes += compare.key().len();
        if let Compare::Value(_, value) = compare {
            bytes += value.len();
        }
    }
    for ops in [&txn.then, &txn.otherwise] {
        let mut changed = BTreeSet::new();
        for op in ops {
            let key = op.key();
            if key.is_empty() {
                return Err(Refusal::EmptyKey);
            }
            bytes += key.len();
            match op {
                Op::Put { value, .. } => bytes += value.len(),
                Op::Delete(_) => {}
                Op::Get(_) => continue,
            }
            if !changed.insert(key) {
                return Err(Refusal::DuplicateKey { key: key.clone() });
            }
        }
    }
    if bytes > TXN_BYTES_MAX {
        return Err(Refusal::TooLarge { found: bytes });
    }
    Ok(())
}
