//! How the text of a setting becomes a value: numbers, durations, sizes, words.
//!
//! Owns: units, ranges, the wording of what is wrong with a value.
//! Does not own: which key takes which kind (`table`).

use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest text.
pub(super) const TEXT_BYTES_MAX: usize = 2048;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a whole number, or one that no machine integer holds.
    #[error("a whole number is needed")]
    NotANumber,
    /// Neither a number of milliseconds nor a number with a unit.
    #[error("a duration is needed, such as 5ms, 30s, 10m, 24h or 7d (a plain number is milliseconds)")]
    NotADuration,
    /// Neither a number of bytes nor a number with a unit.
    #[error("a size is needed, such as 65536, 64KiB, 8MiB or 1GiB (a plain number is bytes)")]
    NotASize,
    /// Neither `true` nor `false`.
    #[error("true or false is needed")]
    NotABool,
    /// A number outside the range of its key.
    #[error("it must be from {low} to {high}")]
    OutOfRange {
        /// Smallest value allowed, as the key counts.
        low: String,
        /// Largest value allowed.
        high: String,
    },
    /// A text that is too long or holds what no name, address or URL does.
    #[error("a text of at most {TEXT_BYTES_MAX} bytes without control characters is needed")]
    NotAText,
    /// More bytes than are kept.
    #[error("at most {max} bytes are kept")]
    TooLong {
        /// Most bytes.
        max: usize,
    },
    /// Not a host and a port.
    #[error("HOST:PORT is needed")]
    NotAnAddress,
    /// A word that the key does not know.
    #[error("it must be one of {allowed}")]
    NotAWord {
        /// The words it knows.
        allowed: &'static str,
    },
}

/// A name, an address, a URL.
pub(super) fn parse_text(text: &str) -> Result<String, ValueError> {
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ValueError::NotAText);
    }
    Ok(text.to_owned())
}

/// A host, by name or address, and a port; or nothing.
pub(super) fn parse_address(text: &str) -> Result<String, ValueError> {
    let text = parse_text(text)?;
    let sound = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    if text.is_empty() || text.rsplit_once(':').is_some_and(sound) {
        Ok(text)
    } else {
        Err(ValueError::NotAnAddress)
    }
}

/// `message.timestamp.type`: whose clock stamps a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The agent's, at the moment it takes the batch in.
    LogAppendTime,
}

impl TimestampType {
    pub(super) const ALLOWED: &'static str = "CreateTime, LogAppendTime";

    /// Kafka's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "CreateTime" => Ok(Self::CreateTime),
            "LogAppendTime" => Ok(Self::LogAppendTime),
            _ => Err(ValueError::NotAWord { allowed: Self::ALLOWED }),
        }
    }
}

pub(super) fn parse_bool(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ValueError::NotABool),
    }
}

/// A whole number within `range`.
pub(super) fn parse_number(text: &str, range: &RangeInclusive<i64>) -> Result<i64, ValueError> {
    let number: i64 = text.parse().map_err(|_| ValueError::NotANumber)?;
    if range.contains(&number) {
        return Ok(number);
    }
    Err(ValueError::OutOfRange {
        low: range.start().to_string(),
        high: range.end().to_string(),
    })
}

/// Milliseconds as a plain number, or (`units`) a number with one of ms, s, m, h, d.
pub(super) fn parse_duration(text: &str, units: bool, range: &RangeInclusive<i64>) -> Result<Duration, ValueError> {
    const UNITS: [(&str, i64); 5] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let wrong = if units {
        ValueError::NotADuration
    } else {
        ValueError::NotANumber
    };
    let ms = with_unit(text, units, &UNITS).ok_or(wrong)?;
    if range.contains(&ms) {
        return Ok(Duration::from_millis(ms.unsigned_abs()));
    }
    let shown = |ms: i64| if units { show_duration(ms) } else { ms.to_string() };
    Err(ValueError::OutOfRange {
        low: shown(*range.start()),
        high: shown(*range.end()),
    })
}

/// Bytes as a plain number, or (`units`) a number with one of B, KiB, MiB, GiB, TiB.
pub(super) fn parse_size(text: &str, units: bool, range: &RangeInclusive<i64>) -> Result<i64, ValueError> {
    const UNITS: [(&str, i64); 5] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("B", 1),
    ];
    let wrong = if units {
        ValueError::NotASize
    } else {
        ValueError::NotANumber
    };
    let bytes = with_unit(text, units, &UNITS).ok_or(wrong)?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    let shown = |bytes: i64| if units { show_size(bytes) } else { bytes.to_string() };
    Err(ValueError::OutOfRange {
        low: shown(*range.start()),
        high: shown(*range.end()),
    })
}

/// A number times its unit; `None` if it is no number, the unit is unknown, or the product overflows.
fn with_unit(text: &str, units: bool, known: &[(&str, i64)]) -> Option<i64> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '-')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: i64 = digits.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Some(number);
    }
    let factor = known.iter().find(|(name, _)| units && *name == unit)?.1;
    number.checked_mul(factor)
}

/// A duration in the largest unit that shows it exactly.
pub(super) fn show_duration(ms: i64) -> String {
    const UNITS: [(&str, i64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fit = UNITS.iter().find(|(_, factor)| ms != 0 && ms % factor == 0);
    fit.map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

/// A size in the largest unit that shows it exactly.
pub(super) fn show_size(bytes: i64) -> String {
    const UNITS: [(&str, i64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fit = UNITS.iter().find(|(_, factor)| bytes != 0 && bytes % factor == 0);
    fit.map_or_else(
        || format!("{bytes}"),
        |(unit, factor)| format!("{}{unit}", bytes / factor),
    )
}
