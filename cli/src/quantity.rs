//! Amounts as people read them.
//!
//! Owns: units, and how many digits mean something.

use std::time::Duration;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Bytes with three digits: `512 B`, `1.50 KiB`, `43.1 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut rest = float(count);
    while rest >= 999.5 && unit + 1 < UNITS.len() {
        rest /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three(rest), UNITS[unit])
}

/// Bytes a second.
pub(crate) fn rate(count: u64, over: Duration) -> String {
    bytes(per_second(count, over)) + "/s"
}

/// Things a second.
pub(crate) fn per_second(count: u64, over: Duration) -> u64 {
    let nanos = over.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Time with three digits: `850 µs`, `12.3 ms`, `4.05 s`, `2 min 5 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 60.0 {
        let whole = time.as_secs();
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    if seconds >= 0.9995 {
        return format!("{} s", three(seconds));
    }
    if seconds >= 0.000_999_5 {
        return format!("{} ms", three(seconds * 1e3));
    }
    format!("{} µs", three(seconds * 1e6))
}

/// `1 record`, `2 records`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{} {one}s", grouped(count))
    }
}

/// `1,234,567`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn three(value: f64) -> String {
    let decimals = match value {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Near enough for showing.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (count, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.50 KiB"),
            (1_023 * 1_024, "1.00 MiB"),
            (45_193_626, "43.1 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
        assert_eq!(rate(1 << 20, Duration::from_millis(500)), "2.00 MiB/s");
        for (micros, shown) in [
            (7, "7.00 µs"),
            (850, "850 µs"),
            (12_345, "12.3 ms"),
            (999_900, "1.00 s"),
            (59_960_000, "60.0 s"),
            (125_000_000, "2 min 5 s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), shown);
        }
        assert_eq!(
            (counted(1, "record"), counted(1_234_567, "record")),
            ("1 record".to_owned(), "1,234,567 records".to_owned())
        );
    }
}
