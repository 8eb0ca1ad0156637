//! What the hot paths are expected to cost, and whether they do.
//!
//! Owns: the form of `expected.txt`, the tolerance. Does not own: measuring.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use anyhow::{Context as _, Result, ensure};

/// Part by which instructions may differ, in percent, with the compiler that the expectation was measured with.
const TOLERANCE_PERCENT: f64 = 5.0;
/// The same with another one.
const OTHER_COMPILER_PERCENT: f64 = 20.0;
/// By how many allocations of a unit may differ, and by which part: they are counted exactly, but for what grows now and then.
const ALLOCATIONS: f64 = 0.25;
const ALLOCATIONS_PERCENT: f64 = 5.0;

/// What one operation has cost, a unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    name: String,
    instructions: f64,
    allocations: f64,
}

/// What is expected of all.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    compiler: String,
    all: Vec<Measured>,
}

/// A table, and how many lines of it are failures.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    table: String,
    passed: usize,
    /// Operations that cost more than expected, or that are not expected, or are expected and not measured.
    pub(crate) failed: usize,
}

impl Measured {
    /// Of so many units.
    pub(crate) fn new(name: &str, units: f64, instructions: u64, allocations: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "ratios for people to read")]
        let each = |count: u64| count as f64 / units;
        Self {
            name: name.to_owned(),
            instructions: each(instructions),
            allocations: each(allocations),
        }
    }
}

impl Expected {
    /// What was measured is expected from now on.
    pub(crate) fn new(all: Vec<Measured>, compiler: String) -> Self {
        Self { compiler, all }
    }

    /// Reads what [`Display`] writes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines.next().context("no compiler")?.to_owned();
        let measured = |line: &str| {
            let (instructions, rest) = line.trim_start().split_once(' ').context("no instructions")?;
            let (allocations, name) = rest.trim_start().split_once(' ').context("no allocations")?;
            Ok(Measured {
                name: name.trim().to_owned(),
                instructions: instructions.parse()?,
                allocations: allocations.parse()?,
            })
        };
        let all: Vec<Measured> = lines.map(measured).collect::<Result<_>>()?;
        ensure!(!all.is_empty(), "nothing is expected");
        Ok(Self { compiler, all })
    }

    /// Compares. What has become cheaper is said and is no failure: `--update` makes it the new expectation.
    pub(crate) fn judge(&self, measured: &[Measured], compiler: &str) -> Verdict {
        let same = self.compiler == compiler;
        let tolerance = if same {
            TOLERANCE_PERCENT
        } else {
            OTHER_COMPILER_PERCENT
        };
        let mut missing: BTreeMap<&str, &Measured> = self.all.iter().map(|one| (one.name.as_str(), one)).collect();
        let mut verdict = Verdict {
            table: format!(
                "{:<58} {:>12} {:>8} {:>12} {:>8}\n",
                "", "instructions", "", "allocations", ""
            ),
            passed: 0,
            failed: 0,
        };
        for one in measured {
            match missing.remove(one.name.as_str()) {
                None => verdict.add(&format!("{:<58} is not expected: --update", one.name), false),
                Some(before) => {
                    let percent = 100.0 * (one.instructions / before.instructions - 1.0);
                    let more = one.allocations - before.allocations;
                    let room = ALLOCATIONS.max(before.allocations * ALLOCATIONS_PERCENT / 100.0);
                    let passed = percent <= tolerance && more <= room;
                    let cheaper = percent < -tolerance || more < -room;
                    let word = match (passed, cheaper) {
                        (false, _) => "  COSTS MORE",
                        (true, true) => "  costs less: --update",
                        (true, false) => "",
                    };
                    let line = format!(
                        "{:<58} {:>12.1} {percent:>+7.1}% {:>12.2} {more:>+8.2}{word}",
                        one.name, one.instructions, one.allocations
                    );
                    verdict.add(&line, passed);
                }
            }
        }
        for name in missing.keys() {
            verdict.add(&format!("{name:<58} was not measured"), false);
        }
        if !same {
            let note = format!("{compiler} instead of {}: {tolerance} % are tolerated\n", self.compiler);
            verdict.table.push_str(&note);
        }
        verdict
    }
}

impl Verdict {
    fn add(&mut self, line: &str, passed: bool) {
        self.table.push_str(line);
        self.table.push('\n');
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} passed, {} failed", self.table, self.passed, self.failed)
    }
}

impl Display for Expected {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions and allocations of one unit. Written by `cargo xtask ci release` and `target/release/esker-instructions --update`."
        )?;
        writeln!(f, "{}", self.compiler)?;
        for one in &self.all {
            writeln!(f, "{:>10.1} {:>7.2}  {}", one.instructions, one.allocations, one.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, instructions: u64, allocations: u64) -> Measured {
        Measured::new(name, 10.0, instructions, allocations)
    }

    fn failed(measured: &[Measured], compiler: &str) -> usize {
        let expected = Expected::new(vec![one("a b", 1_000, 20), one("c", 50, 0)], "rustc 1".to_owned());
        let read = Expected::parse(&expected.to_string()).unwrap();
        read.judge(measured, compiler).failed
    }

    #[test]
    fn what_costs_more_fails_and_what_costs_less_does_not() {
        assert_eq!(failed(&[one("a b", 1_049, 22), one("c", 20, 0)], "rustc 1"), 0);
        assert_eq!(failed(&[one("a b", 1_051, 20), one("c", 50, 0)], "rustc 1"), 1);
        assert_eq!(failed(&[one("a b", 1_000, 23), one("c", 53, 0)], "rustc 1"), 2);
    }

    #[test]
    fn another_compiler_is_given_more_room_but_not_for_allocations() {
        assert_eq!(failed(&[one("a b", 1_199, 20), one("c", 50, 0)], "rustc 2"), 0);
        assert_eq!(failed(&[one("a b", 1_201, 20), one("c", 50, 3)], "rustc 2"), 2);
    }

    #[test]
    fn an_operation_must_be_expected_and_measured() {
        assert_eq!(failed(&[one("a b", 1_000, 20), one("d", 50, 0)], "rustc 1"), 2);
    }
}
