//! Recovery from the bucket alone: a new life of a cluster whose coordination store is lost, or went back to an old copy.
//!
//! What is in the bucket: the last checkpoint (state of the fold, index objects, manifest), the segments that came after it, and
//! in their tails the order in which commits before them were folded. So the log goes on where the last known order ends. What
//! cannot be ordered is named, not guessed: its offsets may have been given to something else.
//!
//! Owns: putting the fold together (`gather`, `replay`), the first checkpoint of the new incarnation, the keys of the
//! coordination store (`begin`), among them what administrators had set (`admin`).
//! Does not own: the formats, the command line.
//!
//! Invariants: nothing of the old incarnation is changed or deleted in the bucket. The new incarnation number is the leader
//! epoch of what is written from now on, so consumers learn by KIP-320 where the old log ended.

use std::collections::{BTreeMap, BTreeSet};

use esker_metadata::checkpoint::AdminKeys;
use esker_metadata::keys::incarnation::Incarnation;
use esker_metadata::store::MetadataError;
use esker_model::Fold;
use esker_segment::checkpoint::{IndexedSegment, IndexedTxnEnd};
use esker_segment::id::{IncarnationNumber, LogIndex, SegmentNumber, SessionId, TopicId, TopicPartition};
use esker_segment::name::{ObjectName, SegmentName};
use esker_segment::wire::FormatError;
use esker_storage::named::NamedObjects;
use esker_storage::store::StoreError;

mod admin;
mod begin;
mod gather;
mod replay;

pub use admin::Admin;
pub use begin::{Before, Begun, begin, look};
pub use gather::{Bucket, clusters, gather};

/// Why nothing could be recovered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The bucket holds nothing of this cluster.
    #[error("the bucket holds no incarnation of this cluster")]
    Nothing,
    /// What was put together cannot be written.
    #[error("what was recovered cannot be encoded: {0}")]
    Format(#[from] FormatError),
    /// The old life went on, or somebody else began another one, while the bucket was read.
    #[error("the cluster went on or began another incarnation meanwhile: run it again")]
    Raced,
}

/// Something that is in the bucket or was in the log, and is not in the recovered log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// A segment whose place in the log nobody wrote down. Perhaps it was never committed.
    Unordered {
        /// Which one.
        name: SegmentName,
        /// Batches and records by partition.
        holds: BTreeMap<TopicPartition, (u64, u64)>,
    },
    /// A segment that cannot be read; if it was committed, its batches are lost.
    Unreadable {
        /// Which one.
        name: SegmentName,
        /// Why.
        why: String,
    },
    /// A segment that was committed and is not in the bucket.
    Missing {
        /// Where it stood.
        index: LogIndex,
        /// Its session.
        session: SessionId,
        /// Its number.
        number: SegmentNumber,
    },
    /// A commit that brought no segment: topics, offsets of groups, trims, ends of transactions since the checkpoint are
    /// lost.
    Entries {
        /// Where it stood.
        index: LogIndex,
        /// Whose it was.
        session: SessionId,
    },
    /// Batches of a topic that was created after the checkpoint, so nobody knows its name.
    UnknownTopic {
        /// Its id.
        topic: TopicId,
        /// Records.
        records: u64,
    },
    /// Batches of a partition that the topic got after the checkpoint.
    UnknownPartition {
        /// Which one.
        at: TopicPartition,
        /// Records.
        records: u64,
    },
    /// An object of the checkpoint that cannot be read, or is not there.
    Damaged {
        /// Which one.
        name: ObjectName,
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unordered { name, holds } => {
                write!(
                    f,
                    "segment {} of session {} has no known place in the log:",
                    name.number, name.session
                )?;
                for (at, (batches, records)) in holds {
                    write!(f, " {at}: {records} records in {batches} batches;")?;
                }
                Ok(())
            }
            Self::Unreadable { name, why } => {
                write!(
                    f,
                    "segment {} of session {} cannot be read: {why}",
                    name.number, name.session
                )
            }
            Self::Missing { index, session, number } => write!(
                f,
                "segment {number} of session {session}, committed at log index {index}, is not in the bucket"
            ),
            Self::Entries { index, session } => write!(
                f,
                "log index {index} of session {session} was no segment: topics, offsets or trims of that commit are lost"
            ),
            Self::UnknownTopic { topic, records } => {
                write!(f, "{records} records of topic {topic}, whose name is not known")
            }
            Self::UnknownPartition { at, records } => {
                write!(f, "{records} records of {at}, a partition that is not known")
            }
            Self::Damaged { name, why } => write!(f, "{name:?} cannot be read: {why}"),
        }
    }
}

/// The log as it can be put together again.
#[derive(Debug)]
pub struct Recovered {
    /// The life that ended.
    pub incarnation: IncarnationNumber,
    /// The fold at the last index whose order is known.
    pub fold: Fold,
    /// Log index of the checkpoint that it began with.
    pub checkpoint: LogIndex,
    /// Commits replayed after it.
    pub replayed: u64,
    /// What is not in it.
    pub left: Vec<Left>,
    /// What administrators had set when the checkpoint was written; none in one of a version that did not keep it.
    pub admin: Option<AdminKeys>,
    manifest: Option<gather::FoundManifest>,
    segments: Vec<IndexedSegment>,
    txn_ends: Vec<IndexedTxnEnd>,
}

/// Puts together what the bucket holds of a cluster. `topics` are the names that are known from elsewhere, such as an old copy
/// of the coordination store.
///
/// # Errors
/// See [`RecoverError`]. Nothing was changed.
pub async fn recover(
    objects: &NamedObjects,
    bucket: Bucket,
    topics: &BTreeMap<TopicId, String>,
) -> Result<Recovered, RecoverError> {
    let (incarnation, admin) = (bucket.incarnation, bucket.admin.clone());
    let mut left = bucket.damaged.clone();
    let placed = bucket.placed.clone();
    let orders = replay::orders(objects, &bucket, &mut left).await?;
    let mut replay = replay::Replay::begin(bucket, topics);
    let checkpoint = replay.fold.index();
    replay.run(&orders, &mut left);
    let placed: BTreeSet<SegmentName> = replay.used().union(&placed).copied().collect();
    replay::name_unordered(&orders, &placed, &replay.fold, &mut left);
    Ok(Recovered {
        incarnation,
        replayed: replay.fold.index().0 - checkpoint.0,
        checkpoint,
        manifest: replay.manifest,
        segments: replay.segments,
        txn_ends: replay.txn_ends,
        fold: replay.fold,
        left,
        admin,
    })
}

impl Recovered {
    /// The life that begins, with a random id.
    #[must_use]
    pub fn next(&self, newest: IncarnationNumber, id: u128) -> Incarnation {
        Incarnation {
            number: IncarnationNumber(self.incarnation.max(newest).0 + 1),
            id,
            // The beginning itself takes the next index.
            base: LogIndex(self.fold.index().0 + 1),
        }
    }
}
