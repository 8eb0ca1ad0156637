//! Bugs planted on purpose, which the simulation must find: it is only worth something if it does.
//!
//! Owns: wrappers that break a promise of a store or of the node, each in one place.
//! Does not own: production code, which has no knobs for this.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_agent::kafka::connection::{Accepted, CloseConnection, ConnectionContext, Frame, Service};
use esker_kafka::messages::produce_response::ProduceResponse;
use esker_kafka::{ApiKey, ErrorCode, Reader, Writer};
use esker_metadata::keys::{head, published, record, root, session};
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Op, Revision, Snapshot, Txn, TxnOutcome, Watch, WatchEvent,
};
use esker_storage::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

use crate::dice::{Dice, Seed};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The node acknowledges batches whose outcome it does not know (LOG-4).
    AcknowledgesUnknown,
    /// The metadata store forgets a commit that it had answered (LOG-3).
    CommitLost,
    /// A commit compares nothing, so that it applies each time it is sent (LOG-2).
    ComparesSkipped,
    /// The bucket says that it has an object, and has not (LOG-3).
    PutDropped,
    /// An object is deleted that is still referred to (GC-1, LOG-3).
    ObjectDeleted,
    /// An unknown outcome is taken for a failure, so that what may have been done is done again (IDM-1).
    UnknownTakenForFailed,
    /// Reads of the metadata store are not linearizable: they show what an earlier one showed (LOG-6).
    ReadsStale,
    /// Nothing is known of a batch's producer, so duplicates are not seen (IDM-1).
    StampsDropped,
    /// Producers have one batch more in flight than the fold remembers: as if its window were of four (IDM-1).
    WindowTooSmall,
    /// Batches are acknowledged with offsets of a fold that is not up to date (LOG-3).
    StaleAnswers,
    /// The garbage collector does not see that sessions live, and takes what they are about to commit (GC-1).
    CollectsLive,
    /// A follower believes every event of a watch, and does not notice that one was lost (LOG-5).
    TrustsWatch,
    /// Truncation removes a record that no checkpoint holds (LOG-3).
    TruncatesTooMuch,
    /// A root is published by whoever wants to, over any other (LOG-3).
    RootUnchecked,
    /// What is merged is not what was read (LOG-1, LOG-3).
    MergedDamaged,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AcknowledgesUnknown,
        Self::CommitLost,
        Self::ComparesSkipped,
        Self::PutDropped,
        Self::ObjectDeleted,
        Self::UnknownTakenForFailed,
        Self::ReadsStale,
        Self::StampsDropped,
        Self::WindowTooSmall,
        Self::StaleAnswers,
        Self::CollectsLive,
        Self::TrustsWatch,
        Self::TruncatesTooMuch,
        Self::RootUnchecked,
        Self::MergedDamaged,
    ];
}

/// The metadata store with the bug, if it is one of that store's.
pub(crate) fn metadata(bug: Option<Bug>, inner: Arc<dyn MetadataStore>, dice: Dice) -> Arc<dyn MetadataStore> {
    match bug {
        Some(
            bug @ (Bug::CommitLost
            | Bug::ComparesSkipped
            | Bug::UnknownTakenForFailed
            | Bug::ReadsStale
            | Bug::CollectsLive
            | Bug::TrustsWatch
            | Bug::TruncatesTooMuch
            | Bug::RootUnchecked),
        ) => Arc::new(BrokenMetadata {
            bug,
            inner,
            dice: Mutex::new(dice),
            shown: Mutex::default(),
        }),
        _ => inner,
    }
}

/// The bucket with the bug, if it is one of the bucket's.
pub(crate) fn objects(bug: Option<Bug>, inner: Arc<dyn ObjectStore>, dice: Dice) -> Arc<dyn ObjectStore> {
    let Some(bug @ (Bug::PutDropped | Bug::ObjectDeleted | Bug::MergedDamaged)) = bug else {
        return inner;
    };
    let dice = Mutex::new(dice);
    Arc::new(BrokenObjects { bug, inner, dice })
}

/// The node's answers with the bug, if it is one of those.
pub(crate) fn service(bug: Option<Bug>, inner: Arc<dyn Service>) -> Arc<dyn Service> {
    match bug {
        Some(bug @ (Bug::AcknowledgesUnknown | Bug::StaleAnswers)) => Arc::new(RashService {
            inner,
            bug,
            answered: Arc::default(),
        }),
        _ => inner,
    }
}

fn happens(dice: &Mutex<Dice>, percent: u32) -> bool {
    dice.lock().unwrap_or_else(PoisonError::into_inner).percent(percent)
}

struct BrokenMetadata {
    bug: Bug,
    inner: Arc<dyn MetadataStore>,
    dice: Mutex<Dice>,
    /// What reads showed last.
    shown: Mutex<Vec<(Vec<KeyRange>, Snapshot)>>,
}

fn family(prefix: &'static str) -> KeyRange {
    KeyRange::Prefix(Bytes::from_static(prefix.as_bytes()))
}

impl BrokenMetadata {
    /// One record more than the transaction says.
    async fn truncate_more(&self, txn: &mut Txn) {
        let removed: Vec<&Bytes> = txn
            .then
            .iter()
            .filter(|op| matches!(op, Op::Delete(key) if key.starts_with(record::PREFIX.as_bytes())))
            .map(Op::key)
            .collect();
        if removed.is_empty() || !happens(&self.dice, 30) {
            return;
        }
        let Ok(found) = self.inner.snapshot(vec![family(record::PREFIX)]).await else {
            return;
        };
        let left = found
            .ranges
            .into_iter()
            .flatten()
            .filter(|kv| !removed.contains(&&kv.key));
        let oldest = left.min_by_key(|kv| kv.mod_revision);
        txn.then.extend(oldest.map(|kv| Op::Delete(kv.key)));
    }

    fn shown(&self, ranges: &[KeyRange]) -> Option<Snapshot> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shown.iter().find(|(of, _)| of == ranges);
        found.map(|(_, snapshot)| snapshot.clone())
    }
}

fn committed(txn: &Txn) -> Option<Bytes> {
    let put = |op: &Op| matches!(op, Op::Put { .. }) && op.key().starts_with(record::PREFIX.as_bytes());
    txn.then.iter().find(|op| put(op)).map(|op| op.key().clone())
}

#[async_trait]
impl MetadataStore for BrokenMetadata {
    async fn txn(&self, mut txn: Txn) -> Result<TxnOutcome, MetadataError> {
        let commit = committed(&txn);
        let puts_root = txn
            .then
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if *key == root::KEY));
        if puts_root && self.bug == Bug::RootUnchecked {
            txn.compares.clear();
        }
        if self.bug == Bug::TruncatesTooMuch {
            self.truncate_more(&mut txn).await;
        }
        if commit.is_some() && self.bug == Bug::ComparesSkipped {
            txn.compares.clear();
        }
        let outcome = self.inner.txn(txn).await.map_err(|error| match error {
            MetadataError::Unknown(why) if self.bug == Bug::UnknownTakenForFailed => MetadataError::Failed(why),
            error => error,
        })?;
        if let Some(key) = commit
            && self.bug == Bug::CommitLost
            && outcome.succeeded
            && happens(&self.dice, 5)
        {
            let forget = Txn {
                then: vec![Op::Delete(key)],
                ..Txn::default()
            };
            drop(self.inner.txn(forget).await);
        }
        Ok(outcome)
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        if self.bug == Bug::CollectsLive {
            let of_collector = ranges.contains(&family(published::PREFIX));
            let sessions = ranges.iter().position(|range| *range == family(session::PREFIX));
            let mut snapshot = self.inner.snapshot(ranges).await?;
            if let Some(sessions) = sessions.filter(|_| of_collector) {
                snapshot.ranges[sessions].clear();
            }
            return Ok(snapshot);
        }
        if self.bug != Bug::ReadsStale {
            return self.inner.snapshot(ranges).await;
        }
        if let Some(stale) = self.shown(&ranges)
            && happens(&self.dice, 70)
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
            return Ok(stale);
        }
        let fresh = self.inner.snapshot(ranges.clone()).await?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|(of, _)| *of != ranges);
        shown.push((ranges, fresh.clone()));
        Ok(fresh)
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        let watch = self.inner.watch(prefix, from).await?;
        if self.bug != Bug::TrustsWatch {
            return Ok(watch);
        }
        let seed = self
            .dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .within(0..u64::MAX);
        Ok(Box::new(TrustingWatch {
            watch,
            dice: Seed(seed).dice("watch"),
            lost: 0,
        }))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        self.inner.revoke_lease(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        self.inner.compact(revision).await
    }
}

/// Loses commits, and makes those that follow look as if there had been none.
struct TrustingWatch {
    watch: Box<dyn Watch>,
    dice: Dice,
    lost: u64,
}

#[async_trait]
impl Watch for TrustingWatch {
    async fn next(&mut self) -> Result<Vec<WatchEvent>, MetadataError> {
        loop {
            let mut events = self.watch.next().await?;
            let of_log = |event: &WatchEvent| event.key().starts_with(b"log/");
            if events.iter().any(of_log) && self.dice.percent(2) {
                self.lost += 1;
                events.retain(|event| !of_log(event));
            }
            for event in &mut events {
                if let WatchEvent::Put(kv) = event
                    && kv.key == head::KEY
                {
                    kv.version = kv.version.saturating_sub(self.lost);
                }
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

struct BrokenObjects {
    bug: Bug,
    inner: Arc<dyn ObjectStore>,
    dice: Mutex<Dice>,
}

#[async_trait]
impl ObjectStore for BrokenObjects {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        if !happens(&self.dice, 5) {
            return self.inner.create(key, chunks).await;
        }
        if self.bug == Bug::MergedDamaged {
            return self.inner.create(key, damaged(key, chunks)).await;
        }
        if self.bug == Bug::ObjectDeleted {
            self.inner.create(key, chunks).await?;
            self.inner.delete(key).await?;
        }
        Ok(())
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.read(key, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

/// A merged object with one bit of its records flipped.
fn damaged(key: &ObjectKey, chunks: Vec<Bytes>) -> Vec<Bytes> {
    const IN_RECORDS: usize = 64 + 61 + 4;
    if !key.as_str().contains("/merged/") {
        return chunks;
    }
    let mut bytes = chunks.concat();
    if let Some(byte) = bytes.get_mut(IN_RECORDS) {
        *byte ^= 1;
    }
    vec![bytes.into()]
}

/// Turns "timed out" into "stored", or gives offsets that were right a moment ago.
struct RashService {
    inner: Arc<dyn Service>,
    bug: Bug,
    /// The offset that was answered last, by partition.
    answered: Arc<Mutex<BTreeMap<i32, i64>>>,
}

#[async_trait]
impl Service for RashService {
    async fn accept(&self, connection: &ConnectionContext, frame: Frame) -> Result<Accepted, CloseConnection> {
        let part = |at: usize| {
            frame
                .bytes
                .get(at..at + 2)
                .map_or(0, |two| i16::from_be_bytes([two[0], two[1]]))
        };
        let (key, version) = (part(0), part(2));
        let accepted = self.inner.accept(connection, frame).await?;
        if key != ApiKey::Produce.code() {
            return Ok(accepted);
        }
        let (bug, answered) = (self.bug, Arc::clone(&self.answered));
        let reply = async move {
            let answer = accepted.reply.await?;
            let change = |response: &mut ProduceResponse| match bug {
                Bug::StaleAnswers => stale(response, &answered),
                _ => acknowledge(response),
            };
            Ok(answer.map(|chunks| changed(&chunks.concat().into(), version, change).unwrap_or(chunks)))
        };
        Ok(Accepted {
            reply: Box::pin(reply),
            pipelined: accepted.pipelined,
        })
    }
}

/// The same answer, changed. Length, correlation id and no tags stand before the body.
fn changed(frame: &Bytes, version: i16, change: impl FnOnce(&mut ProduceResponse)) -> Option<Vec<Bytes>> {
    const HEADER_BYTES: usize = 9;
    let mut reader = Reader::new(frame.slice(HEADER_BYTES..));
    let mut response = ProduceResponse::decode(&mut reader, version).ok()?;
    change(&mut response);
    let mut writer = Writer::framed();
    writer.raw(&frame[4..HEADER_BYTES]);
    response.encode(&mut writer, version).ok()?;
    writer.finish().ok()
}

/// Every time-out is taken for a success.
fn acknowledge(response: &mut ProduceResponse) {
    for answer in response
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
    {
        if answer.error_code == ErrorCode::RequestTimedOut.code() {
            answer.error_code = 0;
            answer.base_offset = 0;
            answer.error_message = None;
        }
    }
}

/// Every success is answered with the offset of the one before.
fn stale(response: &mut ProduceResponse, answered: &Mutex<BTreeMap<i32, i64>>) {
    let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
    for answer in response
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
        .filter(|answer| answer.error_code == 0)
    {
        let before = answered.insert(answer.index, answer.base_offset);
        answer.base_offset = before.unwrap_or(answer.base_offset);
    }
}
