//! How busy this agent is, as one figure: what an autoscaler goes by.
//!
//! Owns: the gauge `esker_load`, 0 to 1: the larger of the CPU time that the process took in the last seconds, as a part of all
//! that it could have had, and the memory that requests hold, as a part of `esker.buffer.bytes`.
//! Does not own: either figure (`telemetry`, `kafka::budget`). What waits to be merged is no load of an agent: more agents
//! would not merge faster; it has metrics of its own.

use std::thread::available_parallelism;
use std::time::Duration;

use metrics::gauge;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::kafka::budget::ByteBudget;
use crate::telemetry::cpu_seconds_used;

/// Over which time CPU is counted. Long enough for Linux's hundredths of a second.
const WINDOW: Duration = Duration::from_secs(2);

/// Keeps the gauge up to date until `stop`.
pub async fn watch(budget: ByteBudget, stop: CancellationToken) {
    let cores = available_parallelism().map_or(1.0, |cores| u32::try_from(cores.get()).map_or(f64::MAX, f64::from));
    let (mut at, mut used) = (Instant::now(), cpu_seconds_used());
    while stop.run_until_cancelled(sleep(WINDOW)).await.is_some() {
        let (at_before, used_before) = (at, used);
        (at, used) = (Instant::now(), cpu_seconds_used());
        let could = (at - at_before).as_secs_f64() * cores;
        let cpu = used
            .zip(used_before)
            .map_or(0.0, |(now, before)| (now - before) / could);
        gauge!("esker_load").set(load(cpu, budget.held_share()));
    }
}

fn load(cpu: f64, memory: f64) -> f64 {
    cpu.max(memory).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::load;

    #[test]
    fn the_scarcer_of_the_two_counts() {
        for (cpu, memory, expected) in [(0.25, 0.5, 0.5), (0.75, 0.5, 0.75), (1.02, 0.0, 1.0), (-0.1, 0.0, 0.0)] {
            let found = load(cpu, memory);
            assert!((found - expected).abs() < 1e-9, "{cpu} {memory}: {found}");
        }
    }
}
