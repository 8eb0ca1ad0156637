//! `esker bench`: load on a cluster, of Esker or of any Kafka, and what it took.
//!
//! Owns: flags that all of it has in common.
//! Does not own: the loads (`produce`, `consume`, `latency`), what they share (`target`, `pace`, `template`, `report`).
//!
//! Invariants: every load is bounded in time. A request that was due is timed from when it was due, not from when it could be sent, so
//! that a cluster that stalls does not look better for the requests that it kept from being made.

mod alarm;
mod consume;
mod cpu;
mod lane;
mod latencies;
mod latency;
mod pace;
mod produce;
mod report;
mod target;
mod template;

use std::time::Duration;

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::BootstrapArgs;
use crate::rows::FormArgs;
use crate::shutdown;

use self::consume::ConsumeBench;
use self::latency::LatencyBench;
use self::produce::ProduceBench;

/// Measure a cluster, of Esker or of any Kafka
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write batches as fast as they are taken, or at a rate
    Produce(ProduceBench),
    /// Read a topic as fast as it comes, or at a rate
    Consume(ConsumeBench),
    /// Write lone records at a rate, and see how long until they are acknowledged and until they are read
    Latency(LatencyBench),
}

/// What every load has.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// How long, as in 30s or 5m
    #[arg(long, short, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
    duration: Duration,
    /// A process on this machine whose CPU time is told as well: the broker
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    form: FormArgs,
}

/// Runs a load to its end; Ctrl-C ends it early.
pub(crate) fn run(command: BenchCommand) -> anyhow::Result<()> {
    // One thread: what the generator takes is to be small, and told.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        shutdown::on_signals(stop.clone())?;
        match command {
            BenchCommand::Produce(bench) => produce::run(bench, stop).await,
            BenchCommand::Consume(bench) => consume::run(bench, stop).await,
            BenchCommand::Latency(bench) => latency::run(bench, stop).await,
        }
    })
}
