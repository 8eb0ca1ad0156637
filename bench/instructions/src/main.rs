//! Counts what the hot paths cost: instructions under callgrind, and allocations, per batch. Compares with `expected.txt`.
//!
//! `esker-instructions` runs itself under valgrind, prints a table and fails when something costs more than expected; `--update` writes
//! what it has measured to `expected.txt` instead; `run` does the work once and prints allocations only.
//!
//! Owns: the way of measuring. Does not own: what is measured (`operations`), what is expected (`expected`).
//!
//! Instructions are the same on a busy machine as on a quiet one; seconds are not. valgrind shows programs a processor of its own, so that
//! they hardly differ between machines either.

#![allow(clippy::print_stdout, reason = "its output is the result")]

mod broker;
mod expected;
mod operations;
mod requests;

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use self::expected::{Expected, Measured};
use self::operations::{Operation, operations};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds that are not counted: what is made once is made, what grows has grown.
const WARM_ROUNDS: u32 = 8;
/// Rounds that are counted.
const ROUNDS: u32 = 64;
/// The function that callgrind counts in, and writes a file after.
const COUNTED: &str = "esker_instructions::counted";

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run"] => run().map(|()| ExitCode::SUCCESS),
        [] => compare(),
        ["--update"] => update(),
        _ => bail!("usage: esker-instructions [--update | run]"),
    }
}

/// Does all the work once, each operation's counted rounds within one call of [`counted`]. One line for each: its name, how many units
/// were counted, and allocations.
fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for mut operation in operations(&runtime)? {
        for _ in 0..WARM_ROUNDS {
            (operation.act)();
        }
        let before = ALLOCATOR.stats();
        counted(&mut operation);
        let after = ALLOCATOR.stats();
        let allocations = after.allocations + after.reallocations - before.allocations - before.reallocations;
        println!(
            "{}\t{}\t{allocations}",
            operation.name,
            f64::from(operation.units * ROUNDS)
        );
    }
    Ok(())
}

#[inline(never)]
fn counted(operation: &mut Operation<'_>) {
    for _ in 0..ROUNDS {
        (operation.act)();
    }
}

fn compare() -> Result<ExitCode> {
    let measured = measure()?;
    let text = fs::read_to_string(expected_path()).context("expected.txt")?;
    let verdict = Expected::parse(&text)?.judge(&measured, &compiler()?);
    println!("{verdict}");
    Ok(if verdict.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn update() -> Result<ExitCode> {
    let expected = Expected::new(measure()?, compiler()?);
    fs::write(expected_path(), expected.to_string())?;
    println!("{expected}");
    Ok(ExitCode::SUCCESS)
}

fn expected_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.txt")
}

/// The compiler that cargo uses here: another one makes other instructions of the same source.
fn compiler() -> Result<String> {
    let ran = Command::new("rustc")
        .arg("--version")
        .output()
        .context("cannot run rustc")?;
    Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
}

/// Runs this program under callgrind.
fn measure() -> Result<Vec<Measured>> {
    let directory = std::env::temp_dir().join(format!("esker-instructions-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = measure_in(&directory);
    fs::remove_dir_all(&directory)?;
    measured
}

fn measure_in(directory: &Path) -> Result<Vec<Measured>> {
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", directory.join("out").display()))
        .arg(std::env::current_exe()?)
        .arg("run")
        .output()
        .context("cannot run valgrind")?;
    let (said, complained) = (String::from_utf8(ran.stdout)?, String::from_utf8_lossy(&ran.stderr));
    ensure!(
        ran.status.success(),
        "the run under valgrind ended with {}: {said}{complained}",
        ran.status
    );
    let mut all = Vec::new();
    for (nth, line) in (1..).zip(said.lines()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, units, allocations] = fields[..] else {
            bail!("unexpected output: {line}");
        };
        let instructions = instructions(&directory.join(format!("out.{nth}")))?;
        all.push(Measured::new(name, units.parse()?, instructions, allocations.parse()?));
    }
    Ok(all)
}

/// All that one file of callgrind has counted.
fn instructions(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("valgrind did not write {}", path.display()))?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    let total: u64 = total.context("no total in the output of callgrind")?.trim().parse()?;
    ensure!(
        total > 0,
        "callgrind has counted nothing: the name of the counted function is not found"
    );
    Ok(total)
}
