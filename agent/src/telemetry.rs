//! What the process tells about itself: the catalogue of metrics and the page they are read from.
//!
//! Owns: names, units, help and buckets of every metric; the Prometheus text; figures of the process.
//! Does not own: counting (each crate counts through the `metrics` facade), the HTTP route (`http`).
//!
//! Invariants: labels come from fixed sets only, never from a client, so the page has a bounded size (MEM-1).

mod catalogue;
mod process;
pub mod reference;
#[cfg(test)]
mod tests;

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub(crate) use catalogue::{GRPC_CODES, GRPC_METHODS};
pub use catalogue::{Kind, Label, METRICS, Metric, Unit};
pub(crate) use process::cpu_seconds_used;

/// How often samples of histograms are folded into their buckets when nobody reads the page; between two folds they
/// are kept one by one.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A histogram without buckets, or the like.
    #[error("the metrics catalogue is not usable: {0}")]
    Catalogue(#[from] metrics_exporter_prometheus::BuildError),
    /// Another recorder was installed before.
    #[error("metrics are already being recorded in this process")]
    AlreadyInstalled,
}

/// The page that `/metrics` shows.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    handle: PrometheusHandle,
}

impl MetricsPage {
    /// All metrics in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = self.handle.render();
        page.push_str(&process::render());
        page
    }

    /// Folds samples for as long as it is polled, so that they do not pile up when nobody reads the page.
    pub async fn run_upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }
}

/// Makes a recorder that knows the catalogue, and the page to read it from. For tests that want their own.
///
/// # Errors
/// The catalogue is not usable.
pub fn recorder() -> Result<(PrometheusRecorder, MetricsPage), TelemetryError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    let recorder = builder.build_recorder();
    let page = MetricsPage {
        handle: recorder.handle(),
    };
    metrics::with_local_recorder(&recorder, catalogue::describe);
    Ok((recorder, page))
}

/// Makes the recorder of the whole process. For binaries, once.
///
/// # Errors
/// There is one already, or the catalogue is not usable.
pub fn install() -> Result<MetricsPage, TelemetryError> {
    let (recorder, page) = recorder()?;
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::AlreadyInstalled)?;
    Ok(page)
}
