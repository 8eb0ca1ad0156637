//! `esker check-data`: reads back everything that a stopped node has promised to keep.
//!
//! Owns: refusing a node that runs, the report on the terminal.
//! Does not own: the check (`esker_compaction::check`).

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use esker_compaction::check::{Problem, Report, check};
use esker_storage::merged::{MergedReader, MergedSettings};

use crate::data_dir::DataDir;
use crate::stores;

/// Problems that are written out; the rest are counted.
const PROBLEMS_SHOWN: usize = 100;

/// Verifies the data of a stopped node; fails when anything is wrong.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() && !path.join(stores::METADATA).is_dir() {
        anyhow::bail!(
            "{} is no data directory of esker, or has lost its metadata: there is no {} in it",
            path.display(),
            stores::METADATA
        );
    }
    let dir = DataDir::existing(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(report(dir.path()))?;
    std::io::stdout().write_all(text(&report).as_bytes())?;
    if report.is_clean() {
        return Ok(());
    }
    let problems = u64::try_from(report.problems.len()).unwrap_or(u64::MAX) + report.more_problems;
    anyhow::bail!(
        "{problems} problems found; consumers get a storage error for the offsets named above, and everything else"
    )
}

async fn report(dir: &Path) -> anyhow::Result<Report> {
    let stores = stores::open_directory(dir, true).await?;
    let merged = MergedReader::new(stores.named(), MergedSettings::default());
    let report = check(&stores.joined, merged.manifests()).await;
    if let Some(embedded) = stores.closer() {
        embedded.close().await;
    }
    Ok(report?)
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "log index    {}\npartitions   {}\noffsets      {}\nbatches      {}\nobjects      {}\nbytes        {}\nproblems     {}\n",
        report.index,
        report.partitions,
        report.offsets,
        report.batches,
        report.objects,
        report.bytes,
        u64::try_from(report.problems.len()).unwrap_or(u64::MAX) + report.more_problems,
    );
    for problem in report.problems.iter().take(PROBLEMS_SHOWN) {
        text.push_str(&line(problem));
    }
    text
}

fn line(problem: &Problem) -> String {
    let key = problem
        .key
        .as_ref()
        .map_or_else(String::new, |key| format!(" in {key}"));
    if problem.topic.is_empty() {
        return format!("{}{key}\n", problem.what);
    }
    let Problem {
        topic,
        partition,
        from,
        to,
        what,
        ..
    } = problem;
    format!("{topic}/{partition} offsets {from} to {}: {what}{key}\n", to.0 - 1)
}
