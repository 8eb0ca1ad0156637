//! What a store has taken lately, by size of the request.
//!
//! Owns: windows of the last latencies and their quantiles.
//! Does not own: what follows from them (`hedged`).

use std::collections::VecDeque;
use std::time::Duration;

/// Latencies remembered in each class of sizes.
const WINDOW: usize = 256;
/// Fewer say nothing.
const ENOUGH: usize = 32;
/// Quantiles are looked up anew after so many more latencies.
const EVERY: usize = 8;
/// Classes: up to 64 KiB, and one for each doubling.
const CLASSES: usize = 12;
const SMALL_BYTES: u64 = 64 << 10;

/// Quantiles of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantiles {
    pub(super) p50: Duration,
    pub(super) p95: Duration,
    pub(super) p99: Duration,
}

/// The last latencies.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    classes: [Class; CLASSES],
}

#[derive(Debug, Default)]
struct Class {
    /// In microseconds.
    window: VecDeque<u32>,
    since: usize,
    quantiles: Option<Quantiles>,
}

fn class_of(bytes: u64) -> usize {
    let doublings = (bytes / SMALL_BYTES).checked_ilog2().map_or(0, |log| log + 1);
    usize::try_from(doublings).map_or(CLASSES - 1, |class| class.min(CLASSES - 1))
}

impl Latencies {
    /// Takes note of how long a request of so many bytes took, or has taken so far.
    pub(super) fn record(&mut self, bytes: u64, took: Duration) {
        let class = &mut self.classes[class_of(bytes)];
        if class.window.len() == WINDOW {
            class.window.pop_front();
        }
        class
            .window
            .push_back(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        class.since += 1;
        if class.window.len() >= ENOUGH && (class.since >= EVERY || class.quantiles.is_none()) {
            class.since = 0;
            class.quantiles = Some(class.look());
        }
    }

    /// What requests of this size take; `None` if there were too few.
    pub(super) fn quantiles(&self, bytes: u64) -> Option<Quantiles> {
        self.classes[class_of(bytes)].quantiles
    }
}

impl Class {
    fn look(&self) -> Quantiles {
        let mut sorted: Vec<u32> = self.window.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let place = (sorted.len() * percent / 100).min(sorted.len() - 1);
            Duration::from_micros(u64::from(sorted[place]))
        };
        Quantiles {
            p50: at(50),
            p95: at(95),
            p99: at(99),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Windows and classes.

    use std::time::Duration;

    use super::{EVERY, Latencies, WINDOW};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn quantiles_are_of_the_last_window() {
        let mut latencies = Latencies::default();
        for nth in 0..31 {
            latencies.record(100, ms(nth));
            assert_eq!(latencies.quantiles(100), None);
        }
        for nth in 0..400 {
            latencies.record(100, ms(nth % 100));
        }
        let found = latencies.quantiles(100).unwrap();
        assert!((ms(45)..=ms(55)).contains(&found.p50), "{found:?}");
        assert!((ms(92)..=ms(98)).contains(&found.p95), "{found:?}");
        for _ in 0..WINDOW + EVERY {
            latencies.record(100, ms(7));
        }
        assert_eq!(
            latencies.quantiles(100).unwrap().p99,
            ms(7),
            "the old ones are forgotten"
        );
    }

    #[test]
    fn sizes_are_apart_and_none_is_too_large() {
        let mut latencies = Latencies::default();
        for bytes in [0, 64 << 10, 8 << 20, u64::MAX] {
            assert_eq!(latencies.quantiles(bytes), None, "{bytes}");
            for _ in 0..40 {
                latencies.record(bytes, Duration::from_secs(10_000_000));
            }
            assert!(latencies.quantiles(bytes).is_some());
        }
    }
}
