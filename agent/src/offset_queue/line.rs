//! Commits that wait or are under way, by group.
//!
//! Owns: their order, which become one entry, what goes into one commit of the log, how many there may be, who waits for what.
//! Does not own: sending (the parent module).
//!
//! Invariants: MEM-1 by [`WAITING_MAX`] and [`WAITING_BYTES_MAX`]. Commits of one group keep their order; a group is in `turns` exactly
//! once while commits of it wait and none is under way. Nobody is answered twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use esker_metadata::store::Compare;
use esker_model::entry::{ENTRIES_MAX, Offsets, RECORD_BYTES_MAX};
use tokio::sync::oneshot;

use super::Judged;

/// Commits that may wait.
pub(super) const WAITING_MAX: usize = 65_536;
/// Bytes of commits that may wait, unless it is one alone.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Memory of one that waits, besides what it says, roughly.
const OVERHEAD_BYTES: usize = 256;
/// Bytes of entries in one commit of the log, if it has more than one commit of a member.
const BYTES_MAX: usize = RECORD_BYTES_MAX / 2;

/// Who waits for a commit.
pub(super) type Reply = oneshot::Sender<Judged>;

/// A commit of a member, or of the coordinator itself.
pub(super) struct Waiting {
    pub(super) offsets: Offsets,
    /// What it takes of a record.
    pub(super) bytes: usize,
    /// The claim under which it was accepted.
    pub(super) compare: Compare,
    pub(super) reply: Reply,
}

/// An entry of the next commit of the log.
#[derive(Clone)]
pub(super) struct Entering {
    pub(super) group: Arc<str>,
    pub(super) compare: Compare,
    pub(super) offsets: Offsets,
    /// How many commits of members it is.
    pub(super) commits: usize,
}

/// An entry that is under way.
struct UnderWay {
    shard: u16,
    compare: Compare,
    /// Whose changes these are: how many, in order. Empty when they have been answered.
    parts: Vec<(usize, Reply)>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    under_way: Option<UnderWay>,
}

/// What waits.
#[derive(Default)]
pub(super) struct Lines {
    groups: BTreeMap<Arc<str>, Line>,
    /// Whose turn it is next.
    turns: VecDeque<Arc<str>>,
    count: usize,
    bytes: usize,
    /// Commits of the log.
    under_way: usize,
}

impl Lines {
    /// A commit joins the line of its group; false if there is no room.
    pub(super) fn push(&mut self, waiting: Waiting) -> bool {
        let bytes = waiting.bytes + OVERHEAD_BYTES;
        if self.count >= WAITING_MAX || (self.count > 0 && self.bytes + bytes > WAITING_BYTES_MAX) {
            return false;
        }
        (self.count, self.bytes) = (self.count + 1, self.bytes + bytes);
        let group = &*waiting.offsets.group;
        if let Some(line) = self.groups.get_mut(group)
            && (line.under_way.is_some() || !line.waiting.is_empty())
        {
            line.waiting.push_back(waiting);
            return true;
        }
        let group: Arc<str> = Arc::from(group);
        self.turns.push_back(Arc::clone(&group));
        self.groups.entry(group).or_default().waiting.push_back(waiting);
        true
    }

    /// What goes into the next commit of the log: one entry a group, in turn, within the limits of a record. `None` if nothing waits,
    /// or if it is better to wait for more: a commit that is not full goes out alone.
    pub(super) fn take(&mut self, under_way_max: usize) -> Option<Vec<Entering>> {
        let waits = self.under_way > 0 && !self.is_full();
        if self.turns.is_empty() || self.under_way >= under_way_max || waits {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < ENTRIES_MAX
            && let Some(group) = self.turns.pop_front()
        {
            match self.enter(&group, batch.is_empty(), &mut bytes) {
                Some(entering) => batch.push(entering),
                None => {
                    self.turns.push_front(group);
                    break;
                }
            }
        }
        self.under_way += 1;
        Some(batch)
    }

    /// Whether what waits fills a commit of the log.
    pub(super) fn is_full(&self) -> bool {
        self.turns.len() >= ENTRIES_MAX
    }

    /// As many commits of a group as fit and can be one entry; the first may be larger than the rest of the record.
    fn enter(&mut self, group: &Arc<str>, alone: bool, bytes: &mut usize) -> Option<Entering> {
        let line = self.groups.get_mut(group).expect("a group in turn has a line");
        let first_bytes = line.waiting.front().map_or(0, |first| first.bytes);
        if !alone && *bytes + first_bytes > BYTES_MAX {
            return None;
        }
        let first = line.waiting.pop_front().expect("a group in turn waits");
        let mut leave = |waiting: &Waiting| {
            *bytes += waiting.bytes;
            (self.count, self.bytes) = (self.count - 1, self.bytes - waiting.bytes - OVERHEAD_BYTES);
            *bytes
        };
        let mut filled = leave(&first);
        let (mut offsets, compare) = (first.offsets, first.compare);
        let mut parts = vec![(offsets.changes.len(), first.reply)];
        while let Some(next) = line.waiting.pop_front_if(|next| {
            // One of a transaction stands alone, and so does one under another claim.
            let plain = offsets.txn.is_none() && next.offsets.txn.is_none();
            plain && compare == next.compare && filled + next.bytes <= BYTES_MAX
        }) {
            filled = leave(&next);
            parts.push((next.offsets.changes.len(), next.reply));
            offsets.changes.extend(next.offsets.changes);
        }
        let commits = parts.len();
        line.under_way = Some(UnderWay {
            shard: offsets.shard,
            compare: compare.clone(),
            parts,
        });
        Some(Entering {
            group: Arc::clone(group),
            compare,
            offsets,
            commits,
        })
    }

    /// Who waits for the entry of a group that is under way, and how many of its changes are theirs, in order. They are answered now.
    pub(super) fn parts(&mut self, group: &str) -> Vec<(usize, Reply)> {
        let under_way = self.groups.get_mut(group).and_then(|line| line.under_way.as_mut());
        under_way.map_or_else(Vec::new, |under_way| std::mem::take(&mut under_way.parts))
    }

    /// A commit of the log is decided, for these groups.
    pub(super) fn on_done(&mut self, groups: &[Arc<str>]) {
        self.under_way -= 1;
        for group in groups {
            let line = self.groups.get_mut(group).expect("a group under way has a line");
            line.under_way = None;
            if line.waiting.is_empty() {
                self.groups.remove(group);
            } else {
                self.turns.push_back(Arc::clone(group));
            }
        }
    }

    /// Takes out who waits under a claim of a shard that is not the one held now: those of whose commits nobody knows, and those whose
    /// commits were not sent.
    pub(super) fn on_claim_lost(&mut self, shard: u16, held: Option<&Compare>) -> (Vec<Reply>, Vec<Reply>) {
        let (mut unknown, mut refused) = (Vec::new(), Vec::new());
        for line in self.groups.values_mut() {
            let under_way = line.under_way.as_mut();
            if let Some(lost) = under_way.filter(|one| one.shard == shard && Some(&one.compare) != held) {
                unknown.extend(std::mem::take(&mut lost.parts).into_iter().map(|(_, reply)| reply));
            }
            let is_lost = |one: &Waiting| one.offsets.shard == shard && Some(&one.compare) != held;
            if !line.waiting.iter().any(is_lost) {
                continue;
            }
            let (lost, stay) = line.waiting.drain(..).partition::<VecDeque<_>, _>(is_lost);
            line.waiting = stay;
            for one in lost {
                (self.count, self.bytes) = (self.count - 1, self.bytes - one.bytes - OVERHEAD_BYTES);
                refused.push(one.reply);
            }
        }
        self.groups
            .retain(|_, line| line.under_way.is_some() || !line.waiting.is_empty());
        let groups = &self.groups;
        self.turns.retain(|group| groups.contains_key(group));
        (unknown, refused)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.turns.is_empty() && (self.count, self.bytes, self.under_way) == (0, 0, 0)
    }
}
