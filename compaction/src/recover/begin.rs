//! The first moments of a new life: its checkpoint in the bucket, its keys in the coordination store.
//!
//! Owns: the order of writes: the bucket first; then the old life is closed, which stops all its processes; then everything that
//! the new one is to find; its incarnation and root last.
//! Does not own: what is recovered.
//!
//! Invariants: killed anywhere, it can be begun again. Between closing and opening the incarnation key has an id that the bucket
//! knows from nowhere, so no process starts: it would find topics without their configs.

use std::cmp::Ordering;

use bytes::Bytes;
use esker_metadata::checkpoint::{AdminKeys, with_admin_keys};
use esker_metadata::keys::incarnation::{self, Incarnation};
use esker_metadata::keys::root::{self, IndexRef, ObjectRef, Root};
use esker_metadata::keys::{commit, head, leader, owner, published, record, session, void};
use esker_metadata::store::{Compare, KeyRange, KeyValue, MetadataStore, Op, OpResult, Revision, Txn, TxnOutcome};
use esker_model::CommitPosition;
use esker_model::entry::{CommitRecord, Entry};
use esker_segment::checkpoint::{IndexObject, IndexedSegment};
use esker_segment::container::Written;
use esker_segment::id::{CommitNumber, IncarnationId, IncarnationNumber, LogIndex, SegmentNumber, SessionId};
use esker_segment::journal;
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use esker_storage::named::NamedObjects;
use esker_storage::store::ObjectKey;

use super::admin::{self, Admin};
use super::{RecoverError, Recovered};

/// Batches of one index object.
const INDEX_BATCHES_MAX: usize = 65_536;
/// Keys that one transaction deletes or puts.
pub(super) const KEYS_MAX: usize = 100;

/// Times that a transaction is sent whose repetition does no harm.
const SENDS_MAX: u32 = 5;

/// The coordination store before the bucket was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    incarnation: Option<Incarnation>,
    root: Option<Root>,
    unmoved: Vec<Compare>,
    revision: Revision,
}

impl Before {
    /// The incarnation number of a store whose administration is at least as new as what the checkpoint says; none of one that is
    /// empty, an old copy or another store. Revisions can be compared within one life only: a store whose keys were all deleted
    /// counts on, and a new one begins at 1.
    fn believed(&self, recovered: &Recovered, base: LogIndex) -> Option<IncarnationNumber> {
        let (held, said) = (self.incarnation?.number, recovered.admin.as_ref()?);
        // A life that began where this recovery is to begin, and in which nobody has written anything.
        let begun = || self.root.as_ref().is_some_and(|root| is_beginning(root, base));
        let believed = match held.cmp(&recovered.incarnation) {
            Ordering::Less => false,
            Ordering::Equal => self.revision >= said.revision,
            Ordering::Greater => begun(),
        };
        believed.then_some(held)
    }
}

/// Whether a root is the first of a life that recovery began at this index.
fn is_beginning(root: &Root, base: LogIndex) -> bool {
    let by_recovery = matches!(&root.state.name, ObjectName::Other { name, .. } if name.session == SessionId(0));
    by_recovery && root.index == base
}

/// Looks at the coordination store; to be done before [`super::gather`]. If anybody commits or publishes after this, what was
/// gathered may lack something that was acknowledged, and [`begin`] refuses.
///
/// # Errors
/// The coordination store's.
pub async fn look(store: &dyn MetadataStore) -> Result<Before, RecoverError> {
    let keys = [incarnation::KEY, root::KEY, head::KEY];
    let snapshot = store.snapshot(keys.clone().map(KeyRange::Key).into()).await?;
    let revision = snapshot.revision;
    let found = snapshot.ranges.into_iter().map(|range| range.into_iter().next());
    let mut found: Vec<Option<KeyValue>> = found.collect();
    let unmoved = keys.into_iter().zip(&found).map(|(key, found)| match found {
        Some(kv) => Compare::ModRevision(key, kv.mod_revision),
        None => Compare::Absent(key),
    });
    let unmoved = unmoved.collect();
    let root = found.swap_remove(1);
    let incarnation = found.swap_remove(0);
    Ok(Before {
        incarnation: incarnation.and_then(|kv| Incarnation::decode(&kv.value).ok()),
        root: root.and_then(|kv| Root::decode(&kv.value).ok()),
        unmoved,
        revision,
    })
}

/// What has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The new life.
    pub incarnation: Incarnation,
    /// Topics whose configs are not known any more: they have the defaults, but keep everything.
    pub without_configs: Vec<String>,
    /// Where configs of brokers and groups, quotas and credentials come from.
    pub admin: Admin,
}

/// Writes the first checkpoint of a new life and makes it the cluster's.
///
/// # Errors
/// See [`RecoverError`]: `Raced` when the old life went on since `before`. Run recovery again: what was written is not referred to.
pub async fn begin(
    store: &dyn MetadataStore,
    objects: &NamedObjects,
    mut recovered: Recovered,
    id: u128,
    newest: IncarnationNumber,
    before: &Before,
) -> Result<Begun, RecoverError> {
    let newest = before.incarnation.map_or(newest, |known| known.number.max(newest));
    let next = recovered.next(newest, id);
    let beginning = Entry::Incarnation(esker_model::entry::Incarnation {
        number: next.number,
        id: IncarnationId(id),
    });
    let at = CommitPosition {
        index: next.base,
        session: SessionId(0),
        number: CommitNumber(0),
    };
    recovered.fold.apply(
        at,
        &CommitRecord {
            entries: vec![beginning],
        },
    );
    let key = ObjectKey(objects.cluster.incarnation_key(next.number));
    let claim = journal::Incarnation {
        number: next.number,
        id: IncarnationId(id),
    };
    objects.store.create(&key, claim.encode().chunks).await?;
    let root = checkpoint(objects, &recovered, next).await?;
    let believed = before.believed(&recovered, next.base);
    let (closed, at) = close(store, before, next, believed).await?;
    forget(store, at).await?;
    let admin = admin::restore(store, &recovered, believed.is_some()).await?;
    let without_configs = admin::topics(store, &recovered, believed.is_some()).await?;
    open(store, closed, next, &root).await?;
    Ok(Begun {
        incarnation: next,
        without_configs,
        admin,
    })
}

/// Sends a transaction whose repetition does no harm until there is an answer.
pub(super) async fn send(store: &dyn MetadataStore, txn: Txn) -> Result<TxnOutcome, RecoverError> {
    for _ in 1..SENDS_MAX {
        match store.txn(txn.clone()).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => tracing::debug!(%error, "a transaction of recovery is sent again"),
        }
    }
    Ok(store.txn(txn).await?)
}

/// Writes state and index objects, and gives the root that names them.
async fn checkpoint(objects: &NamedObjects, recovered: &Recovered, next: Incarnation) -> Result<Root, RecoverError> {
    let through = recovered.manifest.map_or(LogIndex(0), |manifest| manifest.through);
    let mut writer = Writer {
        objects,
        incarnation: next,
        given: 0,
    };
    let mut indexes = Vec::new();
    let mut object = IndexObject {
        first: LogIndex(through.0 + 1),
        ..IndexObject::default()
    };
    let mut batches = 0;
    let mut ends = recovered
        .txn_ends
        .iter()
        .filter(|end| end.log_index > through)
        .peekable();
    let segments = recovered.segments.iter().filter(|segment| segment.log_index > through);
    for of_commit in chunks_by_commit(segments) {
        let index = of_commit[0].log_index;
        while let Some(end) = ends.next_if(|end| end.log_index <= index) {
            object.txn_ends.push(end.clone());
        }
        for segment in of_commit {
            batches += segment.index.batches();
            object.segments.push(segment.clone());
        }
        if batches >= INDEX_BATCHES_MAX {
            batches = 0;
            object.last = index;
            indexes.push(writer.index(std::mem::take(&mut object)).await?);
            object.first = LogIndex(index.0 + 1);
        }
    }
    object.txn_ends.extend(ends.cloned());
    if !object.segments.is_empty() || !object.txn_ends.is_empty() {
        object.last = next.base;
        indexes.push(writer.index(object).await?);
    }
    let state = match &recovered.admin {
        // Of another store, whose revisions mean nothing here.
        Some(found) => with_admin_keys(
            recovered.fold.begin_state(),
            &AdminKeys {
                revision: Revision(0),
                keys: found.keys.clone(),
            },
        ),
        None => recovered.fold.encode_state(),
    };
    let state = writer.put(ObjectKind::State, state).await?;
    Ok(Root {
        index: next.base,
        revision: Revision(0),
        digest: u128::from(recovered.fold.digest().0),
        state,
        indexes,
        manifest: recovered.manifest.map(|manifest| manifest.object),
        merged_through: through,
    })
}

/// Segments of one commit together.
fn chunks_by_commit<'a>(segments: impl Iterator<Item = &'a IndexedSegment>) -> Vec<Vec<&'a IndexedSegment>> {
    let mut chunks: Vec<Vec<&IndexedSegment>> = Vec::new();
    for segment in segments {
        match chunks.last_mut() {
            Some(last) if last[0].log_index == segment.log_index => last.push(segment),
            Some(_) | None => chunks.push(vec![segment]),
        }
    }
    chunks
}

struct Writer<'a> {
    objects: &'a NamedObjects,
    incarnation: Incarnation,
    given: u64,
}

impl Writer<'_> {
    async fn index(&mut self, object: IndexObject) -> Result<IndexRef, RecoverError> {
        let (first, last) = (object.first, object.last);
        let object = self.put(ObjectKind::Index, object.encode()).await?;
        Ok(IndexRef { first, last, object })
    }

    async fn put(&mut self, kind: ObjectKind, content: Written) -> Result<ObjectRef, RecoverError> {
        self.given += 1;
        // Session 0 never lives, so nobody else has these names.
        let name = ObjectName::Other {
            kind,
            name: SegmentName {
                incarnation: self.incarnation.number,
                session: SessionId(0),
                number: SegmentNumber(self.given),
                attempt: u32::try_from(self.incarnation.id & u128::from(u32::MAX)).expect("masked"),
            },
        };
        self.objects.create(&name, content.chunks).await?;
        Ok(ObjectRef {
            name,
            length_bytes: content.length_bytes,
            digest: content.digest,
        })
    }
}

/// From here on every compare of the old life fails, and nobody starts: the bucket has another id for this number. Gives what
/// the incarnation key says meanwhile, and since when. A recovery that is cut short after this leaves a store that is believed
/// if it was before.
async fn close(
    store: &dyn MetadataStore,
    before: &Before,
    next: Incarnation,
    believed: Option<IncarnationNumber>,
) -> Result<(Incarnation, Revision), RecoverError> {
    let closed = Incarnation {
        number: believed.unwrap_or(next.number),
        id: !next.id,
        ..next
    };
    let mut then = vec![Op::put(incarnation::KEY, closed.encode()), Op::Delete(head::KEY)];
    if believed.is_none() {
        then.push(Op::Delete(root::KEY));
    }
    let txn = Txn {
        compares: before.unmoved.clone(),
        then,
        otherwise: vec![Op::Get(incarnation::KEY)],
    };
    Ok((closed, become_or_raced(store, txn, closed).await?))
}

/// Whoever starts from now on finds the new life complete. What is left of the old log lies below the root and is ignored.
async fn open(
    store: &dyn MetadataStore,
    closed: Incarnation,
    next: Incarnation,
    root: &Root,
) -> Result<(), RecoverError> {
    let txn = Txn {
        compares: vec![Compare::Value(incarnation::KEY, closed.encode())],
        then: vec![
            Op::put(incarnation::KEY, next.encode()),
            Op::put(root::KEY, root.encode()),
        ],
        otherwise: vec![Op::Get(incarnation::KEY)],
    };
    become_or_raced(store, txn, next).await.map(drop)
}

/// Sends a transaction that makes the incarnation key say this, and gives the revision since which it does.
async fn become_or_raced(store: &dyn MetadataStore, txn: Txn, wanted: Incarnation) -> Result<Revision, RecoverError> {
    let outcome = send(store, txn).await?;
    if outcome.succeeded {
        return Ok(outcome.revision);
    }
    // An attempt whose answer was lost.
    let found = outcome.results.into_iter().next().and_then(OpResult::into_get);
    let ours = found.filter(|kv| kv.value == wanted.encode());
    ours.map(|kv| kv.mod_revision).ok_or(RecoverError::Raced)
}

/// Deletes what belonged to the old life: sessions and what hung on them, the records of its log.
async fn forget(store: &dyn MetadataStore, began: Revision) -> Result<(), RecoverError> {
    let prefixes = [
        session::PREFIX,
        commit::PREFIX,
        void::PREFIX,
        published::PREFIX,
        record::PREFIX,
        owner::PREFIX,
        leader::PREFIX,
    ];
    let ranges = prefixes.map(|prefix| KeyRange::Prefix(Bytes::from_static(prefix.as_bytes())));
    let all = store.snapshot(ranges.into()).await?.ranges.into_iter().flatten();
    let old: Vec<Bytes> = all.filter(|kv| kv.mod_revision < began).map(|kv| kv.key).collect();
    for some in old.chunks(KEYS_MAX) {
        let delete = Txn {
            then: some.iter().cloned().map(Op::Delete).collect(),
            ..Txn::default()
        };
        send(store, delete).await?;
    }
    Ok(())
}
