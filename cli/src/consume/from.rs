//! Where reading begins: `--from`.
//!
//! Owns: the ways of saying it.
//! Does not own: finding the offset of a time (the broker), the clock.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where reading begins, in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Earliest,
    Latest,
    Offset(i64),
    /// So many records before the end.
    Last(i64),
    /// The first record of this time or later, in milliseconds since 1970.
    Time(i64),
    /// The same, said as so long before now.
    Ago(Duration),
}

/// What was said is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "earliest, latest, an offset (42), the last records (-10), a time in UTC (2026-11-23T07:00:00Z) or how long ago (90s, 5m, 2h) \
     is needed"
)]
pub(crate) struct NotAPlace;

impl FromStr for From {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        match text {
            "earliest" | "beginning" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(number) = text.parse::<i64>() {
            return match number.checked_neg() {
                Some(last) if text.starts_with('-') => Ok(Self::Last(last)),
                Some(_) => Ok(Self::Offset(number)),
                None => Err(NotAPlace),
            };
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let at = humantime::parse_rfc3339_weak(text).or_else(|_| {
            // A day alone is its beginning.
            humantime::parse_rfc3339_weak(&format!("{text}T00:00:00"))
        });
        at.map_err(|_| NotAPlace).and_then(since_1970).map(Self::Time)
    }
}

fn since_1970(at: SystemTime) -> Result<i64, NotAPlace> {
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| NotAPlace)?;
    i64::try_from(since.as_millis()).map_err(|_| NotAPlace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_of_saying_it() {
        for (said, meant) in [
            ("earliest", From::Earliest),
            ("end", From::Latest),
            ("42", From::Offset(42)),
            ("0", From::Offset(0)),
            ("-10", From::Last(10)),
            ("-0", From::Last(0)),
            ("1970-01-01T00:00:01.5Z", From::Time(1_500)),
            ("1970-01-01 00:01:00", From::Time(60_000)),
            ("1970-01-02", From::Time(86_400_000)),
            ("5m", From::Ago(Duration::from_secs(300))),
            ("1h 30m", From::Ago(Duration::from_secs(5_400))),
        ] {
            assert_eq!(said.parse(), Ok(meant), "{said}");
        }
        for wrong in ["", "later", "-", "5 parsecs", "1969-12-31", "99999999999999999999"] {
            assert_eq!(wrong.parse::<From>(), Err(NotAPlace), "{wrong}");
        }
    }
}
