//! `cargo xtask reference`: writes the pages of `docs/` that follow from tables in the code.
//!
//! Owns: how to have them written. The test `agent/tests/reference.rs` compares them, and writes them when asked to:
//! it, not this crate, knows the tables, so that chores build without the product.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs the comparing test in its writing mode.
pub(crate) fn write() -> Result<()> {
    let mut test = Command::new("cargo");
    test.args(["test", "--quiet", "--package", "esker-agent", "--test", "reference"]);
    let status = test
        .env("WRITE_REFERENCE", "1")
        .current_dir(crate::root())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the reference pages could not be written");
    Ok(())
}
