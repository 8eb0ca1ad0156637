//! Stand-ins for the seams, for tests: offsets in memory, two topics, stores that can be held back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use esker_kafka::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use esker_kafka::{Str, Writer};
use esker_model::entry::{OffsetAction, OffsetChange, OffsetCommit};
use esker_segment::id::{LogIndex, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::coordinator::{Coordinator, Parts};
use super::error::GroupError;
use super::group::StoredGroup;
use super::ids::GroupId;
use super::seams::{
    GroupOffset, GroupStore, MayBeBehind, OffsetLog, OffsetLogError, Ownership, Standing, Topic, TopicNames,
};
use super::settings::GroupSettings;

/// The topic "orders" with four partitions.
pub(super) const ORDERS: TopicId = TopicId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
/// The topic "late" with one partition, of which this agent hears only at the read barrier.
pub(super) const LATE: TopicId = TopicId(7);
/// What the wall clock says.
pub(super) const WALL_CLOCK: Timestamp = Timestamp(1_700_000_000_000);

/// What a consumer of these topics says of itself.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|name| Str::from(*name)).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let mut writer = Writer::new();
    writer.i16(1);
    subscription.encode(&mut writer, 1).unwrap();
    writer.into_bytes().unwrap()
}

pub(super) fn at(topic: TopicId, partition: u32) -> TopicPartition {
    TopicPartition {
        topic,
        partition: PartitionIndex(partition),
    }
}

/// Offsets of groups in memory. Commits take effect at the call, as they would in the order of the log.
#[derive(Default)]
pub(super) struct FakeLog {
    offsets: Mutex<BTreeMap<GroupId, BTreeMap<TopicPartition, GroupOffset>>>,
    /// The log index of each offset, and the last one.
    committed_at: Mutex<BTreeMap<(GroupId, TopicPartition), LogIndex>>,
    pub(super) position: AtomicU64,
    /// What commits answer, if not success.
    pub(super) commit_error: Mutex<Option<OffsetLogError>>,
    /// What fetches answer, if not success.
    pub(super) fetch_error: Mutex<Option<OffsetLogError>>,
    /// What happens while all offsets of a group are read, once.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl FakeLog {
    pub(super) fn stage(&self, group: &str, at: TopicPartition) {
        let mut offsets = self.offsets.lock().unwrap();
        offsets
            .entry(GroupId::from(group))
            .or_default()
            .entry(at)
            .or_default()
            .staged = true;
    }

    pub(super) fn put(&self, group: &str, at: TopicPartition, offset: i64) {
        let commit = OffsetCommit {
            offset: Offset(offset),
            leader_epoch: None,
            metadata: "".into(),
            timestamp: WALL_CLOCK,
        };
        let mut offsets = self.offsets.lock().unwrap();
        offsets
            .entry(GroupId::from(group))
            .or_default()
            .entry(at)
            .or_default()
            .committed = Some(commit);
    }

    pub(super) fn committed(&self, group: &str, at: TopicPartition) -> Option<OffsetCommit> {
        self.offsets.lock().unwrap().get(group)?.get(&at)?.committed.clone()
    }

    fn apply(&self, group: &GroupId, changes: Vec<OffsetChange>) {
        let mut offsets = self.offsets.lock().unwrap();
        let of_group = offsets.entry(group.clone()).or_default();
        let index = LogIndex(self.position.fetch_add(1, Ordering::SeqCst) + 1);
        for change in changes {
            let at = TopicPartition {
                topic: change.topic,
                partition: change.partition,
            };
            self.committed_at.lock().unwrap().insert((group.clone(), at), index);
            match change.action {
                OffsetAction::Commit(commit) => of_group.entry(at).or_default().committed = Some(commit),
                OffsetAction::Delete | OffsetAction::Expire { .. } => {
                    of_group.remove(&at);
                }
            }
        }
        if of_group.is_empty() {
            offsets.remove(group);
        }
    }
}

#[async_trait]
impl OffsetLog for FakeLog {
    fn commit(&self, group: &GroupId, changes: Vec<OffsetChange>) -> BoxFuture<'static, Result<(), OffsetLogError>> {
        let error = *self.commit_error.lock().unwrap();
        if error.is_none() {
            self.apply(group, changes);
        }
        std::future::ready(error.map_or(Ok(()), Err)).boxed()
    }

    async fn fetch(&self, group: &GroupId, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, OffsetLogError> {
        let all: BTreeMap<_, _> = self.fetch_all(group).await?.into_iter().collect();
        Ok(partitions
            .iter()
            .map(|at| all.get(at).cloned().unwrap_or_default())
            .collect())
    }

    async fn fetch_all(&self, group: &GroupId) -> Result<Vec<(TopicPartition, GroupOffset)>, OffsetLogError> {
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        if let Some(error) = *self.fetch_error.lock().unwrap() {
            return Err(error);
        }
        let offsets = self.offsets.lock().unwrap();
        Ok(offsets
            .get(group)
            .into_iter()
            .flatten()
            .map(|(at, offset)| (*at, offset.clone()))
            .collect())
    }

    fn groups(&self) -> Vec<GroupId> {
        self.offsets.lock().unwrap().keys().cloned().collect()
    }

    fn has_group(&self, group: &GroupId) -> bool {
        self.offsets.lock().unwrap().contains_key(group)
    }

    fn position(&self) -> Option<LogIndex> {
        Some(LogIndex(self.position.load(Ordering::SeqCst)))
    }

    fn idle(&self, below: LogIndex) -> Vec<(GroupId, Vec<TopicPartition>)> {
        let committed_at = self.committed_at.lock().unwrap();
        let offsets = self.offsets.lock().unwrap();
        let idle_in = |group: &GroupId, of: &BTreeMap<TopicPartition, GroupOffset>| {
            let old = |at: &TopicPartition| {
                committed_at
                    .get(&(group.clone(), *at))
                    .is_some_and(|index| *index < below)
            };
            of.iter()
                .filter(|(at, offset)| old(at) && !offset.staged)
                .map(|(at, _)| *at)
                .collect::<Vec<_>>()
        };
        let groups = offsets.iter().map(|(group, of)| (group.clone(), idle_in(group, of)));
        groups.filter(|(_, idle)| !idle.is_empty()).collect()
    }
}

/// Two topics, one of which is news.
#[derive(Default)]
pub(super) struct FakeTopics {
    seen: Mutex<BTreeSet<TopicId>>,
    /// The barrier is out of reach.
    pub(super) cut_off: Mutex<bool>,
}

impl FakeTopics {
    fn known(&self) -> Vec<Topic> {
        let mut topics = vec![Topic {
            id: ORDERS,
            name: Arc::from("orders"),
            partitions: 4,
        }];
        if self.seen.lock().unwrap().contains(&LATE) {
            topics.push(Topic {
                id: LATE,
                name: Arc::from("late"),
                partitions: 1,
            });
        }
        topics
    }
}

#[async_trait]
impl TopicNames for FakeTopics {
    fn by_name(&self, name: &str) -> Option<Topic> {
        self.known().into_iter().find(|topic| &*topic.name == name)
    }

    fn by_id(&self, id: TopicId) -> Option<Topic> {
        self.known().into_iter().find(|topic| topic.id == id)
    }

    async fn catch_up(&self) -> Result<(), MayBeBehind> {
        if *self.cut_off.lock().unwrap() {
            return Err(MayBeBehind);
        }
        self.seen.lock().unwrap().insert(LATE);
        Ok(())
    }
}

/// Stores that wait for permits, and may fail.
pub(super) struct FakeStore {
    pub(super) permits: Arc<Semaphore>,
    pub(super) fails: Mutex<bool>,
    pub(super) stored: Mutex<Vec<StoredGroup>>,
    pub(super) removed: Mutex<Vec<GroupId>>,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(1 << 20)),
            fails: Mutex::new(false),
            stored: Mutex::default(),
            removed: Mutex::default(),
        }
    }
}

impl GroupStore for FakeStore {
    fn store(&self, _group: &GroupId, generation: StoredGroup) -> BoxFuture<'static, Result<(), GroupError>> {
        self.stored.lock().unwrap().push(generation);
        let (permits, fails) = (Arc::clone(&self.permits), *self.fails.lock().unwrap());
        async move {
            permits.acquire_owned().await.unwrap().forget();
            if fails { Err(GroupError::Unavailable) } else { Ok(()) }
        }
        .boxed()
    }

    fn remove(&self, group: &GroupId) -> BoxFuture<'static, Result<(), GroupError>> {
        self.removed.lock().unwrap().push(group.clone());
        let (permits, fails) = (Arc::clone(&self.permits), *self.fails.lock().unwrap());
        async move {
            permits.acquire_owned().await.unwrap().forget();
            if fails { Err(GroupError::Unavailable) } else { Ok(()) }
        }
        .boxed()
    }
}

/// All groups are this agent's, or none is.
pub(super) struct FakeOwnership {
    pub(super) standing: Mutex<Standing>,
    pub(super) held_since: Mutex<Option<Instant>>,
}

impl Default for FakeOwnership {
    fn default() -> Self {
        Self {
            standing: Mutex::new(Standing::Coordinator),
            held_since: Mutex::new(Some(Instant::now())),
        }
    }
}

impl Ownership for FakeOwnership {
    fn standing(&self, _group: &GroupId) -> Standing {
        *self.standing.lock().unwrap()
    }

    fn held_since(&self, _group: &GroupId) -> Option<Instant> {
        *self.held_since.lock().unwrap()
    }

    fn is_loading(&self) -> bool {
        *self.standing.lock().unwrap() == Standing::Loading
    }
}

/// A coordinator with its stand-ins, running.
pub(super) struct Bench {
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) log: Arc<FakeLog>,
    pub(super) topics: Arc<FakeTopics>,
    pub(super) store: Arc<FakeStore>,
    /// Which groups are its own: all of them.
    pub(super) ownership: Arc<FakeOwnership>,
    _stop: DropGuard,
}

impl Bench {
    pub(super) fn new(settings: GroupSettings) -> Self {
        let (log, topics) = (Arc::new(FakeLog::default()), Arc::new(FakeTopics::default()));
        let store = Arc::new(FakeStore::default());
        let drawn = AtomicU64::new(0);
        let ownership = Arc::new(FakeOwnership::default());
        let parts = Parts {
            offsets: log.clone(),
            topics: topics.clone(),
            store: store.clone(),
            wall_clock: Arc::new(|| WALL_CLOCK),
            random: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::Relaxed))),
            ownership: ownership.clone(),
        };
        let coordinator = Coordinator::new(settings, parts);
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&coordinator).run(stop.clone()));
        Self {
            coordinator,
            log,
            topics,
            store,
            ownership,
            _stop: stop.drop_guard(),
        }
    }
}
