//! Waiting longer after each failure of a step.

use std::time::Duration;

use tokio::time::Instant;

const DELAY_MIN: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// How long a step waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Whether the time has not come yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes a failure, and says how long to wait: twice as long each time, less up to a half by chance.
    pub(super) fn fail(&mut self, random: u128) -> Duration {
        let whole = DELAY_MIN.saturating_mul(1 << self.failures.min(16)).min(DELAY_MAX);
        let share = u32::try_from(random % 1_024).expect("below 1,024");
        let wait = whole - whole / 2 * share / 1_024;
        self.failures += 1;
        self.until = Some(Instant::now() + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_limit_and_end() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_waiting());
        let waits: Vec<_> = (0..10).map(|_| backoff.fail(0)).collect();
        assert!(waits.is_sorted() && waits[0] == DELAY_MIN && waits[9] == DELAY_MAX);
        assert!(backoff.fail(1_023) > DELAY_MAX / 2 - Duration::from_millis(1));
        assert!(backoff.is_waiting());
        tokio::time::advance(DELAY_MAX).await;
        assert!(!backoff.is_waiting());
    }
}
