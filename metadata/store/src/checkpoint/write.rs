//! Taking a checkpoint: a consistent cut of the fold, written as one state object and a few index objects.
//!
//! Owns: the cut, what goes into index objects, the root that follows.
//! Does not own: publication.
//!
//! Batches come from the fold (which knows their offsets) and from the log (which knows everything else of them); both are
//! there until the checkpoint is published, so no process keeps anything for it in memory.

use std::collections::BTreeMap;

use esker_model::entry::{Entry, SegmentEntry, TxnOutcome};
use esker_model::unmerged::{MarkerInfo, Source, UnmergedBatch, UnmergedEntry};
use esker_model::{CommitRecord, Digest, Fold};
use esker_segment::checkpoint::{IndexObject, IndexedSegment, IndexedTxnEnd};
use esker_segment::container::{ContainerBuilder, Written};
use esker_segment::id::LogIndex;
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use esker_storage::named::NamedObjects;
use esker_storage::store::StoreError;

use super::admin_keys::{self, AdminKeys};
use super::publication::ObjectWriter;
use crate::keys::root::{INDEXES_MAX, IndexRef, ObjectRef, Root};
use crate::log::{AppliedCommit, Cluster, LogSnapshot, PublishedRoot, read_log};
use crate::replica::Replica;
use crate::store::MetadataError;

/// Batches and markers of one index object, give or take one commit: about 6 MB when decoded.
const INDEX_BATCHES_MAX: usize = 65_536;
/// So many small index objects at the end of a root become one,
const CONSOLIDATE_FROM: usize = 64;
/// which has at most so many bytes.
const CONSOLIDATED_BYTES_MAX: u64 = 4 << 20;
/// Commits whose batches are looked up in one go; the fold stands still meanwhile.
const EXPORT_COMMITS_MAX: u64 = 256;

/// Why no checkpoint was written. What was written of it is garbage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Another checkpoint has overtaken this one.
    #[error("another checkpoint came first")]
    Raced,
    /// The root would name too many index objects: merging does not keep up.
    #[error("{0} index objects wait to be merged, at most {INDEXES_MAX} may")]
    TooManyIndexes(usize),
}

/// A checkpoint in the bucket that no root names yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenCheckpoint {
    /// The root to publish.
    pub root: Root,
    /// The objects that were written for it.
    pub objects: Vec<ObjectName>,
}

/// Writes a checkpoint of the fold as it is now. `None` when nothing was committed since the root that was seen.
/// `at_cut` is shown the fold as the checkpoint has it, under its lock.
///
/// # Errors
/// See [`CheckpointError`].
pub async fn write(
    cluster: &Cluster,
    objects: &NamedObjects,
    replica: &Replica,
    seen: Option<&PublishedRoot>,
    writer: &mut ObjectWriter,
    at_cut: impl FnOnce(&Fold) + Send,
) -> Result<Option<WrittenCheckpoint>, CheckpointError> {
    let after = seen.map_or(cluster.incarnation.base, |seen| seen.root.index);
    let Some(cut) = Cut::take(replica, after, at_cut) else {
        return Ok(None);
    };
    let log = read_log(cluster).await?;
    let records = cut.records(&log, after)?;
    let revision = records.last().ok_or(CheckpointError::Raced)?.revision;
    let mut written = Vec::new();
    let mut indexes = match seen {
        Some(seen) => consolidated(&seen.root.indexes, objects, writer, &mut written).await?,
        None => Vec::new(),
    };
    let mut pending = Pending::new(after);
    for chunk in records.chunks(usize::try_from(EXPORT_COMMITS_MAX).expect("small")) {
        let unmerged = export(replica, chunk);
        for commit in chunk {
            pending.add(commit, &unmerged);
            if pending.batches >= INDEX_BATCHES_MAX {
                indexes.extend(pending.flush(objects, writer, &mut written).await?);
            }
        }
    }
    indexes.extend(pending.flush(objects, writer, &mut written).await?);
    if indexes.len() > INDEXES_MAX {
        return Err(CheckpointError::TooManyIndexes(indexes.len()));
    }
    let state = with_admin_keys(cut.state, &AdminKeys::read(&*cluster.store).await?);
    let state = store(objects, writer, ObjectKind::State, state, &mut written).await?;
    let root = Root {
        index: cut.index,
        revision,
        digest: u128::from(cut.digest.0),
        state,
        indexes,
        manifest: seen.and_then(|seen| seen.root.manifest),
        merged_through: seen.map_or(LogIndex(0), |seen| seen.root.merged_through),
    };
    Ok(Some(WrittenCheckpoint { root, objects: written }))
}

/// The state object of a fold and of what administrators had set by then.
#[must_use]
pub fn with_admin_keys(mut state: ContainerBuilder, keys: &AdminKeys) -> Written {
    state.section(admin_keys::SECTION, keys.encode());
    state.finish()
}

/// The index objects of a root, fewer of them if many small ones stand at the end: when nothing is merged for long, a root
/// must not come to name more than it can. Each byte is written again a few times at most.
async fn consolidated(
    indexes: &[IndexRef],
    objects: &NamedObjects,
    writer: &mut ObjectWriter,
    written: &mut Vec<ObjectName>,
) -> Result<Vec<IndexRef>, CheckpointError> {
    let mut bytes = 0;
    let small = indexes.iter().rev().take_while(|index| {
        bytes += index.object.length_bytes;
        bytes <= CONSOLIDATED_BYTES_MAX
    });
    let (kept, small) = indexes.split_at(indexes.len() - small.count());
    if small.len() < CONSOLIDATE_FROM {
        return Ok(indexes.to_vec());
    }
    let mut whole = IndexObject {
        first: small[0].first,
        last: small[small.len() - 1].last,
        ..IndexObject::default()
    };
    for index in small {
        let bytes = objects.read_whole(&index.object.name, index.object.length_bytes).await;
        let part = bytes.ok().and_then(|bytes| IndexObject::decode(&bytes).ok());
        let Some(part) = part else {
            // There is no hurry, and whoever merges it says what is wrong.
            return Ok(indexes.to_vec());
        };
        whole.segments.extend(part.segments);
        whole.txn_ends.extend(part.txn_ends);
    }
    let (first, last) = (whole.first, whole.last);
    let object = store(objects, writer, ObjectKind::Index, whole.encode(), written).await?;
    Ok(kept.iter().copied().chain([IndexRef { first, last, object }]).collect())
}

/// The same checkpoint on top of a root that was published meanwhile: possible when that one only merged. `before` is the
/// root on which the checkpoint was written.
#[must_use]
pub fn rebase(written: &Root, before: Option<&Root>, current: &Root) -> Option<Root> {
    let before = before?;
    if current.index != before.index || current.state != before.state {
        return None;
    }
    // What the other one merged is not put together: its index objects may be gone already.
    let new = written.indexes.iter().filter(|index| index.first > before.index);
    Some(Root {
        indexes: current.indexes.iter().chain(new).copied().collect(),
        manifest: current.manifest,
        merged_through: current.merged_through,
        ..written.clone()
    })
}

/// The fold at one log index.
struct Cut {
    index: LogIndex,
    digest: Digest,
    state: ContainerBuilder,
}

impl Cut {
    /// Encodes under the lock: measured faster than a clone, see docs/decisions/0301-checkpoints-from-log-and-fold.md.
    fn take(replica: &Replica, after: LogIndex, at_cut: impl FnOnce(&Fold)) -> Option<Self> {
        let fold = replica.fold();
        (fold.index() > after).then(|| {
            at_cut(&fold);
            Self {
                index: fold.index(),
                digest: fold.digest(),
                state: fold.begin_state(),
            }
        })
    }

    /// The records above `after` up to the cut, all of them: some are missing only if a newer root has truncated them.
    fn records<'a>(&self, log: &'a LogSnapshot, after: LogIndex) -> Result<&'a [AppliedCommit], CheckpointError> {
        let from = log.records.partition_point(|commit| commit.index <= after);
        let to = log.records.partition_point(|commit| commit.index <= self.index);
        let range = &log.records[from..to];
        if u64::try_from(range.len()) == Ok(self.index.0 - after.0) {
            Ok(range)
        } else {
            Err(CheckpointError::Raced)
        }
    }
}

/// What a range of commits brought and the fold still holds, by commit.
fn export(replica: &Replica, commits: &[AppliedCommit]) -> BTreeMap<LogIndex, Vec<UnmergedEntry>> {
    let mut by_commit: BTreeMap<LogIndex, Vec<UnmergedEntry>> = BTreeMap::new();
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else {
        return by_commit;
    };
    let entries = replica.fold().export_unmerged(LogIndex(first.index.0 - 1), last.index);
    for entry in entries {
        by_commit.entry(entry.source.log_index()).or_default().push(entry);
    }
    by_commit
}

/// The index object in the making.
struct Pending {
    object: IndexObject,
    batches: usize,
}

impl Pending {
    fn new(after: LogIndex) -> Self {
        let first = LogIndex(after.0 + 1);
        Self {
            object: IndexObject {
                first,
                last: after,
                ..IndexObject::default()
            },
            batches: 0,
        }
    }

    /// Adds a commit. One whose record does not decode brought nothing.
    fn add(&mut self, commit: &AppliedCommit, unmerged: &BTreeMap<LogIndex, Vec<UnmergedEntry>>) {
        self.object.last = commit.index;
        let Some(entries) = unmerged.get(&commit.index) else {
            return;
        };
        let mut batches: BTreeMap<SegmentName, &[UnmergedBatch]> = BTreeMap::new();
        for entry in entries {
            match &entry.source {
                Source::Segment(segment) => drop(batches.insert(segment.name, &entry.batches)),
                Source::Marker(marker) => {
                    self.batches += entry.batches.len();
                    self.object.txn_ends.push(ended(commit.index, marker, &entry.batches));
                }
            }
        }
        if batches.is_empty() {
            return;
        }
        let record = CommitRecord::decode(&commit.record).map_or_else(|_| Vec::new(), |record| record.entries);
        for entry in record {
            let Entry::Segment(segment) = entry else { continue };
            // Committed twice under one name, a segment counts once: the second time all its batches are duplicates.
            if let Some(live) = batches.remove(&segment.name) {
                self.batches += segment.index.batches();
                self.object.segments.push(indexed(commit.index, segment, live));
            }
        }
    }

    /// Writes what was added, if it is anything, and begins the next one.
    async fn flush(
        &mut self,
        objects: &NamedObjects,
        writer: &mut ObjectWriter,
        written: &mut Vec<ObjectName>,
    ) -> Result<Option<IndexRef>, StoreError> {
        let (first, last) = (self.object.first, self.object.last);
        let done = std::mem::replace(self, Self::new(last));
        if done.batches == 0 {
            return Ok(None);
        }
        let encoded = done.object.encode();
        let object = store(objects, writer, ObjectKind::Index, encoded, written).await?;
        Ok(Some(IndexRef { first, last, object }))
    }
}

fn indexed(log_index: LogIndex, segment: SegmentEntry, live: &[UnmergedBatch]) -> IndexedSegment {
    let bases: BTreeMap<u64, _> = live
        .iter()
        .map(|batch| (u64::from(batch.position), batch.base))
        .collect();
    let bases = segment
        .index
        .places()
        .map(|(_, place, _)| bases.get(&place.position).copied())
        .collect();
    IndexedSegment {
        log_index,
        name: segment.name,
        length_bytes: segment.bytes,
        content_hash: segment.content_hash,
        zone: segment.zone.into(),
        confirmed: segment.confirmed,
        index: segment.index,
        bases,
    }
}

fn ended(log_index: LogIndex, marker: &MarkerInfo, markers: &[UnmergedBatch]) -> IndexedTxnEnd {
    IndexedTxnEnd {
        log_index,
        producer: marker.producer,
        epoch: marker.epoch,
        committed: marker.outcome == TxnOutcome::Commit,
        timestamp: marker.timestamp,
        markers: markers.iter().map(|marker| (marker.partition, marker.base)).collect(),
    }
}

async fn store(
    objects: &NamedObjects,
    writer: &mut ObjectWriter,
    kind: ObjectKind,
    content: Written,
    written: &mut Vec<ObjectName>,
) -> Result<ObjectRef, StoreError> {
    let name = writer.name(kind);
    written.push(name);
    objects.create(&name, content.chunks).await?;
    Ok(ObjectRef {
        name,
        length_bytes: content.length_bytes,
        digest: content.digest,
    })
}
