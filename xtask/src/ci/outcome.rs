//! What became of the steps, and how it is told.
//!
//! Owns: counting tests out of what test runners print, the table, the closing line.

use std::fmt;
use std::time::Duration;

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl Counts {
    /// What one line of output tells: `test result: ok. 3 passed; 0 failed; …` of cargo, or `3 passed, 0 failed`.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let told = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
            .map_or(line, |(_, rest)| rest);
        let mut parts = told.split([';', ',']).map(str::trim);
        let number = |part: Option<&str>, word| part?.strip_suffix(word)?.trim_end().parse().ok();
        Some(Self {
            passed: number(parts.next(), "passed")?,
            failed: number(parts.next(), "failed")?,
        })
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What its runners counted. A step that counts nothing counts as one.
    pub(super) counted: Counts,
    /// Why it failed.
    pub(super) failure: Option<String>,
}

impl Outcome {
    pub(super) fn not_run(needed: &str) -> Self {
        Self {
            counted: Counts::default(),
            failure: Some(format!("not run: {needed} failed")),
        }
    }

    /// At least one of either, and a failure even where the runner died before it counted one.
    fn counts(&self) -> Counts {
        let Counts { passed, failed } = self.counted;
        match self.failure {
            Some(_) => Counts {
                passed,
                failed: failed.max(1),
            },
            None if passed == 0 => Counts { passed: 1, failed: 0 },
            None => self.counted,
        }
    }
}

/// All steps so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<(&'static str, Outcome, Duration)>,
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, outcome: Outcome, took: Duration) {
        self.rows.push((name, outcome, took));
    }

    /// A step that was not asked for has not failed.
    pub(super) fn has_failed(&self, name: &str) -> bool {
        self.rows
            .iter()
            .any(|(row, outcome, _)| *row == name && outcome.failure.is_some())
    }

    pub(super) fn all_passed(&self) -> bool {
        self.rows.iter().all(|(_, outcome, _)| outcome.failure.is_none())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut total, mut took_total) = (Counts::default(), Duration::ZERO);
        writeln!(f, "\n{:<10} {:>8} {:>8} {:>8}", "step", "seconds", "passed", "failed")?;
        for (name, outcome, took) in &self.rows {
            let counts = outcome.counts();
            total.add(counts);
            took_total += *took;
            let why = outcome.failure.as_deref().unwrap_or_default();
            let line = format!(
                "{name:<10} {:>8.1} {:>8} {:>8}  {why}",
                took.as_secs_f64(),
                counts.passed,
                counts.failed
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f, "{:<10} {:>8.1}\n", "total", took_total.as_secs_f64())?;
        writeln!(f, "{} passed, {} failed", total.passed, total.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_cargo_and_from_plain_lines() {
        let cargo =
            "test result: FAILED. 17 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(Counts::of_line(cargo), Some(Counts { passed: 17, failed: 2 }));
        assert_eq!(
            Counts::of_line("23 passed, 0 failed"),
            Some(Counts { passed: 23, failed: 0 })
        );
        for other in [
            "",
            "passed, failed",
            "ok 3 passed, 0 failed",
            "test a ... ok",
            "3 passed",
        ] {
            assert_eq!(Counts::of_line(other), None, "{other}");
        }
    }

    #[test]
    fn a_failure_that_nobody_counted_still_counts() {
        let died = Outcome {
            counted: Counts { passed: 5, failed: 0 },
            failure: Some("killed".to_owned()),
        };
        assert_eq!(died.counts(), Counts { passed: 5, failed: 1 });
        let quiet = Outcome {
            counted: Counts::default(),
            failure: None,
        };
        assert_eq!(quiet.counts(), Counts { passed: 1, failed: 0 });
    }
}
