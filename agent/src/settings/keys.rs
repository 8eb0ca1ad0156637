//! The table of settings: every key there is, with its default, its rule and its documentation.
//!
//! Owns: names, defaults, ranges. Each row also feeds `docs/configuration.md`.
//! Does not own: parsing (`value`), topic configs (`topic`).

use super::table::{Key, Scope, Slot};
use super::{
    CheckpointSettings, CleanupPolicy, FlushSettings, GroupSettings, LimitSettings, MemorySettings, NetworkSettings,
    ProcessSettings, ProducerSettings, RetentionTime, Settings, TimestampType, TopicCompression, TopicDefaults,
    UpkeepSettings,
};
use std::time::Duration;

const INT_MAX: i64 = i32::MAX as i64;
const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

const fn key(name: &'static str, slot: Slot, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        default,
        doc,
        scope: Scope::Broker,
        dynamic: true,
        slot,
    }
}

impl Key {
    /// Takes effect at the next start only.
    const fn at_start(mut self) -> Self {
        self.dynamic = false;
        self
    }

    const fn topic(mut self, config: &'static str) -> Self {
        self.scope = Scope::TopicDefault(config);
        self
    }
}

/// Every setting, in the order in which the documentation shows them.
pub static KEYS: &[Key] = &[
    key(
        "num.partitions",
        Slot::Count(|s| &mut s.topics.partitions, 1..=1_000_000),
        "1",
        "Partitions of a topic that is created without a number.",
    ),
    key(
        "auto.create.topics.enable",
        Slot::Bool(|s| &mut s.topics.auto_create),
        "true",
        "Whether a topic is created when a client first asks for it.",
    ),
    key(
        "default.replication.factor",
        Slot::Count(|s| &mut s.topics.replication_factor, 1..=32_767),
        "1",
        "Replication factor shown for topics created without one. Durability is the bucket's; this is for display.",
    ),
    key(
        "message.max.bytes",
        Slot::Size32(|s| &mut s.topics.message_bytes_max, 0..=INT_MAX),
        "1048588",
        "Largest record batch that is taken in, as sent (compressed).",
    )
    .topic("max.message.bytes"),
    key(
        "log.retention.ms",
        Slot::OptionalSigned(|s| &mut s.topics.retention.ms, -1..=i64::MAX),
        "",
        "How long records are kept; -1 is for ever. Wins over log.retention.minutes and log.retention.hours.",
    )
    .topic("retention.ms"),
    key(
        "log.retention.minutes",
        Slot::OptionalSigned(|s| &mut s.topics.retention.minutes, -1..=INT_MAX),
        "",
        "How long records are kept, in minutes; -1 is for ever. Wins over log.retention.hours.",
    )
    .topic("retention.ms"),
    key(
        "log.retention.hours",
        Slot::Signed(|s| &mut s.topics.retention.hours, -1..=INT_MAX),
        "168",
        "How long records are kept, in hours; -1 is for ever.",
    )
    .topic("retention.ms"),
    key(
        "log.retention.bytes",
        Slot::OptionalSize(|s| &mut s.topics.retention_bytes),
        "-1",
        "How many bytes of each partition are kept; -1 is all.",
    )
    .topic("retention.bytes"),
    key(
        "log.message.timestamp.type",
        Slot::Timestamp(|s| &mut s.topics.timestamp_type),
        "CreateTime",
        "Whether records carry the producer's time stamp or the agent's.",
    )
    .topic("message.timestamp.type"),
    key(
        "log.message.timestamp.before.max.ms",
        Slot::Signed(|s| &mut s.topics.timestamp_before_max_ms, 0..=i64::MAX),
        "9223372036854775807",
        "A record is refused if its producer's time stamp is older than this.",
    )
    .topic("message.timestamp.before.max.ms"),
    key(
        "log.message.timestamp.after.max.ms",
        Slot::Signed(|s| &mut s.topics.timestamp_after_max_ms, 0..=i64::MAX),
        "3600000",
        "A record is refused if its producer's time stamp lies further in the future than this.",
    )
    .topic("message.timestamp.after.max.ms"),
    key(
        "compression.type",
        Slot::Compression(|s| &mut s.topics.compression),
        "producer",
        "The codec that batches are stored in; `producer` keeps what was sent.",
    )
    .topic("compression.type"),
    key(
        "log.cleanup.policy",
        Slot::Cleanup(|s| &mut s.topics.cleanup),
        "delete",
        "Whether old records are deleted, compacted by key, or both. Compaction is not built yet: a topic that asks for it alone keeps everything.",
    )
    .topic("cleanup.policy"),
    key(
        "group.initial.rebalance.delay.ms",
        Slot::Millis(|s| &mut s.groups.initial_rebalance_delay, 0..=INT_MAX),
        "3000",
        "How long a new group waits for more members before its first rebalance.",
    ),
    key(
        "group.min.session.timeout.ms",
        Slot::Millis(|s| &mut s.groups.session_timeout_min, 0..=INT_MAX),
        "6000",
        "Shortest session time-out that a group member may ask for.",
    ),
    key(
        "group.max.session.timeout.ms",
        Slot::Millis(|s| &mut s.groups.session_timeout_max, 0..=INT_MAX),
        "1800000",
        "Longest session time-out that a group member may ask for.",
    ),
    key(
        "group.max.size",
        Slot::Count(|s| &mut s.groups.members_max, 1..=INT_MAX),
        "2147483647",
        "Most members that one group may have.",
    ),
    key(
        "offsets.retention.minutes",
        Slot::Minutes(|s| &mut s.groups.offsets_retention, 1..=INT_MAX),
        "10080",
        "How long committed offsets are kept after their group became empty, or after their commit if a stable group no longer subscribes to their topic.",
    ),
    key(
        "offsets.topic.num.partitions",
        Slot::Count(|s| &mut s.groups.offsets_topic_partitions, 1..=1_000_000),
        "50",
        "Partitions of `__consumer_offsets`, the empty topic that is there once a client has looked for a group.",
    ),
    key(
        "socket.request.max.bytes",
        Slot::Size32(|s| &mut s.network.request_bytes_max, 1..=INT_MAX),
        "104857600",
        "Largest request. A longer one is refused by its length, before any memory is taken for it.",
    ),
    key(
        "max.connections",
        Slot::Count(|s| &mut s.network.connections_max, 0..=INT_MAX),
        "10000",
        "Most Kafka connections at once.",
    ),
    key(
        "max.connections.per.ip",
        Slot::Count(|s| &mut s.network.connections_per_ip_max, 0..=INT_MAX),
        "5000",
        "Most Kafka connections at once from one address.",
    ),
    key(
        "connections.max.idle.ms",
        Slot::Millis(|s| &mut s.network.connection_idle_max, 1..=i64::MAX),
        "600000",
        "A connection with no request for this long is closed.",
    ),
    key(
        "fetch.max.bytes",
        Slot::Size32(|s| &mut s.network.fetch_bytes_max, 1024..=INT_MAX),
        "57671680",
        "Most bytes in one fetch answer, whatever the client asks for; one batch always goes through.",
    ),
    key(
        "esker.etcd",
        Slot::Text(|s| &mut s.process.etcd),
        "",
        "Members of etcd, as in `a:2379,b:2379,c:2379/my-cluster`: what follows the slash begins all keys of this cluster.",
    )
    .at_start(),
    key(
        "esker.etcd.user",
        Slot::Text(|s| &mut s.process.etcd_user),
        "",
        "User of etcd; empty for none.",
    )
    .at_start(),
    key(
        "esker.etcd.password.file",
        Slot::Text(|s| &mut s.process.etcd_password_file),
        "",
        "File that holds the password of `esker.etcd.user`.",
    )
    .at_start(),
    key(
        "esker.etcd.ca.file",
        Slot::Text(|s| &mut s.process.etcd_ca_file),
        "",
        "Certificates (PEM) that may have signed those of etcd; with it etcd is spoken to over TLS.",
    )
    .at_start(),
    key(
        "esker.etcd.cert.file",
        Slot::Text(|s| &mut s.process.etcd_cert_file),
        "",
        "Certificate (PEM) that is shown to etcd.",
    )
    .at_start(),
    key(
        "esker.etcd.key.file",
        Slot::Text(|s| &mut s.process.etcd_key_file),
        "",
        "Key (PEM) of `esker.etcd.cert.file`.",
    )
    .at_start(),
    key(
        "esker.store",
        Slot::Text(|s| &mut s.process.store),
        "",
        "The bucket: `s3://BUCKET[/PREFIX]` or `file:///DIR`. Credentials, region and endpoint come as the AWS SDK reads them.",
    )
    .at_start(),
    key(
        "esker.zone",
        Slot::Text(|s| &mut s.process.zone),
        "",
        "Availability zone of this process; empty for none. Clients of a zone are led to its agents.",
    )
    .at_start(),
    key(
        "esker.kafka",
        Slot::Address(|s| &mut s.process.kafka),
        "127.0.0.1:9092",
        "Where Kafka clients connect; port 0 takes a free one.",
    )
    .at_start(),
    key(
        "esker.grpc",
        Slot::Address(|s| &mut s.process.grpc),
        "127.0.0.1:9095",
        "Where gRPC clients connect; port 0 takes a free one.",
    )
    .at_start(),
    key(
        "esker.http",
        Slot::Address(|s| &mut s.process.http),
        "127.0.0.1:9096",
        "Where /livez, /readyz and /metrics are.",
    )
    .at_start(),
    key(
        "esker.peer",
        Slot::Address(|s| &mut s.process.peer),
        "127.0.0.1:9097",
        "Where other agents connect, to notice at once when this one is gone.",
    )
    .at_start(),
    key(
        "esker.advertise",
        Slot::Address(|s| &mut s.process.advertise),
        "",
        "What Kafka clients are told to connect to, if it is not the address listened on.",
    )
    .at_start(),
    key(
        "esker.advertise.peer",
        Slot::Address(|s| &mut s.process.advertise_peer),
        "",
        "What other agents are told to connect to, if it is not the address listened on.",
    )
    .at_start(),
    key(
        "esker.cache.dir",
        Slot::Text(|s| &mut s.process.cache_dir),
        "",
        "Directory for the disk part of the cache, of this agent alone; empty for none. Nothing in it is missed when it is lost.",
    )
    .at_start(),
    key(
        "esker.cache.disk.bytes",
        Slot::Size(|s| &mut s.process.cache_disk_bytes_max, 64 * MIB..=64 * 1024 * GIB),
        "8GiB",
        "How much of a disk the cache may take, with esker.cache.dir.",
    )
    .at_start(),
    key(
        "esker.insecure.listen",
        Slot::Bool(|s| &mut s.process.insecure_listen),
        "false",
        "Listen on addresses that other machines can reach, without TLS or authentication.",
    )
    .at_start(),
    key(
        "esker.listener.zone",
        Slot::Text(|s| &mut s.network.listener_zone),
        "",
        "Zone of clients that do not say theirs (zone=… in the client id); empty for none: then all agents lead for them.",
    ),
    key(
        "transaction.max.timeout.ms",
        Slot::Millis(|s| &mut s.producers.transaction_timeout_max, 1..=INT_MAX),
        "900000",
        "Longest transaction time-out that a producer may ask for.",
    ),
    key(
        "producer.id.expiration.ms",
        Slot::Millis(|s| &mut s.producers.id_expiration, 1..=INT_MAX),
        "86400000",
        "How long what is known of an idle producer is kept.",
    ),
    key(
        "log.retention.check.interval.ms",
        Slot::Millis(|s| &mut s.upkeep.retention_check_interval, 1..=i64::MAX),
        "300000",
        "How often retention is looked at.",
    ),
    key(
        "esker.flush.age",
        Slot::Millis(|s| &mut s.flush.age, 0..=HOUR),
        "250ms",
        "The write-ahead buffer is flushed at the latest when its oldest record is this old.",
    ),
    key(
        "esker.flush.min.interval",
        Slot::Millis(|s| &mut s.flush.min_interval, 0..=HOUR),
        "250ms",
        "A flush begins at once if the last one began at least this long ago; while an upload is in flight, or less than 1 MiB waits and a flush is not answered, at least 10 ms.",
    ),
    key(
        "esker.flush.bytes",
        Slot::Size(|s| &mut s.flush.bytes, 64 * KIB..=GIB),
        "8MiB",
        "The write-ahead buffer is flushed when it holds this much.",
    ),
    key(
        "esker.flush.index.bytes",
        Slot::Size32(|s| &mut s.flush.index_bytes, 4 * KIB..=512 * KIB),
        "64KiB",
        "The write-ahead buffer is flushed when its batch index has this size.",
    ),
    key(
        "esker.flush.uploads.max",
        Slot::Count(|s| &mut s.flush.uploads_max, 1..=1_000),
        "16",
        "So many segments are uploaded at once; meanwhile the write-ahead buffer fills. Few on a disk, more where a PUT takes long.",
    ),
    key(
        "esker.hedge.percent",
        Slot::Count(|s| &mut s.flush.hedge_percent, 0..=100),
        "8",
        "So many more requests in every hundred may go to the bucket to cut its tails: an upload or read that takes longer than most is sent a second time. 0 for none.",
    )
    .at_start(),
    key(
        "esker.buffer.bytes",
        Slot::Size(|s| &mut s.memory.buffer_bytes_max, MIB..=1024 * GIB),
        "128MiB",
        "Memory for requests being read and records not yet committed. When it is used up, producers wait.",
    )
    .at_start(),
    key(
        "esker.cache.bytes",
        Slot::Size(|s| &mut s.memory.cache_bytes_max, 0..=1024 * GIB),
        "128MiB",
        "Memory for the cache of stored data.",
    )
    .at_start(),
    key(
        "esker.max.decompressed.bytes",
        Slot::Size(|s| &mut s.memory.decompressed_bytes_max, 64 * KIB..=GIB),
        "64MiB",
        "A batch that unpacks to more is refused.",
    ),
    key(
        "esker.checkpoint.commits",
        Slot::Count(|s| &mut s.checkpoint.commits, 1..=1_000_000),
        "4096",
        "A checkpoint is written after this many commits.",
    ),
    key(
        "esker.checkpoint.interval",
        Slot::Millis(|s| &mut s.checkpoint.interval, 1..=DAY),
        "30s",
        "A checkpoint is written after this time, if anything was committed.",
    ),
    key(
        "esker.max.partitions",
        Slot::Count(|s| &mut s.limits.partitions_max, 1..=10_000_000),
        "200000",
        "Most partitions in the cluster. Enters the log when the cluster is created.",
    )
    .at_start(),
    key(
        "esker.max.partitions.per.topic",
        Slot::Count(|s| &mut s.limits.partitions_per_topic_max, 1..=1_000_000),
        "10000",
        "Most partitions of one topic. Enters the log when the cluster is created.",
    )
    .at_start(),
    key(
        "esker.unmerged.batches.max",
        Slot::Count(|s| &mut s.limits.unmerged_batches_max, 8..=1_000_000_000),
        "4000000",
        "Most batches that may wait to be merged; every agent holds about 50 bytes for each. Producers slow down from three quarters of it on, and wait at it.",
    )
    .at_start(),
    key(
        "esker.unmerged.bytes.max",
        Slot::Size(|s| &mut s.limits.unmerged_bytes_max, MIB..=1024 * 1024 * GIB),
        "256GiB",
        "Most bytes of batches that may wait to be merged.",
    )
    .at_start(),
    key(
        "esker.producer.state.max",
        Slot::Count(|s| &mut s.producers.state_max, 1..=100_000_000),
        "1000000",
        "Most (producer, partition) windows remembered; the longest idle go first.",
    ),
    key(
        "esker.produce.order.wait",
        Slot::Millis(|s| &mut s.producers.order_wait, 0..=HOUR),
        "5s",
        "How long a batch whose predecessor has not arrived yet waits for it.",
    ),
    key(
        "esker.merge.segments",
        Slot::Count(|s| &mut s.upkeep.merge_segments, 1..=1_000_000),
        "64",
        "Fresh segments are merged when there are so many.",
    ),
    key(
        "esker.merge.age",
        Slot::Millis(|s| &mut s.upkeep.merge_age, 0..=DAY),
        "60s",
        "Fresh segments are merged when the oldest of them has waited so long since its checkpoint.",
    ),
    key(
        "esker.gc.grace",
        Slot::Millis(|s| &mut s.upkeep.gc_grace, 0..=365 * DAY),
        "10m",
        "How long an object stays in the bucket after nothing refers to it any more.",
    ),
];

impl Settings {
    /// A value for every field, all of which the table then replaces.
    #[expect(clippy::too_many_lines, reason = "one line for each field")]
    pub(super) fn blank() -> Self {
        let zero = Duration::ZERO;
        Self {
            topics: TopicDefaults {
                partitions: 0,
                auto_create: false,
                replication_factor: 0,
                message_bytes_max: 0,
                retention: RetentionTime {
                    ms: None,
                    minutes: None,
                    hours: 0,
                },
                retention_bytes: None,
                timestamp_before_max_ms: 0,
                timestamp_after_max_ms: 0,
                timestamp_type: TimestampType::CreateTime,
                compression: TopicCompression::Producer,
                cleanup: CleanupPolicy::Delete,
            },
            groups: GroupSettings {
                initial_rebalance_delay: zero,
                session_timeout_min: zero,
                session_timeout_max: zero,
                members_max: 0,
                offsets_retention: zero,
                offsets_topic_partitions: 0,
            },
            network: NetworkSettings {
                request_bytes_max: 0,
                connections_max: 0,
                connections_per_ip_max: 0,
                connection_idle_max: zero,
                fetch_bytes_max: 0,
                listener_zone: String::new(),
            },
            producers: ProducerSettings {
                transaction_timeout_max: zero,
                id_expiration: zero,
                state_max: 0,
                order_wait: zero,
            },
            flush: FlushSettings {
                age: zero,
                min_interval: zero,
                bytes: 0,
                index_bytes: 0,
                uploads_max: 0,
                hedge_percent: 0,
            },
            memory: MemorySettings {
                buffer_bytes_max: 0,
                cache_bytes_max: 0,
                decompressed_bytes_max: 0,
            },
            checkpoint: CheckpointSettings {
                commits: 0,
                interval: zero,
            },
            limits: LimitSettings {
                partitions_max: 0,
                partitions_per_topic_max: 0,
                unmerged_batches_max: 0,
                unmerged_bytes_max: 0,
            },
            process: ProcessSettings::default(),
            upkeep: UpkeepSettings {
                retention_check_interval: zero,
                gc_grace: zero,
                merge_segments: 0,
                merge_age: zero,
            },
        }
    }
}
