//! Bugs planted on purpose are found within 200 seeds: what the simulation cannot find, it does not test.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

use esker_sim::{Bug, Report, Scenario, run};

const SEEDS: u64 = if cfg!(debug_assertions) { 200 } else { 1_000 };

fn simulate(seed: u64, bug: Bug) -> Report {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(Scenario { seed, bug: Some(bug) }))
}

/// What a bug may be noticed by: the invariants that it breaks, or that the node gets stuck.
fn symptoms(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::AcknowledgesUnknown => &["LOG-3", "LOG-4", "IDM-1"],
        Bug::CommitLost => &["LOG-2", "stuck"],
        Bug::ComparesSkipped => &["LOG-2"],
        Bug::PutDropped | Bug::ObjectDeleted => &["LOG-3", "stuck"],
        Bug::ReadsStale => &["LOG-6", "the node gave up"],
        Bug::UnknownTakenForFailed | Bug::StampsDropped | Bug::WindowTooSmall => &["IDM-1"],
        Bug::StaleAnswers => &["LOG-3"],
        Bug::CollectsLive => &["LOG-3", "stuck"],
        Bug::TrustsWatch => &["LOG-1", "LOG-3", "LOG-5", "LOG-6", "IDM-1", "the node gave up"],
        Bug::TruncatesTooMuch => &["LOG-2", "LOG-3", "LOG-5", "the node gave up", "stuck"],
        Bug::RootUnchecked => &["LOG-3", "LOG-5", "the node gave up", "stuck"],
        Bug::MergedDamaged => &["LOG-1", "LOG-3"],
    }
}

/// The first seed in which a bug shows by one of its symptoms, and how.
fn found(bug: Bug) -> Option<(u64, String)> {
    let is_symptom = |violation: &String| symptoms(bug).iter().any(|symptom| violation.starts_with(symptom));
    (0..SEEDS).find_map(|seed| Some((seed, simulate(seed, bug).violations.into_iter().find(is_symptom)?)))
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let found = found(bug);
        println!("{bug:?}: {found:?}");
        assert!(found.is_some(), "{bug:?} stays unnoticed");
    }
}
