//! Waiting longer after each failure, and asking again until an answer is definite.
//!
//! Owns: the delays. Jitter comes from a seed that the caller gives, so that a simulation repeats exactly.

use std::time::Duration;

use crate::store::{MetadataError, MetadataStore, Txn, TxnOutcome};

/// First delay.
const DELAY_MIN: Duration = Duration::from_millis(10);
/// Longest delay.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// Delays that double from 10 ms to 1 s, each shortened by up to a half so that many do not come at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    state: u64,
    delay: Duration,
}

impl Backoff {
    /// Delays whose jitter follows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            state: seed ^ 0x9e37_79b9_7f4a_7c15,
            delay: DELAY_MIN,
        }
    }

    /// Begins with the shortest delay again.
    pub const fn reset(&mut self) {
        self.delay = DELAY_MIN;
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        // An xorshift step is random enough to spread retries.
        self.state |= 1;
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let delay = self.delay;
        self.delay = (delay * 2).min(DELAY_MAX);
        let half = delay / 2;
        let share = u32::try_from(self.state % 1024).expect("less than 1024");
        half + half * share / 1024
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }
}

/// Sends the identical transaction until it gets an answer, at most `attempts` times.
///
/// # Errors
/// The last error; `Unknown` if any attempt may have taken effect.
pub(super) async fn definite(
    store: &dyn MetadataStore,
    txn: &Txn,
    attempts: u32,
    mut backoff: Backoff,
) -> Result<TxnOutcome, MetadataError> {
    let mut unknown = None;
    let mut last = MetadataError::Failed("no attempt was allowed".to_owned());
    for attempt in 0..attempts {
        if attempt > 0 {
            backoff.wait().await;
        }
        match store.txn(txn.clone()).await {
            Ok(outcome) => return Ok(outcome),
            Err(error @ MetadataError::Unknown(_)) => unknown = Some(error),
            Err(error) => last = error,
        }
    }
    Err(unknown.unwrap_or(last))
}
