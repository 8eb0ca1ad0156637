//! When something is tried again, and when not any more.
//!
//! Owns: pauses that grow, with jitter; the deadline.
//! Does not own: which errors pass (`error`).

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// How often and how long something is tried that fails for a reason that passes.
///
/// The first pause is `first_pause`, each one after it twice as long up to `longest_pause`; of each, between a half and all is
/// waited, at random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the second attempt.
    pub first_pause: Duration,
    /// Pauses do not grow beyond this.
    pub longest_pause: Duration,
    /// After this time, counted from the beginning, no further attempt is made. Zero: none at all.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            deadline: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// One attempt only.
    #[must_use]
    pub fn never() -> Self {
        Self {
            deadline: Duration::ZERO,
            ..Self::default()
        }
    }
}

/// A time in which something does not work.
#[derive(Debug)]
pub(crate) struct Outage {
    began: Instant,
    attempts: u32,
    pause: Duration,
}

impl Outage {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self {
            began: Instant::now(),
            attempts: 0,
            pause: policy.first_pause,
        }
    }

    /// An attempt has failed: how long to wait before the next one, or the error to end with.
    pub(crate) fn failed(&mut self, policy: &RetryPolicy, error: Error) -> Result<Duration, Error> {
        let pause = self.next_pause(policy);
        let after = self.began.elapsed();
        if after + pause > policy.deadline {
            return Err(match self.attempts {
                1 => error,
                attempts => Error::GaveUp {
                    after,
                    attempts,
                    last: Box::new(error),
                },
            });
        }
        Ok(pause)
    }

    /// How long to wait before the next attempt, whatever the deadline.
    pub(crate) fn next_pause(&mut self, policy: &RetryPolicy) -> Duration {
        self.attempts += 1;
        let pause = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.pause = (self.pause * 2).min(policy.longest_pause);
        pause
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_jitter_until_the_deadline() {
        let policy = RetryPolicy {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(800),
            deadline: Duration::from_secs(5),
        };
        let mut outage = Outage::new(&policy);
        let mut expected = policy.first_pause;
        let error = loop {
            match outage.failed(&policy, Error::lost("a", "cut")) {
                Ok(pause) => {
                    assert!(pause >= expected / 2 && pause <= expected, "{pause:?} of {expected:?}");
                    expected = (expected * 2).min(policy.longest_pause);
                    tokio::time::sleep(pause).await;
                }
                Err(error) => break error,
            }
        };
        let Error::GaveUp { after, attempts, last } = &error else {
            panic!("{error}");
        };
        assert!(
            *after <= policy.deadline && *after > Duration::from_secs(4),
            "{after:?}"
        );
        assert!((8..=16).contains(attempts), "{attempts}");
        assert!(matches!(**last, Error::Lost { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_fails_with_its_own_error() {
        let policy = RetryPolicy::never();
        let error = Outage::new(&policy)
            .failed(&policy, Error::lost("a", "cut"))
            .unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
    }
}
