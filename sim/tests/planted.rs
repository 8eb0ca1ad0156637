//! Bugs planted on purpose are found within 200 seeds: what the simulation cannot find, it does not test.

use esker_sim::{Bug, Report, Scenario, run};

const SEEDS: u64 = 200;

fn simulate(seed: u64, bug: Bug) -> Report {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(Scenario { seed, bug: Some(bug) }))
}

/// The first seed that finds a bug, and the first invariant that it breaks.
fn found(bug: Bug) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| Some((seed, simulate(seed, bug).violations.into_iter().next()?)))
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let found = found(bug);
        println!("{bug:?}: {found:?}");
        assert!(found.is_some(), "{bug:?} stays unnoticed");
    }
}
