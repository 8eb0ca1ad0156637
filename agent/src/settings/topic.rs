//! Topic configs: every name that Kafka 4.3 knows, what values each takes, and which of them do something here.
//!
//! Owns: validation of topic configs, the settings of one topic as they follow from its configs and the defaults.
//! Does not own: where a topic's configs are stored (`esker-metadata`), error codes (the API that was called).
//!
//! Invariants: a value that Kafka refuses is refused here too, whether or not the config has an effect.

use std::time::Duration;

use esker_metadata::keys::topic::VALUE_BYTES_MAX;

use super::Settings;
use super::kafka_configs::{TOPIC, Unfit, find};
use super::value::{TimestampType, ValueError, parse_number};

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
    /// Neither: every record stays.
    Nothing,
}

impl CleanupPolicy {
    pub(super) const ALLOWED: &'static str = "delete, compact, both with a comma between, or nothing";

    /// Kafka's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
            Self::Nothing => "",
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
        if text.trim().is_empty() {
            return Ok(Self::Nothing);
        }
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
    #[error("Unknown topic config name: {name:.250}")]
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
    #[error(transparent)]
    Invalid(#[from] Unfit),
    /// There is no tiered storage.
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    )]
    Tiered,
    /// Records would have to be compacted before they may be.
    #[error("conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})")]
    CompactionLags {
        /// The shortest time that a record stays.
        min: i64,
        /// The longest.
        max: i64,
    },
}

/// Most bytes of the names and values of one topic's configs.
pub const CONFIGS_BYTES_MAX: usize = 64 << 10;

/// What a topic config does here.
#[derive(Debug)]
enum Rule {
    Effect(fn(&mut TopicSettings, &str) -> Result<(), ValueError>),
    /// Checked and kept, so that tools which set it work; there is nothing here for it to change.
    Kept,
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

/// Every topic config of Kafka 4.3, by name.
pub static TOPIC_CONFIGS: &[TopicConfig] = &[
    config("cleanup.policy", "delete", Rule::Effect(set_cleanup)),
    config("compression.gzip.level", "-1", Rule::Kept),
    config("compression.lz4.level", "9", Rule::Kept),
    config("compression.type", "producer", Rule::Effect(set_compression)),
    config("compression.zstd.level", "3", Rule::Kept),
    config("delete.retention.ms", "86400000", Rule::Kept),
    config("file.delete.delay.ms", "60000", Rule::Kept),
    config("flush.messages", "9223372036854775807", Rule::Kept),
    config("flush.ms", "9223372036854775807", Rule::Kept),
    config("follower.replication.throttled.replicas", "", Rule::Kept),
    config("index.interval.bytes", "4096", Rule::Kept),
    config("leader.replication.throttled.replicas", "", Rule::Kept),
    config("local.retention.bytes", "-2", Rule::Kept),
    config("local.retention.ms", "-2", Rule::Kept),
    config("max.compaction.lag.ms", "9223372036854775807", Rule::Kept),
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
    config("min.cleanable.dirty.ratio", "0.5", Rule::Kept),
    config("min.compaction.lag.ms", "0", Rule::Kept),
    config("min.insync.replicas", "1", Rule::Kept),
    config("preallocate", "false", Rule::Kept),
    config("remote.log.copy.disable", "false", Rule::Kept),
    config("remote.log.delete.on.disable", "false", Rule::Kept),
    config("remote.storage.enable", "false", Rule::Kept),
    config("retention.bytes", "-1", Rule::Effect(set_retention_bytes)),
    config("retention.ms", "604800000", Rule::Effect(set_retention)),
    config("segment.bytes", "1073741824", Rule::Kept),
    config("segment.index.bytes", "10485760", Rule::Kept),
    config("segment.jitter.ms", "0", Rule::Kept),
    config("segment.ms", "604800000", Rule::Kept),
    config("unclean.leader.election.enable", "false", Rule::Kept),
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
    topic.timestamp_before_max_ms = parse_number(text, &(0..=i64::MAX))?;
    Ok(())
}

fn set_timestamp_after_max(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    topic.timestamp_after_max_ms = parse_number(text, &(0..=i64::MAX))?;
    Ok(())
}

fn set_message_bytes_max(topic: &mut TopicSettings, text: &str) -> Result<(), ValueError> {
    let bytes = parse_number(text, &(0..=i64::from(i32::MAX)))?;
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
        let found = TOPIC_CONFIGS
            .iter()
            .find(|config| config.name == name)
            .zip(find(&TOPIC, name));
        let (config, kafkas) = found.ok_or_else(|| TopicConfigError::Unknown { name: name.to_owned() })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(kafkas.unfit(value, ValueError::TooLong { max: VALUE_BYTES_MAX }).into());
        }
        kafkas.check(value)?;
        if let Rule::Effect(set) = config.rule {
            set(self, value.trim()).map_err(|why| kafkas.unfit(value, why))?;
        }
        Ok(())
    }
}

/// Whether configs of one topic go together, each being legal.
///
/// # Errors
/// They do not, or one cannot be kept although it is legal.
pub fn check_together<'a>(configs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<(), TopicConfigError> {
    let value = |wanted: &str| {
        configs
            .clone()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value.trim())
    };
    if value("remote.storage.enable").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(TopicConfigError::Tiered);
    }
    let number = |name: &str, default: i64| value(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let (min, max) = (
        number("min.compaction.lag.ms", 0),
        number("max.compaction.lag.ms", i64::MAX),
    );
    if min > max {
        return Err(TopicConfigError::CompactionLags { min, max });
    }
    Ok(())
}
