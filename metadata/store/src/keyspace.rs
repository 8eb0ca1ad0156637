//! The key space as a pure state machine: what transactions, leases and compaction do to keys and revisions.
//!
//! Owns: live keys, revisions, versions, which key hangs on which lease, the bounded history of events.
//! Does not own: time (when a lease runs out), durability, concurrency. The embedded and the simulated store wrap it.
//!
//! Invariants: a [`Group`] never changes the key space it judges against; only [`Keyspace::apply`] does, and it cannot
//! fail. So what readers see is what was made durable, never what is still being written.

mod group;
mod history;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::store::{KeyRange, KeyValue, LeaseId, MetadataError, Revision, Snapshot, WatchEvent};

pub(crate) use group::check_shape;
pub use group::{Changes, Group, Refusal};
pub use history::{History, HistoryLimits};

/// Bytes that a live key takes besides its key and its value; an estimate for the bound on memory.
const KEY_OVERHEAD_BYTES: usize = 256;

/// How large a key space may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live keys and values, with overhead. Beyond it transactions that put anything are refused; deletes still work.
    pub live_bytes_max: usize,
    /// What is kept for watches that lag.
    pub history: HistoryLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            live_bytes_max: 256 << 20,
            history: HistoryLimits::default(),
        }
    }
}

/// All live keys at one revision, and the events that led here.
#[derive(Debug)]
pub struct Keyspace {
    revision: Revision,
    live: BTreeMap<Bytes, KeyValue>,
    live_bytes: usize,
    leases: BTreeMap<LeaseId, BTreeSet<Bytes>>,
    history: History,
    limits: Limits,
}

impl Keyspace {
    /// An empty key space at revision 1, as etcd begins.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::restore(limits, Revision(1), Vec::new())
    }

    /// The key space as it was stored. Its history is empty: only a watch from the next revision on works.
    #[must_use]
    pub fn restore(limits: Limits, revision: Revision, keys: Vec<KeyValue>) -> Self {
        let mut this = Self {
            revision,
            live: BTreeMap::new(),
            live_bytes: 0,
            leases: BTreeMap::new(),
            history: History::new(limits.history, revision),
            limits,
        };
        for kv in keys {
            this.insert(kv);
        }
        this
    }

    /// The revision of the last change.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What a key holds.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.live.get(key)
    }

    /// All live keys in key order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyValue> {
        self.live.values()
    }

    /// Estimated memory of the live keys.
    #[must_use]
    pub const fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Begins a group of transactions that are judged in order, each against the effects of those before it.
    #[must_use]
    pub fn group(&self) -> Group<'_> {
        Group::new(self)
    }

    /// Takes over what a group decided.
    ///
    /// # Panics
    /// When the changes were not judged against this very state.
    pub fn apply(&mut self, changes: Changes) {
        assert_eq!(
            changes.from, self.revision,
            "changes are applied to the state they were judged against"
        );
        for event in &changes.events {
            match event {
                WatchEvent::Put(kv) => self.insert(kv.clone()),
                WatchEvent::Delete { key, .. } => self.remove(key),
            }
        }
        for lease in changes.ended {
            self.leases.remove(&lease);
        }
        self.revision = changes.revision;
        self.history.push(changes.events);
    }

    /// Reads ranges, all at the current revision.
    #[must_use]
    pub fn snapshot(&self, ranges: &[KeyRange]) -> Snapshot {
        let read = |range: &KeyRange| match range {
            KeyRange::Key(key) => self.get(key).cloned().into_iter().collect(),
            KeyRange::Prefix(prefix) => self.with_prefix(prefix).cloned().collect(),
        };
        Snapshot {
            revision: self.revision,
            ranges: ranges.iter().map(read).collect(),
        }
    }

    /// Adds a lease with no keys.
    pub fn add_lease(&mut self, lease: LeaseId) {
        self.leases.entry(lease).or_default();
    }

    /// Whether a lease exists.
    #[must_use]
    pub fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// Events under a prefix from a revision on, whole revisions, at most about `events_max`, and the revision to ask
    /// for next.
    ///
    /// # Errors
    /// `Compacted` when the history does not reach back that far.
    pub fn events(
        &self,
        prefix: &[u8],
        from: Revision,
        events_max: usize,
    ) -> Result<(Vec<WatchEvent>, Revision), MetadataError> {
        self.history.read(prefix, from, events_max)
    }

    /// Forgets events before `revision`.
    pub fn compact(&mut self, revision: Revision) {
        self.history.compact(revision.min(self.revision));
    }

    /// The oldest revision that can be watched from.
    #[must_use]
    pub fn oldest_revision(&self) -> Revision {
        self.history.oldest()
    }

    fn with_prefix<'a>(&'a self, prefix: &'a Bytes) -> impl Iterator<Item = &'a KeyValue> {
        self.live
            .range::<Bytes, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, kv)| kv)
    }

    fn keys_of(&self, lease: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.leases.get(&lease).into_iter().flatten()
    }

    fn insert(&mut self, kv: KeyValue) {
        self.remove(&kv.key);
        self.live_bytes += footprint(&kv);
        if kv.lease != LeaseId(0) {
            self.leases.entry(kv.lease).or_default().insert(kv.key.clone());
        }
        self.live.insert(kv.key.clone(), kv);
    }

    fn remove(&mut self, key: &Bytes) {
        let Some(old) = self.live.remove(key) else { return };
        self.live_bytes -= footprint(&old);
        if let Some(keys) = self.leases.get_mut(&old.lease) {
            keys.remove(key);
        }
    }
}

fn footprint(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + KEY_OVERHEAD_BYTES
}
