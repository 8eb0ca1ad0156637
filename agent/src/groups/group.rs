//! One classic consumer group: who is in it, what generation it is in, who waits for what.
//!
//! Owns: every decision of the classic group protocol (join, sync, heartbeat, leave, time-outs, KIP-345 static members,
//! KIP-394 member ids, KIP-814 skipped assignments) and whether a member may commit offsets.
//! Does not own: time (`now` is an argument), sockets (answers go to [`ReplyTo`] numbers), storage (a generation that must
//! be durable is handed out as a [`Store`] and waits for [`Group::stored`]), what metadata and assignments mean.
//!
//! Invariants: GRP-1. One generation has one leader and one list of members. A member is answered with its own whole
//! assignment or with an error, never with a part. Every rebalance ends: each phase has a deadline.

mod commit;
mod describe;
mod join;
mod leave;
mod member;
mod rebalance;
mod roster;
mod store;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::GroupError;
use super::ids::{Generation, InstanceId, MemberId, ProtocolName, ReplyTo, Ticket};
use super::settings::GroupSettings;
use roster::Roster;
use store::Replacement;

pub use describe::{Description, MemberDescription};
pub use join::{JoinCommand, Joined, JoinedMember};
pub use leave::Leaver;
pub use member::{Client, Protocol, Timeouts};
pub use store::{Store, StoredGroup, StoredMember, StoredPhase};
pub use sync::{SyncCommand, Synced};

/// State of a group as Kafka names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// Members have joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Everybody can have an assignment.
    Stable,
    /// Removed; nothing comes back to life.
    Dead,
}

impl State {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// Where a group stands, with what only matters there.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Empty {
        since: Duration,
    },
    Preparing(JoinPhase),
    /// Everybody who joined is told of the generation once it is stored (`Group::announcing`).
    Completing {
        /// Who has not sent SyncGroup by then is removed.
        sync_ends: Duration,
        /// The leader's assignment is being stored.
        storing: Option<Ticket>,
    },
    Stable {
        /// As above; `None` when everybody has.
        sync_ends: Option<Duration>,
    },
    Dead,
}

/// How members are awaited.
#[derive(Clone, Copy, Debug)]
enum JoinPhase {
    /// The group was empty: wait a fixed time, longer while members keep coming.
    Initial {
        ends: Duration,
        /// How long this wait is.
        delay: Duration,
        /// How much longer it may become.
        remaining: Duration,
        /// Somebody came since it began.
        grew: bool,
    },
    /// Wait until all members have joined again, or the slowest rebalance time-out.
    Rejoin { ends: Duration },
}

/// An answer to a parked (or just received) request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a JoinGroup.
    Join(Result<Joined, GroupError>),
    /// To a SyncGroup.
    Sync(Result<Synced, GroupError>),
}

/// What a decision asks the runtime to do: send the replies, and store. Replies that must wait for a store are not
/// among them; they come out of [`Group::stored`].
#[derive(Debug, Default)]
#[must_use]
pub struct Effects {
    /// Answers that can go out now.
    pub replies: Vec<(ReplyTo, Reply)>,
    /// What must be stored, in this order.
    pub stores: Vec<Store>,
}

impl Effects {
    fn join(&mut self, to: ReplyTo, result: Result<Joined, GroupError>) {
        self.replies.push((to, Reply::Join(result)));
    }

    fn sync(&mut self, to: ReplyTo, result: Result<Synced, GroupError>) {
        self.replies.push((to, Reply::Sync(result)));
    }
}

/// A group.
#[derive(Debug)]
pub struct Group {
    rules: Arc<GroupSettings>,
    phase: Phase,
    generation: Generation,
    protocol_type: Option<ProtocolName>,
    protocol: Option<ProtocolName>,
    leader: Option<MemberId>,
    roster: Roster,
    /// Members that were given an id and have not used it, and until when they may.
    pending: BTreeMap<MemberId, Duration>,
    pending_bytes: usize,
    /// Static members that took over an instance id in a stable group, whose answer waits for a store.
    replacements: BTreeMap<Ticket, Replacement>,
    /// A generation that is being stored, and that nobody has been told of.
    announcing: Option<Ticket>,
    last_ticket: u64,
    /// Nothing is due before this; it may be too early, never too late.
    wakes_at: Option<Duration>,
}

impl Group {
    /// A group without members.
    #[must_use]
    pub fn new(rules: Arc<GroupSettings>, now: Duration) -> Self {
        Self {
            rules,
            phase: Phase::Empty { since: now },
            generation: Generation(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            roster: Roster::default(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            replacements: BTreeMap::new(),
            announcing: None,
            last_ticket: 0,
            wakes_at: None,
        }
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Empty { .. } => State::Empty,
            Phase::Preparing(_) => State::PreparingRebalance,
            Phase::Completing { .. } => State::CompletingRebalance,
            Phase::Stable { .. } => State::Stable,
            Phase::Dead => State::Dead,
        }
    }

    /// Its generation; 0 before the first.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// True if it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roster.is_empty()
    }

    /// Whether a member of this id, or with this instance id, is in it.
    #[must_use]
    pub fn knows(&self, member: &MemberId, instance: Option<&InstanceId>) -> bool {
        self.roster.contains(member) || instance.is_some_and(|instance| self.roster.static_member(instance).is_some())
    }

    /// Bytes counted against `state_bytes_max`.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.roster.bytes() + self.pending_bytes
    }

    /// When [`Group::on_time`] should be called next. It never moves to an earlier time by itself, only by a command.
    #[must_use]
    pub const fn wakes_at(&self) -> Option<Duration> {
        self.wakes_at
    }

    /// True if nothing would be lost by forgetting it at `now`: no members, and none for long or never any.
    #[must_use]
    pub fn is_forgettable(&self, now: Duration) -> bool {
        self.forgettable_at().is_some_and(|at| at <= now)
    }

    /// True if it has neither members nor ids given out; the time since when.
    #[must_use]
    pub fn vacant_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Empty { since } if self.pending.is_empty() => Some(since),
            Phase::Empty { .. }
            | Phase::Preparing(_)
            | Phase::Completing { .. }
            | Phase::Stable { .. }
            | Phase::Dead => None,
        }
    }

    fn forgettable_at(&self) -> Option<Duration> {
        let since = self.vacant_since()?;
        if self.generation == Generation(0) {
            return Some(since);
        }
        Some(since.saturating_add(self.rules.empty_group_retention))
    }

    /// Ends the group: every parked request is refused with `reason`, and so is all that comes later, as unavailable.
    pub fn end(&mut self, reason: &GroupError) -> Effects {
        let mut fx = Effects::default();
        self.roster.edit_all(|_, member| {
            if let Some(to) = member.awaiting_join.take() {
                fx.join(to, Err(reason.clone()));
            }
            if let Some(to) = member.awaiting_sync.take() {
                fx.sync(to, Err(reason.clone()));
            }
        });
        self.roster = Roster::default();
        self.pending.clear();
        self.pending_bytes = 0;
        self.replacements.clear();
        self.announcing = None;
        self.leader = None;
        self.wakes_at = None;
        self.phase = Phase::Dead;
        fx
    }

    /// A sign of life of a member.
    ///
    /// # Errors
    /// Why it must do something else than go on; a rebalance in progress keeps the session all the same.
    pub fn heartbeat(
        &mut self,
        now: Duration,
        member: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_member(member, instance)?;
        self.check_generation(generation)?;
        self.touch(now, member);
        match self.phase {
            Phase::Preparing(_) => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
            Phase::Empty { .. } | Phase::Dead => Err(GroupError::UnknownMember),
        }
    }

    const fn check_alive(&self) -> Result<(), GroupError> {
        if matches!(self.phase, Phase::Dead) {
            return Err(GroupError::Unavailable);
        }
        Ok(())
    }

    /// Is this a member, and does it still hold the instance id that it claims?
    fn check_member(&self, member: &MemberId, instance: Option<&InstanceId>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            let holder = self.roster.static_member(instance).ok_or(GroupError::UnknownMember)?;
            if holder != member {
                return Err(GroupError::FencedInstance);
            }
        }
        if self.roster.contains(member) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    fn check_generation(&self, found: Generation) -> Result<(), GroupError> {
        let current = self.generation;
        if found == current {
            return Ok(());
        }
        Err(GroupError::IllegalGeneration { current, found })
    }

    fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// Starts a member's session anew.
    fn touch(&mut self, now: Duration, member: &MemberId) {
        if let Some(ends) = self.roster.touch(now, member) {
            self.wake_by(ends);
        }
    }

    fn wake_by(&mut self, at: Duration) {
        self.wakes_at = Some(self.wakes_at.map_or(at, |other| other.min(at)));
    }

    /// The reply to a member that needs to know the generation it is in.
    fn joined(&self, member: &MemberId) -> Joined {
        let protocol = self.protocol.clone();
        let members = match &protocol {
            Some(protocol) if self.is_leader(member) => self.roster.as_seen_by_leader(protocol),
            _ => Vec::new(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol,
            leader: self.leader.clone(),
            member: member.clone(),
            members,
            skip_assignment: false,
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }
}
