//! What became of the commits of a session that is gone, as far as the log still tells.
//!
//! Owns: the decision. Its counter went with the session, so a record in the log is the only proof that a commit
//! happened, and a record's absence proves the contrary only as long as nothing of that part of the log was truncated.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use esker_segment::id::{CommitNumber, LogIndex, SessionId};

use super::CommitResult;
use super::slot::{Slot, Stage};
use crate::keys::root::{self, Root};
use crate::keys::{head, record};
use crate::log::Cluster;
use crate::log::backoff::Backoff;
use crate::log::follower::listing::indexed_records;
use crate::store::{KeyRange, KeyValue, Snapshot};

/// The log as it stood at one revision after the session was gone.
#[derive(Debug, PartialEq, Eq)]
struct Evidence {
    /// The session's records that are still there.
    present: BTreeMap<CommitNumber, LogIndex>,
    /// Everything up to this index may have been truncated.
    truncated_through: LogIndex,
}

/// Gives every slot its result.
pub(super) async fn resolve(cluster: &Cluster, session: SessionId, slots: &mut VecDeque<Slot>) {
    let open = |slot: &Slot| slot.maybe && !matches!(slot.stage, Stage::Done(_));
    let evidence = if slots.iter().any(open) {
        match read_evidence(cluster, session, slots).await {
            Some(evidence) => evidence,
            // Nobody waits for a result.
            None => return slots.clear(),
        }
    } else {
        Evidence {
            present: BTreeMap::new(),
            truncated_through: LogIndex(0),
        }
    };
    // From the last to the first, because a commit proves those before it.
    let mut later_committed = false;
    for slot in slots.iter_mut().rev() {
        if !matches!(slot.stage, Stage::Done(_)) {
            slot.stage = Stage::Done(decide(slot, &evidence, later_committed));
        }
        later_committed |= matches!(slot.stage, Stage::Done(CommitResult::Committed { .. }));
    }
}

fn decide(slot: &Slot, evidence: &Evidence, later_committed: bool) -> CommitResult {
    if let Some(index) = evidence.present.get(&slot.number) {
        return CommitResult::Committed {
            number: slot.number,
            index: Some(*index),
        };
    }
    let certain = !slot.maybe || evidence.truncated_through <= slot.floor;
    match slot.refused {
        Some(compare) if certain => CommitResult::Refused { compare },
        Some(_) => CommitResult::Undecided,
        None if certain => CommitResult::SessionLost,
        None if later_committed => CommitResult::Committed {
            number: slot.number,
            index: None,
        },
        None => CommitResult::Undecided,
    }
}

/// Reads the log until it succeeds; `None` when all callers have gone away meanwhile.
async fn read_evidence(cluster: &Cluster, session: SessionId, slots: &VecDeque<Slot>) -> Option<Evidence> {
    let prefix = Bytes::from_static(record::PREFIX.as_bytes());
    let ranges = vec![
        KeyRange::Key(head::KEY),
        KeyRange::Key(root::KEY),
        KeyRange::Prefix(prefix),
    ];
    let mut backoff = Backoff::new(session.0);
    loop {
        if slots.iter().all(|slot| slot.answer.is_closed()) {
            return None;
        }
        match cluster.store.snapshot(ranges.clone()).await {
            Ok(snapshot) => match weigh(cluster, session, snapshot) {
                Some(evidence) => return Some(evidence),
                None => tracing::error!(%session, "log cannot be read to decide commits of a lost session"),
            },
            Err(error) => tracing::debug!(%session, %error, "log not read yet to decide commits of a lost session"),
        }
        backoff.wait().await;
    }
}

fn weigh(cluster: &Cluster, session: SessionId, snapshot: Snapshot) -> Option<Evidence> {
    let [head, root, records]: [Vec<KeyValue>; 3] = snapshot.ranges.try_into().ok()?;
    let truncated_through = match root.first() {
        Some(kv) => Root::decode(&kv.value).ok()?.index,
        None => LogIndex(0),
    };
    let indexed = indexed_records(&cluster.incarnation, head.first(), records).ok()?;
    let ours = indexed.into_iter().filter(|record| record.session == session);
    Some(Evidence {
        present: ours.map(|record| (record.number, record.index)).collect(),
        truncated_through,
    })
}
