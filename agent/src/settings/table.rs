//! The shape of one row of the settings table, and the way from a row to a field of `Settings`.
//!
//! Owns: which kinds of value there are, how each is stored and shown, the nearest name.
//! Does not own: the rows (`keys`).
//!
//! Invariants: a row reaches its field through a typed accessor, so a row of the wrong kind does not compile.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::topic::{CleanupPolicy, TopicCompression};
use super::value::{
    TEXT_BYTES_MAX, TimestampType, ValueError, parse_address, parse_bool, parse_duration, parse_number, parse_size,
    parse_text, show_duration, show_size,
};
use super::{KEYS, Settings};

/// Where a key can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For the process only.
    Broker,
    /// It is the default of the topic config of this name.
    TopicDefault(&'static str),
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Kafka's name, or `esker.…`.
    pub name: &'static str,
    /// As an operator would write it.
    pub default: &'static str,
    /// One sentence or two, as they stand in `docs/configuration.md`.
    pub doc: &'static str,
    /// Process or default of a topic config.
    pub scope: Scope,
    /// Whether its meaning allows a change while the process runs.
    pub dynamic: bool,
    pub(super) slot: Slot,
}

impl Key {
    /// Esker's own keys take `5ms` and `8MiB`; Kafka's take plain numbers, as in Kafka.
    #[must_use]
    pub fn takes_units(&self) -> bool {
        self.name.starts_with("esker.")
    }

    /// The kind of value in one word, for documentation.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.slot {
            Slot::Bool(_) => "boolean",
            Slot::Count(..) | Slot::Signed(..) | Slot::OptionalSigned(..) => "number",
            Slot::Millis(..) if self.takes_units() => "duration",
            Slot::Millis(..) => "milliseconds",
            Slot::Minutes(..) => "minutes",
            Slot::Size(..) | Slot::Size32(..) if self.takes_units() => "size",
            Slot::Size(..) | Slot::Size32(..) | Slot::OptionalSize(_) => "bytes",
            Slot::Timestamp(_) | Slot::Compression(_) => "word",
            Slot::Cleanup(_) => "list",
            Slot::Text(_) => "text",
            Slot::Address(_) => "address",
        }
    }

    /// The value as an operator would write it.
    #[must_use]
    pub fn written(&self, settings: &Settings) -> String {
        let plain = self.slot.show(settings);
        let unit: fn(i64) -> String = match self.slot {
            Slot::Millis(..) => show_duration,
            Slot::Size(..) | Slot::Size32(..) => show_size,
            Slot::Bool(_)
            | Slot::Count(..)
            | Slot::Signed(..)
            | Slot::OptionalSigned(..)
            | Slot::Minutes(..)
            | Slot::OptionalSize(_)
            | Slot::Timestamp(_)
            | Slot::Compression(_)
            | Slot::Cleanup(_)
            | Slot::Text(_)
            | Slot::Address(_) => return plain,
        };
        let number = plain.parse().ok().filter(|_| self.takes_units());
        number.map_or(plain, unit)
    }

    /// What values it takes, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        let shown = |range: &RangeInclusive<i64>, show: fn(i64) -> String| {
            let show = if self.takes_units() {
                show
            } else {
                |number: i64| number.to_string()
            };
            format!("{} to {}", show(*range.start()), show(*range.end()))
        };
        match &self.slot {
            Slot::Bool(_) => "true, false".to_owned(),
            Slot::Count(_, range) | Slot::Minutes(_, range) => shown(range, |number| number.to_string()),
            Slot::Signed(_, range) | Slot::OptionalSigned(_, range) => shown(range, |number| number.to_string()),
            Slot::Millis(_, range) => shown(range, show_duration),
            Slot::Size(_, range) | Slot::Size32(_, range) => shown(range, show_size),
            Slot::OptionalSize(_) => "-1 (no limit) or more".to_owned(),
            Slot::Timestamp(_) => TimestampType::ALLOWED.to_owned(),
            Slot::Compression(_) => TopicCompression::ALLOWED.to_owned(),
            Slot::Cleanup(_) => CleanupPolicy::ALLOWED.to_owned(),
            Slot::Address(_) => "HOST:PORT".to_owned(),
            Slot::Text(_) => format!("up to {TEXT_BYTES_MAX} bytes"),
        }
    }
}

type Field<T> = fn(&mut Settings) -> &mut T;

/// The kind of a value together with the field that it goes to.
#[derive(Debug)]
pub(super) enum Slot {
    Bool(Field<bool>),
    Count(Field<u32>, RangeInclusive<i64>),
    Signed(Field<i64>, RangeInclusive<i64>),
    /// A number that may be left out, which an empty text means.
    OptionalSigned(Field<Option<i64>>, RangeInclusive<i64>),
    Millis(Field<Duration>, RangeInclusive<i64>),
    Minutes(Field<Duration>, RangeInclusive<i64>),
    Size(Field<u64>, RangeInclusive<i64>),
    Size32(Field<u32>, RangeInclusive<i64>),
    /// A size of which -1 (or anything negative, as in Kafka) means no limit.
    OptionalSize(Field<Option<u64>>),
    Timestamp(Field<TimestampType>),
    Compression(Field<TopicCompression>),
    Cleanup(Field<CleanupPolicy>),
    Text(Field<String>),
    Address(Field<String>),
}

fn fit_u32(number: i64) -> u32 {
    u32::try_from(number).expect("ranges of 32-bit keys lie within 32 bits (tested)")
}

impl Slot {
    pub(super) fn store(&self, settings: &mut Settings, text: &str, units: bool) -> Result<(), ValueError> {
        match self {
            Self::Bool(field) => *field(settings) = parse_bool(text)?,
            Self::Count(field, range) => *field(settings) = fit_u32(parse_number(text, range)?),
            Self::Signed(field, range) => *field(settings) = parse_number(text, range)?,
            Self::OptionalSigned(field, range) => {
                let number = if text.is_empty() {
                    None
                } else {
                    Some(parse_number(text, range)?)
                };
                *field(settings) = number;
            }
            Self::Millis(field, range) => *field(settings) = parse_duration(text, units, range)?,
            Self::Minutes(field, range) => {
                let minutes = parse_number(text, range)?.unsigned_abs();
                *field(settings) = Duration::from_secs(minutes * 60);
            }
            Self::Size(field, range) => *field(settings) = parse_size(text, units, range)?.unsigned_abs(),
            Self::Size32(field, range) => *field(settings) = fit_u32(parse_size(text, units, range)?),
            Self::OptionalSize(field) => {
                *field(settings) = u64::try_from(parse_number(text, &(i64::MIN..=i64::MAX))?).ok();
            }
            Self::Timestamp(field) => *field(settings) = TimestampType::parse(text)?,
            Self::Compression(field) => *field(settings) = TopicCompression::parse(text)?,
            Self::Cleanup(field) => *field(settings) = CleanupPolicy::parse(text)?,
            Self::Text(field) => *field(settings) = parse_text(text)?,
            Self::Address(field) => *field(settings) = parse_address(text)?,
        }
        Ok(())
    }

    /// The value in the base unit (milliseconds, minutes, bytes), or its words.
    pub(super) fn show(&self, settings: &Settings) -> String {
        // The accessors lend mutably because storing is what they are mostly for; a copy of 300 bytes is cheap.
        let copy = &mut settings.clone();
        match self {
            Self::Bool(field) => field(copy).to_string(),
            Self::Signed(field, _) => field(copy).to_string(),
            Self::OptionalSigned(field, _) => field(copy).map_or_else(String::new, |number| number.to_string()),
            Self::OptionalSize(field) => field(copy).map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string()),
            Self::Timestamp(field) => field(copy).name().to_owned(),
            Self::Compression(field) => field(copy).name().to_owned(),
            Self::Cleanup(field) => field(copy).name().to_owned(),
            Self::Text(field) | Self::Address(field) => field(copy).clone(),
            Self::Count(..) | Self::Millis(..) | Self::Minutes(..) | Self::Size(..) | Self::Size32(..) => self
                .number(settings)
                .map_or_else(String::new, |number| number.to_string()),
        }
    }

    /// The value of a key that is always a number.
    pub(super) fn number(&self, settings: &Settings) -> Option<u128> {
        let copy = &mut settings.clone();
        match self {
            Self::Count(field, _) | Self::Size32(field, _) => Some(u128::from(*field(copy))),
            Self::Size(field, _) => Some(u128::from(*field(copy))),
            Self::Millis(field, _) => Some(field(copy).as_millis()),
            Self::Minutes(field, _) => Some(u128::from(field(copy).as_secs() / 60)),
            Self::Bool(_)
            | Self::Signed(..)
            | Self::OptionalSigned(..)
            | Self::OptionalSize(_)
            | Self::Timestamp(_)
            | Self::Compression(_)
            | Self::Cleanup(_)
            | Self::Text(_)
            | Self::Address(_) => None,
        }
    }
}

/// The key whose name is most like `name`.
#[must_use]
pub fn nearest_key(name: &str) -> &'static str {
    let asked = name.to_ascii_lowercase().replace('_', ".");
    let distance = |key: &&Key| strsim::damerau_levenshtein(key.name, &asked);
    KEYS.iter().min_by_key(distance).expect("the table is not empty").name
}
