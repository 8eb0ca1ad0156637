//! JoinGroup: how a member gets into a group, and back into it.
//!
//! Owns: who is let in, member ids before membership, static members that come back, what is answered at once.
//! Does not own: how long the others are awaited (`rebalance`).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::{Client, Effects, Group, GroupError, JoinPhase, Phase, Protocol, Timeouts};
use crate::groups::ids::{Generation, InstanceId, MemberId, ProtocolName, ReplyTo};
use crate::groups::settings::GroupSettings;

/// Memory of an id that was given out, besides its text, roughly.
const PENDING_OVERHEAD_BYTES: usize = 128;

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct JoinCommand {
    /// The member's id, or empty.
    pub member: MemberId,
    /// Its instance id, if it is a static member.
    pub instance: Option<InstanceId>,
    /// Who asks.
    pub client: Client,
    /// Its time-outs.
    pub timeouts: Timeouts,
    /// What kind of group it takes this for.
    pub protocol_type: ProtocolName,
    /// What it can do, best first.
    pub protocols: Vec<Protocol>,
    /// The client understands MEMBER_ID_REQUIRED (request version 4 and up).
    pub knows_member_id_required: bool,
    /// The client understands `skip_assignment` (request version 9 and up).
    pub knows_skip_assignment: bool,
    /// A fresh id, used if the member has none.
    pub fresh_id: MemberId,
    /// Where the answer goes; the coordinator fills it in.
    pub reply_to: ReplyTo,
}

/// The answer to a member that is in a generation now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: Generation,
    /// Protocol type of the group.
    pub protocol_type: Option<ProtocolName>,
    /// The protocol chosen.
    pub protocol: Option<ProtocolName>,
    /// The member that makes the assignment.
    pub leader: Option<MemberId>,
    /// The member that is answered.
    pub member: MemberId,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
    /// The leader must not make a new assignment: the group did not rebalance.
    pub skip_assignment: bool,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: MemberId,
    /// Its instance id.
    pub instance: Option<InstanceId>,
    /// What it says under the chosen protocol.
    pub metadata: Bytes,
}

impl JoinCommand {
    /// Counts and lengths are within the limits, and no protocol is offered twice.
    fn check(&mut self, rules: &GroupSettings) -> Result<(), GroupError> {
        let too_large = |limit, max| Err(GroupError::RequestTooLarge { limit, max });
        if self.protocols.len() > rules.member_protocols_max {
            return too_large("protocols of a member", rules.member_protocols_max);
        }
        if self.instance.as_ref().map_or(0, InstanceId::len) > rules.instance_id_bytes_max {
            return too_large("bytes of an instance id", rules.instance_id_bytes_max);
        }
        let names = self.protocols.iter().map(|protocol| protocol.name.len());
        let longest = names.chain([self.protocol_type.len(), self.client.id.len()]).max();
        if longest.unwrap_or(0) > rules.text_bytes_max {
            return too_large("bytes of a name", rules.text_bytes_max);
        }
        let bytes: usize = self.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
        if bytes + self.protocol_type.len() > rules.member_bytes_max {
            return too_large("bytes of protocols", rules.member_bytes_max);
        }
        let mut names = BTreeSet::new();
        self.protocols.retain(|protocol| names.insert(protocol.name.clone()));
        Ok(())
    }
}

impl Group {
    /// A member wants in, or in again. The answer may come much later, from another call.
    pub fn join(&mut self, now: Duration, join: JoinCommand) -> Effects {
        let mut fx = Effects::default();
        let to = join.reply_to;
        if let Err(refusal) = self.try_join(now, join, &mut fx) {
            fx.join(to, Err(refusal));
        }
        fx
    }

    fn try_join(&mut self, now: Duration, mut join: JoinCommand, fx: &mut Effects) -> Result<(), GroupError> {
        self.check_alive()?;
        join.check(&self.rules)?;
        if !self.has_room_for(&join.member) {
            self.forget_pending(&join.member);
            self.drop_member(&join.member, fx);
            self.try_complete_join(now, fx);
            return Err(GroupError::GroupFull {
                limit: "members",
                max: self.rules.members_max,
            });
        }
        if !self.speaks(&join) {
            return Err(GroupError::InconsistentProtocol);
        }
        if join.member.is_empty() {
            self.join_unknown(now, join, fx)
        } else {
            self.join_known(now, join, fx)
        }
    }

    /// While members are joining, those who wait count: so the last to come are left out when the limit was lowered.
    fn has_room_for(&self, member: &MemberId) -> bool {
        let max = self.rules.members_max;
        match self.phase {
            Phase::Empty { .. } | Phase::Dead => true,
            Phase::Preparing(_) => {
                let waits = self.roster.get(member).is_some_and(|m| m.awaiting_join.is_some());
                waits || self.roster.joining() < max
            }
            Phase::Completing { .. } | Phase::Stable { .. } => self.roster.contains(member) || self.roster.len() < max,
        }
    }

    fn speaks(&self, join: &JoinCommand) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.roster.is_empty() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type) && self.roster.support_one_of(&join.protocols)
    }

    fn join_unknown(&mut self, now: Duration, join: JoinCommand, fx: &mut Effects) -> Result<(), GroupError> {
        if let Some(instance) = &join.instance {
            match self.roster.static_member(instance).cloned() {
                Some(old) => self.replace_static(now, &old, join, fx),
                None => self.add_member(now, join.fresh_id.clone(), join, fx),
            }
            return Ok(());
        }
        if !join.knows_member_id_required {
            self.add_member(now, join.fresh_id.clone(), join, fx);
            return Ok(());
        }
        let max = self.rules.members_max;
        if self.pending.len() >= max {
            return Err(GroupError::Overloaded {
                limit: "members about to join",
                max,
            });
        }
        let until = now.saturating_add(join.timeouts.session);
        self.pending_bytes += join.fresh_id.len() + PENDING_OVERHEAD_BYTES;
        self.pending.insert(join.fresh_id.clone(), until);
        self.wake_by(until);
        Err(GroupError::MemberIdRequired {
            assigned: join.fresh_id,
        })
    }

    fn join_known(&mut self, now: Duration, join: JoinCommand, fx: &mut Effects) -> Result<(), GroupError> {
        if self.pending.contains_key(&join.member) {
            if join.instance.is_some() {
                // Static members are never told to come back with an id.
                return Err(GroupError::UnknownMember);
            }
            self.add_member(now, join.member.clone(), join, fx);
            return Ok(());
        }
        self.check_member(&join.member, join.instance.as_ref())?;
        let changed = self
            .roster
            .get(&join.member)
            .is_none_or(|member| member.protocols != join.protocols);
        let rebalance = match self.phase {
            Phase::Empty { .. } | Phase::Dead => return Err(GroupError::UnknownMember),
            Phase::Preparing(_) => true,
            // The answer to its join was lost: it gets the same again.
            Phase::Completing { .. } => changed,
            // A leader joins again when it has seen something that its metadata does not show, such as new partitions.
            Phase::Stable { .. } => changed || self.is_leader(&join.member),
        };
        if rebalance {
            let id = join.member.clone();
            self.update_member(&id, join, fx);
            self.rebalance_or_complete(now, fx);
        } else if self.announcing.is_some() {
            let id = join.member.clone();
            self.update_member(&id, join, fx);
        } else {
            self.touch(now, &join.member);
            fx.join(join.reply_to, Ok(self.joined(&join.member)));
        }
        Ok(())
    }

    fn add_member(&mut self, now: Duration, id: MemberId, join: JoinCommand, fx: &mut Effects) {
        self.forget_pending(&id);
        if let Phase::Preparing(JoinPhase::Initial { grew, .. }) = &mut self.phase {
            *grew = true;
        }
        if self.roster.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        self.leader.get_or_insert_with(|| id.clone());
        // It cannot send heartbeats before it is answered, and may be long gone: it is kept for a fixed time.
        let session_ends = now.saturating_add(self.rules.new_member_join_timeout);
        self.wake_by(session_ends);
        let member = Member {
            instance: join.instance,
            client: join.client,
            timeouts: join.timeouts,
            protocols: join.protocols,
            assignment: Bytes::new(),
            is_new: true,
            knows_id: !join.member.is_empty(),
            session_ends,
            awaiting_join: Some(join.reply_to),
            awaiting_sync: None,
            sync_pending: false,
        };
        self.roster.insert(id, member);
        self.rebalance_or_complete(now, fx);
    }

    /// Takes over what the member says now, and parks it.
    fn update_member(&mut self, id: &MemberId, join: JoinCommand, fx: &mut Effects) {
        self.roster.edit(id, |member| {
            if let Some(before) = member.awaiting_join.replace(join.reply_to) {
                // It has given up on that request, or it would not have sent another one.
                fx.join(before, Err(GroupError::RebalanceInProgress));
            }
            member.client = join.client;
            member.timeouts = join.timeouts;
            member.protocols = join.protocols;
        });
    }

    /// A static member came back without its id: it takes the place of `old` under a new one (KIP-345).
    fn replace_static(&mut self, now: Duration, old: &MemberId, join: JoinCommand, fx: &mut Effects) {
        let new = join.fresh_id.clone();
        let leader_before = self.leader.clone();
        let knows_skip_assignment = join.knows_skip_assignment;
        let Some(mut member) = self.roster.remove(old) else {
            return;
        };
        if let Some(to) = member.awaiting_join.take() {
            fx.join(to, Err(GroupError::FencedInstance));
        }
        if let Some(to) = member.awaiting_sync.take() {
            fx.sync(to, Err(GroupError::FencedInstance));
        }
        // While it waits its session cannot end, whatever its predecessor had left of its own.
        member.is_new = false;
        self.roster.insert(new.clone(), member);
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        self.update_member(&new, join, fx);
        self.touch(now, &new);
        // The new process starts with a fresh session; it is not to blame for what the old one had not done yet.
        self.mark_synced(&new);
        let protocol_stays = self.roster.select_protocol() == self.protocol;
        if matches!(self.phase, Phase::Stable { .. }) && protocol_stays {
            self.store_replacement(new, leader_before, knows_skip_assignment, fx);
        } else {
            self.rebalance_or_complete(now, fx);
        }
    }

    /// Takes back an id that was given out. True if there was one.
    pub(super) fn forget_pending(&mut self, id: &MemberId) -> bool {
        if self.pending.remove(id).is_none() {
            return false;
        }
        self.pending_bytes -= id.len() + PENDING_OVERHEAD_BYTES;
        true
    }
}
