//! What time it is at the store: every answer says so in its `Date` header.
//!
//! Owns: the last such observation.
//! Does not own: what a difference means to whoever asks (garbage collection, `esker check-store`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// One look at both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// What the store said, in whole seconds.
    pub store: SystemTime,
    /// What our clock said when the answer arrived.
    pub local: SystemTime,
}

impl ClockSample {
    /// How far apart the clocks are, whichever is ahead. Includes up to a second of rounding and the answer's way.
    #[must_use]
    pub fn apart(&self) -> Duration {
        match self.store.duration_since(self.local) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        }
    }
}

/// The last observation; clones share it. Empty for stores that are not reached by HTTP.
#[derive(Clone, Debug, Default)]
pub struct StoreClock {
    last: Arc<Mutex<Option<ClockSample>>>,
}

impl StoreClock {
    /// The last observation, if there was any.
    #[must_use]
    pub fn last(&self) -> Option<ClockSample> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a `Date` header; one that is no date says nothing.
    pub(super) fn observe(&self, date: &str, local: SystemTime) {
        if let Ok(store) = httpdate::parse_http_date(date) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(ClockSample { store, local });
        }
    }
}

#[cfg(test)]
mod tests {
    //! Dates and nonsense.

    use std::time::{Duration, SystemTime};

    use super::StoreClock;

    #[test]
    fn a_difference_is_seen_in_both_directions() {
        let clock = StoreClock::default();
        assert_eq!(clock.last(), None);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (local, apart) in [
            (at, 0),
            (at + Duration::from_secs(90), 90),
            (at - Duration::from_secs(61), 61),
        ] {
            clock.observe("Sun, 06 Nov 1994 08:49:37 GMT", local);
            assert_eq!(clock.last().unwrap().apart(), Duration::from_secs(apart));
        }
        let before = clock.last();
        clock.observe("yesterday", at);
        assert_eq!(clock.last(), before);
    }
}
