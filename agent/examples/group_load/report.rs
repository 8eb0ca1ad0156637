//! Figures of a phase: how long things took, and what the processes that are watched spent meanwhile.
//!
//! Owns: reading `/proc`, quantiles, one JSON line per phase.

use std::time::Duration;

use tokio::time::Instant;

/// Ticks of `/proc/PID/stat` in a second; the same on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process whose figures are wanted.
pub(crate) struct Watched {
    name: String,
    pid: String,
}

impl Watched {
    pub(crate) fn parse(text: &str) -> Self {
        let (name, pid) = text.split_once('=').expect("--watch NAME=PID");
        Self {
            name: name.to_owned(),
            pid: pid.to_owned(),
        }
    }

    fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.pid)
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name of the process is in brackets and may contain anything.
    let (_, after) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// A phase that has begun.
pub(crate) struct Phase<'a> {
    name: String,
    watched: &'a [Watched],
    began: Instant,
    cpu: Vec<f64>,
    own_cpu: f64,
}

impl<'a> Phase<'a> {
    pub(crate) fn begin(name: &str, watched: &'a [Watched]) -> Self {
        Self {
            name: name.to_owned(),
            watched,
            began: Instant::now(),
            cpu: watched.iter().map(Watched::cpu_seconds).collect(),
            own_cpu: cpu_seconds("self"),
        }
    }

    /// How many, and how many a second.
    pub(crate) fn rates(&self, count: usize) -> Vec<(&'static str, String)> {
        let a_second = count as f64 / self.began.elapsed().as_secs_f64();
        vec![("count", count.to_string()), ("per_second", format!("{a_second:.0}"))]
    }

    /// Prints it.
    pub(crate) fn end(self, figures: &[(&'static str, String)]) {
        let mut line = format!(
            "{{\"phase\": {:?}, \"took_s\": {:.2}",
            self.name,
            self.began.elapsed().as_secs_f64()
        );
        for (name, value) in figures {
            line += &format!(", {name:?}: {value}");
        }
        line += &format!(", \"load_cpu_s\": {:.2}", cpu_seconds("self") - self.own_cpu);
        for (watched, before) in self.watched.iter().zip(&self.cpu) {
            let (name, cpu) = (&watched.name, watched.cpu_seconds() - before);
            line += &format!(
                ", \"{name}_cpu_s\": {cpu:.2}, \"{name}_rss_mib\": {:.1}",
                watched.resident_mib()
            );
        }
        println!("{line}}}");
    }
}

/// How long things took.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn milliseconds(self) -> Vec<(&'static str, String)> {
        let [p50, p99, max] = self.quantiles().map(|took| format!("{:.2}", 1000.0 * took));
        vec![("p50_ms", p50), ("p99_ms", p99), ("max_ms", max)]
    }

    pub(crate) fn seconds(self) -> Vec<(&'static str, String)> {
        let [p50, p99, max] = self.quantiles().map(|took| format!("{took:.3}"));
        vec![("p50_s", p50), ("p99_s", p99), ("max_s", max)]
    }

    fn quantiles(mut self) -> [f64; 3] {
        self.0.sort_unstable();
        [50, 99, 100].map(|percent| {
            let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
            self.0.get(at).map_or(0.0, Duration::as_secs_f64)
        })
    }
}
