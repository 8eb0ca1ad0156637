//! Topic configs: every name that Kafka 4.3 knows, what values each takes, and which of them do something here.
//!
//! Owns: validation of topic configs, the settings of one topic as they follow from its configs and the defaults.
//! Does not own: where a topic's configs are stored (`esker-metadata`), error codes (the API that was called).
//!
//! Invariants: a value that Kafka refuses is refused here too, whether or not the config has an effect.

use std::ops::RangeInclusive;
use std::time::Duration;

use esker_metadata::keys::topic::VALUE_BYTES_MAX;

use super::Settings;
use super::value::{TimestampType, ValueError, parse_bool, parse_number};

/// `compression.type` of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicCompression {
    /// Whatever the producer chose.
    #[default]
    Producer,
    /// None at all.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    Lz4,
    /// zstd.
    Zstd,
}

impl TopicCompression {
    pub(super) const ALLOWED: &'static str = "uncompressed, zstd, lz4, snappy, gzip, producer";

    /// Kafka's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Uncompressed => "uncompressed",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "producer" => Ok(Self::Producer),
            "uncompressed" => Ok(Self::Uncompressed),
            "gzip" => Ok(Self::Gzip),
            "snappy" => Ok(Self::Snappy),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(ValueError::NotAWord { allowed: Self::ALLOWED }),
        }
    }
}

/// `cleanup.policy` of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Old records go by time and size.
    #[default]
    Delete,
    /// The newest record of each key stays for ever.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl CleanupPolicy {
    pub(super) const ALLOWED: &'static str = "delete, compact, or both with a comma between";

    /// Kafka's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
        }
    }

    /// Whether retention by time and size applies.
    #[must_use]
    pub fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    /// Whether records need keys because the newest of each key is kept.
    #[must_use]
    pub fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }

    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        let (mut delete, mut compact) = (false, false);
        for word in text.split(',') {
            match word.trim() {
                "delete" => delete = true,
                "compact" => compact = true,
                _ => return Err(ValueError::NotAWord { allowed: Self::ALLOWED }),
            }
        }
        match (compact, delete) {
            (true, true) => Ok(Self::CompactAndDelete),
            (true, false) => Ok(Self::Compact),
            (false, _) => Ok(Self::Delete),
        }
    }
}

/// The settings of one topic, its own configs laid over the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// `retention.ms`; `None` is for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes` for each partition; `None` is all.
    pub retention_bytes: Option<u64>,
    /// `max.message.bytes`.
    pub message_bytes_max: u32,
    /// `message.timestamp.before.max.ms`: how old a producer's timestamp may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far in the future it may be.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
}

/// Why a topic config is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// Kafka 4.3 has no such topic config.
    #[error("unknown topic config name: {name}")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// All configs of a topic together are too long: they are changed in one transaction.
    #[error("the configs of a topic have {bytes} bytes, at most {CONFIGS_BYTES_MAX} are allowed")]
    TooMuch {
        /// How long they are.
        bytes: usize,
    },
    /// The value breaks the config's rule.
    #[error("invalid value {value} for configuration {name}: {reason}")]
    Invalid {
        /// The config.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// The rule that it breaks.
        reason: ValueError,
    },
}

/// Most bytes of the names and values of one topic's configs.
pub const CONFIGS_BYTES_MAX: usize = 64 << 10;

/// What a topic config takes, and whether it does something here.
#[derive(Debug)]
enum Rule {
    Effect(fn(&mut TopicSettings, &str) -> Result<(), ValueError>),
    /// Accepted and kept, so that tools which set it work; there is nothing here for it to change.
    Bool,
    Number(RangeInclusive<i64>),
    /// The number -1 beside the range, as `compression.gzip.level` has it.
    NumberOrMinusOne(RangeInclusive<i64>),
    Ratio,
    /// `partition:broker` pairs or `*`.
    Replicas,
}

/// One topic config that Kafka 4.3 knows.
#[derive(Debug)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// Kafka's default, as its tools show it; those with an effect take theirs from the process's settings.
    pub default: &'static str,
    rule: Rule,
}

impl TopicConfig {
    /// Whether it changes anything in Esker.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        matches!(self.rule, Rule::Effect(_))
    }
}

const fn config(name: &'static str, default: &'static str, rule: Rule) -> TopicConfig {
    TopicConfig { name, default, rule }
}

/// Characters of a refused value that its error repeats.
const SHOWN_MAX: usize = 200;

const INT_MAX: i64 = i32::MAX as i64;
const LONG: RangeInclusive<i64> = 0..=i64::MAX;

/// Every topic config of Kafka 4.3, by name.
pub static TOPIC_CONFIGS: &[TopicConfig] = &[
    config("cleanup.policy", "delete", Rule::Effect(set_cleanup)),
    config("compression.gzip.level", "-1", Rule::NumberOrMinusOne(1..=9)),
    config("compression.lz4.level", "9", Rule::Number(1..=17)),
    config("compression.type", "producer", Rule::Effect(set_compression)),
    config("compression.zstd.level", "3", Rule::Number(-131_072..=22)),
    config("delete.retention.ms", "86400000", Rule::Number(LONG)),
    config("file.delete.delay.ms", "60000", Rule::Number(LONG)),
    config("flush.messages", "9223372036854775807", Rule::Number(1..=i64::MAX)),
    config("flush.ms", "9223372036854775807", Rule::Number(LONG)),
    config("follower.replication.throttled.replicas", "", Rule::Replicas),
    config("index.interval.bytes", "4096", Rule::Number(0..=INT_MAX)),
    config("leader.replication.throttled.replicas", "", Rule::Replicas),
    config("local.retention.bytes", "-2", Rule::Number(-2..=i64::MAX)),
    config("local.retention.ms", "-2", Rule::Number(-2..=i64::MAX)),
    config(
        "max.compaction.lag.ms",
        "9223372036854775807",
        Rule::Number(1..=i64::MAX),
    ),
    config("max.message.bytes", "1048588", Rule::Effect(set_message_bytes_max)),
    config(
        "message.timestamp.after.max.ms",
        "3600000",
        Rule::Effect(set_timestamp_after_max),
    ),
    config(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        Rule::Effect(set_timestamp_before_max),
    ),
    config("message.timestamp.type", "CreateTime", Rule::Effect(set_timestamp_type)),
    config("min.cleanable.dirty.ratio", "0.5", Rule::Ratio),
    config("min.compaction.lag.ms", "0", Rule::Number(LONG)),
    config("min.insync.replicas", "1", Rule::Number(1..=INT_MAX)),
    config("preallocate", "false", Rule::Bool),
    config("remote.log.copy.disable", "false", Rule::Bool),
    config("remote.log.delete.on.disable", "false", Rule::Bool),
    config("remote.storage.enable", "false", Rule::Bool),
    config("retention.bytes", "-1", Rule::Effect(set_retention_bytes)),
    config("retention.ms", "604800000", Rule::Effect(set_retention)),
    config("segment.bytes", "1073741824", Rule::Number(1_048_576..=INT_MAX)),
    config("segment.index.bytes", "10485760", Rule::Number(4..=INT_MAX)),
    config("segment.jitter.ms", "0", Rule::Number(LONG)),
    config("segment.ms", "604800000", Rule::Number(1..=i64::MAX)),
    config("unclean.leader.election.enable", "false", Rule::Bool),
];

fn set_cleanup(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.cleanup = CleanupPolicy::parse(text)?;
    Ok(())
}

fn set_compression(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.compression = TopicCompression::parse(text)?;
    Ok(())
}

fn set_timestamp_type(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.timestamp_type = TimestampType::parse(text)?;
    Ok(())
}

fn set_timestamp_before_max(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.timestamp_before_max_ms = parse_number(text, &LONG)?;
    Ok(())
}

fn set_timestamp_after_max(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.timestamp_after_max_ms = parse_number(text, &LONG)?;
    Ok(())
}

fn set_message_bytes_max(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    let bytes = parse_number(text, &(0..=INT_MAX))?;
    topic.message_bytes_max = u32::try_from(bytes).map_err(|_| ValueError::NotANumber)?;
    Ok(())
}

fn set_retention_bytes(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.retention_bytes = u64::try_from(parse_number(text, &(i64::MIN..=i64::MAX))?).ok();
    Ok(())
}

fn set_retention(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    let ms = parse_number(text, &(-1..=i64::MAX))?;
    topic.retention = u64::try_from(ms).ok().map(Duration::from_millis);
    Ok(())
}

impl Rule {
    fn check(&self, topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
        match self {
            Self::Effect(set) => set(topic, text),
            Self::Bool => parse_bool(text).map(drop),
            Self::Number(range) => parse_number(text, range).map(drop),
            Self::NumberOrMinusOne(_) if text == "-1" => Ok(()),
            Self::NumberOrMinusOne(range) => parse_number(text, range).map(drop),
            Self::Ratio => match text.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                Ok(_) => Err(ValueError::OutOfRange {
                    low: "0".to_owned(),
                    high: "1".to_owned(),
                }),
                Err(_) => Err(ValueError::NotANumber),
            },
            Self::Replicas => parse_replicas(text),
        }
    }
}

fn parse_replicas(text: &str) -> Result<(), ValueError> {
    let pair = |word: &str| {
        let number = |part: &str| part.trim().parse::<u32>().is_ok();
        word.split_once(':')
            .is_some_and(|(partition, broker)| number(partition) && number(broker))
    };
    if matches!(text, "" | "*") || text.split(',').all(pair) {
        return Ok(());
    }
    Err(ValueError::NotAWord {
        allowed: "* or partition:broker pairs with commas between",
    })
}

impl TopicSettings {
    /// A topic without configs of its own.
    #[must_use]
    pub fn defaults(settings: &Settings) -> Self {
        let topics = &settings.topics;
        Self {
            retention: topics.retention.effective(),
            retention_bytes: topics.retention_bytes,
            message_bytes_max: topics.message_bytes_max,
            timestamp_before_max_ms: topics.timestamp_before_max_ms,
            timestamp_after_max_ms: topics.timestamp_after_max_ms,
            timestamp_type: topics.timestamp_type,
            compression: topics.compression,
            cleanup: topics.cleanup,
        }
    }

    /// Lays the configs of a topic over the defaults.
    ///
    /// # Errors
    /// The first config that Kafka does not know or whose value it refuses.
    pub fn resolve<'a>(
        settings: &Settings,
        configs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, TopicConfigError> {
        let mut topic = Self::defaults(settings);
        for (name, value) in configs {
            topic.set(name, value)?;
        }
        Ok(topic)
    }

    /// Applies one topic config.
    ///
    /// # Errors
    /// Kafka does not know it or refuses the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TopicConfigError> {
        let found = TOPIC_CONFIGS.iter().find(|config| config.name == name);
        let config = found.ok_or_else(|| TopicConfigError::Unknown { name: name.to_owned() })?;
        let checked = if value.len() > VALUE_BYTES_MAX {
            Err(ValueError::TooLong { max: VALUE_BYTES_MAX })
        } else {
            config.rule.check(self, value.trim())
        };
        checked.map_err(|reason| TopicConfigError::Invalid {
            name: config.name,
            value: value.chars().take(SHOWN_MAX).collect(),
            reason,
        })
    }
}
