//! What a load came to, as tables and as JSON.
//!
//! Owns: rates, CPU seconds per GiB, which figures there are.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::quantity;
use crate::rows::{FormArgs, Rows, number, or_nothing, text};

use super::LoadArgs;
use super::cpu;
use super::lane::Done;
use super::latencies::{Latencies, Quantiles};
use super::pace::Rate;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// What less than this took says nothing about a GiB.
const PER_GIB_BYTES_MIN: u64 = 64 << 20;

/// What was measured.
pub(super) struct Load<'a> {
    pub(super) bench: &'static str,
    pub(super) topic: &'a str,
    pub(super) asked: Option<Rate>,
    /// What the time of a request ended with.
    pub(super) timed: &'static str,
}

/// Runs from the first request on.
pub(super) struct Stopwatch {
    pub(super) began: Instant,
    own: Option<Duration>,
    broker: Option<(u32, Option<Duration>)>,
    form: FormArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    bench: &'static str,
    topic: &'a str,
    /// Records a second that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_records_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_bytes_per_second: Option<f64>,
    seconds: f64,
    requests: u64,
    records: u64,
    bytes: u64,
    records_per_second: f64,
    mib_per_second: f64,
    latency: Vec<Timed>,
    generator_cpu: Option<Cpu>,
    broker_cpu: Option<Cpu>,
}

/// How long something took.
#[derive(Serialize)]
struct Timed {
    until: &'static str,
    #[serde(flatten)]
    quantiles: Quantiles,
}

#[derive(Serialize)]
struct Cpu {
    seconds: f64,
    /// Not of loads that are about something else than bytes.
    seconds_per_gib: Option<f64>,
}

impl Stopwatch {
    pub(super) fn start(args: &LoadArgs) -> Self {
        Self {
            own: cpu::taken(None),
            broker: args.pid.map(|pid| (pid, cpu::taken(Some(pid)))),
            form: args.form,
            began: Instant::now(),
        }
    }

    /// Stops, and says what `done` came to; `also` are other times than those of requests.
    pub(super) fn tell(self, load: &Load<'_>, done: &Done, also: &[(&'static str, &Latencies)]) -> anyhow::Result<()> {
        let took = done.last.unwrap_or(self.began).duration_since(self.began);
        let cpu = |before: Option<Duration>, pid| {
            let seconds = cpu::taken(pid)?.checked_sub(before?)?.as_secs_f64();
            let gib = quantity::float(done.bytes) / GIB;
            let seconds_per_gib = (done.bytes >= PER_GIB_BYTES_MIN).then(|| seconds / gib);
            Some(Cpu {
                seconds,
                seconds_per_gib,
            })
        };
        let broker_cpu = self.broker.and_then(|(pid, before)| cpu(before, Some(pid)));
        if let (Some((pid, _)), None) = (self.broker, &broker_cpu) {
            anyhow::bail!("there is no process {pid} on this machine whose CPU time could be read");
        }
        let seconds = took.as_secs_f64().max(f64::MIN_POSITIVE);
        let timed = |(until, latencies): (&'static str, &Latencies)| Timed {
            until,
            quantiles: latencies.quantiles(),
        };
        let mut latency = vec![timed((load.timed, &done.latencies))];
        latency.extend(also.iter().copied().map(timed));
        let report = Report {
            bench: load.bench,
            topic: load.topic,
            asked_records_per_second: load.asked.and_then(Rate::records),
            asked_bytes_per_second: load.asked.and_then(Rate::bytes),
            seconds: took.as_secs_f64(),
            requests: done.requests,
            records: done.records,
            bytes: done.bytes,
            records_per_second: quantity::float(done.records) / seconds,
            mib_per_second: quantity::float(done.bytes) / seconds / (1024.0 * 1024.0),
            latency,
            generator_cpu: cpu(self.own, None),
            broker_cpu,
        };
        report.print(self.form, done, took)
    }
}

impl Report<'_> {
    fn print(&self, form: FormArgs, done: &Done, took: Duration) -> anyhow::Result<()> {
        let mut rows = Rows::stdout(form);
        if rows.are_json() {
            return Ok(rows.object(self)?);
        }
        let columns = [
            number("RECORDS"),
            number("SIZE"),
            number("TIME"),
            number("RECORDS/S"),
            number("RATE"),
        ];
        let row = [
            quantity::grouped(done.records),
            quantity::bytes(done.bytes),
            quantity::duration(took),
            quantity::grouped(quantity::per_second(done.records, took)),
            quantity::rate(done.bytes, took),
        ];
        rows.table(columns, [row].into_iter())?;
        rows.line("")?;
        let columns = [
            text("LATENCY"),
            number("COUNT"),
            number("P50"),
            number("P90"),
            number("P99"),
            number("P99.9"),
            number("MAX"),
        ];
        let times = self.latency.iter().map(|timed| {
            let [p50, p90, p99, p999, max] = timed.quantiles.cells();
            let count = quantity::grouped(timed.quantiles.count);
            [timed.until.to_owned(), count, p50, p90, p99, p999, max]
        });
        rows.table(columns, times)?;
        let processes = [("generator", &self.generator_cpu), ("broker", &self.broker_cpu)];
        let taken = processes
            .into_iter()
            .filter_map(|(name, cpu)| Some((name, cpu.as_ref()?)));
        let taken: Vec<_> = taken
            .map(|(name, cpu)| {
                [
                    name.to_owned(),
                    format!("{:.2} s", cpu.seconds),
                    or_nothing(cpu.seconds_per_gib.map(|seconds| format!("{seconds:.2} s"))),
                ]
            })
            .collect();
        if !taken.is_empty() {
            rows.line("")?;
        }
        let columns = [text("CPU"), number("TIME"), number("PER GIB")];
        Ok(rows.table(columns, taken.into_iter())?)
    }
}
