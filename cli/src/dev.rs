//! `esker dev`: the whole system in one process.
//!
//! Owns: its data directory, for as long as it runs.
//! Does not own: starting and stopping (`process`), the parts.

use std::path::PathBuf;

use esker_compaction::settings::Scope;

use crate::args::LogFormat;
use crate::data_dir::DataDir;
use crate::process::{self, Serving};
use crate::{compactor, stores};

/// Everything that `esker dev` was told.
#[derive(Debug)]
pub(crate) struct DevOptions {
    /// Where data is kept; if `ephemeral`, what the temporary directory lies in.
    pub(crate) data_dir: PathBuf,
    /// Keep data in a temporary directory that goes with the process.
    pub(crate) ephemeral: bool,
    pub(crate) serving: Serving,
    /// Whether an answer waits for the disk.
    pub(crate) fsync: bool,
    pub(crate) log_format: LogFormat,
}

/// Runs until a signal, or until a part fails.
pub(crate) fn run(options: DevOptions) -> anyhow::Result<()> {
    let dir = if options.ephemeral {
        DataDir::temporary(&options.data_dir)?
    } else {
        DataDir::create(&options.data_dir)?
    };
    let fsync = options.fsync && !options.ephemeral;
    tracing::info!(path = %dir.path().display(), fsync, "data directory");
    let open = stores::open_directory(dir.path(), fsync);
    process::block_on(process::run(options.serving, open, |agent| {
        compactor::beside(agent, Scope::Everything)
    }))
}
