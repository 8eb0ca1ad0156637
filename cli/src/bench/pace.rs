//! When requests are due: at a rate, or whenever there is room.
//!
//! Owns: `--rate`, the moments, sizes as people write them.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::quantity;

/// How much a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    Records(f64),
    Bytes(f64),
}

/// What was said is no rate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("records a second (5000) or bytes a second with their unit (20MB, 16MiB) are needed")]
pub(crate) struct NotARate;

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (number, unit) = split(text).ok_or(NotARate)?;
        let rate = match unit {
            "" => Self::Records(number),
            unit => Self::Bytes(number * factor(unit.trim_end_matches("/s")).ok_or(NotARate)?),
        };
        let (Self::Records(a_second) | Self::Bytes(a_second)) = rate;
        if a_second > 0.0 { Ok(rate) } else { Err(NotARate) }
    }
}

/// A size: `1000`, `64KiB`, `1MB`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let needed = || "a size is needed, as in 1000, 64KiB or 1MB".to_owned();
    let (number, unit) = split(text).ok_or_else(needed)?;
    let bytes = number * factor(unit).ok_or_else(needed)?;
    // Whole bytes, and none that a request could not hold.
    format!("{bytes:.0}")
        .parse()
        .ok()
        .filter(|bytes| (1..=i32::MAX.unsigned_abs()).contains(bytes))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(needed)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let digits = text
        .find(|one: char| !one.is_ascii_digit() && one != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn factor(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "B" => 1.0,
        "KiB" | "k" | "K" => 1024.0,
        "MiB" | "m" | "M" => 1024.0 * 1024.0,
        "GiB" | "g" | "G" => 1024.0 * 1024.0 * 1024.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    })
}

impl Rate {
    pub(super) fn records(self) -> Option<f64> {
        match self {
            Self::Records(a_second) => Some(a_second),
            Self::Bytes(_) => None,
        }
    }

    pub(super) fn bytes(self) -> Option<f64> {
        match self {
            Self::Bytes(a_second) => Some(a_second),
            Self::Records(_) => None,
        }
    }

    /// The share of one of so many.
    pub(super) fn divided(self, among: u32) -> Self {
        let among = f64::from(among.max(1));
        match self {
            Self::Records(a_second) => Self::Records(a_second / among),
            Self::Bytes(a_second) => Self::Bytes(a_second / among),
        }
    }

    /// How long so much takes.
    pub(super) fn after(self, records: u64, bytes: u64) -> Duration {
        let seconds = match self {
            Self::Records(a_second) => quantity::float(records) / a_second,
            Self::Bytes(a_second) => quantity::float(bytes) / a_second,
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Requests a second, of so many records and bytes each.
    pub(super) fn requests(self, records: f64, bytes: f64) -> f64 {
        match self {
            Self::Records(a_second) => a_second / records,
            Self::Bytes(a_second) => a_second / bytes,
        }
    }
}

/// When the requests of one connection are due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Whenever there is room for one.
    Closed,
    /// By the clock, whatever became of those before.
    Open { first: Instant, every: Duration },
}

impl Pace {
    /// For each of so many connections, which take turns at `rate` requests a second.
    pub(super) fn of(rate: Option<f64>, began: Instant, connection: u32, connections: u32) -> Self {
        match rate {
            None => Self::Closed,
            Some(rate) => Self::Open {
                first: began + Duration::from_secs_f64(f64::from(connection) / rate),
                every: Duration::from_secs_f64(f64::from(connections) / rate),
            },
        }
    }

    /// When the nth request (from 0) is due; now, if there is no clock to go by.
    pub(super) fn due(self, nth: u64) -> Instant {
        match self {
            Self::Closed => Instant::now(),
            Self::Open { first, every } => first + times(every, nth),
        }
    }
}

/// Without the error that adding up would have.
fn times(every: Duration, nth: u64) -> Duration {
    let nanos = every.as_nanos().saturating_mul(u128::from(nth));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_sizes_have_units() {
        assert_eq!("5000".parse(), Ok(Rate::Records(5000.0)));
        assert_eq!("20MB".parse(), Ok(Rate::Bytes(20e6)));
        assert_eq!("1.5 MiB/s".parse(), Ok(Rate::Bytes(1.5 * 1024.0 * 1024.0)));
        for wrong in ["", "0", "-5", "5 records", "MB", "0MB"] {
            assert_eq!(wrong.parse::<Rate>(), Err(NotARate), "{wrong}");
        }
        assert_eq!(
            (size("1000"), size("64KiB"), size("1MB")),
            (Ok(1000), Ok(65_536), Ok(1_000_000))
        );
        for wrong in ["", "0", "1PB", "9GiB", "x"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn connections_take_turns_and_never_drift() {
        let began = Instant::now();
        let rate = Rate::Bytes(1e6).requests(10.0, 1_000.0);
        let paces: Vec<_> = (0..4).map(|nth| Pace::of(Some(rate), began, nth, 4)).collect();
        let due: Vec<_> = (0..2)
            .flat_map(|nth| paces.iter().map(move |pace| pace.due(nth)))
            .collect();
        for (nth, at) in due.iter().enumerate() {
            let expected = Duration::from_millis(u64::try_from(nth).unwrap());
            assert_eq!(at.duration_since(began), expected);
        }
        assert_eq!(
            paces[0].due(1_000_000).duration_since(began),
            Duration::from_secs(4_000)
        );
    }
}
