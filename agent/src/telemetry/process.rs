//! CPU time and memory of this process, as `/proc` tells them.
//!
//! Owns: the two `process_…` metrics. They are rendered here because CPU seconds are a counter with a fraction,
//! which the `metrics` facade does not have.
//! Does not own: anything where there is no `/proc`: there the metrics are left out, not made up.

use std::fmt::Write as _;

/// Linux counts CPU time for user space in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system CPU time of this process until now.
pub(crate) fn cpu_seconds_used() -> Option<f64> {
    cpu_seconds(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// The two metrics in the Prometheus text format; what cannot be read is left out.
pub(super) fn render() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    render_from(cpu_seconds(&stat), resident_bytes(&status))
}

fn render_from(cpu_seconds: Option<f64>, resident_bytes: Option<u64>) -> String {
    let mut page = String::new();
    let mut line = |name: &str, kind: &str, help: &str, value: String| {
        writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
            .expect("writing to a string does not fail");
    };
    if let Some(seconds) = cpu_seconds {
        line(
            "process_cpu_seconds_total",
            "counter",
            "User and system CPU time spent.",
            format!("{seconds:.2}"),
        );
    }
    if let Some(bytes) = resident_bytes {
        line(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            bytes.to_string(),
        );
    }
    page
}

/// User plus system time out of `/proc/self/stat`, whose second field may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

/// `VmRSS` out of `/proc/self/status`, which is in KiB whatever the page size.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_process_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 75 3 4 20 0 8 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.25));
        assert_eq!(cpu_seconds("7 (cut) S 1"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(
            resident_bytes("VmHWM:\t 9000 kB\nVmRSS:\t    1234 kB\n"),
            Some(1_263_616)
        );
        assert_eq!(resident_bytes("VmRSS: many\n"), None);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(render_from(None, None), "");
        assert!(render_from(Some(1.5), None).ends_with("\nprocess_cpu_seconds_total 1.50\n\n"));
    }
}
