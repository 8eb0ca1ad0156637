//! Between our types and etcd's, and between a cluster's keys and those in etcd.
//!
//! Owns: the prefix.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    Compare as EtcdCompare, CompareOp, Event, EventType, GetOptions, KeyValue as EtcdKeyValue, PutOptions,
    Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::store::{Compare, KeyValue, LeaseId, MetadataError, Op, OpResult, Revision, Txn, TxnOutcome, WatchEvent};

/// The keys of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    prefix: Vec<u8>,
}

impl Namespace {
    pub(super) fn new(prefix: &str) -> Self {
        let mut prefix = prefix.as_bytes().to_vec();
        if prefix.last().is_some_and(|last| *last != b'/') {
            prefix.push(b'/');
        }
        Self { prefix }
    }

    /// A key of ours as etcd has it.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// All keys that begin so, as a first key and an end. etcd writes "no end" as one zero byte.
    pub(super) fn range(&self, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut begin = self.key(prefix);
        let mut end = begin.clone();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        if begin.is_empty() {
            begin.push(0);
        }
        (begin, end)
    }

    /// A read whose only purpose is the revision; every linearizable call needs an operation.
    pub(super) fn touch(&self) -> TxnOp {
        TxnOp::get(self.key(b"incarnation"), Some(GetOptions::new().with_count_only()))
    }

    pub(super) fn txn(&self, txn: &Txn) -> EtcdTxn {
        let compares: Vec<EtcdCompare> = txn.compares.iter().map(|compare| self.compare(compare)).collect();
        EtcdTxn::new()
            .when(compares)
            .and_then(self.ops(&txn.then))
            .or_else(self.ops(&txn.otherwise))
    }

    fn compare(&self, compare: &Compare) -> EtcdCompare {
        let key = self.key(compare.key());
        match compare {
            Compare::Absent(_) => EtcdCompare::create_revision(key, CompareOp::Equal, 0),
            // To etcd, an absent key has the revision 0.
            Compare::CreateRevision(_, Revision(0)) | Compare::ModRevision(_, Revision(0)) => {
                EtcdCompare::create_revision(key, CompareOp::Less, 0)
            }
            Compare::CreateRevision(_, revision) => {
                EtcdCompare::create_revision(key, CompareOp::Equal, to_etcd(*revision))
            }
            Compare::ModRevision(_, revision) => EtcdCompare::mod_revision(key, CompareOp::Equal, to_etcd(*revision)),
            Compare::Value(_, value) => EtcdCompare::value(key, CompareOp::Equal, value.to_vec()),
        }
    }

    /// etcd answers a list without operations from whatever member is asked, not linearizably: it always gets one.
    fn ops(&self, ops: &[Op]) -> Vec<TxnOp> {
        if ops.is_empty() {
            return vec![self.touch()];
        }
        ops.iter().map(|op| self.op(op)).collect()
    }

    fn op(&self, op: &Op) -> TxnOp {
        let key = self.key(op.key());
        match op {
            Op::Put { value, lease, .. } => {
                let options = PutOptions::new().with_prev_key().with_lease(lease.0);
                TxnOp::put(key, value.to_vec(), Some(options))
            }
            Op::Delete(_) => TxnOp::delete(key, None),
            Op::Get(_) => TxnOp::get(key, None),
        }
    }

    /// The answer to a transaction.
    pub(super) fn outcome(&self, txn: &Txn, answer: &TxnResponse) -> Result<TxnOutcome, MetadataError> {
        let succeeded = answer.succeeded();
        let wanted = if succeeded { &txn.then } else { &txn.otherwise };
        let mut results = answer
            .op_responses()
            .into_iter()
            .map(|response| self.result(response))
            .collect::<Option<Vec<OpResult>>>()
            .ok_or_else(|| nonsense("an answer of another kind"))?;
        if wanted.is_empty() {
            results.clear();
        }
        if results.len() != wanted.len() {
            return Err(nonsense("another number of results than operations"));
        }
        let header = answer.header().ok_or_else(|| nonsense("an answer without a header"))?;
        Ok(TxnOutcome {
            succeeded,
            revision: from_etcd(header.revision()),
            results,
        })
    }

    fn result(&self, response: TxnOpResponse) -> Option<OpResult> {
        match response {
            TxnOpResponse::Put(mut put) => Some(OpResult::Put(put.take_prev_key().and_then(|kv| self.key_value(kv)))),
            TxnOpResponse::Delete(delete) => Some(OpResult::Delete(delete.deleted() > 0)),
            TxnOpResponse::Get(mut get) => {
                let found = get.take_kvs().into_iter().next();
                Some(OpResult::Get(found.and_then(|kv| self.key_value(kv))))
            }
            TxnOpResponse::Txn(_) => None,
        }
    }

    /// A key as we know it; `None` if it is not one of ours.
    pub(super) fn key_value(&self, kv: EtcdKeyValue) -> Option<KeyValue> {
        let (create_revision, mod_revision) = (from_etcd(kv.create_revision()), from_etcd(kv.mod_revision()));
        let (version, lease) = (kv.version().unsigned_abs(), LeaseId(kv.lease()));
        let (key, value) = kv.into_key_value();
        if !key.starts_with(&self.prefix) {
            return None;
        }
        Some(KeyValue {
            key: Bytes::from(key).slice(self.prefix.len()..),
            value: Bytes::from(value),
            create_revision,
            mod_revision,
            version,
            lease,
        })
    }

    /// An event as we know it; `None` if it is not about a key of ours.
    pub(super) fn event(&self, event: &Event) -> Option<WatchEvent> {
        let kv = self.key_value(event.kv()?.clone())?;
        Some(match event.event_type() {
            EventType::Put => WatchEvent::Put(kv),
            EventType::Delete => WatchEvent::Delete {
                key: kv.key,
                revision: kv.mod_revision,
            },
        })
    }
}

/// What came was not an answer to what was asked. Whether that was done is anybody's guess.
fn nonsense(what: &str) -> MetadataError {
    MetadataError::Unknown(format!("etcd: {what}"))
}

/// Revisions of etcd are never negative.
pub(super) const fn from_etcd(revision: i64) -> Revision {
    Revision(revision.unsigned_abs())
}

/// Revisions beyond what etcd can count are in its farthest future.
pub(super) fn to_etcd(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// A TTL as etcd says it; `None` when the lease has run out.
pub(super) fn ttl(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds)
        .ok()
        .filter(|ttl| *ttl > 0)
        .map(Duration::from_secs)
}
