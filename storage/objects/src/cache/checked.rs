//! Which bytes in memory somebody has checked: each is checked once, however many read it.
//!
//! Owns: one range for each entry of the cache; consumers read from front to back, so that it grows until it is all of it.
//! Does not own: the check.
//!
//! Invariants: a byte in the range was checked (LOG-3). One that was checked need not be in it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// From and to, 32 bits each; counted from the begin of the entry.
#[derive(Debug, Default)]
pub(super) struct CheckedRange(AtomicU64);

impl CheckedRange {
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        let known = unpacked(self.0.load(Ordering::Relaxed));
        known.start <= range.start && range.end <= known.end
    }

    /// Adds a range. What does not touch the one that is known takes its place if it is longer.
    pub(super) fn extend(&self, range: &Range<u64>) {
        // What lies further back than can be said is checked each time.
        let most = u64::from(u32::MAX);
        let added = range.start.min(most)..range.end.min(most);
        let joined = |known: u64| {
            let known = unpacked(known);
            if added.start <= known.end && known.start <= added.end {
                Some(packed(&(known.start.min(added.start)..known.end.max(added.end))))
            } else {
                (added.end - added.start > known.end - known.start).then(|| packed(&added))
            }
        };
        // The bytes do not change: nothing else is told with it. Refused is what changes nothing.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, joined);
    }
}

fn packed(range: &Range<u64>) -> u64 {
    (range.start << 32) | range.end
}

fn unpacked(packed: u64) -> Range<u64> {
    packed >> 32..packed & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(ranges: &[Range<u64>]) -> Range<u64> {
        let known = CheckedRange::default();
        ranges.iter().for_each(|range| known.extend(range));
        unpacked(known.0.into_inner())
    }

    #[test]
    fn ranges_that_touch_are_joined_and_of_others_the_longer_one_is_known() {
        assert_eq!(checked(&[0..10, 10..30]), 0..30);
        assert_eq!(checked(&[50..60, 40..50, 55..90]), 40..90);
        assert_eq!(checked(&[50..60, 70..75]), 50..60);
        assert_eq!(checked(&[50..60, 70..85, 85..86]), 70..86);
        assert_eq!(checked(&[]), 0..0, "nothing was checked");
    }

    #[test]
    fn only_what_was_checked_is_covered() {
        let known = CheckedRange::default();
        assert!(!known.covers(&(0..1)));
        known.extend(&(100..200));
        assert!(known.covers(&(100..200)) && known.covers(&(150..160)));
        assert!(!known.covers(&(99..101)) && !known.covers(&(199..201)));
    }

    #[test]
    fn what_is_too_far_back_is_not_covered() {
        let known = CheckedRange::default();
        known.extend(&(0..u64::MAX));
        assert!(known.covers(&(0..1 << 31)));
        assert!(!known.covers(&(0..1 << 32)) && !known.covers(&(1 << 33..(1 << 33) + 5)));
    }
}
