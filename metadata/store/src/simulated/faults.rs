//! What can go wrong in a simulated store, and how often.

use std::ops::Mul;
use std::time::Duration;

/// A probability in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(pub u32);

impl Chance {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// One in a hundred.
    pub const PERCENT: Self = Self(10_000);
}

impl Mul<u32> for Chance {
    type Output = Self;

    fn mul(self, times: u32) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

/// Latency and faults. The default is neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How long a call takes to the store, and its answer back: least and most.
    pub latency: (Duration, Duration),
    /// How long a call waits for an answer that does not come.
    pub timeout: Duration,
    /// A change fails, certainly without effect.
    pub fail_before: Chance,
    /// A change gets lost on the way: unknown, without effect.
    pub unknown_before: Chance,
    /// A change is done and its answer gets lost: unknown, with effect.
    pub unknown_after: Chance,
    /// A change is answered with unknown *before* it takes effect.
    pub late: Chance,
    /// How much later it takes effect at most.
    pub late_max: Duration,
    /// A read fails.
    pub read_fails: Chance,
    /// A lease ends early, at a keep-alive.
    pub lease_early: Chance,
    /// A lease that is due lives on for another TTL.
    pub lease_late: Chance,
    /// A batch of events never arrives.
    pub watch_loses: Chance,
    /// A batch of events arrives again.
    pub watch_repeats: Chance,
    /// The revisions of a batch arrive in reverse.
    pub watch_reorders: Chance,
    /// A watch is overtaken by compaction.
    pub watch_compacted: Chance,
    /// A watch breaks.
    pub watch_breaks: Chance,
    /// How long events take at most.
    pub watch_delay_max: Duration,
}

impl Faults {
    /// Latency of a good network and no faults.
    #[must_use]
    pub fn calm() -> Self {
        let ms = Duration::from_millis;
        Self {
            latency: (ms(1), ms(3)),
            timeout: ms(2_000),
            watch_delay_max: ms(2),
            ..Self::default()
        }
    }

    /// Everything goes wrong now and then; this many percent of the time.
    #[must_use]
    pub fn rough(percent: u32) -> Self {
        let chance = Chance::PERCENT * percent;
        Self {
            fail_before: chance,
            unknown_before: chance,
            unknown_after: chance,
            late: chance,
            late_max: Duration::from_millis(3_000),
            read_fails: chance,
            lease_early: Chance(chance.0 / 4),
            lease_late: chance,
            watch_loses: chance,
            watch_repeats: chance,
            watch_reorders: chance,
            watch_compacted: Chance(chance.0 / 4),
            watch_breaks: Chance(chance.0 / 4),
            watch_delay_max: Duration::from_millis(40),
            ..Self::calm()
        }
    }
}
