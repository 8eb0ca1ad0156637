//! How a generation ends and the next one begins, and everything that happens because time passes.
//!
//! Owns: the phases and their deadlines, who is left behind, the choice of leader and protocol.
//! Does not own: what the requests say (`join`, `sync`, `leave`).
//!
//! Invariants: each phase but Empty and Dead has a deadline, and a deadline that passes either ends the phase or, when only
//! static members are left and none came back, waits again until their sessions end.

use std::time::Duration;

use bytes::Bytes;

use super::{Effects, Group, GroupError, JoinPhase, Phase, StoredPhase};
use crate::groups::ids::{Generation, MemberId};

/// Shortest wait before a join is tried again to which no static member came, whatever time-out they asked for.
const REJOIN_RETRY_MIN: Duration = Duration::from_secs(1);
/// How often one call may react to deadlines that are due at once, such as those of time-outs of 0.
const DUE_PHASES_MAX: usize = 8;

impl Group {
    /// Lets time pass: ends sessions, and phases whose deadline has come.
    pub fn on_time(&mut self, now: Duration) -> Effects {
        let mut fx = Effects::default();
        for _ in 0..DUE_PHASES_MAX {
            self.expire_sessions(now, &mut fx);
            self.expire_phase(now, &mut fx);
            self.wakes_at = self.earliest_deadline();
            if self.wakes_at.is_none_or(|at| at > now) || self.is_forgettable(now) {
                break;
            }
        }
        fx
    }

    fn earliest_deadline(&self) -> Option<Duration> {
        let sessions = self
            .roster
            .iter()
            .filter(|(_, m)| m.can_expire())
            .map(|(_, m)| m.session_ends);
        let phase = match self.phase {
            Phase::Empty { .. } => self.forgettable_at(),
            Phase::Preparing(JoinPhase::Initial { ends, .. }) => Some(ends),
            Phase::Preparing(JoinPhase::Rejoin { ends }) => Some(ends).filter(|_| self.announcing.is_none()),
            Phase::Completing { sync_ends, .. } => Some(sync_ends).filter(|_| self.roster.unsynced() > 0),
            Phase::Stable { sync_ends } => sync_ends,
            Phase::Dead => None,
        };
        sessions.chain(self.pending.values().copied()).chain(phase).min()
    }

    fn expire_sessions(&mut self, now: Duration, fx: &mut Effects) {
        let late: Vec<MemberId> = self
            .pending
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &late {
            self.forget_pending(id);
        }
        let expired = self.roster.iter().filter(|(_, member)| member.is_expired(now));
        let expired: Vec<MemberId> = expired.map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.drop_member(id, fx);
        }
        if !expired.is_empty() {
            self.rebalance_or_complete(now, fx);
        } else if !late.is_empty() {
            self.try_complete_join(now, fx);
        }
    }

    fn expire_phase(&mut self, now: Duration, fx: &mut Effects) {
        match self.phase {
            Phase::Preparing(JoinPhase::Initial {
                ends,
                delay,
                remaining,
                grew,
            }) if ends <= now => {
                if grew && !remaining.is_zero() {
                    let next = self.rules.initial_rebalance_delay.min(remaining);
                    let remaining = remaining.saturating_sub(delay);
                    self.begin_initial(now, next, remaining);
                } else {
                    self.complete_join(now, fx);
                }
            }
            // One generation is stored at a time.
            Phase::Preparing(JoinPhase::Rejoin { ends }) if ends <= now && self.announcing.is_none() => {
                self.complete_join(now, fx);
            }
            Phase::Completing { sync_ends, .. }
            | Phase::Stable {
                sync_ends: Some(sync_ends),
            } if sync_ends <= now => {
                self.expire_syncs(now, fx);
            }
            Phase::Empty { .. }
            | Phase::Preparing(_)
            | Phase::Completing { .. }
            | Phase::Stable { .. }
            | Phase::Dead => {}
        }
    }

    /// Members that never asked for their assignment are removed.
    fn expire_syncs(&mut self, now: Duration, fx: &mut Effects) {
        let silent = self.roster.iter().filter(|(_, member)| member.sync_pending);
        let silent: Vec<MemberId> = silent.map(|(id, _)| id.clone()).collect();
        if silent.is_empty() {
            self.stop_waiting_for_syncs();
            return;
        }
        for id in &silent {
            self.drop_member(id, fx);
        }
        self.prepare_rebalance(now, fx);
    }

    /// The membership has changed: start a rebalance, or see whether the running one can go on.
    pub(super) fn rebalance_or_complete(&mut self, now: Duration, fx: &mut Effects) {
        match self.phase {
            Phase::Empty { .. } | Phase::Completing { .. } | Phase::Stable { .. } => self.prepare_rebalance(now, fx),
            Phase::Preparing(_) => self.try_complete_join(now, fx),
            Phase::Dead => {}
        }
    }

    fn prepare_rebalance(&mut self, now: Duration, fx: &mut Effects) {
        if matches!(self.phase, Phase::Completing { .. }) {
            self.refuse_syncs(now, &GroupError::RebalanceInProgress, fx);
        }
        // Members that were to be told that they are in this generation wait for the next one instead.
        self.replacements.clear();
        self.roster.edit_all(|_, member| member.sync_pending = false);
        let timeout = self.roster.rebalance_timeout();
        if matches!(self.phase, Phase::Empty { .. }) {
            let delay = self.rules.initial_rebalance_delay;
            self.begin_initial(now, delay, timeout.saturating_sub(delay));
        } else {
            self.begin_rejoin(now, timeout);
            self.try_complete_join(now, fx);
        }
    }

    fn begin_initial(&mut self, now: Duration, delay: Duration, remaining: Duration) {
        let ends = now.saturating_add(delay);
        self.phase = Phase::Preparing(JoinPhase::Initial {
            ends,
            delay,
            remaining,
            grew: false,
        });
        self.wake_by(ends);
    }

    fn begin_rejoin(&mut self, now: Duration, wait: Duration) {
        let ends = now.saturating_add(wait);
        self.phase = Phase::Preparing(JoinPhase::Rejoin { ends });
        self.wake_by(ends);
    }

    /// Goes on at once if nobody is missing any more, unless it is the first rebalance, which takes its time, or the generation
    /// before it is still being stored: so many who come one after the other make few generations.
    pub(super) fn try_complete_join(&mut self, now: Duration, fx: &mut Effects) {
        let rejoin = matches!(self.phase, Phase::Preparing(JoinPhase::Rejoin { .. }));
        if rejoin && self.announcing.is_none() && self.pending.is_empty() && self.roster.joining() == self.roster.len()
        {
            self.complete_join(now, fx);
        }
    }

    /// Begins the next generation with those who have joined, and static members who may yet come.
    fn complete_join(&mut self, now: Duration, fx: &mut Effects) {
        let left_behind = self
            .roster
            .iter()
            .filter(|(_, m)| m.awaiting_join.is_none() && m.instance.is_none());
        let left_behind: Vec<MemberId> = left_behind.map(|(id, _)| id.clone()).collect();
        for id in &left_behind {
            self.drop_member(id, fx);
        }
        if self.roster.is_empty() {
            self.become_empty(now, fx);
            return;
        }
        if !self.elect_leader() {
            // Only static members are left, and none has come: their sessions decide.
            self.begin_rejoin(now, self.roster.rebalance_timeout().max(REJOIN_RETRY_MIN));
            return;
        }
        self.generation = self.generation.next();
        self.protocol = self.roster.select_protocol();
        self.begin_completing(now);
        // A generation is stored before anybody hears of it: another coordinator must not give out its number again.
        let store = self.next_store(StoredPhase::Completing);
        self.announcing = Some(store.ticket);
        fx.stores.push(store);
    }

    /// From now on the leader's assignment is awaited.
    fn begin_completing(&mut self, now: Duration) {
        let sync_ends = now.saturating_add(self.roster.rebalance_timeout());
        self.phase = Phase::Completing {
            sync_ends,
            storing: None,
        };
        self.wake_by(sync_ends);
    }

    /// The generation is stored, or could not be: those who joined are told. If members came or went meanwhile they are not
    /// told of this one, but of the next.
    pub(super) fn announce(&mut self, now: Duration, outcome: Result<(), GroupError>, fx: &mut Effects) {
        match outcome {
            Ok(()) if matches!(self.phase, Phase::Completing { .. }) => {
                self.begin_completing(now);
                self.answer_joins(now, fx);
            }
            Ok(()) => {
                self.try_complete_join(now, fx);
                // Its deadline did not count while the generation was being stored.
                if let Phase::Preparing(JoinPhase::Rejoin { ends }) = self.phase {
                    self.wake_by(ends);
                }
            }
            Err(reason) => {
                self.refuse_joins(now, &reason, fx);
                if matches!(self.phase, Phase::Preparing(JoinPhase::Rejoin { .. })) {
                    // Those who were refused are given the time to come back.
                    self.begin_rejoin(now, self.roster.rebalance_timeout());
                }
                self.rebalance_or_complete(now, fx);
            }
        }
    }

    /// Tells those who wait to join again. Who does not know its id cannot, and is forgotten.
    fn refuse_joins(&mut self, now: Duration, reason: &GroupError, fx: &mut Effects) {
        let (mut waiting, mut lost) = (Vec::new(), Vec::new());
        self.roster.edit_all(|id, member| {
            if let Some(to) = member.awaiting_join.take() {
                fx.join(to, Err(reason.clone()));
                let returns = !member.is_new || member.knows_id || member.instance.is_some();
                if returns { &mut waiting } else { &mut lost }.push(id.clone());
                member.is_new = false;
            }
        });
        for id in &waiting {
            self.touch(now, id);
        }
        for id in &lost {
            self.drop_member(id, fx);
        }
    }

    fn answer_joins(&mut self, now: Duration, fx: &mut Effects) {
        let ids: Vec<MemberId> = self.roster.iter().map(|(id, _)| id.clone()).collect();
        for id in &ids {
            let joined = self.joined(id);
            self.roster.edit(id, |member| {
                if let Some(to) = member.awaiting_join.take() {
                    fx.join(to, Ok(joined));
                }
                member.is_new = false;
                member.sync_pending = true;
            });
            self.touch(now, id);
        }
    }

    /// The leader must be somebody who waits for an answer. False if nobody does.
    fn elect_leader(&mut self) -> bool {
        let waits = |id: &MemberId| self.roster.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(waits) {
            return true;
        }
        let candidate = self.roster.iter().find(|(_, member)| member.awaiting_join.is_some());
        let Some((candidate, _)) = candidate else { return false };
        self.leader = Some(candidate.clone());
        true
    }

    /// The last member has left: a rebalance ends here, whatever it waits for. The first one goes on for those who may yet come,
    /// and nothing of its members was stored.
    pub(super) fn empty_now(&mut self, now: Duration, fx: &mut Effects) {
        if matches!(self.phase, Phase::Preparing(JoinPhase::Rejoin { .. })) {
            self.become_empty(now, fx);
        }
    }

    fn become_empty(&mut self, now: Duration, fx: &mut Effects) {
        self.protocol = None;
        self.leader = None;
        self.announcing = None;
        self.phase = Phase::Empty { since: now };
        if self.generation > Generation(0) {
            self.generation = self.generation.next();
            let store = self.next_store(StoredPhase::Empty);
            fx.stores.push(store);
        }
        if let Some(at) = self.forgettable_at() {
            self.wake_by(at);
        }
    }

    /// Removes a member; what it waits for is refused, because it is not a member any more.
    pub(super) fn drop_member(&mut self, id: &MemberId, fx: &mut Effects) {
        let Some(member) = self.roster.remove(id) else { return };
        if let Some(to) = member.awaiting_join {
            fx.join(to, Err(GroupError::UnknownMember));
        }
        if let Some(to) = member.awaiting_sync {
            fx.sync(to, Err(GroupError::UnknownMember));
        }
        if self.is_leader(id) {
            self.leader = self.roster.iter().next().map(|(next, _)| next.clone());
        }
    }

    /// Takes assignments back and tells those who wait for one to join again.
    pub(super) fn refuse_syncs(&mut self, now: Duration, reason: &GroupError, fx: &mut Effects) {
        let mut waiting = Vec::new();
        self.roster.edit_all(|id, member| {
            member.assignment = Bytes::new();
            if let Some(to) = member.awaiting_sync.take() {
                fx.sync(to, Err(reason.clone()));
                waiting.push(id.clone());
            }
        });
        for id in &waiting {
            self.touch(now, id);
        }
    }
}
