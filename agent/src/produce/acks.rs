//! The outcomes of the batches of one produce request, gathered as they come.
//!
//! Owns: one slot per batch, the wait for the last of them.
//! Does not own: which Kafka error an outcome becomes (`produce::response`).
//!
//! Invariants: LOG-4 (a batch that is dropped without a verdict counts as unknown, never as stored). Every slot is filled
//! exactly once, so no request waits for ever.

use std::sync::{Arc, Mutex, PoisonError};

use esker_model::BatchVerdict;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What became of a batch that had entered the write-ahead buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent's own fold has judged it.
    Judged(BatchVerdict),
    /// It was certainly not committed, and never will be.
    NotCommitted,
    /// Nobody knows yet whether it will be.
    Unknown,
}

/// The slots of one request.
#[derive(Debug)]
pub struct Acks {
    slots: Mutex<Slots>,
    full: Notify,
    patience: Patience,
}

/// How long a request waits, and how long its batches are worth storing.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The client gets its answer by then.
    pub answer_by: Instant,
    /// From then on nobody misses a batch that could not be stored.
    pub store_by: Instant,
}

#[derive(Debug)]
struct Slots {
    outcomes: Vec<Option<Outcome>>,
    left: usize,
}

/// The right to fill one slot. Dropped unused it fills it with `Unknown`.
#[derive(Debug)]
pub struct Ack {
    acks: Arc<Acks>,
    slot: usize,
    filled: bool,
}

impl Acks {
    /// With so many slots.
    #[must_use]
    pub fn new(slots: usize, patience: Patience) -> Arc<Self> {
        let slots = Slots {
            outcomes: vec![None; slots],
            left: slots,
        };
        Arc::new(Self {
            slots: Mutex::new(slots),
            full: Notify::new(),
            patience,
        })
    }

    /// The right to fill a slot; to be taken once for each.
    #[must_use]
    pub fn ack(acks: &Arc<Self>, slot: usize) -> Ack {
        Ack {
            acks: Arc::clone(acks),
            slot,
            filled: false,
        }
    }

    /// Returns when every slot is filled, or when the request has timed out.
    pub async fn filled(&self) {
        drop(tokio::time::timeout_at(self.patience.answer_by, self.all_filled()).await);
    }

    async fn all_filled(&self) {
        loop {
            let full = self.full.notified();
            if self.lock().left == 0 {
                return;
            }
            full.await;
        }
    }

    /// What is known now; an empty slot is `Unknown`.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.lock()
            .outcomes
            .iter()
            .map(|outcome| outcome.unwrap_or(Outcome::Unknown))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ack {
    /// Fills the slot.
    pub fn fill(mut self, outcome: Outcome) {
        self.fill_once(outcome);
    }

    /// Whether nobody would miss the batch.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        Instant::now() >= self.acks.patience.store_by
    }

    fn fill_once(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.filled, true) {
            return;
        }
        let mut slots = self.acks.lock();
        slots.outcomes[self.slot] = Some(outcome);
        slots.left -= 1;
        let full = slots.left == 0;
        drop(slots);
        if full {
            self.acks.full.notify_waiters();
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.fill_once(Outcome::Unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropped_ack_is_unknown_and_ends_the_wait() {
        let later = Instant::now() + std::time::Duration::from_secs(60);
        let patience = Patience {
            answer_by: later,
            store_by: later,
        };
        let acks = Acks::new(2, patience);
        Acks::ack(&acks, 0).fill(Outcome::NotCommitted);
        drop(Acks::ack(&acks, 1));
        acks.filled().await;
        assert_eq!(acks.outcomes(), [Outcome::NotCommitted, Outcome::Unknown]);
    }
}
