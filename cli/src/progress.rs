//! One line on a terminal that changes while something is under way.
//!
//! Owns: where it stands, how often it is written, and how it goes away.
//! Does not own: what it says.
//!
//! Invariants: nothing is written unless stderr is a terminal, and nothing is left behind.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::quantity;

const EVERY: Duration = Duration::from_millis(200);
const BAR_CHARS: u64 = 24;

/// A line that is there until this is dropped.
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    /// Shows nothing yet; never, unless it is wanted and stderr is a terminal.
    pub(crate) fn new(wanted: bool) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        Self { shown }
    }

    /// Shows what `look` says, again and again.
    pub(crate) async fn watch(&self, look: impl Fn() -> String) -> Infallible {
        if !self.shown {
            return std::future::pending().await;
        }
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // At once would be a flash of a line for what takes no time.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            // A terminal that is gone shows nothing, and that is all.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", look());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// How far a file is: `42 % ██████████-------------- 12.6 of 30.0 MiB, 4.10 MiB/s, 4.24 s left`.
pub(crate) fn bar(done: u64, total: u64, elapsed: Duration) -> String {
    let total_or_one = total.max(1);
    let done = done.min(total);
    let filled = usize::try_from(done * BAR_CHARS / total_or_one).unwrap_or(0);
    let empty = usize::try_from(BAR_CHARS).unwrap_or(0) - filled;
    let (share, full) = (done * 100 / total_or_one, "█".repeat(filled));
    let rest = "-".repeat(empty);
    let (so_far, all) = (quantity::bytes(done), quantity::bytes(total));
    let rate = quantity::rate(done, elapsed);
    let left = if done == 0 {
        "?".to_owned()
    } else {
        let factor = quantity::float(total - done) / quantity::float(done);
        quantity::duration(elapsed.mul_f64(factor))
    };
    format!("{share:>3} % {full}{rest} {so_far} of {all}, {rate}, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_long_it_will_take() {
        assert_eq!(
            bar(12 << 20, 48 << 20, Duration::from_secs(3)),
            " 25 % ██████------------------ 12.0 MiB of 48.0 MiB, 4.00 MiB/s, 9.00 s left"
        );
        assert!(bar(0, 0, Duration::ZERO).starts_with("  0 % ---"));
        assert!(bar(9, 3, Duration::from_secs(1)).starts_with("100 %"));
    }
}
