//! How long things took, all of them.
//!
//! Owns: the histogram and its precision (three digits, a microsecond to an hour), what is told of it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::quantity;

const LONGEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Times that were measured.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// What is told of them, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Quantiles {
    pub(super) count: u64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    #[serde(rename = "p99.9_ms")]
    p999_ms: f64,
    max_ms: f64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        Self(histogram.expect("these bounds are sound"))
    }

    pub(super) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        self.0.saturating_record(micros);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let at = |part| milliseconds(self.0.value_at_quantile(part));
        Quantiles {
            count: self.0.len(),
            mean_ms: (self.0.mean()).round() / 1e3,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: milliseconds(self.0.max()),
        }
    }
}

fn milliseconds(micros: u64) -> f64 {
    quantity::float(micros) / 1e3
}

impl Quantiles {
    /// Median, tail and end, as people read them.
    pub(super) fn cells(&self) -> [String; 5] {
        let shown = |ms: f64| quantity::duration(Duration::from_secs_f64(ms / 1e3));
        [self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms].map(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_that_was_recorded() {
        let mut latencies = Latencies::new();
        let mut others = Latencies::new();
        for micros in 1..=500 {
            latencies.record(Duration::from_micros(micros * 1_000));
            others.record(Duration::from_micros((500 + micros) * 1_000));
        }
        latencies.add(&others);
        let told = latencies.quantiles();
        assert_eq!(told.count, 1_000);
        for (found, expected) in [(told.p50_ms, 500.0), (told.p99_ms, 990.0), (told.max_ms, 1_000.0)] {
            assert!((found - expected).abs() < expected / 500.0, "{found} is not {expected}");
        }
    }
}
