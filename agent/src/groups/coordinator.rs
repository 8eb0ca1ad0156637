//! The coordinator: runs the groups of one agent.
//!
//! Owns: the map of groups and its bounds, locks, parked requests, when time-outs are looked at (`alarms`).
//! Does not own: decisions (`group`), Kafka messages (`handlers`), storage (`seams`).
//!
//! Invariants: MEM-1 by `groups_max`, `members_max` and `state_bytes_max`, and for groups taken over by twice what they had. A
//! group's lock is taken inside the map's, never the other way round, and no lock is held across an await.

mod alarms;
mod cell;
mod expiry;
mod offsets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use esker_segment::id::Timestamp;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::GroupError;
use super::group::{
    Description, Effects, Group, JoinCommand, Joined, Leaver, Reply, State, Store, StoredGroup, StoredPhase,
    SyncCommand, Synced,
};
use super::ids::{Generation, GroupId, InstanceId, MemberId, ProtocolName, ReplyTo};
use super::seams::{GroupStore, OffsetLog, Ownership, Standing, TopicNames};
use super::settings::GroupSettings;
use alarms::Alarms;
use cell::{Cell, Slot};

pub use expiry::OffsetExpiry;
pub use offsets::{Committer, Queued};

/// Shortest time between two searches for groups that can be forgotten to make room.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// What a coordinator works with.
#[derive(Clone)]
pub struct Parts {
    /// Committed offsets.
    pub offsets: Arc<dyn OffsetLog>,
    /// Topics.
    pub topics: Arc<dyn TopicNames>,
    /// Generations.
    pub store: Arc<dyn GroupStore>,
    /// Wall clock, for the time of commits.
    pub wall_clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// 128 random bits, for member ids.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
    /// Which groups are whose.
    pub ownership: Arc<dyn Ownership>,
}

/// Runs groups. Its clock is tokio's. [`Coordinator::run`] must run beside it, or nothing ever times out.
pub struct Coordinator {
    settings: Arc<GroupSettings>,
    parts: Parts,
    origin: Instant,
    groups: Mutex<Groups>,
    alarms: Alarms,
    bytes: AtomicUsize,
    last_reply: AtomicU64,
    stores: TaskTracker,
}

#[derive(Default)]
struct Groups {
    by_id: BTreeMap<GroupId, Arc<Slot>>,
    swept_at: Option<Duration>,
}

/// A line of a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: GroupId,
    /// Its protocol type, if it is known.
    pub protocol_type: Option<ProtocolName>,
    /// Its state.
    pub state: State,
}

impl Coordinator {
    /// A coordinator without groups.
    #[must_use]
    pub fn new(settings: GroupSettings, parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::new(settings),
            parts,
            origin: Instant::now(),
            groups: Mutex::new(Groups::default()),
            alarms: Alarms::default(),
            bytes: AtomicUsize::new(0),
            last_reply: AtomicU64::new(0),
            stores: TaskTracker::new(),
        })
    }

    /// Lets time-outs happen until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let due = self.alarms.take_due(self.now());
            for id in &due {
                if let Some(slot) = self.slot(id) {
                    self.with_cell(&slot, |cell, _| {
                        cell.alarm = None;
                        ((), Effects::default())
                    });
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.alarms.wait(self.origin), if due.is_empty() => {}
                () = tokio::task::yield_now(), if !due.is_empty() => {}
            }
        }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Bytes that its groups take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A member joins; the answer comes when the rebalance has got so far.
    ///
    /// # Errors
    /// The member is refused, or told to join again.
    pub async fn join(self: &Arc<Self>, group: &GroupId, mut join: JoinCommand) -> Result<Joined, GroupError> {
        if group.is_empty() || group.len() > self.settings.text_bytes_max {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_owned(group)?;
        let (asked, min, max) = (
            join.timeouts.session,
            self.settings.session_timeout_min,
            self.settings.session_timeout_max,
        );
        if asked < min || asked > max {
            return Err(GroupError::InvalidSessionTimeout { asked, min, max });
        }
        let bytes: usize = join.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
        let slot = self.slot(group);
        let known = |slot: &Arc<Slot>| slot.lock().group.knows(&join.member, join.instance.as_ref());
        let slot = match slot.filter(known) {
            Some(slot) => {
                self.check_room(&slot, bytes)?;
                slot
            }
            None => {
                self.check_bytes(bytes)?;
                if join.member.is_empty() {
                    self.slot_or_new(group)?
                } else {
                    self.existing(group)?
                }
            }
        };
        let answer = self.park(&slot, |cell, now, to| {
            join.reply_to = to;
            cell.group.join(now, join)
        });
        match answer.await {
            Ok(Reply::Join(result)) => result,
            Ok(Reply::Sync(_)) | Err(_) => Err(GroupError::Unavailable),
        }
    }

    /// A member asks for its assignment; the answer comes when the leader's was stored.
    ///
    /// # Errors
    /// The member is refused, or told to join again.
    pub async fn sync(self: &Arc<Self>, group: &GroupId, mut sync: SyncCommand) -> Result<Synced, GroupError> {
        if group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_owned(group)?;
        let slot = self.existing(group)?;
        self.check_room(
            &slot,
            sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum(),
        )?;
        let answer = self.park(&slot, |cell, now, to| {
            sync.reply_to = to;
            cell.group.sync(now, sync)
        });
        match answer.await {
            Ok(Reply::Sync(result)) => result,
            Ok(Reply::Join(_)) | Err(_) => Err(GroupError::Unavailable),
        }
    }

    /// A sign of life.
    ///
    /// # Errors
    /// The member must join again, or is none.
    pub fn heartbeat(
        self: &Arc<Self>,
        group: &GroupId,
        member: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        if group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        match self.check_owned(group) {
            // As Kafka does: nothing is known against it, its session begins anew, and clients end theirs at any error.
            Err(GroupError::Loading) => return Ok(()),
            other => other?,
        }
        let slot = self.existing(group)?;
        self.with_cell(&slot, |cell, now| {
            (
                cell.group.heartbeat(now, member, instance, generation),
                Effects::default(),
            )
        })
    }

    /// Members go. If they were the last, the answer comes when that was stored: else whoever comes after a restart would wait
    /// for their sessions to end.
    ///
    /// # Errors
    /// The whole request is refused; otherwise there is a verdict per member.
    pub async fn leave(
        self: &Arc<Self>,
        group: &GroupId,
        leavers: &[Leaver],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_owned(group)?;
        let Ok(slot) = self.existing(group) else {
            return Ok(leavers.iter().map(|_| Err(GroupError::UnknownMember)).collect());
        };
        let (verdicts, emptied) = self.with_cell(&slot, |cell, now| {
            let (verdicts, mut fx) = cell.group.leave(now, leavers);
            let is_last_word = fx.stores.len() == 1 && fx.stores[0].group.phase == StoredPhase::Empty;
            let emptied = if is_last_word { fx.stores.pop() } else { None };
            let emptied = emptied.map(|store| self.parts.store.store(&slot.id, store.group));
            ((verdicts, emptied), fx)
        });
        if let Some(emptied) = emptied {
            emptied.await?;
        }
        verdicts
    }

    /// What people see of a group that has, or lately had, members.
    #[must_use]
    pub fn describe(&self, group: &GroupId) -> Option<Description> {
        let slot = self.slot(group)?;
        let description = slot.lock().group.describe();
        Some(description).filter(|description| description.state != State::Dead)
    }

    /// All groups that have, or lately had, members, ordered.
    #[must_use]
    pub fn list(&self) -> Vec<ListedGroup> {
        let slots: Vec<Arc<Slot>> = self.lock_groups().by_id.values().cloned().collect();
        let lines = slots.iter().map(|slot| {
            let cell = slot.lock();
            let (state, protocol_type) = (cell.group.state(), cell.group.protocol_type().cloned());
            ListedGroup {
                group: slot.id.clone(),
                protocol_type,
                state,
            }
        });
        lines.filter(|line| line.state != State::Dead).collect()
    }

    /// Gives groups up because another session coordinates them: all who wait are told so.
    pub fn give_up(self: &Arc<Self>, mut lost: impl FnMut(&GroupId) -> bool) {
        let slots: Vec<Arc<Slot>> = self
            .lock_groups()
            .by_id
            .values()
            .filter(|slot| lost(&slot.id))
            .cloned()
            .collect();
        for slot in &slots {
            self.with_cell(slot, |cell, _| ((), cell.group.end(&GroupError::NotCoordinator)));
        }
    }

    /// Goes on with groups as their last coordinator stored them. Sessions begin anew.
    pub fn adopt(self: &Arc<Self>, groups: Vec<(GroupId, StoredGroup)>) {
        for (id, stored) in groups {
            let now = self.now();
            let group = Group::restore(Arc::clone(&self.settings), now, stored);
            let bytes = group.bytes();
            let slot = Arc::new(Slot::new(id.clone(), group));
            slot.lock().adopted = bytes;
            self.bytes.fetch_add(slot.overhead(), Ordering::Relaxed);
            let before = self.lock_groups().by_id.insert(id, Arc::clone(&slot));
            // What a request that was on its way has left there.
            if let Some(before) = before {
                self.with_cell(&before, |cell, _| ((), cell.group.end(&GroupError::NotCoordinator)));
            }
            self.with_cell(&slot, |_, _| ((), Effects::default()));
        }
    }

    /// A new member id: something a person recognises, and something nobody guesses.
    pub(super) fn fresh_id(&self, name: &str) -> MemberId {
        const NAME_BYTES_MAX: usize = 1024;
        let end = (0..=NAME_BYTES_MAX.min(name.len()))
            .rev()
            .find(|at| name.is_char_boundary(*at))
            .unwrap_or(0);
        let hex = format!("{:032x}", (self.parts.random)());
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        MemberId::from(format!("{}-{a}-{b}-{c}-{d}-{e}", &name[..end]))
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn lock_groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().expect("no panic happens while the map is held")
    }

    /// Refuses what is another coordinator's.
    pub(in crate::groups) fn check_owned(&self, group: &GroupId) -> Result<(), GroupError> {
        match self.parts.ownership.standing(group) {
            Standing::Coordinator => Ok(()),
            Standing::Loading => Err(GroupError::Loading),
            Standing::Other => Err(GroupError::NotCoordinator),
        }
    }

    fn check_bytes(&self, more: usize) -> Result<(), GroupError> {
        let max = self.settings.state_bytes_max;
        if self.bytes().saturating_add(more) > max {
            return Err(GroupError::Overloaded {
                limit: "bytes of all groups",
                max,
            });
        }
        Ok(())
    }

    /// Room for more bytes of a group that is there. One that was taken over may always have twice what it had then: how many are
    /// taken over nobody here decides, and they must be able to go on, while others find no room.
    fn check_room(&self, slot: &Slot, more: usize) -> Result<(), GroupError> {
        self.check_bytes(more).or_else(|full| {
            let cell = slot.lock();
            let fits = cell.group.bytes().saturating_add(more) <= cell.adopted.saturating_mul(2);
            if fits { Ok(()) } else { Err(full) }
        })
    }

    fn slot(&self, id: &GroupId) -> Option<Arc<Slot>> {
        self.lock_groups().by_id.get(id).cloned()
    }

    fn existing(&self, id: &GroupId) -> Result<Arc<Slot>, GroupError> {
        self.slot(id).ok_or(GroupError::UnknownMember)
    }

    fn slot_or_new(&self, id: &GroupId) -> Result<Arc<Slot>, GroupError> {
        let now = self.now();
        let mut groups = self.lock_groups();
        if let Some(slot) = groups.by_id.get(id) {
            return Ok(Arc::clone(slot));
        }
        let max = self.settings.groups_max;
        if groups.by_id.len() >= max {
            self.sweep(&mut groups, now);
        }
        if groups.by_id.len() >= max {
            return Err(GroupError::Overloaded { limit: "groups", max });
        }
        let slot = Arc::new(Slot::new(id.clone(), Group::new(Arc::clone(&self.settings), now)));
        self.bytes.fetch_add(slot.overhead(), Ordering::Relaxed);
        groups.by_id.insert(id.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    /// Forgets the groups without members before their time, to make room for others.
    fn sweep(&self, groups: &mut Groups, now: Duration) {
        if groups
            .swept_at
            .is_some_and(|at| now < at.saturating_add(SWEEP_INTERVAL_MIN))
        {
            return;
        }
        groups.swept_at = Some(now);
        groups.by_id.retain(|_, slot| {
            let mut cell = slot.lock();
            let keep = cell.group.vacant_since().is_none() && cell.group.state() != State::Dead;
            if !keep {
                self.remove_stored(slot, &cell);
                self.bury(slot, &mut cell);
            }
            keep
        });
    }

    /// Ends a group that nobody waits for; the caller removes it from the map.
    fn bury(&self, slot: &Slot, cell: &mut Cell) {
        let fx = cell.group.end(&GroupError::Unavailable);
        debug_assert!(fx.replies.is_empty(), "a group without members has nobody to answer");
        self.bytes
            .fetch_sub(std::mem::take(&mut cell.counted) + slot.overhead(), Ordering::Relaxed);
        if let Some(at) = cell.alarm.take() {
            self.alarms.cancel(at, &slot.id);
        }
    }

    /// Parks a request that will be answered by this or a later command.
    fn park(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        command: impl FnOnce(&mut Cell, Duration, ReplyTo) -> Effects,
    ) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let to = ReplyTo(self.last_reply.fetch_add(1, Ordering::Relaxed));
        self.with_cell(slot, |cell, now| {
            cell.parked.insert(to, sender);
            ((), command(cell, now, to))
        });
        receiver
    }

    /// Runs one command on a group and does what follows from it. A group that was removed from the map in the meantime
    /// is dead and refuses the command as unavailable, which clients repeat.
    fn with_cell<T>(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        command: impl FnOnce(&mut Cell, Duration) -> (T, Effects),
    ) -> T {
        let now = self.now();
        let mut cell = slot.lock();
        let (value, fx) = command(&mut cell, now);
        self.settle(slot, &mut cell, now, fx);
        let remove = cell.group.is_forgettable(now) || cell.group.state() == State::Dead;
        drop(cell);
        if remove {
            self.forget(slot);
        }
        value
    }

    fn settle(self: &Arc<Self>, slot: &Arc<Slot>, cell: &mut Cell, now: Duration, fx: Effects) {
        self.carry_out(slot, cell, now, fx);
        if cell.group.wakes_at().is_some_and(|at| at <= now) {
            let fx = cell.group.on_time(now);
            self.carry_out(slot, cell, now, fx);
        }
        let bytes = cell.group.bytes();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes
            .fetch_sub(std::mem::replace(&mut cell.counted, bytes), Ordering::Relaxed);
        if let Some(at) = cell.group.wakes_at()
            && cell.alarm.is_none_or(|before| at < before)
        {
            self.alarms.set(cell.alarm.replace(at), at, &slot.id);
        }
    }

    fn carry_out(self: &Arc<Self>, slot: &Arc<Slot>, cell: &mut Cell, now: Duration, mut fx: Effects) {
        loop {
            for (to, reply) in fx.replies.drain(..) {
                cell.answer(to, reply);
            }
            let mut next = Effects::default();
            for Store { ticket, group } in fx.stores.drain(..) {
                let mut outcome = self.parts.store.store(&slot.id, group);
                if let Some(outcome) = (&mut outcome).now_or_never() {
                    let more = cell.group.stored(now, ticket, outcome);
                    next.replies.extend(more.replies);
                    next.stores.extend(more.stores);
                    continue;
                }
                let (coordinator, slot) = (Arc::clone(self), Arc::clone(slot));
                self.stores.spawn(async move {
                    let outcome = outcome.await;
                    coordinator.with_cell(&slot, |cell, now| ((), cell.group.stored(now, ticket, outcome)));
                });
            }
            if next.replies.is_empty() && next.stores.is_empty() {
                return;
            }
            fx = next;
        }
    }

    /// Removes a group from the map if it still may be.
    fn forget(&self, slot: &Arc<Slot>) {
        let now = self.now();
        let mut groups = self.lock_groups();
        let mut cell = slot.lock();
        let listed = groups.by_id.get(&slot.id).is_some_and(|other| Arc::ptr_eq(other, slot));
        let removable = cell.group.is_forgettable(now) || cell.group.state() == State::Dead;
        if listed && removable {
            groups.by_id.remove(&slot.id);
            self.remove_stored(slot, &cell);
            self.bury(slot, &mut cell);
        }
    }

    /// A group that is forgotten because nobody was in it for long is not stored any more. One that is dead was given up, and
    /// is another coordinator's now, or was deleted.
    fn remove_stored(&self, slot: &Slot, cell: &Cell) {
        if cell.group.state() != State::Dead && cell.group.generation() > Generation(0) {
            // If it does not work out, the next coordinator forgets it.
            let removal = self.parts.store.remove(&slot.id);
            self.stores.spawn(removal);
        }
    }
}
