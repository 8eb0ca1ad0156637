//! When leases run out, by tokio's monotonic clock.
//!
//! Owns: deadlines. Does not own: which keys hang on a lease (`keyspace`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::LeaseId;

/// Shortest lease that is granted; shorter requests get this.
const TTL_MIN: Duration = Duration::from_millis(100);
/// Most leases at once.
const LEASES_MAX: usize = 16_384;

/// The deadlines of all leases of a store.
#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    last: i64,
    leases: BTreeMap<LeaseId, Deadline>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    ttl: Duration,
    at: Instant,
}

impl LeaseClock {
    /// Begins a lease with a new id; `None` when there are too many.
    pub(crate) fn grant(&mut self, ttl: Duration) -> Option<(LeaseId, Duration)> {
        if self.leases.len() >= LEASES_MAX {
            return None;
        }
        self.last += 1;
        let ttl = ttl.max(TTL_MIN);
        self.leases.insert(
            LeaseId(self.last),
            Deadline {
                ttl,
                at: Instant::now() + ttl,
            },
        );
        Some((LeaseId(self.last), ttl))
    }

    /// Puts a deadline off by the whole TTL.
    pub(crate) fn renew(&mut self, lease: LeaseId) -> Option<Duration> {
        let deadline = self.leases.get_mut(&lease)?;
        deadline.at = Instant::now() + deadline.ttl;
        Some(deadline.ttl)
    }

    /// Forgets a lease.
    pub(crate) fn end(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
    }

    /// All leases.
    pub(crate) fn all(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// When the next lease runs out.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.leases.values().map(|deadline| deadline.at).min()
    }

    /// The leases that have run out by now.
    pub(crate) fn due(&self) -> Vec<LeaseId> {
        let now = Instant::now();
        self.leases
            .iter()
            .filter(|(_, deadline)| deadline.at <= now)
            .map(|(lease, _)| *lease)
            .collect()
    }
}
