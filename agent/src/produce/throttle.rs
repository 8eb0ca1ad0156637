//! The bound on what waits to be merged: producers slow down before it and wait at it.
//!
//! Every agent holds in memory where each unmerged batch lies, and a checkpoint names them all. When nobody merges, or not fast
//! enough, that must not grow for ever.
//!
//! Owns: when a produce request is let in, and saying why one is not.
//! Does not own: merging (compactors), what counts (the fold).
//!
//! Invariants: MEM-1. Nothing is refused for it before its own time-out has passed, and then with a retriable error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_kafka::ErrorCode;
use esker_metadata::replica::Replica;
use esker_model::unmerged::UnmergedStats;
use metrics::{counter, gauge};
use tokio::time::Instant;

use super::validate::Refusal;

/// Producers slow down from this many thousandths of the bound on,
const SLOW_FROM: u64 = 750;
/// the more, the longer each request waits, up to this.
const SLOW_MAX: Duration = Duration::from_millis(250);
/// How often a request at the bound looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often the log says that producers wait.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmergedBound {
    /// `esker.unmerged.batches.max`.
    pub batches_max: u64,
    /// `esker.unmerged.bytes.max`.
    pub bytes_max: u64,
}

impl UnmergedBound {
    /// How much of it is used, in thousandths; 1,000 and more is at the bound.
    #[must_use]
    pub fn used(&self, stats: UnmergedStats) -> u64 {
        let share = |used: u64, max: u64| u128::from(used) * 1_000 / u128::from(max.max(1));
        let share = share(stats.batches, self.batches_max).max(share(stats.live_bytes, self.bytes_max));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// Lets produce requests in.
pub struct Throttle {
    bound: UnmergedBound,
    replica: Arc<Replica>,
    waiting: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Throttle {
    /// For the fold of this agent.
    #[must_use]
    pub fn new(bound: UnmergedBound, replica: Arc<Replica>) -> Self {
        Self {
            bound,
            replica,
            waiting: AtomicU64::new(0),
            said: Mutex::new(None),
        }
    }

    /// Waits until a request may enter; while it waits nothing more is read from its connection.
    ///
    /// # Errors
    /// It may not enter by then: a retriable refusal.
    pub async fn admit(&self, until: Instant) -> Result<(), Refusal> {
        let used = self.used();
        if used < SLOW_FROM {
            return Ok(());
        }
        counter!("esker_produce_throttled_total").increment(1);
        if used < 1_000 {
            let part = u32::try_from(used - SLOW_FROM).unwrap_or(0);
            let whole = u32::try_from(1_000 - SLOW_FROM).unwrap_or(1);
            tokio::time::sleep((SLOW_MAX * part / whole).min(until.saturating_duration_since(Instant::now()))).await;
            return Ok(());
        }
        self.count(self.waiting.fetch_add(1, Ordering::SeqCst) + 1);
        let admitted = self.wait(until).await;
        self.count(self.waiting.fetch_sub(1, Ordering::SeqCst) - 1);
        admitted
    }

    async fn wait(&self, until: Instant) -> Result<(), Refusal> {
        loop {
            if self.used() < 1_000 {
                return Ok(());
            }
            self.say();
            if Instant::now() >= until {
                let message = "too much waits to be merged; is a compactor running?";
                return Err(Refusal::new(ErrorCode::RequestTimedOut, message));
            }
            tokio::time::sleep_until(until.min(Instant::now() + LOOK_AGAIN)).await;
        }
    }

    fn used(&self) -> u64 {
        self.bound.used(self.replica.fold().unmerged_stats())
    }

    fn count(&self, waiting: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("esker_produce_throttled_waiting").set(waiting as f64);
    }

    fn say(&self) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|at| now.duration_since(at) < SAY_EVERY) {
            return;
        }
        *said = Some(now);
        drop(said);
        let stats = self.replica.fold().unmerged_stats();
        let UnmergedBound { batches_max, bytes_max } = self.bound;
        tracing::warn!(
            batches = stats.batches,
            batches_max,
            bytes = stats.live_bytes,
            bytes_max,
            "producers wait: too much waits to be merged; is a compactor running, and does it keep up?"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_bound_counts() {
        let bound = UnmergedBound {
            batches_max: 1_000,
            bytes_max: 1 << 20,
        };
        let used = |batches, live_bytes| {
            bound.used(UnmergedStats {
                batches,
                live_bytes,
                ..UnmergedStats::default()
            })
        };
        assert_eq!(used(0, 0), 0);
        assert_eq!(used(749, 0), 749);
        assert_eq!(used(10, 1 << 20), 1_000);
        assert_eq!(used(2_000, 5), 2_000);
    }
}
