//! Memory for requests and for records that are not committed yet.
//!
//! Owns: one budget in bytes for all connections of a listener. A share is given back when it is dropped.
//! Does not own: who takes how much when (`connection`).
//!
//! Invariants: MEM-1. Large frames, which may be half read for long, never take all of it: ordinary ones always get on.
//! Neither do produce requests, which hold their share until they are committed, and that may take as long as the log or the
//! bucket is away: consumers and groups always get on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames above this length are large.
const LARGE_BYTES: usize = 2 << 20;
/// Part of the budget that produce requests leave alone: one in so many.
const OTHERS_PART: usize = 8;
/// Part of the budget that large frames leave alone beside that: one in so many.
const ORDINARY_PART: usize = 16;
/// How long a share is waited for. Producers that are slowed down wait as long as their own time-out is by default.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a large frame waits: half read ones hold what others of them wait for, also when their senders are gone.
const LARGE_WAIT_MAX: Duration = Duration::from_secs(4);

/// The budget. Clones share it.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    bytes: usize,
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
    produce: Arc<Semaphore>,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A produce request.
    Produce,
    /// Any other request.
    Other,
}

/// Part of the budget that a frame holds.
#[derive(Debug)]
pub struct BudgetShare {
    all: OwnedSemaphorePermit,
    large: Option<OwnedSemaphorePermit>,
    produce: Option<OwnedSemaphorePermit>,
}

/// Why there is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBudget {
    /// Others hold it all. Frames that are half read may wait for each other; who waits longest is let go.
    #[error("no memory for the frame in time (esker.buffer.bytes)")]
    TimedOut,
    /// The listener is gone.
    #[error("shutting down")]
    Closed,
}

impl ByteBudget {
    /// Of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        let produce = bytes - bytes / OTHERS_PART;
        Self {
            bytes,
            all: Arc::new(Semaphore::new(bytes)),
            large: Arc::new(Semaphore::new(produce - bytes / ORDINARY_PART)),
            produce: Arc::new(Semaphore::new(produce)),
        }
    }

    /// Bytes that nobody holds.
    #[must_use]
    pub fn available(&self) -> usize {
        self.all.available_permits()
    }

    /// The part of all bytes that somebody holds, 0 to 1.
    #[must_use]
    pub fn held_share(&self) -> f64 {
        let thousandths = (self.bytes - self.available().min(self.bytes)) / (self.bytes / 1_000).max(1);
        u32::try_from(thousandths).map_or(1.0, |thousandths| f64::from(thousandths) / 1_000.0)
    }

    /// Takes a first or a further share for a frame of this length.
    ///
    /// # Errors
    /// See [`NoBudget`].
    pub async fn take(&self, purpose: Purpose, frame_bytes: usize, bytes: usize) -> Result<BudgetShare, NoBudget> {
        let is_large = frame_bytes > LARGE_BYTES;
        let wait_max = if is_large { LARGE_WAIT_MAX } else { WAIT_MAX };
        // From the part that fewest share to the one that all do: who waits must not hold what others could have.
        let large = if is_large {
            Some(acquire(&self.large, bytes, wait_max).await?)
        } else {
            None
        };
        let produce = match purpose {
            Purpose::Produce => Some(acquire(&self.produce, bytes, wait_max).await?),
            Purpose::Other => None,
        };
        let all = acquire(&self.all, bytes, wait_max).await?;
        Ok(BudgetShare { all, large, produce })
    }
}

impl BudgetShare {
    /// Adds another share of the same frame.
    pub fn merge(&mut self, other: Self) {
        self.all.merge(other.all);
        merge_part(&mut self.large, other.large);
        merge_part(&mut self.produce, other.produce);
    }
}

fn merge_part(mine: &mut Option<OwnedSemaphorePermit>, other: Option<OwnedSemaphorePermit>) {
    match (mine, other) {
        (Some(mine), Some(other)) => mine.merge(other),
        (mine @ None, other) => *mine = other,
        (Some(_), None) => {}
    }
}

async fn acquire(
    semaphore: &Arc<Semaphore>,
    bytes: usize,
    wait_max: Duration,
) -> Result<OwnedSemaphorePermit, NoBudget> {
    let permits = u32::try_from(bytes).map_err(|_| NoBudget::TimedOut)?;
    match tokio::time::timeout(wait_max, Arc::clone(semaphore).acquire_many_owned(permits)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(NoBudget::Closed),
        Err(_) => Err(NoBudget::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_frames_leave_room_for_ordinary_ones() {
        let budget = ByteBudget::new(80 << 20);
        for purpose in [Purpose::Produce, Purpose::Other] {
            let held = budget.take(purpose, 100 << 20, 65 << 20).await.unwrap();
            let more = budget.take(purpose, 100 << 20, 1 << 20).await;
            assert_eq!(more.unwrap_err(), NoBudget::TimedOut);
            let ordinary = budget.take(purpose, 1 << 20, 1 << 20).await.unwrap();
            assert!((0.82..0.83).contains(&budget.held_share()), "66 of 80");
            drop((held, ordinary));
            assert_eq!(budget.available(), 80 << 20);
            budget.take(purpose, 100 << 20, 65 << 20).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_as_a_large_one_keeps_no_ordinary_one_waiting() {
        let budget = ByteBudget::new(80 << 20);
        let _held = budget.take(Purpose::Produce, 100 << 20, 60 << 20).await.unwrap();
        let waiting = budget.take(Purpose::Produce, 100 << 20, 10 << 20);
        let ordinary = async {
            tokio::task::yield_now().await;
            budget.take(Purpose::Produce, 1 << 20, 1 << 20).await.unwrap()
        };
        tokio::select! {
            biased;
            _ = waiting => panic!("there is no room for it"),
            _ = ordinary => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn producers_leave_room_for_everybody_else() {
        let budget = ByteBudget::new(80 << 20);
        let mut held = budget.take(Purpose::Produce, 1 << 20, 60 << 20).await.unwrap();
        held.merge(budget.take(Purpose::Produce, 1 << 20, 10 << 20).await.unwrap());
        let more = budget.take(Purpose::Produce, 1 << 20, 1).await;
        assert_eq!(more.unwrap_err(), NoBudget::TimedOut);
        let other = budget.take(Purpose::Other, 1 << 20, 10 << 20).await.unwrap();
        assert_eq!(budget.available(), 0);
        drop((held, other));
        budget.take(Purpose::Produce, 1 << 20, 70 << 20).await.unwrap();
    }
}
