//! The `esker` binary: reads the command line, runs the command, turns the outcome into an exit code.
//!
//! Owns: exit codes (0 done, 1 failed, 2 wrong arguments or configuration, 130
//! and 143 cut short by a signal), the last line on stderr.
//! Does not own: what the commands do (a module each).

mod advice;
mod agent;
mod args;
mod bench;
mod bootstrap;
mod check_data;
mod check_store;
mod cluster;
mod compactor;
mod config;
mod consume;
mod data_dir;
mod dev;
mod escapes;
mod explain;
mod group;
mod help;
mod listen;
mod logging;
mod process;
mod produce;
mod progress;
mod quantity;
mod records;
mod recover;
mod rows;
mod shutdown;
mod stores;
mod topic;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::FromArgMatches as _;

use crate::args::{Cli, Command};
use crate::shutdown::CutShort;

/// The arguments or the configuration are wrong: trying again without changing them is pointless.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

fn main() -> ExitCode {
    // A task that panicked leaves the process in an unknown state; the log, not the process, keeps what matters.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(1);
    }));
    let said = Cli::from_arg_matches(&args::command().get_matches()).unwrap_or_else(|error| error.exit());
    match run(said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let advice = advice::of(&error).map_or_else(String::new, |advice| format!("; {advice}"));
            // Nothing can be done about a stderr that is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}{advice}");
            ExitCode::from(match error.downcast_ref::<CutShort>() {
                Some(cut_short) => cut_short.exit_code(),
                None if error.is::<UsageError>() => 2,
                None => 1,
            })
        }
    }
}

/// Whoever reads stdout may have read enough, as `head` has: no error.
fn unless_read_enough(outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    let closed = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    match outcome {
        Err(error) if error.downcast_ref().is_some_and(closed) => Ok(()),
        other => other,
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Dev(args) => {
            let options = args.into_options()?;
            logging::install(options.log_format)?;
            dev::run(options)
        }
        Command::Agent(args) => {
            let options = args.into_options()?;
            logging::install(options.log_format)?;
            agent::run(options)
        }
        Command::Compactor(args) => {
            let options = args.into_options()?;
            logging::install(options.log_format)?;
            compactor::run(options)
        }
        Command::Topic(command) => unless_read_enough(topic::run(command)),
        Command::Group(command) => unless_read_enough(group::run(command)),
        Command::Cluster(command) => unless_read_enough(cluster::run(command)),
        Command::Produce(args) => unless_read_enough(produce::run(&args)),
        Command::Consume(args) => unless_read_enough(consume::run(&args)),
        Command::Bench(command) => unless_read_enough(bench::run(command)),
        Command::Recover(args) => recover::run(args),
        Command::CheckData(args) => check_data::run(&args.data_dir),
        Command::CheckStore(args) => check_store::run(&args),
        Command::Config(command) => explain::run(command),
        Command::Help(args) => unless_read_enough(help::run(args, args::command())),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::command(), "esker", &mut script);
            std::io::stdout().write_all(&script).context("cannot write to stdout")
        }
    }
}
