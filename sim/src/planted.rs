//! Bugs planted on purpose, which the simulation must find: it is only worth something if it does.
//!
//! Owns: wrappers that break a promise of a store or of the node, each in one place.
//! Does not own: production code, which has no knobs for this.

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
use esker_metadata::keys::record;
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Op, Revision, Snapshot, Txn, TxnOutcome, Watch,
};
use esker_storage::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

use crate::dice::Dice;

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
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AcknowledgesUnknown,
        Self::CommitLost,
        Self::ComparesSkipped,
        Self::PutDropped,
        Self::ObjectDeleted,
        Self::UnknownTakenForFailed,
        Self::ReadsStale,
        Self::StampsDropped,
    ];
}

/// The metadata store with the bug, if it is one of that store's.
pub(crate) fn metadata(bug: Option<Bug>, inner: Arc<dyn MetadataStore>, dice: Dice) -> Arc<dyn MetadataStore> {
    match bug {
        Some(bug @ (Bug::CommitLost | Bug::ComparesSkipped | Bug::UnknownTakenForFailed | Bug::ReadsStale)) => {
            Arc::new(BrokenMetadata {
                bug,
                inner,
                dice: Mutex::new(dice),
                shown: Mutex::default(),
            })
        }
        _ => inner,
    }
}

/// The bucket with the bug, if it is one of the bucket's.
pub(crate) fn objects(bug: Option<Bug>, inner: Arc<dyn ObjectStore>, dice: Dice) -> Arc<dyn ObjectStore> {
    let Some(bug @ (Bug::PutDropped | Bug::ObjectDeleted)) = bug else {
        return inner;
    };
    let dice = Mutex::new(dice);
    Arc::new(BrokenObjects { bug, inner, dice })
}

/// The node's answers with the bug, if it is one of those.
pub(crate) fn service(bug: Option<Bug>, inner: Arc<dyn Service>) -> Arc<dyn Service> {
    if bug == Some(Bug::AcknowledgesUnknown) {
        Arc::new(RashService { inner })
    } else {
        inner
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

impl BrokenMetadata {
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
        self.inner.watch(prefix, from).await
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

/// Turns "timed out" into "stored".
struct RashService {
    inner: Arc<dyn Service>,
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
        let reply = async move {
            let answer = accepted.reply.await?;
            Ok(answer.map(|chunks| acknowledged(&chunks.concat().into(), version).unwrap_or(chunks)))
        };
        Ok(Accepted {
            reply: Box::pin(reply),
            pipelined: accepted.pipelined,
        })
    }
}

/// The same answer with every time-out taken for a success. Length, correlation id and no tags stand before the body.
fn acknowledged(frame: &Bytes, version: i16) -> Option<Vec<Bytes>> {
    const HEADER_BYTES: usize = 9;
    let mut reader = Reader::new(frame.slice(HEADER_BYTES..));
    let mut response = ProduceResponse::decode(&mut reader, version).ok()?;
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
    let mut writer = Writer::framed();
    writer.raw(&frame[4..HEADER_BYTES]);
    response.encode(&mut writer, version).ok()?;
    writer.finish().ok()
}
