//! SyncGroup: how the leader's assignment reaches the members.
//!
//! Owns: parking of members until the assignment is there, and is stored.
//! Does not own: what is stored (`store`).
//!
//! Invariants: an assignment is handed out only in its own generation, whole, and after it was stored.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Effects, Group, GroupError, Phase, StoredPhase};
use crate::groups::ids::{Generation, InstanceId, MemberId, ProtocolName, ReplyTo};

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct SyncCommand {
    /// Who asks.
    pub member: MemberId,
    /// Its instance id, if it is a static member.
    pub instance: Option<InstanceId>,
    /// The generation it believes to be in.
    pub generation: Generation,
    /// What it believes the protocol type to be, if it says so.
    pub protocol_type: Option<ProtocolName>,
    /// What it believes the protocol to be, if it says so.
    pub protocol: Option<ProtocolName>,
    /// From the leader: who gets what.
    pub assignments: Vec<(MemberId, Bytes)>,
    /// Where the answer goes.
    pub reply_to: ReplyTo,
}

/// The answer to a member that has an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Protocol type of the group.
    pub protocol_type: Option<ProtocolName>,
    /// The protocol chosen.
    pub protocol: Option<ProtocolName>,
    /// What the leader gave this member; empty if the leader left it out.
    pub assignment: Bytes,
}

impl Group {
    /// A member asks for its assignment; the leader brings it.
    pub fn sync(&mut self, now: Duration, sync: SyncCommand) -> Effects {
        let mut fx = Effects::default();
        let to = sync.reply_to;
        if let Err(refusal) = self.try_sync(now, sync, &mut fx) {
            fx.sync(to, Err(refusal));
        }
        fx
    }

    fn try_sync(&mut self, now: Duration, sync: SyncCommand, fx: &mut Effects) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_member(&sync.member, sync.instance.as_ref())?;
        self.check_generation(sync.generation)?;
        let differs = |said: &Option<ProtocolName>, held: &Option<ProtocolName>| said.is_some() && said != held;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty { .. } | Phase::Dead => Err(GroupError::UnknownMember),
            Phase::Preparing(_) => Err(GroupError::RebalanceInProgress),
            // Nobody can know this generation yet.
            Phase::Completing { .. } if self.announcing.is_some() => Err(GroupError::RebalanceInProgress),
            Phase::Completing { sync_ends, storing } => {
                let leads = self.is_leader(&sync.member) && storing.is_none();
                if leads {
                    self.check_assignments(&sync.assignments)?;
                }
                self.park_sync(&sync, fx);
                if leads {
                    self.assign(sync.assignments);
                    let store = self.next_store(StoredPhase::Stable);
                    self.phase = Phase::Completing {
                        sync_ends,
                        storing: Some(store.ticket),
                    };
                    fx.stores.push(store);
                }
                Ok(())
            }
            Phase::Stable { .. } => {
                self.mark_synced(&sync.member);
                self.touch(now, &sync.member);
                let assignment = self
                    .roster
                    .get(&sync.member)
                    .map(|m| m.assignment.clone())
                    .unwrap_or_default();
                fx.sync(sync.reply_to, Ok(self.synced(assignment)));
                Ok(())
            }
        }
    }

    fn check_assignments(&self, assignments: &[(MemberId, Bytes)]) -> Result<(), GroupError> {
        let max = self.rules.member_bytes_max;
        if assignments.iter().any(|(_, assignment)| assignment.len() > max) {
            return Err(GroupError::RequestTooLarge {
                limit: "bytes of an assignment",
                max,
            });
        }
        Ok(())
    }

    fn park_sync(&mut self, sync: &SyncCommand, fx: &mut Effects) {
        self.roster.edit(&sync.member, |member| {
            member.sync_pending = false;
            if let Some(before) = member.awaiting_sync.replace(sync.reply_to) {
                fx.sync(before, Err(GroupError::RebalanceInProgress));
            }
        });
    }

    pub(super) fn mark_synced(&mut self, member: &MemberId) {
        self.roster.edit(member, |member| member.sync_pending = false);
        self.stop_waiting_for_syncs();
    }

    /// Once nobody is missing there is no deadline any more.
    pub(super) fn stop_waiting_for_syncs(&mut self) {
        if matches!(self.phase, Phase::Stable { .. }) && self.roster.unsynced() == 0 {
            self.phase = Phase::Stable { sync_ends: None };
        }
    }

    /// Every member gets what the leader says, and nothing if the leader does not mention it.
    fn assign(&mut self, assignments: Vec<(MemberId, Bytes)>) {
        let mut assignments: BTreeMap<MemberId, Bytes> = assignments.into_iter().collect();
        self.roster
            .edit_all(|id, member| member.assignment = assignments.remove(id).unwrap_or_default());
    }

    /// The generation is stored: everybody who waits gets its assignment.
    pub(super) fn stabilise(&mut self, now: Duration, sync_ends: Duration, fx: &mut Effects) {
        let sync_ends = Some(sync_ends).filter(|_| self.roster.unsynced() > 0);
        self.phase = Phase::Stable { sync_ends };
        let mut waiting = Vec::new();
        self.roster.edit_all(|id, member| {
            if let Some(to) = member.awaiting_sync.take() {
                waiting.push((id.clone(), to, member.assignment.clone()));
            }
        });
        for (id, to, assignment) in waiting {
            self.touch(now, &id);
            let synced = self.synced(assignment);
            fx.sync(to, Ok(synced));
        }
        if let Some(at) = sync_ends {
            self.wake_by(at);
        }
    }
}
