//! Log lines: to stderr, as text or JSON.
//!
//! Owns: the format and the filter (`ESKER_LOG`, as in `debug` or `info,esker_agent=trace`).
//! Does not own: what is logged.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::UsageError;
use crate::args::LogFormat;

const VARIABLE: &str = "ESKER_LOG";

/// Sends log lines to stderr from here on.
pub(crate) fn install(format: LogFormat) -> Result<(), UsageError> {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&wanted)
        .map_err(|error| UsageError(format!("environment variable {VARIABLE} cannot be {wanted:?}: {error}")))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
