//! `docs/metrics.md`, written from the catalogue, so that the page and the program cannot disagree.
//!
//! Owns: the words and the layout of the page.

use std::fmt::Write as _;

use super::METRICS;

const HEAD: &str = "\
# Metrics

<!-- Written by `cargo xtask reference` from agent/src/telemetry/catalogue.rs; a test compares. Do not edit. -->

`/metrics` on the HTTP listener shows them in the Prometheus text format. Counters and gauges begin at zero; a histogram
appears with its first sample. No label takes its value from a client.

| name | kind | labels | |
|--|--|--|--|
";

const PROCESS: &str = "\
| `process_cpu_seconds_total` | counter | | User and system CPU time spent. Linux only. |
| `process_resident_memory_bytes` | gauge | | Resident memory. Linux only. |
";

/// The whole page.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for metric in METRICS {
        let label = |(name, values): &(&str, &[&str])| format!("{name}: {}", values.join(", "));
        let labels: Vec<_> = metric.labels.iter().map(label).collect();
        let (name, kind, labels, help) = (metric.name, metric.kind.name(), labels.join("; "), metric.help);
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{labels} ")
        };
        writeln!(page, "| `{name}` | {kind} | {labels}| {help} |").expect("writing to a string does not fail");
    }
    page.push_str(PROCESS);
    page
}
