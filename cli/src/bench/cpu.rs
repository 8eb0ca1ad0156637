//! CPU time that processes took, from /proc.

use std::fs;
use std::time::Duration;

/// User and system time of a process since it began; `None` where there is no /proc, or no such process.
pub(super) fn taken(pid: Option<u32>) -> Option<Duration> {
    let pid = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        .map(|ticks| Duration::from_secs(ticks) / u32::try_from(ticks_per_second()).unwrap_or(1).max(1))
}

#[cfg(target_os = "linux")]
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

#[cfg(not(target_os = "linux"))]
fn ticks_per_second() -> u64 {
    1
}

/// Fields 14 and 15. The name before them may have anything in it, parentheses too.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_matter() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 21 34 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks(stat), Some(55));
        assert_eq!(ticks("7 (a) S"), None);
    }
}
