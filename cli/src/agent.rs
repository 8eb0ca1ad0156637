//! `esker agent`: one of many agents over etcd and a bucket.
//!
//! Owns: what is particular to it: the stores are shared, nothing is kept here.
//! Does not own: starting and stopping (`process`), the stores (`stores`).

use esker_compaction::settings::Scope;

use crate::args::LogFormat;
use crate::process::{self, Serving};
use crate::{compactor, stores};

/// Everything that `esker agent` was told.
#[derive(Debug)]
pub(crate) struct AgentOptions {
    pub(crate) serving: Serving,
    pub(crate) log_format: LogFormat,
}

/// Runs until a signal, or until a part fails.
pub(crate) fn run(options: AgentOptions) -> anyhow::Result<()> {
    let settings = options.serving.settings.process.clone();
    let hedge_percent = options.serving.settings.flush.hedge_percent;
    let open = async move { stores::open_shared(&settings, hedge_percent).await };
    process::block_on(process::run(options.serving, open, |agent| {
        compactor::beside(agent, Scope::Checkpoints)
    }))
}
