//! A store under test, and short words for what cases do with it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::store::{
    Compare, KeyRange, KeyValue, LeaseId, MetadataStore, Op, Revision, Txn, TxnOutcome, Watch, WatchEvent,
};

/// A store under test, and what must live as long as it.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn MetadataStore>,
    /// The TTL of leases; short where time is real.
    pub(crate) ttl: Duration,
    pub(crate) _keep: Option<Box<dyn Any + Send>>,
}

/// Longer than any store in this suite needs for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl Subject {
    pub(crate) async fn txn(&self, compares: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> TxnOutcome {
        self.store
            .txn(Txn {
                compares,
                then,
                otherwise,
            })
            .await
            .unwrap()
    }

    /// Puts one key and says the revision.
    pub(crate) async fn put(&self, key: &'static str, value: &'static str) -> Revision {
        self.txn(vec![], vec![put(key, value)], vec![]).await.revision
    }

    pub(crate) async fn delete(&self, key: &'static str) -> Revision {
        self.txn(vec![], vec![Op::Delete(bytes(key))], vec![]).await.revision
    }

    pub(crate) async fn get(&self, key: &'static str) -> Option<KeyValue> {
        let snapshot = self.store.snapshot(vec![KeyRange::Key(bytes(key))]).await.unwrap();
        snapshot.ranges.into_iter().next().unwrap().pop()
    }

    /// Whether a compare holds now.
    pub(crate) async fn holds(&self, compare: Compare) -> bool {
        self.txn(vec![compare], vec![], vec![]).await.succeeded
    }

    /// Reads events until there are at least so many.
    pub(crate) async fn events(&self, watch: &mut Box<dyn Watch>, at_least: usize) -> Vec<WatchEvent> {
        let mut all = Vec::new();
        while all.len() < at_least {
            let events = tokio::time::timeout(PATIENCE, watch.next())
                .await
                .expect("events come")
                .unwrap();
            assert!(!events.is_empty(), "a batch is never empty");
            all.extend(events);
        }
        all
    }
}

pub(crate) const fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(crate) const fn put(key: &'static str, value: &'static str) -> Op {
    Op::put(bytes(key), bytes(value))
}

pub(crate) const fn put_leased(key: &'static str, value: &'static str, lease: LeaseId) -> Op {
    Op::Put {
        key: bytes(key),
        value: bytes(value),
        lease,
    }
}

pub(crate) fn describe(event: &WatchEvent) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match event {
        WatchEvent::Put(kv) => format!("{}={}", text(&kv.key), text(&kv.value)),
        WatchEvent::Delete { key, .. } => format!("-{}", text(key)),
    }
}
