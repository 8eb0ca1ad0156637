//! The members of a group and the sums over them.
//!
//! Owns: members by id, static members by instance, how many know each protocol, how many wait for a join, bytes.
//! Does not own: what any of it means for the group.
//!
//! Invariants: the sums always equal what counting again would give; every change of a member goes through here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::JoinedMember;
use super::member::{Member, Protocol};
use crate::groups::ids::{InstanceId, MemberId, ProtocolName};

/// Members and sums.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<MemberId, Member>,
    statics: BTreeMap<InstanceId, MemberId>,
    supporters: BTreeMap<ProtocolName, usize>,
    joining: usize,
    unsynced: usize,
    bytes: usize,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait for the answer to a join.
    pub(super) const fn joining(&self) -> usize {
        self.joining
    }

    /// How many have not asked for their assignment in this generation.
    pub(super) const fn unsynced(&self) -> usize {
        self.unsynced
    }

    pub(super) fn get(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn contains(&self, id: &MemberId) -> bool {
        self.members.contains_key(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    pub(super) fn static_member(&self, instance: &InstanceId) -> Option<&MemberId> {
        self.statics.get(instance)
    }

    pub(super) fn insert(&mut self, id: MemberId, member: Member) {
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.count(&id, &member);
        let before = self.members.insert(id, member);
        debug_assert!(before.is_none(), "a member id is given out once");
    }

    pub(super) fn remove(&mut self, id: &MemberId) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.uncount(id, &member);
        if let Some(instance) = &member.instance
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
        Some(member)
    }

    /// Changes a member, except its instance id.
    pub(super) fn edit(&mut self, id: &MemberId, change: impl FnOnce(&mut Member)) {
        if let Some(mut member) = self.members.remove(id) {
            self.uncount(id, &member);
            change(&mut member);
            self.count(id, &member);
            self.members.insert(id.clone(), member);
        }
    }

    /// Changes every member, in the order of their ids.
    pub(super) fn edit_all(&mut self, mut change: impl FnMut(&MemberId, &mut Member)) {
        let mut members = std::mem::take(&mut self.members);
        for (id, member) in &mut members {
            self.uncount(id, member);
            change(id, member);
            self.count(id, member);
        }
        self.members = members;
    }

    /// Starts a session anew; returns when it ends.
    pub(super) fn touch(&mut self, now: Duration, id: &MemberId) -> Option<Duration> {
        let member = self.members.get_mut(id)?;
        member.session_ends = now.saturating_add(member.timeouts.session);
        Some(member.session_ends)
    }

    /// True if all members know at least one of `offered`.
    pub(super) fn support_one_of(&self, offered: &[Protocol]) -> bool {
        offered.iter().any(|protocol| self.all_support(&protocol.name))
    }

    /// The protocol that most members prefer among those that all know; the name decides a tie.
    pub(super) fn select_protocol(&self) -> Option<ProtocolName> {
        let mut votes: BTreeMap<&ProtocolName, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|offered| self.all_support(&offered.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let (winner, _) = votes
            .into_iter()
            .max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.cmp(a)))?;
        Some(winner.clone())
    }

    /// The slowest rebalance time-out.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.timeouts.rebalance)
            .max()
            .unwrap_or_default()
    }

    /// What a leader needs to make an assignment.
    pub(super) fn as_seen_by_leader(&self, protocol: &ProtocolName) -> Vec<JoinedMember> {
        let members = self.members.iter();
        let seen = members.map(|(id, member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol),
        });
        seen.collect()
    }

    fn all_support(&self, protocol: &ProtocolName) -> bool {
        self.supporters.get(protocol) == Some(&self.members.len())
    }

    fn count(&mut self, id: &MemberId, member: &Member) {
        for protocol in &member.protocols {
            *self.supporters.entry(protocol.name.clone()).or_default() += 1;
        }
        self.joining += usize::from(member.awaiting_join.is_some());
        self.unsynced += usize::from(member.sync_pending);
        self.bytes += member.bytes(id);
    }

    fn uncount(&mut self, id: &MemberId, member: &Member) {
        for protocol in &member.protocols {
            if let Some(supporters) = self.supporters.get_mut(&protocol.name) {
                *supporters -= 1;
                if *supporters == 0 {
                    self.supporters.remove(&protocol.name);
                }
            }
        }
        self.joining -= usize::from(member.awaiting_join.is_some());
        self.unsynced -= usize::from(member.sync_pending);
        self.bytes -= member.bytes(id);
    }

    /// The sums are what counting again gives.
    #[cfg(test)]
    pub(super) fn check_sums(&self) {
        let mut again = Self::default();
        for (id, member) in &self.members {
            again.insert(id.clone(), member.clone());
        }
        assert_eq!(again.supporters, self.supporters);
        assert_eq!(again.statics, self.statics);
        assert_eq!(
            (again.joining, again.unsynced, again.bytes),
            (self.joining, self.unsynced, self.bytes)
        );
    }
}
