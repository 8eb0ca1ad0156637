//! What became of the commits of a session that is gone, as far as the log still tells.
//!
//! Owns: the decision. The counter went with the session. A record that is there proves that its commit happened; its absence
//! proves the contrary as long as nothing of that part of the log was truncated. Beyond that only a follower of this very
//! process, which has applied that part commit by commit, knows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::{CommitNumber, LogIndex, SessionId};

use super::CommitResult;
use super::slot::{Slot, Stage};
use crate::keys::root::{self, Root};
use crate::keys::{head, incarnation, record};
use crate::log::Cluster;
use crate::log::backoff::Backoff;
use crate::log::follower::listing::indexed_records;
use crate::log::position::LogPosition;
use crate::log::recent::NotKnown;
use crate::log::session::head_index;
use crate::store::{KeyRange, KeyValue, Snapshot};

/// How long the follower is given to apply what the log held.
const FOLLOWER_PATIENCE: Duration = Duration::from_secs(2);

/// The log as it stood at one revision after the session was gone.
#[derive(Debug, Default)]
struct Evidence {
    /// The session's records that are still there.
    present: BTreeMap<CommitNumber, LogIndex>,
    /// Everything up to this index may have been truncated.
    truncated_through: LogIndex,
    /// Where the log ended; `None` when it is another incarnation's.
    head: Option<LogIndex>,
}

/// What is known of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Happened(LogIndex),
    NeverHappened,
    Nothing,
}

/// Gives every slot its result. `position` is the follower of this process, which may know what the log does not tell any more.
pub(super) async fn resolve(
    cluster: &Cluster,
    session: SessionId,
    position: Option<&LogPosition>,
    slots: &mut VecDeque<Slot>,
) {
    let open = |slot: &Slot| slot.maybe && !matches!(slot.stage, Stage::Done(_));
    let mut evidence = Evidence::default();
    if slots.iter().any(open) {
        match read_evidence(cluster, session, slots).await {
            Some(read) => evidence = read,
            // Nobody waits for a result.
            None => return slots.clear(),
        }
        if let (Some(position), Some(head)) = (position, evidence.head) {
            // In vain if the follower is stuck; then it proves nothing.
            let _in_time = tokio::time::timeout(FOLLOWER_PATIENCE, position.reached(head)).await;
        }
    }
    // From the last to the first, because a commit proves those before it.
    let mut later_committed = false;
    for slot in slots.iter_mut().rev() {
        if !matches!(slot.stage, Stage::Done(_)) {
            let known = weigh(slot, session, &evidence, position);
            slot.stage = Stage::Done(decide(slot, known, later_committed));
        }
        later_committed |= matches!(slot.stage, Stage::Done(CommitResult::Committed { .. }));
    }
}

fn weigh(slot: &Slot, session: SessionId, evidence: &Evidence, position: Option<&LogPosition>) -> Known {
    if let Some(index) = evidence.present.get(&slot.number) {
        return Known::Happened(*index);
    }
    if !slot.maybe || evidence.truncated_through <= slot.floor {
        return Known::NeverHappened;
    }
    let (Some(position), Some(head)) = (position, evidence.head) else {
        return Known::Nothing;
    };
    match position.recent(|recent| recent.find((session, slot.number), slot.floor, head)) {
        Ok(Some(index)) => Known::Happened(index),
        Ok(None) => Known::NeverHappened,
        Err(NotKnown) => Known::Nothing,
    }
}

fn decide(slot: &Slot, known: Known, later_committed: bool) -> CommitResult {
    let number = slot.number;
    match (known, slot.refused) {
        (Known::Happened(index), _) => CommitResult::Committed {
            number,
            index: Some(index),
        },
        (Known::NeverHappened, Some(compare)) => CommitResult::Refused { compare },
        (Known::NeverHappened, None) => CommitResult::SessionLost,
        (Known::Nothing, None) if later_committed => CommitResult::Committed { number, index: None },
        (Known::Nothing, _) => CommitResult::Undecided,
    }
}

/// Reads the log until it succeeds; `None` when all callers have gone away meanwhile.
async fn read_evidence(cluster: &Cluster, session: SessionId, slots: &VecDeque<Slot>) -> Option<Evidence> {
    let prefix = Bytes::from_static(record::PREFIX.as_bytes());
    let ranges = vec![
        KeyRange::Key(head::KEY),
        KeyRange::Key(root::KEY),
        KeyRange::Key(incarnation::KEY),
        KeyRange::Prefix(prefix),
    ];
    let mut backoff = Backoff::new(session.0);
    loop {
        if slots.iter().all(|slot| slot.answer.is_closed()) {
            return None;
        }
        match cluster.store.snapshot(ranges.clone()).await {
            Ok(snapshot) => match collect(cluster, session, snapshot) {
                Some(evidence) => return Some(evidence),
                None => tracing::error!(%session, "log cannot be read to decide commits of a lost session"),
            },
            Err(error) => tracing::debug!(%session, %error, "log not read yet to decide commits of a lost session"),
        }
        backoff.wait().await;
    }
}

fn collect(cluster: &Cluster, session: SessionId, snapshot: Snapshot) -> Option<Evidence> {
    let [head, root, incarnation, records]: [Vec<KeyValue>; 4] = snapshot.ranges.try_into().ok()?;
    if incarnation
        .first()
        .is_none_or(|kv| kv.value != cluster.incarnation.encode())
    {
        // Another life of the cluster may give our session's id to others: what its log says is not about us.
        return Some(Evidence {
            truncated_through: LogIndex(u64::MAX),
            ..Evidence::default()
        });
    }
    let truncated_through = match root.first() {
        Some(kv) => Root::decode(&kv.value).ok()?.index,
        None => LogIndex(0),
    };
    let end = head_index(cluster, head.first().cloned()).ok()?;
    let indexed = indexed_records(&cluster.incarnation, head.first(), records).ok()?;
    let ours = indexed.into_iter().filter(|record| record.session == session);
    Some(Evidence {
        present: ours.map(|record| (record.number, record.index)).collect(),
        truncated_through,
        head: Some(end),
    })
}
