//! The changes of one shard that wait for their transaction.
//!
//! Owns: their order, which of them become one, how many there may be, who waits for them.
//! Does not own: carrying them out (`registry`).
//!
//! Invariants: MEM-1 by [`WAITING_MAX`] and [`BYTES_MAX`]. Changes of one group keep their order; a group is in `turns` exactly once
//! while changes of it wait.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::book::Change;
use crate::groups::error::GroupError;
use crate::groups::group::StoredGroup;
use crate::groups::ids::GroupId;

/// Changes that may wait, and requests that may wait for them.
const WAITING_MAX: usize = 16_384;
/// Bytes of changes that may wait, unless it is one alone.
pub(super) const BYTES_MAX: usize = 16 << 20;
/// Changes that are planned at once.
const BATCH_MAX: usize = 256;

pub(super) type Reply = oneshot::Sender<Result<(), GroupError>>;

/// A change, and all who wait for it.
struct Waiting {
    change: Change,
    bytes: usize,
    replies: Vec<Reply>,
}

/// Those who wait for the changes of a batch, by the number of the change.
pub(super) struct Replies(Vec<Vec<Reply>>);

impl Replies {
    /// Answers those who wait for one change. Nobody is answered twice.
    pub(super) fn answer(&mut self, change: usize, result: &Result<(), GroupError>) {
        answer(self.0.get_mut(change).map(std::mem::take).unwrap_or_default(), result);
    }

    /// Refuses all who still wait.
    pub(super) fn refuse(&mut self, reason: &GroupError) {
        for replies in &mut self.0 {
            answer(std::mem::take(replies), &Err(reason.clone()));
        }
    }
}

fn answer(replies: Vec<Reply>, result: &Result<(), GroupError>) {
    for reply in replies {
        // Whoever asked may have gone.
        let _gone = reply.send(result.clone());
    }
}

/// Changes that are carried out together.
pub(super) struct Batch {
    pub(super) changes: Vec<(GroupId, Change)>,
    pub(super) replies: Replies,
}

/// What waits.
#[derive(Default)]
pub(super) struct Line {
    /// Whose turn it is next.
    turns: VecDeque<GroupId>,
    changes: BTreeMap<GroupId, VecDeque<Waiting>>,
    count: usize,
    replies: usize,
    bytes: usize,
}

impl Line {
    /// A change joins the line. A generation takes the place of one of the same group that nobody has begun to write: the newer
    /// one says all that the older one did.
    ///
    /// # Errors
    /// The line is full.
    pub(super) fn push(&mut self, group: &GroupId, change: Change, reply: Reply) -> Result<(), GroupError> {
        let bytes = bytes(&change);
        let last = self.changes.get_mut(group).and_then(VecDeque::back_mut);
        let merges = last.filter(|last| {
            let stores = (&last.change, &change);
            matches!(stores, (Change::Store(_), Change::Store(_)))
        });
        let others = self.bytes - merges.as_ref().map_or(0, |last| last.bytes);
        let too_many = self.replies >= WAITING_MAX || (merges.is_none() && self.count >= WAITING_MAX);
        if too_many || (others > 0 && others.saturating_add(bytes) > BYTES_MAX) {
            return Err(GroupError::Unavailable);
        }
        self.replies += 1;
        self.bytes = others.saturating_add(bytes);
        if let Some(last) = merges {
            (last.change, last.bytes) = (change, bytes);
            last.replies.push(reply);
            return Ok(());
        }
        self.count += 1;
        let waiting = Waiting {
            change,
            bytes,
            replies: vec![reply],
        };
        let of_group = self.changes.entry(group.clone()).or_default();
        if of_group.is_empty() {
            self.turns.push_back(group.clone());
        }
        of_group.push_back(waiting);
        Ok(())
    }

    /// Refuses all who wait. Their changes stay: they claim nothing any more, and the newest is what the store should hold.
    pub(super) fn refuse(&mut self, reason: &GroupError) {
        for waiting in self.changes.values_mut().flatten() {
            answer(std::mem::take(&mut waiting.replies), &Err(reason.clone()));
        }
        self.replies = 0;
    }

    /// The next changes, at most one of each group; a group of which more wait comes again after the others.
    pub(super) fn take(&mut self) -> Batch {
        let (mut changes, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..self.turns.len().min(BATCH_MAX) {
            let Some(group) = self.turns.pop_front() else { break };
            let Some(of_group) = self.changes.get_mut(&group) else {
                continue;
            };
            let first = of_group.pop_front();
            if of_group.is_empty() {
                self.changes.remove(&group);
            } else {
                self.turns.push_back(group.clone());
            }
            if let Some(first) = first {
                self.count -= 1;
                self.bytes -= first.bytes;
                self.replies -= first.replies.len();
                changes.push((group, first.change));
                replies.push(first.replies);
            }
        }
        let replies = Replies(replies);
        Batch { changes, replies }
    }
}

/// What a change takes in memory, roughly.
fn bytes(change: &Change) -> usize {
    const OVERHEAD: usize = 256;
    match change {
        Change::Store(StoredGroup { members, .. }) => members.iter().fold(OVERHEAD, |sum, member| {
            let protocols = member.protocols.iter().map(|p| p.name.len() + p.metadata.len());
            let instance = member.instance.as_ref().map_or(0, |instance| instance.as_str().len());
            let client = member.client.id.len() + member.client.host.len();
            let texts = member.member.as_str().len() + instance + client;
            sum + OVERHEAD + texts + member.assignment.len() + protocols.sum::<usize>()
        }),
        Change::Remove => OVERHEAD,
    }
}
