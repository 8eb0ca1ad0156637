//! How long to wait before trying again.
//!
//! Owns: pauses that double up to a limit, and the deadline after which there is none.
//!
//! Invariants: the time for trying again begins with the first failure: a long wait for a first answer takes nothing from it.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(1);

/// Pauses within some time from the first of them.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    within: Duration,
    deadline: Option<Instant>,
}

impl Backoff {
    pub(crate) fn within(within: Duration) -> Self {
        Self {
            next: FIRST,
            within,
            deadline: None,
        }
    }

    /// Waits; false at once if the deadline would pass meanwhile.
    pub(crate) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        if now + self.next >= *self.deadline.get_or_insert(now + self.within) {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LAST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_begins_with_the_first_failure_and_ends() {
        let mut backoff = Backoff::within(Duration::from_millis(120));
        tokio::time::sleep(Duration::from_millis(130)).await;
        assert!(backoff.pause().await, "50 of 120 ms");
        assert!(!backoff.pause().await, "150 of 120 ms");
    }
}
