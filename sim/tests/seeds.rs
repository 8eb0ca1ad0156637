//! The scenario under many seeds. `ESKER_SIM_SEEDS=n` runs n of them, `ESKER_SIM_SEED=k` only that one, with its trace.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

use esker_sim::{Report, Scenario, run};

/// Seeds of an ordinary test run, and of one that is built for speed (`cargo xtask ci simulation`).
const SEEDS: u64 = if cfg!(debug_assertions) { 200 } else { 1_000 };
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn simulate(seed: u64) -> Report {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(Scenario { seed, bug: None }))
}

/// Runs every n-th seed.
fn simulate_share(from: u64, seeds: u64) -> Vec<(u64, Report)> {
    let share = (from..seeds).step_by(usize::try_from(THREADS).unwrap());
    share.map(|seed| (seed, simulate(seed))).collect()
}

#[test]
fn nothing_acknowledged_is_lost_whatever_the_seed() {
    if let Some(seed) = number("ESKER_SIM_SEED") {
        tracing_subscriber::fmt().without_time().with_test_writer().init();
        let report = simulate(seed);
        for line in &report.trace {
            println!("{line}");
        }
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        return;
    }
    let seeds = number("ESKER_SIM_SEEDS").unwrap_or(SEEDS);
    let threads: Vec<_> = (0..THREADS)
        .map(|from| std::thread::spawn(move || simulate_share(from, seeds)))
        .collect();
    let reports: Vec<(u64, Report)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let failing: Vec<_> = reports
        .iter()
        .filter(|(_, report)| !report.violations.is_empty())
        .collect();
    for (seed, report) in &failing {
        println!(
            "seed {seed} fails, replay it with ESKER_SIM_SEED={seed}: {:#?}",
            report.violations
        );
    }
    let failing: Vec<u64> = failing.into_iter().map(|(seed, _)| *seed).collect();
    assert!(
        failing.is_empty(),
        "seeds {failing:?} fail, replay one with ESKER_SIM_SEED"
    );
    check_that_something_happened(&reports);
}

/// A simulation in which nothing happens finds nothing.
fn check_that_something_happened(reports: &[(u64, Report)]) {
    let seeds = u64::try_from(reports.len()).unwrap();
    let per_seed = |of: fn(&Report) -> u64| reports.iter().map(|(_, report)| of(report)).sum::<u64>() / seeds;
    let commits = per_seed(|report| report.commits);
    let checkpoint = per_seed(|report| report.checkpoint);
    let merged = per_seed(|report| report.merged);
    let deleted = per_seed(|report| u64::try_from(report.deleted).unwrap());
    let acknowledged = per_seed(|report| u64::try_from(report.acknowledged).unwrap());
    println!(
        "{seeds} seeds; of each: {commits} commits, checkpoint at {checkpoint}, merged through {merged}, \
         {deleted} objects deleted, {acknowledged} records acknowledged"
    );
    assert!(commits > 20 && checkpoint > 10 && merged > 10 && deleted > 10 && acknowledged > 100);
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in (0..20).chain([1_000_003]) {
        let (one, other) = (simulate(seed), simulate(seed));
        let differing = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
    }
    assert_ne!(simulate(1).trace_hash, simulate(2).trace_hash);
}
