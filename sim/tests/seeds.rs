//! The scenario under many seeds. `ESKER_SIM_SEEDS=n` runs n of them, `ESKER_SIM_SEED=k` only that one, with its trace.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

use esker_sim::{Report, Scenario, run};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn simulate(seed: u64) -> Report {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(Scenario { seed, bug: None }))
}

fn check(seed: u64) -> Report {
    let report = simulate(seed);
    if !report.violations.is_empty() {
        for line in &report.trace {
            println!("{line}");
        }
        panic!(
            "seed {seed} fails, replay it with ESKER_SIM_SEED={seed}: {:#?}",
            report.violations
        );
    }
    report
}

#[test]
fn nothing_acknowledged_is_lost_whatever_the_seed() {
    if let Some(seed) = number("ESKER_SIM_SEED") {
        let report = check(seed);
        for line in &report.trace {
            println!("{line}");
        }
        return;
    }
    let seeds = number("ESKER_SIM_SEEDS").unwrap_or(SEEDS);
    let halves: Vec<_> = (0..2)
        .map(|half| std::thread::spawn(move || (half..seeds).step_by(2).map(check).collect::<Vec<_>>()))
        .collect();
    let reports: Vec<Report> = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
    // A simulation in which nothing happens finds nothing.
    let per_seed = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>() / u64::try_from(reports.len()).unwrap();
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
    for seed in [1, 2, 3, 77, 1_000_003] {
        let (one, other) = (simulate(seed), simulate(seed));
        let differing = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
    }
    assert_ne!(simulate(1).trace_hash, simulate(2).trace_hash);
}
