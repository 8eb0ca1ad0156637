//! What one claim of a shard knows of the groups stored there, and which transactions make changes of them durable.
//!
//! Owns: the plan: which records are new, in which order keys are put, what fits into one transaction, what a transaction that
//! was carried out means. Pure.
//! Does not own: sending (`registry`).
//!
//! Invariants: GRP-2. A generation's key is put after every record that it names and before any that it no longer names is
//! deleted, whatever the number of transactions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker_metadata::keys::{group, group_member, group_writes, owner};
use esker_metadata::store::{Compare, KeyValue, Op, OpResult, Revision, TXN_BYTES_MAX, Txn};

use super::stored::{self, Records};
use crate::groups::group::StoredGroup;
use crate::groups::ids::GroupId;

/// Operations of one transaction, besides the one that counts it.
const OPS_MAX: usize = 120;
/// Bytes of one transaction that has more than one operation.
const BYTES_MAX: usize = 1 << 20;
/// Bytes that the transaction needs for its own keys.
const FRAME_BYTES: usize = 4 << 10;
/// Bytes that an operation takes besides its key and value.
const OP_BYTES: usize = 64;
/// Records without a generation that are deleted in passing.
const SWEPT_MAX: usize = 100;

/// A change of one group.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A generation of it.
    Store(StoredGroup),
    /// It is deleted or forgotten.
    Remove,
}

/// What it means that an operation was carried out.
#[derive(Debug)]
enum Effect {
    /// A record is there; no generation names it yet.
    Record(u64),
    /// A group has these records now. The number says whose change that was.
    Turned(usize, GroupId, Records),
    /// A group is gone.
    Gone(usize, GroupId),
    /// A record is gone.
    Swept(u64),
}

/// One transaction and what it means.
#[derive(Debug)]
pub(super) struct Step {
    txn: Txn,
    wrote: Bytes,
    effects: Vec<Effect>,
}

/// What became of the changes: those done by the steps that were planned.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In the order in which they must be carried out.
    pub(super) steps: Vec<Step>,
    /// Changes that need no transaction.
    pub(super) done: Vec<usize>,
    /// Changes that no transaction can hold.
    pub(super) too_large: Vec<usize>,
}

/// What the answer to a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It was carried out, now or by an earlier attempt.
    Done,
    /// Somebody else has the shard.
    Fenced,
}

/// The groups of one shard under one claim.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) shard: u16,
    pub(super) claim: Revision,
    /// When the incarnation began that the claim belongs to.
    pub(super) incarnation: Option<(Bytes, Revision)>,
    /// The last write as it stands in the store.
    pub(super) last: Option<Bytes>,
    pub(super) writes: group_writes::Writes,
    pub(super) groups: BTreeMap<GroupId, Records>,
    /// Records that no generation names.
    pub(super) unnamed: BTreeSet<u64>,
}

struct Draft {
    op: Op,
    effect: Effect,
}

impl Book {
    /// How to make changes durable, each of another group.
    pub(super) fn plan(&mut self, changes: Vec<(GroupId, Change)>) -> Plan {
        let mut plan = Plan::default();
        let mut drafts = Vec::new();
        for (number, (id, change)) in changes.into_iter().enumerate() {
            match change {
                Change::Store(group) => self.draft_store(number, id, &group, &mut drafts, &mut plan),
                Change::Remove => self.draft_removal(number, id, &mut drafts, &mut plan),
            }
        }
        let sweep = self.unnamed.iter().take(SWEPT_MAX);
        drafts.extend(sweep.map(|number| delete(self.shard, *number)));
        self.pack(drafts, &mut plan);
        plan
    }

    fn draft_store(
        &mut self,
        number: usize,
        id: GroupId,
        group: &StoredGroup,
        drafts: &mut Vec<Draft>,
        plan: &mut Plan,
    ) {
        let before = self.groups.get(&id);
        let mut records = Records::new();
        let mut new = Vec::new();
        for member in &group.members {
            let same = before
                .and_then(|before| before.get(&member.member))
                .filter(|(_, stored)| stored == member);
            let at = same.map_or(self.writes.next, |(at, _)| *at);
            if same.is_none() {
                self.writes.next += 1;
                let value = stored::member_key(member).encode();
                new.push(Draft {
                    op: Op::put(group_member::key(self.shard, at), value),
                    effect: Effect::Record(at),
                });
            }
            records.insert(member.member.clone(), (at, member.clone()));
        }
        let value = stored::generation_key(group, &records).encode();
        let old: Vec<u64> = before.map(|before| unused(before, &records)).unwrap_or_default();
        new.push(Draft {
            op: Op::put(group::key(self.shard, id.as_str()), value),
            effect: Effect::Turned(number, id, records),
        });
        if new.iter().any(|draft| bytes(&draft.op) + FRAME_BYTES > TXN_BYTES_MAX) {
            plan.too_large.push(number);
            return;
        }
        drafts.extend(new);
        drafts.extend(old.into_iter().map(|at| delete(self.shard, at)));
    }

    fn draft_removal(&self, number: usize, id: GroupId, drafts: &mut Vec<Draft>, plan: &mut Plan) {
        let Some(records) = self.groups.get(&id) else {
            plan.done.push(number);
            return;
        };
        let old: Vec<u64> = records.values().map(|(at, _)| *at).collect();
        drafts.push(Draft {
            op: Op::Delete(group::key(self.shard, id.as_str())),
            effect: Effect::Gone(number, id),
        });
        drafts.extend(old.into_iter().map(|at| delete(self.shard, at)));
    }

    /// Puts operations into transactions, in their order.
    fn pack(&mut self, drafts: Vec<Draft>, plan: &mut Plan) {
        let (mut ops, mut effects, mut filled) = (Vec::new(), Vec::new(), 0);
        let mut last = self.last.clone();
        for Draft { op, effect } in drafts {
            let more = bytes(&op);
            if ops.len() >= OPS_MAX || (filled + more > BYTES_MAX && !ops.is_empty()) {
                let (ops, effects) = (std::mem::take(&mut ops), std::mem::take(&mut effects));
                plan.steps.push(self.step(&mut last, ops, effects));
                filled = 0;
            }
            filled += more;
            ops.push(op);
            effects.push(effect);
        }
        if !ops.is_empty() {
            plan.steps.push(self.step(&mut last, ops, effects));
        }
    }

    fn step(&mut self, last: &mut Option<Bytes>, mut ops: Vec<Op>, effects: Vec<Effect>) -> Step {
        self.writes.claim = self.claim;
        self.writes.count += 1;
        let (key, wrote) = (group_writes::key(self.shard), self.writes.encode());
        let after = match last.replace(wrote.clone()) {
            Some(before) => Compare::Value(key.clone(), before),
            None => Compare::Absent(key.clone()),
        };
        let mut compares = vec![Compare::CreateRevision(owner::key(self.shard), self.claim), after];
        if let Some((incarnation, began)) = &self.incarnation {
            compares.push(Compare::ModRevision(incarnation.clone(), *began));
        }
        ops.push(Op::put(key.clone(), wrote.clone()));
        let txn = Txn {
            compares,
            then: ops,
            otherwise: vec![Op::Get(key)],
        };
        Step { txn, wrote, effects }
    }

    /// A step was carried out. Says whose changes are durable now.
    pub(super) fn done(&mut self, step: Step) -> Vec<usize> {
        self.last = Some(step.wrote);
        let mut durable = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Record(number) => drop(self.unnamed.insert(number)),
                Effect::Swept(number) => drop(self.unnamed.remove(&number)),
                Effect::Turned(change, id, records) => {
                    for (number, _) in records.values() {
                        self.unnamed.remove(number);
                    }
                    if let Some(before) = self.groups.get(&id) {
                        self.unnamed.extend(unused(before, &records));
                    }
                    self.groups.insert(id, records);
                    durable.push(change);
                }
                Effect::Gone(change, id) => {
                    let records = self.groups.remove(&id).unwrap_or_default();
                    self.unnamed.extend(records.values().map(|(number, _)| *number));
                    durable.push(change);
                }
            }
        }
        durable
    }
}

impl Step {
    /// The transaction.
    pub(super) fn txn(&self) -> Txn {
        self.txn.clone()
    }

    /// What its answer says when the compares did not hold.
    pub(super) fn judge(&self, results: Vec<OpResult>) -> Judged {
        let found = results.into_iter().next().and_then(OpResult::into_get);
        let ours = found.is_some_and(|KeyValue { value, .. }| value == self.wrote);
        if ours { Judged::Done } else { Judged::Fenced }
    }
}

fn bytes(op: &Op) -> usize {
    let value = match op {
        Op::Put { value, .. } => value.len(),
        Op::Delete(_) | Op::Get(_) => 0,
    };
    OP_BYTES + op.key().len() + value
}

/// Records that are in one generation and not in the other.
fn unused(before: &Records, after: &Records) -> Vec<u64> {
    let stays = |id, number: &u64| after.get(id).is_some_and(|(kept, _)| kept == number);
    let gone = before.iter().filter(|(id, (number, _))| !stays(*id, number));
    gone.map(|(_, (number, _))| *number).collect()
}

fn delete(shard: u16, number: u64) -> Draft {
    Draft {
        op: Op::Delete(group_member::key(shard, number)),
        effect: Effect::Swept(number),
    }
}
