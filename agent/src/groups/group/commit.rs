//! Who may commit offsets for a group, and whether the group may be deleted.
//!
//! Owns: the checks. Does not own: offsets (`offsets`).
//!
//! Invariants: GRP-1.

use std::time::Duration;

use super::{Group, GroupError, Phase};
use crate::groups::ids::{Generation, InstanceId, MemberId};

impl Group {
    /// May this client commit offsets now? Commits of a member count as a sign of life, except while the leader's
    /// assignment is awaited, as in Kafka.
    ///
    /// # Errors
    /// It is not a member, not of this generation, fenced, or must wait for its assignment first.
    pub fn check_commit(
        &mut self,
        now: Duration,
        member: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        self.check_alive()?;
        // Admin clients, and consumers that assign partitions to themselves, are in no generation.
        let outsider = generation < Generation(0);
        if outsider && matches!(self.phase, Phase::Empty { .. }) {
            return Ok(());
        }
        if outsider && member.is_empty() && instance.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(member, instance)?;
        self.check_generation(generation)?;
        match self.phase {
            Phase::Completing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Preparing(_) | Phase::Stable { .. } => {
                self.touch(now, member);
                Ok(())
            }
            Phase::Empty { .. } | Phase::Dead => Ok(()),
        }
    }

    /// May the group be deleted, with its offsets?
    ///
    /// # Errors
    /// It has members or is being removed already.
    pub fn check_delete(&self) -> Result<(), GroupError> {
        match self.phase {
            Phase::Empty { .. } => Ok(()),
            Phase::Dead => Err(GroupError::NoSuchGroup),
            Phase::Preparing(_) | Phase::Completing { .. } | Phase::Stable { .. } => Err(GroupError::NotEmpty),
        }
    }
}
