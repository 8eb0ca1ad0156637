//! LeaveGroup: members that go, and members that an operator sends away.
//!
//! Owns: who may be removed by such a request.

use std::time::Duration;

use super::{Effects, Group, GroupError};
use crate::groups::ids::{InstanceId, MemberId};

/// One member of a LeaveGroup request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// Its id; empty when an operator names only the instance.
    pub member: MemberId,
    /// Its instance id, if it is a static member.
    pub instance: Option<InstanceId>,
}

impl Group {
    /// Removes members; the verdicts are in the order of `leavers`.
    ///
    /// # Errors
    /// The group is gone.
    pub fn leave(
        &mut self,
        now: Duration,
        leavers: &[Leaver],
    ) -> (Result<Vec<Result<(), GroupError>>, GroupError>, Effects) {
        let mut fx = Effects::default();
        if let Err(dead) = self.check_alive() {
            return (Err(dead), fx);
        }
        let before = self.roster.len();
        let verdicts: Vec<_> = leavers.iter().map(|leaver| self.leave_one(leaver, &mut fx)).collect();
        if self.roster.len() < before {
            self.rebalance_or_complete(now, &mut fx);
            if self.roster.is_empty() {
                // Neither a generation that is being stored nor an id that was given out keeps it.
                self.empty_now(now, &mut fx);
            }
        } else {
            // A pending member may have been all that a rebalance waited for.
            self.try_complete_join(now, &mut fx);
        }
        (Ok(verdicts), fx)
    }

    fn leave_one(&mut self, leaver: &Leaver, fx: &mut Effects) -> Result<(), GroupError> {
        let instance = leaver.instance.as_ref();
        if leaver.member.is_empty() {
            let holder = instance.and_then(|instance| self.roster.static_member(instance));
            let id = holder.cloned().ok_or(GroupError::UnknownMember)?;
            self.drop_member(&id, fx);
            return Ok(());
        }
        if self.forget_pending(&leaver.member) {
            return Ok(());
        }
        self.check_member(&leaver.member, instance)?;
        self.drop_member(&leaver.member, fx);
        Ok(())
    }
}
