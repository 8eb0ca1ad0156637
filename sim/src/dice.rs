//! Randomness of a run: one stream of numbers for each part that rolls dice, all from one seed.
//!
//! Owns: how streams follow from the seed. With a stream each, a change in one part does not shift the others' numbers.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_storage::random::{PerMillion, Random};

/// The seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// The seed of a part.
    pub(crate) fn of(self, part: &str) -> u64 {
        // The default hasher's keys are fixed.
        let mut hasher = std::hash::DefaultHasher::new();
        (self.0, part).hash(&mut hasher);
        hasher.finish()
    }

    /// The stream of a part.
    pub(crate) fn dice(self, part: &str) -> Dice {
        Dice(Random::new(self.of(part)))
    }

    /// 128 random bits at a time, as a node takes them.
    pub(crate) fn bits(self, part: &str) -> Arc<dyn Fn() -> u128 + Send + Sync> {
        let random = Mutex::new(Random::new(self.of(part)));
        Arc::new(move || {
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            u128::from(random.number()) << 64 | u128::from(random.number())
        })
    }
}

/// A stream of random decisions.
#[derive(Debug)]
pub(crate) struct Dice(Random);

impl Dice {
    /// Happens so many times in a hundred.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.0.happens(PerMillion(percent * 10_000))
    }

    /// A number in the range; its start if the range is empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.below(range.end.saturating_sub(range.start))
    }

    /// A small number in the range.
    pub(crate) fn count(&mut self, range: Range<u32>) -> u32 {
        let drawn = self.within(u64::from(range.start)..u64::from(range.end));
        u32::try_from(drawn).expect("below a 32-bit bound")
    }

    /// So many milliseconds, in the range.
    pub(crate) fn ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// Waits so many milliseconds, in the range.
    pub(crate) async fn pause_ms(&mut self, range: Range<u64>) {
        tokio::time::sleep(self.ms(range)).await;
    }
}
