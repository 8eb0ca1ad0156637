//! Every metric that this process can show, with its unit, help and buckets.
//!
//! Owns: the table, which also feeds `docs/metrics.md`.
//! Does not own: when a metric moves.

use metrics::Unit as FacadeUnit;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution over these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Prometheus's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// A label and every value it can have.
pub type Label = (&'static str, &'static [&'static str]);

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus sees it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [Label],
    /// One sentence.
    pub help: &'static str,
}

/// From a local directory (0.2 ms) to the tails of a struggling bucket.
const LATENCY_SECONDS: &[f64] = &[
    0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

const OP: Label = ("op", &["put", "get", "list", "delete", "head"]);
const OUTCOME: Label = ("outcome", &["ok", "not_found", "failed", "unknown", "cancelled"]);

const METADATA_OP: Label = (
    "op",
    &["txn", "read", "watch", "grant", "keep_alive", "revoke", "compact"],
);
const METADATA_OUTCOME: Label = ("outcome", &["ok", "failed", "unknown"]);
const HEDGE_OP: Label = ("op", &["put", "get"]);
const HEDGE_OUTCOME: Label = ("outcome", &["won", "lost", "failed", "over_budget"]);

const CACHE_OUTCOME: Label = ("outcome", &["hit", "miss"]);
const COMPACTION_STEP: Label = (
    "step",
    &[
        "claim",
        "checkpoint",
        "truncate",
        "intake",
        "levels",
        "retention",
        "garbage",
    ],
);
const MERGE_KIND: Label = ("kind", &["fresh", "levels"]);
const COMMIT_OUTCOME: Label = ("outcome", &["committed", "refused", "session_lost", "undecided"]);

/// Methods of the gRPC API; the others are health and reflection.
pub(crate) const GRPC_METHODS: &[&str] = &[
    "Produce",
    "ProduceStream",
    "Fetch",
    "Subscribe",
    "Commit",
    "CreateTopics",
    "DeleteTopics",
    "ListTopics",
    "DescribeTopics",
    "CreatePartitions",
    "DescribeConfigs",
    "AlterConfigs",
    "ListOffsets",
    "DeleteRecords",
    "ListGroups",
    "DescribeGroups",
    "DeleteGroups",
    "GroupOffsets",
    "AlterGroupOffsets",
    "DescribeCluster",
    "other",
];
/// Codes of gRPC, each at its number.
pub(crate) const GRPC_CODES: &[&str] = &[
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];
const GRPC_METHOD: Label = ("method", GRPC_METHODS);
const GRPC_CODE: Label = ("code", GRPC_CODES);
const DIRECTION: Label = ("direction", &["in", "out"]);

const fn metric(name: &'static str, kind: Kind, unit: Unit, labels: &'static [Label], help: &'static str) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

/// Every metric but those of the process itself (`process`).
pub static METRICS: &[Metric] = &[
    metric(
        "esker_store_requests_total",
        Kind::Counter,
        Unit::Count,
        &[OP, OUTCOME],
        "Requests to the object store. Unknown: it may or may not have taken effect.",
    ),
    metric(
        "esker_store_bytes_total",
        Kind::Counter,
        Unit::Bytes,
        &[OP],
        "Bytes sent to and received from the object store.",
    ),
    metric(
        "esker_store_seconds",
        Kind::Histogram(LATENCY_SECONDS),
        Unit::Seconds,
        &[OP],
        "How long requests to the object store took.",
    ),
    metric(
        "esker_store_hedges_total",
        Kind::Counter,
        Unit::Count,
        &[HEDGE_OP, HEDGE_OUTCOME],
        "Requests that took longer than most. Won: a second one was sent and answered first; lost: it was sent and the first one answered first; failed: neither answered; over_budget: none was sent.",
    ),
    metric(
        "esker_cache_requests_total",
        Kind::Counter,
        Unit::Count,
        &[CACHE_OUTCOME],
        "Reads of stored data, by whether the cache had it.",
    ),
    metric(
        "esker_cache_disk_requests_total",
        Kind::Counter,
        Unit::Count,
        &[("outcome", &["hit", "miss"])],
        "Reads that the memory did not have, by whether the disk part of the cache had it; only with `esker.cache.dir`.",
    ),
    metric(
        "esker_commit_seconds",
        Kind::Histogram(LATENCY_SECONDS),
        Unit::Seconds,
        &[],
        "From sending a commit to the metadata store until its outcome was known.",
    ),
    metric(
        "esker_commits_total",
        Kind::Counter,
        Unit::Count,
        &[COMMIT_OUTCOME],
        "Commits that this process tried, by what became of them.",
    ),
    metric(
        "esker_metadata_bytes_total",
        Kind::Counter,
        Unit::Bytes,
        &[],
        "Bytes of keys and values written to the metadata store.",
    ),
    metric(
        "esker_metadata_requests_total",
        Kind::Counter,
        Unit::Count,
        &[METADATA_OP, METADATA_OUTCOME],
        "Requests to the metadata store; all but reads, watches and keep-alives are writes. Unknown: it may or may not have taken effect.",
    ),
    metric(
        "esker_metadata_reconnects_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "Connections to etcd that were given up for another one.",
    ),
    metric(
        "esker_unmerged_entries",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Batches in the log that have not been merged yet; producers are throttled when there are too many.",
    ),
    metric(
        "esker_load",
        Kind::Gauge,
        Unit::Count,
        &[],
        "How busy this agent is, 0 to 1: the larger of its part of the CPU and of the memory for requests; what to scale by.",
    ),
    metric(
        "esker_fold_index",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Log index up to which this process has folded the log.",
    ),
    metric(
        "esker_produce_ack_seconds",
        Kind::Histogram(LATENCY_SECONDS),
        Unit::Seconds,
        &[],
        "From reading a produce request until it was acknowledged.",
    ),
    metric(
        "esker_checkpoint_seconds",
        Kind::Histogram(LATENCY_SECONDS),
        Unit::Seconds,
        &[],
        "How long writing and publishing a checkpoint took.",
    ),
    metric(
        "esker_compaction_errors_total",
        Kind::Counter,
        Unit::Count,
        &[COMPACTION_STEP],
        "Steps of compaction that failed and will be tried again.",
    ),
    metric(
        "esker_merge_rounds_total",
        Kind::Counter,
        Unit::Count,
        &[MERGE_KIND],
        "Merges published: of fresh segments, and of merged ones into larger ones.",
    ),
    metric(
        "esker_merged_bytes_total",
        Kind::Counter,
        Unit::Bytes,
        &[MERGE_KIND],
        "Bytes of merged segments written.",
    ),
    metric(
        "esker_merge_unreadable_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "Segments that could not be read when they were to be merged.",
    ),
    metric(
        "esker_merged_objects",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Merged segments that manifests refer to.",
    ),
    metric(
        "esker_trimmed_partitions_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "Partitions whose log start offset retention has raised.",
    ),
    metric(
        "esker_expired_producer_windows_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "States of idle producers in partitions that were forgotten.",
    ),
    metric(
        "esker_coordinator_shards",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Coordinator shards of groups that this agent holds, of 64 in the cluster.",
    ),
    metric(
        "esker_group_writes_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "Transactions that stored generations of consumer groups.",
    ),
    metric(
        "esker_unmerged_bytes",
        Kind::Gauge,
        Unit::Bytes,
        &[],
        "Bytes of batches that are not merged yet.",
    ),
    metric(
        "esker_produce_throttled_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "Produce requests that were slowed down because much waits to be merged.",
    ),
    metric(
        "esker_produce_throttled_waiting",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Produce requests that wait now because as much waits to be merged as may.",
    ),
    metric(
        "esker_bucket_objects",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Objects of this cluster that the last collection of garbage left in the bucket.",
    ),
    metric(
        "esker_garbage_deleted_total",
        Kind::Counter,
        Unit::Count,
        &[],
        "Objects deleted because nothing referred to them any more.",
    ),
    metric(
        "esker_garbage_deleted_bytes_total",
        Kind::Counter,
        Unit::Bytes,
        &[],
        "Bytes of those objects.",
    ),
    metric(
        "esker_grpc_calls_total",
        Kind::Counter,
        Unit::Count,
        &[GRPC_METHOD, GRPC_CODE],
        "Calls of gRPC clients that have ended. Cancelled: the client, or its connection, went before the end.",
    ),
    metric(
        "esker_grpc_call_seconds",
        Kind::Histogram(LATENCY_SECONDS),
        Unit::Seconds,
        &[GRPC_METHOD],
        "From the headers of a call until its answer was handed over; of ProduceStream and Subscribe, how long the streams lived.",
    ),
    metric(
        "esker_grpc_open_calls",
        Kind::Gauge,
        Unit::Count,
        &[GRPC_METHOD],
        "Calls of gRPC clients that are open, streams among them.",
    ),
    metric(
        "esker_grpc_connections",
        Kind::Gauge,
        Unit::Count,
        &[],
        "Connections of gRPC clients.",
    ),
    metric(
        "esker_grpc_records_total",
        Kind::Counter,
        Unit::Count,
        &[DIRECTION],
        "Records of gRPC clients that were acknowledged (in), and that were read for them (out).",
    ),
    metric(
        "esker_grpc_bytes_total",
        Kind::Counter,
        Unit::Bytes,
        &[DIRECTION],
        "Bytes of messages from and to gRPC clients.",
    ),
];

/// Gives the current recorder units and help, and lets counters and gauges start at zero, so that `nothing happened`
/// and `not measured` look different.
pub(super) fn describe() {
    for metric in METRICS {
        let unit = match metric.unit {
            Unit::Count => FacadeUnit::Count,
            Unit::Bytes => FacadeUnit::Bytes,
            Unit::Seconds => FacadeUnit::Seconds,
        };
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, unit, metric.help),
        }
        for labels in combinations(metric.labels) {
            match metric.kind {
                Kind::Counter => counter!(metric.name, &labels).increment(0),
                Kind::Gauge => gauge!(metric.name, &labels).set(0),
                // A histogram cannot be shown before its first sample.
                Kind::Histogram(_) => {}
            }
        }
    }
}

/// Every way to give each label one of its values.
pub(super) fn combinations(labels: &[Label]) -> Vec<Vec<(&'static str, &'static str)>> {
    let mut all = vec![Vec::new()];
    for &(name, values) in labels {
        let extend = |chosen: &Vec<(&'static str, &'static str)>| {
            let chosen = chosen.clone();
            values
                .iter()
                .map(move |value| chosen.iter().copied().chain([(name, *value)]).collect())
        };
        all = all.iter().flat_map(extend).collect();
    }
    all
}
