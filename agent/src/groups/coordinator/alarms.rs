//! When which group wants to be looked at.
//!
//! Owns: the ordered list of alarms, at most one per group, and waking up for the first.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::groups::ids::GroupId;

/// Most groups that are looked at before others get a turn.
const DUE_MAX: usize = 64;
/// Longest sleep; waking up for nothing is harmless, and an `Instant` far away may not exist.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Alarms of all groups.
#[derive(Default)]
pub(super) struct Alarms {
    ordered: Mutex<BTreeSet<(Duration, GroupId)>>,
    first_changed: Notify,
}

impl Alarms {
    /// Sets a group's alarm, in place of the one it had.
    pub(super) fn set(&self, before: Option<Duration>, at: Duration, group: &GroupId) {
        let mut ordered = self.lock();
        if let Some(before) = before {
            ordered.remove(&(before, group.clone()));
        }
        ordered.insert((at, group.clone()));
        let is_first = ordered.first().is_some_and(|(first, id)| *first == at && id == group);
        drop(ordered);
        if is_first {
            self.first_changed.notify_one();
        }
    }

    /// Takes a group's alarm away.
    pub(super) fn cancel(&self, at: Duration, group: &GroupId) {
        self.lock().remove(&(at, group.clone()));
    }

    /// Takes alarms that ring at `now`, at most [`DUE_MAX`].
    pub(super) fn take_due(&self, now: Duration) -> Vec<GroupId> {
        let mut ordered = self.lock();
        let mut due = Vec::new();
        while due.len() < DUE_MAX && ordered.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(ordered.pop_first().map(|(_, group)| group));
        }
        due
    }

    /// Returns when the first alarm rings, or an earlier one was set.
    pub(super) async fn wait(&self, origin: Instant) {
        let first = self.lock().first().map(|(at, _)| *at);
        let latest = Instant::now() + SLEEP_MAX;
        let until = first
            .and_then(|at| origin.checked_add(at))
            .map_or(latest, |at| at.min(latest));
        tokio::select! {
            biased;
            () = self.first_changed.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Duration, GroupId)>> {
        self.ordered.lock().expect("no panic happens while the alarms are held")
    }
}
