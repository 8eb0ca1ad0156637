//! Which texts are values of a config, as Kafka 4.3 decides and words it.
//!
//! Owns: types and ranges, the words of a refusal. Does not own: which range a config has (the tables).
//!
//! A range is written behind the type: `int 1..`, `double 0..1`, `int 1..9 or -1`, `string a b` (one of
//! these words; of a list, any of them), `list replicas` (`*` or `partition:broker` pairs).

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{ConfigKind, KafkaConfig};

/// Characters of a refused value that its error repeats.
const SHOWN_MAX: usize = 200;

/// Why a text is no value of a config, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

impl KafkaConfig {
    /// Whether a text is a value of it.
    ///
    /// # Errors
    /// It is not one of its type, or out of its range.
    pub fn check(&self, value: &str) -> Result<(), Unfit> {
        let text = value.trim();
        let number = |kind: &str| Err(self.unfit(text, format_args!("Not a number of type {kind}")));
        match self.kind {
            ConfigKind::Boolean if matches!(self.shown(text).as_str(), "true" | "false") => Ok(()),
            ConfigKind::Boolean => Err(self.unfit(text, "Expected value to be either true or false")),
            ConfigKind::Int if text.parse::<i32>().is_err() => number("INT"),
            ConfigKind::Short if text.parse::<i16>().is_err() => number("SHORT"),
            ConfigKind::Long if text.parse::<i64>().is_err() => number("LONG"),
            ConfigKind::Int | ConfigKind::Short | ConfigKind::Long => {
                self.check_range(text, |end| end.parse::<i64>().ok())
            }
            ConfigKind::Double if !text.parse::<f64>().is_ok_and(f64::is_finite) => number("DOUBLE"),
            ConfigKind::Double => self.check_range(text, |end| end.parse::<f64>().ok()),
            ConfigKind::String | ConfigKind::List if self.range == "replicas" => self.check_replicas(text),
            ConfigKind::String | ConfigKind::List => self.check_words(text),
            ConfigKind::Class | ConfigKind::Password => Ok(()),
        }
    }

    /// A refusal of a value of it.
    #[must_use]
    pub fn unfit(&self, value: &str, why: impl Display) -> Unfit {
        let value: String = value.chars().take(SHOWN_MAX).collect();
        Unfit(format!("Invalid value {value} for configuration {}: {why}", self.name))
    }

    /// A value as Kafka tells it back: spelled as its type is; each of certain words stands in a list once.
    #[must_use]
    pub fn shown(&self, value: &str) -> String {
        let text = value.trim();
        match self.kind {
            ConfigKind::Boolean => text.to_ascii_lowercase(),
            ConfigKind::Int | ConfigKind::Short | ConfigKind::Long => {
                text.parse::<i64>().map_or_else(|_| text.to_owned(), |n| n.to_string())
            }
            ConfigKind::Double => text.parse::<f64>().map_or_else(|_| text.to_owned(), shown_double),
            ConfigKind::List => {
                let (once, mut seen) = (!matches!(self.range, "" | "replicas"), BTreeSet::new());
                let words = text.split(',').map(str::trim);
                let words = words.filter(|word| seen.insert(*word) || !once);
                words.collect::<Vec<_>>().join(",")
            }
            ConfigKind::String | ConfigKind::Class | ConfigKind::Password => text.to_owned(),
        }
    }

    /// A number between two ends, either of which may be missing.
    fn check_range<N: PartialOrd>(&self, text: &str, parse: impl Fn(&str) -> Option<N>) -> Result<(), Unfit> {
        let (range, beside) = self
            .range
            .split_once(" or ")
            .map_or((self.range, None), |(range, number)| (range, Some(number)));
        let (low, high) = range.split_once("..").unwrap_or_default();
        let number = parse(text);
        let (below, above) = (number < parse(low), parse(high).is_some() && number > parse(high));
        if !(below || above) || beside.is_some_and(|beside| number == parse(beside)) {
            return Ok(());
        }
        Err(match beside {
            Some(beside) => self.unfit(
                text,
                format_args!("Value must be between {low} and {high} or equal to {beside}"),
            ),
            None if below => self.unfit(&self.shown(text), format_args!("Value must be at least {low}")),
            None => self.unfit(&self.shown(text), format_args!("Value must be no more than {high}")),
        })
    }

    fn check_words(&self, text: &str) -> Result<(), Unfit> {
        let allowed: Vec<&str> = self.range.split_whitespace().collect();
        if allowed.is_empty() || (self.kind == ConfigKind::List && text.is_empty()) {
            return Ok(());
        }
        let words: Vec<&str> = match self.kind {
            ConfigKind::List => text.split(',').map(str::trim).collect(),
            _ => vec![text],
        };
        if self.kind == ConfigKind::List && words.contains(&"") {
            return Err(Unfit(format!(
                "Configuration '{}' values must not be empty.",
                self.name
            )));
        }
        match words.into_iter().find(|word| !allowed.contains(word)) {
            None => Ok(()),
            Some(word) => Err(self.unfit(word, format_args!("String must be one of: {}", allowed.join(", ")))),
        }
    }

    fn check_replicas(&self, text: &str) -> Result<(), Unfit> {
        let pair = |word: &str| {
            let number = |part: &str| part.trim().parse::<u32>().is_ok();
            word.split_once(':')
                .is_some_and(|(partition, broker)| number(partition) && number(broker))
        };
        if matches!(text, "" | "*") || text.split(',').all(pair) {
            return Ok(());
        }
        let list = text.split(',').map(str::trim).collect::<Vec<_>>().join(", ");
        let why = format!(
            "{} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            self.name
        );
        Err(self.unfit(&format!("[{list}]"), why))
    }
}

/// As Java writes it: at least one digit behind the point.
fn shown_double(number: f64) -> String {
    format!("{number:?}")
}

#[cfg(test)]
mod tests {
    use super::super::{BROKER, TOPIC, find};

    fn refusal(name: &str, value: &str) -> String {
        let config = find(&TOPIC, name).or_else(|| find(&BROKER, name)).expect("in a table");
        config
            .check(value)
            .map_or_else(|unfit| unfit.to_string(), |()| String::new())
    }

    #[test]
    fn values_are_checked_by_type() {
        for (name, value) in [
            ("num.io.threads", "9"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("compression.gzip.level", "-1"),
            ("compression.gzip.level", "9"),
            ("preallocate", "TRUE"),
            ("cleanup.policy", "compact, delete"),
            ("cleanup.policy", ""),
            ("leader.replication.throttled.replicas", "0:1, 1:1"),
        ] {
            assert_eq!(refusal(name, value), "", "{name}={value}");
        }
        for (name, value, why) in [
            ("num.io.threads", "many", "Not a number of type INT"),
            ("num.io.threads", "4294967296", "Not a number of type INT"),
            ("num.io.threads", "0", "Value must be at least 1"),
            ("log.cleaner.min.cleanable.ratio", "NaN", "Not a number of type DOUBLE"),
            ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
            (
                "compression.gzip.level",
                "0",
                "Value must be between 1 and 9 or equal to -1",
            ),
            ("compression.zstd.level", "23", "Value must be no more than 22"),
            ("preallocate", "yes", "Expected value to be either true or false"),
            (
                "message.timestamp.type",
                "Never",
                "String must be one of: CreateTime, LogAppendTime",
            ),
        ] {
            let expected = format!("Invalid value {value} for configuration {name}: {why}");
            assert_eq!(refusal(name, value), expected);
        }
        assert_eq!(
            refusal("cleanup.policy", "delete,burn"),
            "Invalid value burn for configuration cleanup.policy: String must be one of: compact, delete"
        );
        assert!(refusal("cleanup.policy", "delete,").ends_with("values must not be empty."));
        assert!(refusal("leader.replication.throttled.replicas", "1-2").starts_with("Invalid value [1-2] for"));
    }

    #[test]
    fn values_are_told_as_their_type_is_spelled() {
        let shown = |name: &str, value: &str| find(&TOPIC, name).expect("in the table").shown(value);
        assert_eq!(shown("preallocate", "TRUE"), "true");
        assert_eq!(shown("cleanup.policy", "delete, delete,compact"), "delete,compact");
        assert_eq!(shown("leader.replication.throttled.replicas", "0:1, 0:1"), "0:1,0:1");
        assert_eq!(shown("min.cleanable.dirty.ratio", "1"), "1.0");
        assert_eq!(shown("retention.ms", " 007"), "7");
    }
}
