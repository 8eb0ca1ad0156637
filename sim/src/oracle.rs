//! The fold that never restarts: it reads every commit from the store itself, without faults and before truncation.
//!
//! Owns: what the log really says; the checks against it: log indexes are dense, no commit applies twice, every root has the
//! digest of its index, nothing is acknowledged that is not in the log.
//!
//! Invariants: LOG-2, LOG-4, LOG-5.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use esker_metadata::keys::head::Head;
use esker_metadata::keys::root::{self, Root};
use esker_metadata::keys::{head, record};
use esker_metadata::simulated::SimulatedStore;
use esker_metadata::store::{KeyRange, KeyValue, Revision};
use esker_model::{CommitPosition, Digest, Fold};
use esker_segment::id::{LogIndex, PartitionIndex, TopicPartition};

use crate::history::History;

/// The oracle of a run.
pub(crate) struct Oracle {
    store: SimulatedStore,
    history: Arc<History>,
    state: Mutex<State>,
}

struct State {
    fold: Fold,
    seen: Revision,
    root_seen: Revision,
    digests: BTreeMap<LogIndex, Digest>,
    root: Option<Root>,
    broken: bool,
}

impl Oracle {
    pub(crate) fn new(store: SimulatedStore, history: Arc<History>) -> Self {
        let state = State {
            fold: Fold::new(),
            seen: Revision(0),
            root_seen: Revision(0),
            digests: BTreeMap::new(),
            root: None,
            broken: false,
        };
        Self {
            store,
            history,
            state: Mutex::new(state),
        }
    }

    /// Applies what was committed since the last call.
    pub(crate) fn catch_up(&self) {
        let prefix = KeyRange::Prefix(Bytes::from_static(record::PREFIX.as_bytes()));
        let ranges = [prefix, KeyRange::Key(head::KEY), KeyRange::Key(root::KEY)];
        let snapshot = self.store.peek(&ranges);
        let mut ranges = snapshot.ranges.into_iter();
        let mut next = || ranges.next().unwrap_or_default();
        let (records, head, root) = (next(), next().pop(), next().pop());
        let mut state = self.lock();
        if state.broken {
            return;
        }
        if let Err(why) = state.take(records, head, root) {
            state.broken = true;
            drop(state);
            self.history.violate(why);
        }
    }

    /// How far a partition really goes.
    pub(crate) fn high_watermark(&self, partition: i32) -> i64 {
        self.catch_up();
        let state = self.lock();
        let at = state
            .fold
            .topic_named(crate::scenario::TOPIC)
            .map(|topic| TopicPartition {
                topic: topic.id,
                partition: PartitionIndex(u32::try_from(partition).unwrap_or(u32::MAX)),
            });
        let view = at.and_then(|at| state.fold.partition(at));
        view.map_or(0, |view| view.high_watermark.0)
    }

    /// What is different in another fold that is at the same index; `None` when nothing is.
    pub(crate) fn difference(&self, other: &Fold) -> Option<String> {
        self.catch_up();
        let mut state = self.lock();
        let merged = state.root.as_ref().map_or(LogIndex(0), |root| root.merged_through);
        state.fold.forget_merged(merged);
        let fold = &state.fold;
        if other.index() != fold.index() {
            return Some(format!("it is at {} and not at {}", other.index(), fold.index()));
        }
        if other.digest() != fold.digest() {
            return Some(format!("digest {:?}, not {:?}", other.digest(), fold.digest()));
        }
        // The other one may not have heard of the newest root, and still know what was merged.
        let unmerged = |fold: &Fold| fold.export_unmerged(merged, fold.index());
        (unmerged(other) != unmerged(fold)).then(|| "unmerged batches differ".to_owned())
    }

    /// How many commits there were, at which index the last checkpoint is, and up to which one everything is merged.
    pub(crate) fn extent(&self) -> (u64, u64, u64) {
        let state = self.lock();
        let root = state.root.as_ref();
        (
            state.fold.index().0,
            root.map_or(0, |root| root.index.0),
            root.map_or(0, |root| root.merged_through.0),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(
        &mut self,
        mut records: Vec<KeyValue>,
        head: Option<KeyValue>,
        root: Option<KeyValue>,
    ) -> Result<(), String> {
        records.retain(|kv| kv.mod_revision > self.seen);
        records.sort_by_key(|kv| kv.mod_revision);
        for kv in records {
            if kv.mod_revision != kv.create_revision {
                return Err(format!("LOG-2: {:?} was committed twice", kv.key));
            }
            let (session, number) = record::parse_key(&kv.key).ok_or("a record has an impossible key")?;
            let at = CommitPosition {
                index: LogIndex(self.fold.index().0 + 1),
                session,
                number,
            };
            let applied = self.fold.apply_bytes(at, &kv.value);
            applied.map_err(|unsupported| format!("a record needs level {}", unsupported.needed))?;
            self.seen = kv.mod_revision;
            self.digests.insert(at.index, self.fold.digest());
        }
        let index = head.as_ref().map_or(Ok(LogIndex(0)), Head::index);
        let index = index.map_err(|error| format!("the head cannot be read: {error}"))?;
        if index != self.fold.index() {
            let known = self.fold.index();
            return Err(format!("LOG-2: the head says {index}, but there are {known} commits"));
        }
        root.map_or(Ok(()), |kv| self.check_root(&kv))
    }

    fn check_root(&mut self, kv: &KeyValue) -> Result<(), String> {
        if kv.mod_revision == self.root_seen {
            return Ok(());
        }
        self.root_seen = kv.mod_revision;
        let root = Root::decode(&kv.value).map_err(|error| format!("the root cannot be read: {error}"))?;
        let digest = self.digests.get(&root.index).map(|digest| u128::from(digest.0));
        if digest != Some(root.digest) {
            return Err(format!(
                "LOG-5: the checkpoint at {} is not the fold of its index",
                root.index
            ));
        }
        self.root = Some(root);
        Ok(())
    }
}
