//! A small deterministic random number generator, so that whoever needs randomness gets it through its constructor.
//!
//! Owns: SplitMix64. Good for jitter and simulation, not for secrets.

use std::ops::Range;
use std::time::Duration;

/// The same seed gives the same numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

/// How often something happens, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(pub u32);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 when there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.number()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits")
    }

    /// Whether it happens this time. Draws exactly one number whatever the chance.
    pub fn happens(&mut self, chance: PerMillion) -> bool {
        self.below(1_000_000) < u64::from(chance.0)
    }

    /// A duration in the range; its start when the range is empty.
    pub fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        range.start + Duration::from_nanos(self.below(nanos))
    }
}

#[cfg(test)]
mod tests {
    //! Same seed, same numbers, within bounds.

    use std::time::Duration;

    use super::{PerMillion, Random};

    #[test]
    fn known_numbers_come_from_a_known_seed() {
        // First outputs of the reference implementation of SplitMix64 for seed 1234567.
        let mut random = Random::new(1_234_567);
        assert_eq!(
            [random.number(), random.number()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn numbers_stay_below_the_bound_and_chances_are_kept() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        let half = (0..10_000).filter(|_| random.happens(PerMillion(500_000))).count();
        assert!((4_700..5_300).contains(&half), "{half}");
        assert!(!(0..1000).any(|_| random.happens(PerMillion(0))));
        let range = Duration::from_millis(5)..Duration::from_millis(9);
        assert!((0..1000).all(|_| range.contains(&random.duration(&range))));
        assert_eq!(random.duration(&(range.end..range.end)), range.end);
    }
}
