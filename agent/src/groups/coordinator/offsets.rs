//! Offsets of groups, as far as membership decides about them.
//!
//! Owns: that the right to commit is checked and the commit queued under one lock (GRP-1), deleting groups.
//! Does not own: what a commit says (`handlers`), how it is stored (`seams`).

use std::sync::Arc;

use esker_model::entry::{OffsetAction, OffsetChange};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};

use super::Coordinator;
use crate::groups::error::GroupError;
use crate::groups::group::{Effects, Group};
use crate::groups::ids::{Generation, GroupId, InstanceId, MemberId};
use crate::groups::seams::OffsetLogError;

/// Offsets that one entry deletes or expires.
pub(super) const DELETIONS_MAX: usize = 1_000;

/// Who commits offsets.
#[derive(Clone, Debug)]
pub struct Committer {
    /// Its member id; empty for consumers that assign partitions to themselves, and for admin clients.
    pub member: MemberId,
    /// Its instance id, if it is a static member.
    pub instance: Option<InstanceId>,
    /// Its generation; negative for those without.
    pub generation: Generation,
}

/// The outcome of a commit that is queued.
pub type Queued = BoxFuture<'static, Result<(), OffsetLogError>>;

/// The outcome of a change of a generation that is queued.
type Stored = BoxFuture<'static, Result<(), GroupError>>;

impl Coordinator {
    /// Checks that these offsets may be committed, and queues them.
    ///
    /// # Errors
    /// They may not; nothing was queued.
    pub fn commit(
        self: &Arc<Self>,
        group: &GroupId,
        committer: &Committer,
        changes: Vec<OffsetChange>,
    ) -> Result<Queued, GroupError> {
        self.check_owned(group)?;
        let groups = self.lock_groups();
        let Some(slot) = groups.by_id.get(group).cloned() else {
            // Under the lock of the map, so that no member can appear in between.
            self.check_commit_without_group(group, committer.generation)?;
            return Ok(self.queue_changes(group, changes));
        };
        drop(groups);
        let Committer {
            member,
            instance,
            generation,
        } = committer;
        self.with_cell(&slot, |cell, now| {
            let checked = cell.group.check_commit(now, member, instance.as_ref(), *generation);
            (checked.map(|()| self.queue_changes(group, changes)), Effects::default())
        })
    }

    fn check_commit_without_group(&self, group: &GroupId, generation: Generation) -> Result<(), GroupError> {
        if generation < Generation(0) {
            return Ok(());
        }
        if self.parts.offsets.has_group(group) {
            return Err(GroupError::UnknownMember);
        }
        // Kafka says GROUP_ID_NOT_FOUND to new clients, which they do not expect: they must learn that they have to join again.
        Err(GroupError::IllegalGeneration {
            current: Generation::NONE,
            found: generation,
        })
    }

    /// Queues the deletion of some offsets; `check` sees what the members of the group subscribe to.
    ///
    /// # Errors
    /// There is no such group.
    pub fn delete_offsets(
        self: &Arc<Self>,
        group: &GroupId,
        changes: impl FnOnce(Option<&Group>) -> Result<Vec<OffsetChange>, GroupError>,
    ) -> Result<Queued, GroupError> {
        self.check_owned(group)?;
        let groups = self.lock_groups();
        let Some(slot) = groups.by_id.get(group).cloned() else {
            return Ok(self.queue_deletions(group, &changes(None)?));
        };
        drop(groups);
        let cell = slot.lock();
        Ok(self.queue_deletions(group, &changes(Some(&cell.group))?))
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// It has members, does not exist, or the outcome is not known.
    pub async fn delete(self: &Arc<Self>, group: &GroupId) -> Result<(), GroupError> {
        self.check_owned(group)?;
        let offsets = self
            .parts
            .offsets
            .fetch_all(group)
            .await
            .map_err(|_| GroupError::Unavailable)?;
        if offsets.is_empty() && self.slot(group).is_none() {
            return Err(GroupError::NoSuchGroup);
        }
        let deletions = offsets.iter().map(|(at, _)| OffsetChange {
            topic: at.topic,
            partition: at.partition,
            action: OffsetAction::Delete,
        });
        let deletions: Vec<OffsetChange> = deletions.collect();
        let (offsets, generation) = self.queue_delete(group, &deletions)?;
        offsets.await.map_err(|error| match error {
            OffsetLogError::Fenced => GroupError::NotCoordinator,
            OffsetLogError::Unavailable
            | OffsetLogError::OutcomeUnknown
            | OffsetLogError::TooLarge
            | OffsetLogError::Full => GroupError::Unavailable,
        })?;
        generation.await
    }

    /// Queues that a group goes: its offsets and its generation.
    fn queue_delete(
        self: &Arc<Self>,
        group: &GroupId,
        deletions: &[OffsetChange],
    ) -> Result<(Queued, Stored), GroupError> {
        // The offsets were read meanwhile, and the group may be another coordinator's.
        self.check_owned(group)?;
        let queue = || (self.queue_deletions(group, deletions), self.parts.store.remove(group));
        let groups = self.lock_groups();
        let Some(slot) = groups.by_id.get(group).cloned() else {
            return Ok(queue());
        };
        drop(groups);
        self.with_cell(&slot, |cell, _| match cell.group.check_delete() {
            Ok(()) => (Ok(queue()), cell.group.end(&GroupError::Unavailable)),
            Err(refusal) => (Err(refusal), Effects::default()),
        })
    }

    /// Deletions of any number, in entries that a commit can hold. They are no commit of a member: those stay whole.
    fn queue_deletions(&self, group: &GroupId, deletions: &[OffsetChange]) -> Queued {
        let entries = deletions.chunks(DELETIONS_MAX);
        let queued: Vec<Queued> = entries.map(|some| self.queue_changes(group, some.to_vec())).collect();
        futures::future::try_join_all(queued).map_ok(drop).boxed()
    }

    pub(super) fn queue_changes(&self, group: &GroupId, changes: Vec<OffsetChange>) -> Queued {
        if changes.is_empty() {
            return std::future::ready(Ok(())).boxed();
        }
        self.parts.offsets.commit(group, changes)
    }
}
