//! What of a group must outlive its coordinator, and what happens when it is stored or could not be.
//!
//! Owns: the snapshot of a generation, and a group that comes back from one.
//! Does not own: where it is stored, in which bytes.
//!
//! Invariants: nobody is answered with something that a restarted coordinator would not know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::{Client, Effects, Group, GroupError, Phase, Protocol, Timeouts};
use crate::groups::ids::{Generation, InstanceId, MemberId, ProtocolName, Ticket};
use crate::groups::settings::GroupSettings;

/// Something to be stored; the group hears about it in [`Group::stored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// To be given back.
    pub ticket: Ticket,
    /// The group as it will be.
    pub group: StoredGroup,
}

/// How far a stored generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPhase {
    /// It has no members.
    Empty,
    /// Its members may have been told of it. Their assignments are those of an earlier one.
    Completing,
    /// Its members may have been told what they are assigned.
    Stable,
}

/// A generation of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// Which.
    pub generation: Generation,
    /// How far it is.
    pub phase: StoredPhase,
    /// Protocol type, if it ever had a member.
    pub protocol_type: Option<ProtocolName>,
    /// The protocol chosen; `None` if it has no members.
    pub protocol: Option<ProtocolName>,
    /// The leader; `None` if it has no members.
    pub leader: Option<MemberId>,
    /// The members in the order of their ids.
    pub members: Vec<StoredMember>,
}

/// A member of a stored generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// Its id.
    pub member: MemberId,
    /// Its instance id.
    pub instance: Option<InstanceId>,
    /// Its client.
    pub client: Client,
    /// Its time-outs.
    pub timeouts: Timeouts,
    /// What it offers.
    pub protocols: Vec<Protocol>,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// A static member that took over in a stable group, and what its answer will need.
#[derive(Debug)]
pub(super) struct Replacement {
    member: MemberId,
    leader_before: Option<MemberId>,
    knows_skip_assignment: bool,
}

impl Group {
    /// A group as its last coordinator stored it. Every session starts anew.
    #[must_use]
    pub fn restore(rules: Arc<GroupSettings>, now: Duration, stored: StoredGroup) -> Self {
        let mut group = Self::new(rules, now);
        group.generation = stored.generation;
        group.protocol_type = stored.protocol_type;
        group.protocol = stored.protocol;
        group.leader = stored.leader;
        for member in stored.members {
            let session_ends = now.saturating_add(member.timeouts.session);
            group.wake_by(session_ends);
            let restored = Member {
                instance: member.instance,
                client: member.client,
                timeouts: member.timeouts,
                protocols: member.protocols,
                assignment: member.assignment,
                is_new: false,
                knows_id: true,
                session_ends,
                awaiting_join: None,
                awaiting_sync: None,
                sync_pending: stored.phase == StoredPhase::Completing,
            };
            group.roster.insert(member.member, restored);
        }
        if !group.roster.is_empty() && stored.phase == StoredPhase::Completing {
            let sync_ends = now.saturating_add(group.roster.rebalance_timeout());
            group.phase = Phase::Completing {
                sync_ends,
                storing: None,
            };
            group.wake_by(sync_ends);
        } else if !group.roster.is_empty() {
            group.phase = Phase::Stable { sync_ends: None };
        } else if let Some(at) = group.forgettable_at() {
            group.wake_by(at);
        }
        group
    }

    /// The outcome of a [`Store`]. One that was not the last word any more is ignored.
    pub fn stored(&mut self, now: Duration, ticket: Ticket, outcome: Result<(), GroupError>) -> Effects {
        let mut fx = Effects::default();
        if self.announcing == Some(ticket) {
            self.announcing = None;
            self.announce(now, outcome, &mut fx);
        } else if let Phase::Completing {
            sync_ends,
            storing: Some(awaited),
        } = self.phase
            && awaited == ticket
        {
            match outcome {
                Ok(()) => self.stabilise(now, sync_ends, &mut fx),
                Err(reason) => {
                    self.refuse_syncs(now, &reason, &mut fx);
                    self.rebalance_or_complete(now, &mut fx);
                }
            }
        } else if let Some(replacement) = self.replacements.remove(&ticket) {
            self.answer_replacement(now, &replacement, outcome, &mut fx);
        }
        fx
    }

    pub(super) fn next_store(&mut self, phase: StoredPhase) -> Store {
        self.last_ticket += 1;
        Store {
            ticket: Ticket(self.last_ticket),
            group: self.snapshot(phase),
        }
    }

    /// The group stays as it is, but the new member must be known before it is answered.
    pub(super) fn store_replacement(
        &mut self,
        member: MemberId,
        leader_before: Option<MemberId>,
        knows_skip_assignment: bool,
        fx: &mut Effects,
    ) {
        let store = self.next_store(StoredPhase::Stable);
        self.replacements.insert(
            store.ticket,
            Replacement {
                member,
                leader_before,
                knows_skip_assignment,
            },
        );
        fx.stores.push(store);
    }

    fn answer_replacement(
        &mut self,
        now: Duration,
        replacement: &Replacement,
        outcome: Result<(), GroupError>,
        fx: &mut Effects,
    ) {
        let mut joined = self.joined(&replacement.member);
        if replacement.knows_skip_assignment {
            joined.skip_assignment = self.is_leader(&replacement.member);
        } else {
            // A client that does not know `skip_assignment` must not learn that it leads: it would assign anew.
            joined.leader = replacement.leader_before.clone();
            joined.members = Vec::new();
        }
        self.roster.edit(&replacement.member, |member| {
            if let Some(to) = member.awaiting_join.take() {
                fx.join(to, outcome.map(|()| joined));
            }
            member.is_new = false;
        });
        // Its session could not end while it waited, and no deadline looked at it.
        self.touch(now, &replacement.member);
    }

    fn snapshot(&self, phase: StoredPhase) -> StoredGroup {
        let members = self.roster.iter().map(|(id, member)| StoredMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            timeouts: member.timeouts,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        });
        let members = members.collect();
        StoredGroup {
            generation: self.generation,
            phase,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members,
        }
    }
}
