//! The randomness of a simulated store: a small generator, seeded by the caller.

use std::time::Duration;

use super::faults::Chance;

/// A splitmix64 generator.
#[derive(Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) const fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn hits(&mut self, chance: Chance) -> bool {
        // A chance of nothing rolls no dice, so that faults which are off do not disturb the others.
        chance.0 > 0 && self.roll() % 1_000_000 < u64::from(chance.0)
    }

    pub(super) fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        if span == 0 {
            least
        } else {
            least + Duration::from_micros(self.roll() % span)
        }
    }
}
