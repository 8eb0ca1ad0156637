//! Reading the log and the keys beside it at one revision.
//!
//! Owns: which ranges are read, and the index of each record: records are truncated oldest first, so those that are there
//! are the newest, without a hole, and the one with the highest revision has the index of the head.

use bytes::Bytes;
use esker_segment::id::{CommitNumber, LogIndex, SessionId};
use esker_segment::wire::FormatError;

use super::sink::AppliedCommit;
use crate::keys::head::Head;
use crate::keys::incarnation::{self, Incarnation};
use crate::keys::root::{self, Root};
use crate::keys::{head, owner, record, session, topic};
use crate::log::Cluster;
use crate::store::{KeyRange, KeyValue, MetadataError, Revision};

/// Families of keys that are always followed.
pub(super) const FOLLOWED: [&str; 3] = [topic::PREFIX, session::PREFIX, owner::PREFIX];

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The records too.
    Everything,
    /// Only what is small.
    AllButRecords,
}

/// What was read at one revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) revision: Revision,
    pub(super) head: LogIndex,
    /// When the last commit was made, if there was one.
    pub(super) head_at: Option<Revision>,
    pub(super) root: Option<(Root, Revision)>,
    /// Keys of the families that are followed.
    pub(super) keys: Vec<KeyValue>,
    /// The records, oldest first; `None` when they were not read.
    pub(super) records: Option<Vec<AppliedCommit>>,
}

/// Why a listing is no use.
#[derive(Debug, thiserror::Error)]
pub(in crate::log) enum ListingError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] MetadataError),
    /// Another incarnation has begun.
    #[error("the cluster has another incarnation now")]
    OtherIncarnation,
    /// A value cannot be read.
    #[error("key {key} cannot be read: {why}")]
    Damaged {
        /// Which one.
        key: &'static str,
        /// Why.
        why: FormatError,
    },
    /// A key among the records is not a record's.
    #[error("key {0:?} is not that of a record")]
    NotARecord(Bytes),
    /// There are more records than commits.
    #[error("{records} records, but the log ends at {head}")]
    TooMany {
        /// How many.
        records: u64,
        /// Where it ends.
        head: LogIndex,
    },
}

/// Reads the log and the keys beside it.
pub(super) async fn read(cluster: &Cluster, wanted: Wanted, also: &[Bytes]) -> Result<Listing, ListingError> {
    let prefix = |prefix: &'static str| KeyRange::Prefix(Bytes::from_static(prefix.as_bytes()));
    let mut ranges = vec![
        KeyRange::Key(incarnation::KEY),
        KeyRange::Key(head::KEY),
        KeyRange::Key(root::KEY),
    ];
    let fixed = ranges.len();
    ranges.extend(FOLLOWED.into_iter().map(prefix));
    ranges.extend(also.iter().cloned().map(KeyRange::Prefix));
    if wanted == Wanted::Everything {
        ranges.push(prefix(record::PREFIX));
    }
    let mut snapshot = cluster.store.snapshot(ranges).await?;
    let records = if wanted == Wanted::Everything {
        snapshot.ranges.pop()
    } else {
        None
    };
    let keys = snapshot.ranges.drain(fixed..).flatten().collect();
    let mut single = snapshot.ranges.into_iter().map(|range| range.into_iter().next());
    let mut next = || single.next().flatten();
    let (incarnation, head, root) = (next(), next(), next());
    if incarnation.is_none_or(|kv| kv.value != cluster.incarnation.encode()) {
        return Err(ListingError::OtherIncarnation);
    }
    let root = root
        .map(|kv| Root::decode(&kv.value).map(|root| (root, kv.mod_revision)))
        .transpose();
    Ok(Listing {
        revision: snapshot.revision,
        head: end_of_log(&cluster.incarnation, head.as_ref())?,
        head_at: head.as_ref().map(|kv| kv.mod_revision),
        root: root.map_err(|why| ListingError::Damaged { key: "root", why })?,
        keys,
        records: records
            .map(|records| indexed_records(&cluster.incarnation, head.as_ref(), records))
            .transpose()?,
    })
}

fn end_of_log(incarnation: &Incarnation, head: Option<&KeyValue>) -> Result<LogIndex, ListingError> {
    head.map_or(Ok(incarnation.base), Head::index)
        .map_err(|why| ListingError::Damaged { key: "log/head", why })
}

/// The records of a snapshot, oldest first, each with its index.
pub(in crate::log) fn indexed_records(
    incarnation: &Incarnation,
    head: Option<&KeyValue>,
    mut records: Vec<KeyValue>,
) -> Result<Vec<AppliedCommit>, ListingError> {
    let head = end_of_log(incarnation, head)?;
    records.sort_unstable_by_key(|kv| kv.mod_revision);
    let count = u64::try_from(records.len()).expect("a length fits");
    let first = (head.0 + 1)
        .checked_sub(count)
        .ok_or(ListingError::TooMany { records: count, head })?;
    (first..)
        .zip(records)
        .map(|(index, kv)| applied(LogIndex(index), kv))
        .collect()
}

fn applied(index: LogIndex, kv: KeyValue) -> Result<AppliedCommit, ListingError> {
    let (session, number): (SessionId, CommitNumber) =
        record::parse_key(&kv.key).ok_or_else(|| ListingError::NotARecord(kv.key.clone()))?;
    Ok(AppliedCommit {
        index,
        revision: kv.mod_revision,
        session,
        number,
        record: kv.value,
    })
}
