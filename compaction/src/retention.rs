//! Retention: what is too old or too much is trimmed, partition by partition.
//!
//! Owns: the decision for one partition (`decide`), one pass over all (`run`).
//! Does not own: giving the space back (`levels` drops what is dead, `garbage` deletes it).
//!
//! Invariants: RET-1: only prefixes go, whole slices or batches, never past the last stable offset. A pass trims everything
//! that is due, however much that is, so retention keeps up with any rate of producing.

use std::collections::BTreeMap;

use esker_metadata::replica::Replica;
use esker_model::EntryVerdict;
use esker_model::entry::{ENTRIES_MAX, Entry, Trim};
use esker_model::fold::PartitionView;
use esker_model::verdict::TrimVerdict;
use esker_segment::id::{Offset, Timestamp, TopicPartition};
use esker_storage::merged::{ManifestRef, Manifests, MergedError};

use crate::seams::{LogAccess, NotApplied, TopicPolicies, TopicPolicy};
use crate::survey::walk;

#[cfg(test)]
mod tests;

/// A piece of a partition that goes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The offset after its last one.
    pub end: Offset,
    /// Its bytes.
    pub bytes: u64,
    /// Its largest timestamp; -1 for none.
    pub max_timestamp: Timestamp,
}

/// Why a pass did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// A manifest cannot be read.
    #[error(transparent)]
    Merged(#[from] MergedError),
    /// Trims were not applied; the next pass decides again.
    #[error(transparent)]
    NotApplied(#[from] NotApplied),
}

/// The new log start offset of a partition, given its pieces from the log start on, oldest first; `None` when all stays.
///
/// As Kafka does: the oldest pieces go while their newest record is older than `retention.ms`, and while what is left is at
/// least `retention.bytes` without them.
#[must_use]
pub fn decide(view: PartitionView, pieces: &[Piece], policy: TopicPolicy, now: Timestamp) -> Option<Offset> {
    if !policy.deletes {
        return None;
    }
    let mut left: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let mut start = view.log_start;
    for piece in pieces {
        let old = policy.retention.is_some_and(|retention| {
            let age = i128::from(now.0) - i128::from(piece.max_timestamp.0);
            piece.max_timestamp.0 >= 0 && age > i128::try_from(retention.as_millis()).unwrap_or(i128::MAX)
        });
        left -= piece.bytes;
        let much = policy
            .retention_bytes
            .is_some_and(|most| left >= most && piece.bytes > 0);
        if !(old || much) || piece.end > view.last_stable {
            break;
        }
        start = start.max(piece.end);
    }
    (start > view.log_start).then_some(start)
}

/// Looks at every partition, and trims what is due. Gives how many partitions were trimmed.
///
/// # Errors
/// See [`RetentionError`]. What was trimmed until then stays trimmed.
pub async fn run(
    manifests: &Manifests,
    manifest: Option<ManifestRef>,
    replica: &Replica,
    policies: &dyn TopicPolicies,
    log: &dyn LogAccess,
    now: Timestamp,
) -> Result<usize, RetentionError> {
    let mut limited = limited(replica, policies);
    if limited.is_empty() {
        return Ok(0);
    }
    let mut trims = Vec::new();
    walk(manifests, manifest, |at, slices| {
        let Some(policy) = limited.remove(&at) else { return };
        let pieces = slices.iter().map(|found| Piece {
            end: found.slice.end,
            bytes: found.slice.bytes,
            max_timestamp: found.slice.max_timestamp,
        });
        trims.extend(trim(replica, at, pieces.collect(), policy, now));
    })
    .await?;
    let unmerged_only = limited.into_iter();
    trims.extend(unmerged_only.filter_map(|(at, policy)| trim(replica, at, Vec::new(), policy, now)));
    let mut trimmed = 0;
    for entries in trims.chunks(ENTRIES_MAX) {
        let verdicts = log.propose(entries.to_vec()).await?;
        let done = |verdict: &&EntryVerdict| matches!(verdict, EntryVerdict::Trim(TrimVerdict::Trimmed { .. }));
        trimmed += verdicts.iter().filter(done).count();
    }
    Ok(trimmed)
}

/// Partitions that do not keep everything.
fn limited(replica: &Replica, policies: &dyn TopicPolicies) -> BTreeMap<TopicPartition, TopicPolicy> {
    let fold = replica.fold();
    let mut limited = BTreeMap::new();
    for topic in fold.topics() {
        let policy = policies.policy(topic.id);
        if policy.deletes && (policy.retention.is_some() || policy.retention_bytes.is_some()) {
            let partitions = fold
                .partitions_of(topic.id)
                .filter(|(_, view)| view.log_start < view.last_stable);
            limited.extend(partitions.map(|(partition, _)| {
                (
                    TopicPartition {
                        topic: topic.id,
                        partition,
                    },
                    policy,
                )
            }));
        }
    }
    limited
}

/// The trim of one partition: merged pieces, then the unmerged batches above them.
fn trim(
    replica: &Replica,
    at: TopicPartition,
    merged: Vec<Piece>,
    policy: TopicPolicy,
    now: Timestamp,
) -> Option<Entry> {
    let fold = replica.fold();
    let view = fold.partition(at)?;
    let mut pieces = merged;
    pieces.retain(|piece| piece.end > view.log_start);
    let merged_end = pieces.last().map_or(view.log_start, |piece| piece.end);
    let unmerged = fold
        .locate(at, merged_end)
        .filter(|location| location.base >= merged_end);
    pieces.extend(unmerged.map(|location| Piece {
        end: location.end(),
        bytes: u64::from(location.bytes),
        max_timestamp: location.max_timestamp,
    }));
    let log_start = decide(view, &pieces, policy, now)?;
    Some(Entry::Trim(Trim {
        partition: at,
        log_start,
    }))
}
