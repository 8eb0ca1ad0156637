//! `esker check-data`: reads back everything that a stopped node has promised to keep.
//!
//! Owns: refusing a node that runs.
//! Does not own yet: the check itself. The command says so and fails, rather than call unread data good.

use std::path::Path;

use crate::data_dir::DataDir;

/// Verifies the data of a stopped node.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let _dir = DataDir::existing(path)?;
    anyhow::bail!("check-data is not built yet; nothing was checked")
}
