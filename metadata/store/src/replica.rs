//! The replica: this process's fold of the log, kept up to date by the follower.
//!
//! Owns: the fold behind its lock, the verdicts of this process's own commits until they are asked for, the records of
//! topics (configs), configs of brokers, the order of commits for segment headers.
//! Does not own: following (`log`), decisions (services).
//!
//! Invariants: LOG-5 (only entries of the log change the fold), LOG-4 (a verdict is handed out only after it was applied
//! here). Waiters are told after the lock is released, so they may look at the fold at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use esker_model::fold::Unsupported;
use esker_model::{CommitPosition, EntryVerdict, Fold};
use esker_segment::id::{CommitNumber, SessionId, TopicPartition};
use esker_segment::segment::{Ordered, SegmentSpan};
use futures::FutureExt as _;
use metrics::gauge;
use tokio::sync::{oneshot, watch};

use crate::keys::config::Configs;
use crate::keys::root::Root;
use crate::keys::session::SessionInfo;
use crate::keys::topic::Topic;
use crate::store::Revision;

mod sink;

pub use sink::ReplicaSink;

/// Commits remembered for the order list of the next segment.
const ORDER_MAX: usize = 4_096;
/// Verdicts kept for commits that nobody asked about yet.
const UNCLAIMED_MAX: usize = 4_096;

/// Told of changes, after the fold has them.
pub trait Observer: Send + Sync + 'static {
    /// High watermark or last stable offset of these partitions rose.
    fn on_advanced(&self, partitions: &[TopicPartition]);

    /// The record of a topic was put or deleted.
    fn on_topic(&self, name: &str, topic: Option<&Topic>);

    /// The configs of a broker, or by the empty name of all, were set or deleted.
    fn on_broker_configs(&self, _name: &str, _configs: Option<&Configs>) {}

    /// A session began, changed, or ended for good.
    fn on_session(&self, session: SessionId, info: Option<&SessionInfo>);

    /// A coordinator shard changed hands.
    fn on_owner(&self, shard: u16, owner: Option<(SessionId, Revision)>);
}

/// The fold of this process.
pub struct Replica {
    fold: RwLock<Fold>,
    own: Mutex<Own>,
    order: Mutex<Vec<Ordered>>,
    topics: RwLock<BTreeMap<String, Topic>>,
    broker_configs: RwLock<BTreeMap<String, Configs>>,
    root: watch::Sender<Option<Root>>,
    observer: OnceLock<Arc<dyn Observer>>,
}

#[derive(Default)]
struct Own {
    session: Option<SessionId>,
    verdicts: BTreeMap<(SessionId, CommitNumber), Claim>,
}

enum Claim {
    Ready(Vec<EntryVerdict>),
    Waiting(oneshot::Sender<Vec<EntryVerdict>>),
}

impl Default for Replica {
    fn default() -> Self {
        Self::new()
    }
}

impl Replica {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            fold: RwLock::new(Fold::new()),
            own: Mutex::default(),
            order: Mutex::default(),
            topics: RwLock::default(),
            broker_configs: RwLock::default(),
            root: watch::Sender::new(None),
            observer: OnceLock::new(),
        }
    }

    /// Sets who is told of changes; once, before following begins.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        drop(self.observer.set(observer));
    }

    /// The fold, to look something up. Hold it briefly: the log stands still meanwhile.
    pub fn fold(&self) -> RwLockReadGuard<'_, Fold> {
        self.fold.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last checkpoint that the follower has seen.
    #[must_use]
    pub fn root(&self) -> watch::Receiver<Option<Root>> {
        self.root.subscribe()
    }

    /// The record of a topic.
    #[must_use]
    pub fn topic_record(&self, name: &str) -> Option<Topic> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// All topic records, by name.
    #[must_use]
    pub fn topic_records(&self) -> Vec<(String, Topic)> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics
            .iter()
            .map(|(name, topic)| (name.clone(), topic.clone()))
            .collect()
    }

    /// The configs of a broker by its node id, or by the empty name those of all brokers, that were set while they run.
    #[must_use]
    pub fn broker_configs(&self, name: &str) -> Configs {
        let all = self.broker_configs.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().unwrap_or_default()
    }

    /// Verdicts of this session's commits are kept from now on until they are asked for; those of others are not.
    pub fn expect_session(&self, session: SessionId) {
        let mut own = self.lock_own();
        own.session = Some(session);
        own.verdicts.clear();
    }

    /// The verdicts of an own commit, once this fold has applied it. `None` when it was skipped by loading a checkpoint:
    /// then they cannot be known.
    pub async fn own_verdicts(&self, session: SessionId, number: CommitNumber) -> Option<Vec<EntryVerdict>> {
        let waiting = {
            let mut own = self.lock_own();
            if let Some(Claim::Ready(verdicts)) = own.verdicts.remove(&(session, number)) {
                return Some(verdicts);
            }
            let (tell, waiting) = oneshot::channel();
            own.verdicts.insert((session, number), Claim::Waiting(tell));
            waiting
        };
        waiting.await.ok()
    }

    /// The same for a commit that may have been skipped before anybody asked: `folded` ends once this replica has folded, or
    /// skipped, everything up to the commit (`LogHandle::folded`). What is not known then never will be.
    pub async fn own_verdicts_once(
        &self,
        session: SessionId,
        number: CommitNumber,
        folded: impl Future<Output = ()>,
    ) -> Option<Vec<EntryVerdict>> {
        let mut verdicts = std::pin::pin!(self.own_verdicts(session, number));
        tokio::select! {
            biased;
            verdicts = &mut verdicts => return verdicts,
            () = folded => {}
        }
        // They may have come between the two.
        let found = verdicts.now_or_never().flatten();
        if found.is_none() {
            self.lock_own().verdicts.remove(&(session, number));
        }
        found
    }

    /// Commits folded since the last call, for the header of the next segment.
    #[must_use]
    pub fn take_order(&self) -> Vec<Ordered> {
        std::mem::take(&mut *self.order.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies the next commit of the log.
    ///
    /// # Errors
    /// An entry needs rules that this software does not have: the process must stop.
    pub fn apply(&self, at: CommitPosition, record: &[u8]) -> Result<(), Unsupported> {
        let mut fold = self.fold.write().unwrap_or_else(PoisonError::into_inner);
        let applied = fold.apply_bytes(at, record)?;
        let unmerged = fold.unmerged_stats();
        drop(fold);
        gauge!("esker_fold_index").set(as_gauge(at.index.0));
        gauge!("esker_unmerged_entries").set(as_gauge(unmerged.batches));
        gauge!("esker_unmerged_bytes").set(as_gauge(unmerged.live_bytes));
        self.remember_order(at, applied.segments);
        self.hand_out(at, applied.verdicts);
        if let Some(observer) = self.observer.get()
            && !applied.advanced.is_empty()
        {
            observer.on_advanced(&applied.advanced);
        }
        Ok(())
    }

    /// Replaces the fold by one from a checkpoint that is ahead of it. Whoever waits for a commit in between learns that its
    /// verdicts cannot be known.
    pub fn replace(&self, fold: Fold, root: Root) {
        let advanced: Vec<TopicPartition> = all_partitions(&fold);
        *self.fold.write().unwrap_or_else(PoisonError::into_inner) = fold;
        self.lock_own()
            .verdicts
            .retain(|_, claim| matches!(claim, Claim::Ready(_)));
        self.root.send_replace(Some(root));
        if let Some(observer) = self.observer.get() {
            observer.on_advanced(&advanced);
        }
    }

    /// The root has changed: what it says is merged leaves the unmerged index.
    pub fn on_root(&self, root: Root) {
        let merged = root.merged_through;
        // Readers must find the manifest before the unmerged batches go.
        self.root.send_replace(Some(root));
        let mut fold = self.fold.write().unwrap_or_else(PoisonError::into_inner);
        fold.forget_merged(merged);
        let unmerged = fold.unmerged_stats();
        drop(fold);
        gauge!("esker_unmerged_entries").set(as_gauge(unmerged.batches));
        gauge!("esker_unmerged_bytes").set(as_gauge(unmerged.live_bytes));
    }

    /// A topic record was put or deleted.
    pub fn on_topic(&self, name: &str, topic: Option<Topic>) {
        self.tell(|observer| observer.on_topic(name, topic.as_ref()));
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        match topic {
            Some(topic) => drop(topics.insert(name.to_owned(), topic)),
            None => drop(topics.remove(name)),
        }
    }

    /// The configs of a broker, or of all, were set or deleted.
    pub fn on_broker_configs(&self, name: &str, configs: Option<Configs>) {
        self.tell(|observer| observer.on_broker_configs(name, configs.as_ref()));
        let mut all = self.broker_configs.write().unwrap_or_else(PoisonError::into_inner);
        match configs {
            Some(configs) => drop(all.insert(name.to_owned(), configs)),
            None => drop(all.remove(name)),
        }
    }

    fn tell(&self, what: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = self.observer.get() {
            what(&**observer);
        }
    }

    fn lock_own(&self) -> std::sync::MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_order(&self, at: CommitPosition, segments: SegmentSpan) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.len() < ORDER_MAX {
            order.push(Ordered {
                index: at.index,
                session: at.session,
                commit: at.number,
                segments,
            });
        }
    }

    fn hand_out(&self, at: CommitPosition, verdicts: Vec<EntryVerdict>) {
        let mut own = self.lock_own();
        if own.session != Some(at.session) {
            return;
        }
        let key = (at.session, at.number);
        if let Some(Claim::Waiting(waiting)) = own.verdicts.remove(&key) {
            drop(waiting.send(verdicts));
        } else if own.verdicts.len() < UNCLAIMED_MAX {
            own.verdicts.insert(key, Claim::Ready(verdicts));
        }
    }
}

fn all_partitions(fold: &Fold) -> Vec<TopicPartition> {
    let of_topic = |id| {
        fold.partitions_of(id)
            .map(move |(partition, _)| TopicPartition { topic: id, partition })
    };
    fold.topics().flat_map(|topic| of_topic(topic.id)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn as_gauge(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
