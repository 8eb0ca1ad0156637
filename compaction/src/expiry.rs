//! Expiry of producers: what is known of those that are idle for long goes, and of the longest idle when there are too many.
//!
//! Owns: when that is looked at, and the entry that says so.
//! Does not own: forgetting (the fold), expiry of committed offsets (the coordinator of their group knows whether it is empty).
//!
//! Invariants: IDM-1 holds for producers that come back: the fold lets one that it may have forgotten go on. Time is this
//! process's own observation of the log, so a wrong clock, or a change of leader, only delays (design section 2).

use std::time::Duration;

use esker_metadata::ages::Ages;
use esker_model::Fold;
use esker_model::entry::{Entry, ExpireProducers};
use esker_segment::id::LogIndex;
use tokio::time::Instant;

use crate::settings::ExpirySettings;

/// An expiration time is looked at so often, at most once a second.
const LOOKS: u32 = 64;

/// Watches the log for what is old.
#[derive(Debug)]
pub struct Expiry {
    settings: ExpirySettings,
    ages: Ages,
    next: Instant,
}

impl Expiry {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(settings: ExpirySettings) -> Self {
        Self {
            settings,
            ages: Ages::new(settings.producers_after),
            next: Instant::now(),
        }
    }

    /// The entry that is due, if one is. To be called often, also by a process that will not propose it.
    pub fn decide(&mut self, fold: &Fold, now: Instant) -> Option<Entry> {
        self.ages.observe(now, fold.index());
        if now < self.next {
            return None;
        }
        self.next = now + (self.settings.producers_after / LOOKS).max(Duration::from_secs(1));
        let old = self.ages.reached_a_span_ago(now).map(|index| LogIndex(index.0 + 1));
        let old = old.filter(|index| fold.has_windows_untouched_since(*index));
        let max = self.settings.producer_windows_max;
        let surplus = if fold.producer_windows() > max {
            fold.window_expiry_keeping(max - max / 8)
        } else {
            None
        };
        old.max(surplus).map(|windows_untouched_since| {
            Entry::ExpireProducers(ExpireProducers {
                windows_untouched_since,
                floors_untouched_since: LogIndex(0),
            })
        })
    }

    /// It was not applied: the next look comes soon.
    pub fn again(&mut self, now: Instant) {
        self.next = now + Duration::from_secs(1);
    }
}
