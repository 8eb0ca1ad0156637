//! Expiry of committed offsets (KIP-211): `offsets.retention.minutes` after their group became empty, and after their commit where
//! nobody in a stable group of consumers subscribes to their topic.
//!
//! Owns: since when groups are empty, when that is looked at, which offsets go.
//! Does not own: how old an index is (`esker_metadata::ages`), the entry (`seams`), refusing it (the fold does when an offset
//! was committed meanwhile, and when another session coordinates the group).
//!
//! Invariants: GRP-1: an offset of a group that has members, or had some within the retention time, stays, but for topics that its
//! members do not subscribe to. What this process has not coordinated for that long it does not expire for want of members: who
//! did before may have seen some. So a restart, or a shard that moves, only delays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::ages::Ages;
use esker_model::entry::{OffsetAction, OffsetChange};
use esker_segment::id::{LogIndex, TopicPartition};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::offsets::DELETIONS_MAX;
use super::{Coordinator, Queued};
use crate::groups::group::{Effects, State};
use crate::groups::ids::GroupId;
use crate::groups::subscriptions::{Subscribed, subscribed_topics};

/// The retention time is looked at so often,
const LOOKS: u32 = 64;
/// but at most once in this time,
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// and at least this often, so that no group comes and is forgotten unseen (`empty_group_retention`).
const INTERVAL_MAX: Duration = Duration::from_secs(5 * 60);

/// Expires offsets of one coordinator's groups.
pub struct OffsetExpiry {
    coordinator: Arc<Coordinator>,
    retention: Duration,
    ages: Ages,
    /// When groups were last seen with members, for those of the last retention time.
    occupied: BTreeMap<GroupId, Instant>,
}

impl OffsetExpiry {
    /// For a coordinator whose offsets are kept for so long.
    #[must_use]
    pub fn new(coordinator: Arc<Coordinator>, retention: Duration) -> Self {
        Self {
            coordinator,
            retention,
            ages: Ages::new(retention),
            occupied: BTreeMap::new(),
        }
    }

    /// Looks again and again until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let interval = (self.retention / LOOKS).clamp(INTERVAL_MIN, INTERVAL_MAX);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        let now = Instant::now();
        let offsets = Arc::clone(&self.coordinator.parts.offsets);
        if let Some(position) = offsets.position() {
            self.ages.observe(now, position);
        }
        for (group, seen) in self.coordinator.occupancy() {
            self.occupied.insert(group, seen);
        }
        let retention = self.retention;
        self.occupied.retain(|_, seen| now.duration_since(*seen) < retention);
        let Some(old) = self.ages.reached_a_span_ago(now) else {
            return;
        };
        let below = LogIndex(old.0 + 1);
        for (group, partitions) in offsets.idle(below) {
            let held_since = self.coordinator.parts.ownership.held_since(&group);
            let watched = held_since.is_some_and(|since| now.duration_since(since) >= retention);
            let vacant = watched && !self.occupied.contains_key(&group);
            for some in partitions.chunks(DELETIONS_MAX) {
                let Some(queued) = self.coordinator.expire(&group, some, below, vacant) else {
                    continue;
                };
                match queued.await {
                    Ok(()) => tracing::debug!(%group, offsets = some.len(), "offsets expired"),
                    Err(error) => tracing::debug!(%group, %error, "offsets not expired"),
                }
            }
        }
    }
}

impl Coordinator {
    /// When each group that is remembered had members last.
    fn occupancy(&self) -> Vec<(GroupId, Instant)> {
        let slots: Vec<_> = self.lock_groups().by_id.values().cloned().collect();
        let last = |since: Option<Duration>| since.map_or_else(Instant::now, |since| self.origin + since);
        let seen = slots.iter().map(|slot| {
            let vacant_since = slot.lock().group.vacant_since();
            (slot.id.clone(), last(vacant_since))
        });
        seen.collect()
    }

    /// Queues the expiry of offsets that were committed below an index: of all, if the group was `vacant` for long and still is, of
    /// topics that nobody subscribes to if it is stable. `None` if nothing of the group can go now.
    fn expire(
        self: &Arc<Self>,
        group: &GroupId,
        partitions: &[TopicPartition],
        below: LogIndex,
        vacant: bool,
    ) -> Option<Queued> {
        let expire = |at: &TopicPartition| OffsetChange {
            topic: at.topic,
            partition: at.partition,
            action: OffsetAction::Expire { untouched_since: below },
        };
        let groups = self.lock_groups();
        let Some(slot) = groups.by_id.get(group).cloned() else {
            return vacant.then(|| self.queue_changes(group, partitions.iter().map(expire).collect()));
        };
        drop(groups);
        let names = partitions.iter().map(|at| self.parts.topics.by_id(at.topic));
        let names: Vec<_> = names.map(|topic| topic.map(|topic| topic.name)).collect();
        self.with_cell(&slot, |cell, _| {
            let mut due: Vec<OffsetChange> = Vec::new();
            match cell.group.state() {
                State::Empty if vacant && cell.group.vacant_since().is_some() => {
                    due.extend(partitions.iter().map(expire))
                }
                State::Stable => {
                    let subscribed = subscribed_topics(&cell.group).unwrap_or(Subscribed::PerhapsToAll);
                    let is_left =
                        |name: &Option<Arc<str>>| name.as_ref().is_some_and(|name| !subscribed.contains(name));
                    let left = partitions.iter().zip(&names).filter(|(_, name)| is_left(name));
                    due.extend(left.map(|(at, _)| expire(at)));
                }
                State::Empty | State::PreparingRebalance | State::CompletingRebalance | State::Dead => {}
            }
            let queued = (!due.is_empty()).then(|| self.queue_changes(group, due));
            (queued, Effects::default())
        })
    }
}
