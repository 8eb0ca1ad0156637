//! The command line: which commands there are.
//!
//! Owns: names of commands and what is said of each.
//! Does not own: their flags (`serving`, and the command that has them), longer explanations (`help`).

mod serving;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::serving::{
    AgentArgs, DevArgs, LogFormat, SettingArgs, StoreArgs, flags, listen, refuse_open_listener,
};
use crate::bench::BenchCommand;
use crate::check_store::CheckStoreArgs;
use crate::cluster::ClusterCommand;
use crate::compactor::CompactorArgs;
use crate::consume::ConsumeArgs;
use crate::explain::ConfigCommand;
use crate::group::GroupCommand;
use crate::help::{self, HelpArgs};
use crate::produce::ProduceArgs;
use crate::recover::RecoverArgs;
use crate::topic::TopicCommand;

/// An event streaming broker that speaks Kafka and keeps everything in objects.
#[derive(Debug, Parser)]
#[command(name = "esker", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system in one process, on a local directory
    Dev(DevArgs),
    /// Run one agent of a cluster, over etcd and a bucket
    Agent(AgentArgs),
    /// Merge, trim and clean up what the agents of a cluster leave in the bucket
    Compactor(CompactorArgs),
    /// Create, look at, change and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Look at consumer groups, move and delete what they have committed
    #[command(subcommand)]
    Group(GroupCommand),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Write records to a topic: lines, JSON or files
    Produce(ProduceArgs),
    /// Print records of topics
    Consume(ConsumeArgs),
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Begin a new life of a cluster from what is in its bucket
    Recover(RecoverArgs),
    /// Verify every committed offset of a node that is not running
    CheckData(CheckDataArgs),
    /// Find out whether a bucket does what Esker needs
    CheckStore(CheckStoreArgs),
    /// Explain settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete in
        shell: Shell,
    },
    /// Explain a topic or a command
    Help(HelpArgs),
}

/// The command line as it is read, completed and explained.
pub(crate) fn command() -> clap::Command {
    help::explaining(Cli::command())
}

#[derive(Args, Debug)]
pub(crate) struct CheckDataArgs {
    /// The data directory of the node
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
