//! What an operator can choose: one plain struct, filled from one table of keys.
//!
//! Owns: the typed values, the order in which sources override each other, checks across keys.
//! Does not own: reading files or the environment (`cli`), what a setting does (whoever takes it).
//!
//! Invariants: every key of the table has a default that is valid by its own rule, and no value enters a
//! `Settings` without having passed that rule. Names are Kafka's where Kafka has one, else `esker.…`.

pub mod kafka_configs;
mod keys;
pub mod reference;
pub mod source;
mod table;
#[cfg(test)]
mod tests;
pub mod topic;
mod value;

use std::time::Duration;

pub use keys::KEYS;
pub use source::{Assignment, Origin, env_name, is_reserved_env, key_of_env};
pub use table::{Key, Scope, nearest_key};
pub use topic::{CONFIGS_BYTES_MAX, CleanupPolicy, TopicCompression, TopicConfigError, TopicSettings, check_together};
pub use value::{TimestampType, ValueError};

/// Every setting of one agent process, with the units in the types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What topics get when they are created without saying otherwise.
    pub topics: TopicDefaults,
    /// Consumer groups.
    pub groups: GroupSettings,
    /// Listeners and connections.
    pub network: NetworkSettings,
    /// Idempotent and transactional producers.
    pub producers: ProducerSettings,
    /// When the write-ahead buffer is flushed.
    pub flush: FlushSettings,
    /// Bounds on memory (MEM-1).
    pub memory: MemorySettings,
    /// Checkpoints of the fold.
    pub checkpoint: CheckpointSettings,
    /// Limits of the cluster, which enter the log when the cluster is created.
    pub limits: LimitSettings,
    /// Retention and garbage.
    pub upkeep: UpkeepSettings,
    /// Where the process finds its stores, and where it is found.
    pub process: ProcessSettings,
}

/// Defaults for topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub partitions: u32,
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `default.replication.factor`: shown to clients, without effect on storage.
    pub replication_factor: u32,
    /// `message.max.bytes`: the largest record batch, as sent.
    pub message_bytes_max: u32,
    /// `log.retention.{ms,minutes,hours}`.
    pub retention: RetentionTime,
    /// `log.retention.bytes` for each partition; `None` keeps everything.
    pub retention_bytes: Option<u64>,
    /// `log.message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `log.message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `log.message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// `log.cleanup.policy`.
    pub cleanup: CleanupPolicy,
}

/// The three keys for one duration, of which the finest that is set wins, as in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionTime {
    /// `log.retention.ms`; -1 is for ever.
    pub ms: Option<i64>,
    /// `log.retention.minutes`; -1 is for ever.
    pub minutes: Option<i64>,
    /// `log.retention.hours`; -1 is for ever.
    pub hours: i64,
}

impl RetentionTime {
    /// How long records are kept; `None` is for ever.
    #[must_use]
    pub fn effective(self) -> Option<Duration> {
        let minute_ms = 60_000;
        let ms = match (self.ms, self.minutes) {
            (Some(ms), _) => ms,
            (None, Some(minutes)) if minutes >= 0 => minutes.saturating_mul(minute_ms),
            (None, Some(minutes)) => minutes,
            (None, None) if self.hours >= 0 => self.hours.saturating_mul(60 * minute_ms),
            (None, None) => self.hours,
        };
        u64::try_from(ms).ok().map(Duration::from_millis)
    }
}

/// Consumer groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`: members of one group.
    pub members_max: u32,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.topic.num.partitions` of the topic `__consumer_offsets`.
    pub offsets_topic_partitions: u32,
}

/// Listeners and connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// `socket.request.max.bytes`.
    pub request_bytes_max: u32,
    /// `max.connections` of the process.
    pub connections_max: u32,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: u32,
    /// `connections.max.idle.ms`.
    pub connection_idle_max: Duration,
    /// `esker.listener.zone`: the zone of clients that do not say theirs; empty for none.
    pub listener_zone: String,
    /// `fetch.max.bytes`: the most one fetch answer carries, whatever the client asks for.
    pub fetch_bytes_max: u32,
}

/// Idempotent and transactional producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSettings {
    /// `transaction.max.timeout.ms`.
    pub transaction_timeout_max: Duration,
    /// `producer.id.expiration.ms`.
    pub id_expiration: Duration,
    /// `esker.producer.state.max`: windows of (producer, partition) in the fold.
    pub state_max: u32,
    /// `esker.produce.order.wait`: how long a batch waits for its predecessor.
    pub order_wait: Duration,
}

/// When the write-ahead buffer is flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushSettings {
    /// `esker.flush.age`: the longest that a record waits.
    pub age: Duration,
    /// `esker.flush.min.interval`: between the starts of two flushes that nothing else forces.
    pub min_interval: Duration,
    /// `esker.flush.bytes`.
    pub bytes: u64,
    /// `esker.flush.index.bytes`.
    pub index_bytes: u32,
    /// `esker.flush.uploads.max`.
    pub uploads_max: u32,
    /// `esker.hedge.percent`.
    pub hedge_percent: u32,
}

/// Bounds on memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// `esker.buffer.bytes`: requests being read and records not yet committed.
    pub buffer_bytes_max: u64,
    /// `esker.cache.bytes`.
    pub cache_bytes_max: u64,
    /// `esker.max.decompressed.bytes`: output cap for one batch.
    pub decompressed_bytes_max: u64,
}

/// Checkpoints of the fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// `esker.checkpoint.commits`.
    pub commits: u32,
    /// `esker.checkpoint.interval`.
    pub interval: Duration,
}

/// Limits of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// `esker.max.partitions`.
    pub partitions_max: u32,
    /// `esker.max.partitions.per.topic`.
    pub partitions_per_topic_max: u32,
    /// `esker.unmerged.batches.max`.
    pub unmerged_batches_max: u32,
    /// `esker.unmerged.bytes.max`.
    pub unmerged_bytes_max: u64,
}

/// Retention and garbage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `esker.merge.segments`.
    pub merge_segments: u32,
    /// `esker.merge.age`.
    pub merge_age: Duration,
    /// `esker.gc.grace`: how long an object stays after nothing refers to it any more.
    pub gc_grace: Duration,
}

/// Where the process finds its stores, and where it is found. Texts, as somebody wrote them; the binary makes sense of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSettings {
    /// `esker.etcd`: `H:P[,H:P…][/prefix]`.
    pub etcd: String,
    /// `esker.etcd.user`.
    pub etcd_user: String,
    /// `esker.etcd.password.file`.
    pub etcd_password_file: String,
    /// `esker.etcd.ca.file`: with it etcd is spoken to over TLS.
    pub etcd_ca_file: String,
    /// `esker.etcd.cert.file`.
    pub etcd_cert_file: String,
    /// `esker.etcd.key.file`.
    pub etcd_key_file: String,
    /// `esker.store`: the bucket's URL.
    pub store: String,
    /// `esker.zone`.
    pub zone: String,
    /// `esker.kafka`: where Kafka clients connect.
    pub kafka: String,
    /// `esker.grpc`.
    pub grpc: String,
    /// `esker.http`: probes and metrics.
    pub http: String,
    /// `esker.peer`: where other agents connect.
    pub peer: String,
    /// `esker.advertise`: what clients are told, if it is not where the process listens.
    pub advertise: String,
    /// `esker.advertise.peer`: what other agents are told.
    pub advertise_peer: String,
    /// `esker.cache.dir`.
    pub cache_dir: String,
    /// `esker.cache.disk.bytes`.
    pub cache_disk_bytes_max: u64,
    /// `esker.insecure.listen`.
    pub insecure_listen: bool,
}

/// A set of defaults to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The defaults of the table: agents on an object store.
    Standard,
    /// `esker dev`: one process on a local directory, eager to answer.
    Dev,
}

impl Profile {
    /// What this profile sets, below everything that the operator says.
    #[must_use]
    pub fn overrides(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Standard => &[],
            Self::Dev => &[
                ("auto.create.topics.enable", "true"),
                ("num.partitions", "1"),
                ("group.initial.rebalance.delay.ms", "0"),
                ("esker.flush.age", "5ms"),
                ("esker.flush.min.interval", "1ms"),
                ("esker.flush.uploads.max", "2"),
                ("esker.hedge.percent", "0"),
                ("esker.gc.grace", "1s"),
                ("esker.merge.age", "5s"),
                ("esker.checkpoint.commits", "1024"),
            ],
        }
    }
}

/// Why a set of assignments makes no `Settings`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No such key.
    #[error("{origin}: there is no setting {name:?}; did you mean {nearest:?}?")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The key it looks most like.
        nearest: &'static str,
        /// Who asked.
        origin: Origin,
    },
    /// The key exists, the value breaks its rule.
    #[error("{origin}: {name} cannot be {value:?}: {reason}")]
    Invalid {
        /// The key.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// The rule that it breaks.
        reason: ValueError,
        /// Who asked.
        origin: Origin,
    },
    /// Two values that cannot both hold.
    #[error("{small} ({small_value}) must not be above {large} ({large_value}); change one of them with --set")]
    Contradiction {
        /// The key that has to be the smaller one.
        small: &'static str,
        /// Its value.
        small_value: String,
        /// The key that has to be the larger one.
        large: &'static str,
        /// Its value.
        large_value: String,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self::resolve(Profile::Standard, []).expect("the table's defaults obey the table's rules (tested)")
    }
}

impl Settings {
    /// Takes the profile's defaults, then every assignment in turn, the last word winning; then checks the whole.
    ///
    /// # Errors
    /// The first assignment that names no key or breaks its rule, or a pair of values that contradict each other.
    pub fn resolve(profile: Profile, assignments: impl IntoIterator<Item = Assignment>) -> Result<Self, SettingError> {
        let mut settings = Self::blank();
        for key in KEYS {
            settings.set(key.name, key.default, Origin::Default)?;
        }
        for &(name, value) in profile.overrides() {
            settings.set(name, value, Origin::Default)?;
        }
        for Assignment { name, value, origin } in assignments {
            settings.set(&name, &value, origin)?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// The settings of `esker dev` with nothing said.
    #[must_use]
    pub fn dev() -> Self {
        Self::resolve(Profile::Dev, []).expect("the profile obeys the table's rules (tested)")
    }

    /// Changes one setting.
    ///
    /// # Errors
    /// The name is no key, or the value breaks its rule. Contradictions are for `check`.
    pub fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), SettingError> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(SettingError::Unknown {
                name: name.to_owned(),
                nearest: nearest_key(name),
                origin,
            });
        };
        let stored = key.slot.store(self, value.trim(), key.takes_units());
        stored.map_err(|reason| SettingError::Invalid {
            name: key.name,
            value: value.to_owned(),
            reason,
            origin,
        })
    }

    /// The value of a key as Kafka's tools would show it; `None` if there is no such key.
    #[must_use]
    pub fn show(&self, name: &str) -> Option<String> {
        KEYS.iter().find(|key| key.name == name).map(|key| key.slot.show(self))
    }

    /// Refuses pairs of values that would make requests wait for ever.
    fn check(&self) -> Result<(), SettingError> {
        let pairs = [
            ("group.min.session.timeout.ms", "group.max.session.timeout.ms"),
            ("esker.flush.min.interval", "esker.flush.age"),
            ("socket.request.max.bytes", "esker.buffer.bytes"),
            ("esker.flush.bytes", "esker.buffer.bytes"),
            ("message.max.bytes", "socket.request.max.bytes"),
            ("message.max.bytes", "esker.max.decompressed.bytes"),
            ("esker.max.partitions.per.topic", "esker.max.partitions"),
            ("num.partitions", "esker.max.partitions.per.topic"),
        ];
        for (small, large) in pairs {
            let (small_value, large_value) = (self.show_number(small), self.show_number(large));
            if small_value > large_value {
                let shown = |name| self.show(name).unwrap_or_default();
                return Err(SettingError::Contradiction {
                    small,
                    small_value: shown(small),
                    large,
                    large_value: shown(large),
                });
            }
        }
        Ok(())
    }

    fn show_number(&self, name: &str) -> u128 {
        let key = KEYS
            .iter()
            .find(|key| key.name == name)
            .expect("compared keys stand in the table (tested)");
        key.slot.number(self).expect("compared keys are numbers (tested)")
    }
}
