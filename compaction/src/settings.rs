//! How compaction works: sizes, intervals, limits.

use std::time::Duration;

/// Settings of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What the process may do.
    pub scope: Scope,
    /// When there is a checkpoint.
    pub checkpoint: CheckpointSettings,
    /// How data is merged.
    pub merge: MergeSettings,
    /// When retention is looked at.
    pub retention: RetentionSettings,
    /// When garbage goes.
    pub garbage: GarbageSettings,
    /// When producers are forgotten.
    pub expiry: ExpirySettings,
}

/// What a process does of it, when no other process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything: a compactor, or the only process there is.
    #[default]
    Everything,
    /// What keeps the coordination store small: checkpoints, truncation, expiry. An agent.
    Checkpoints,
}

/// When producers are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpirySettings {
    /// `producer.id.expiration.ms`: when nothing came from them for so long.
    pub producers_after: Duration,
    /// `esker.producer.state.max`: windows beyond so many, the longest idle first.
    pub producer_windows_max: usize,
}

impl Default for ExpirySettings {
    fn default() -> Self {
        Self {
            producers_after: Duration::from_secs(24 * 3_600),
            producer_windows_max: 1_000_000,
        }
    }
}

/// When there is a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// After so many commits.
    pub commits_max: u64,
    /// After so many segments: none of them can be merged before.
    pub segments_max: u64,
    /// After so long, if there was a commit.
    pub interval: Duration,
    /// When no other commit has come for so long: the last segments of an idle cluster have no successor whose header says
    /// their order, and the bucket alone must be enough to recover them.
    pub idle: Duration,
    /// How much history the coordination store keeps.
    pub history_kept: Duration,
}

/// How data is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeSettings {
    /// Fresh segments are merged when there are so many,
    pub segments_min: usize,
    /// or when the oldest of them has waited so long since its checkpoint.
    pub age_max: Duration,
    /// Fresh segments of this size whose slices are long are not written again: the manifest names them as they are.
    pub stay_bytes_min: u64,
    /// Bytes of fresh segments that are held in memory at a time, in buffers that may be twice as long.
    pub chunk_bytes_max: u64,
    /// Bytes that one round reads, give or take one commit or object.
    pub round_bytes_max: u64,
    /// Size of merged objects, give or take a half. Twice as much can be waiting to be written. A topic that fills half of
    /// one in a round gets objects of its own.
    pub object_bytes_max: u64,
    /// Most batches of a merged object: a reader decodes its whole index.
    pub object_batches_max: usize,
    /// So many small objects of one class on one level are merged into the next.
    pub fan_in: usize,
    /// The highest level.
    pub level_max: u8,
    /// Slices are made so large, if their partition has as much; larger ones are cut.
    pub slice_bytes_max: u64,
    /// Bytes that are read at once from each object that is merged again.
    pub read_bytes: u64,
    /// Objects that are read or deleted at the same time.
    pub requests_max: usize,
    /// Slices of a manifest page, give or take those of one partition.
    pub page_slices_max: usize,
    /// A segment that cannot be read after so many rounds stays where it is, and the manifest names it.
    pub read_attempts_max: u32,
}

/// When retention is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionSettings {
    /// How often.
    pub interval: Duration,
}

/// When garbage goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageSettings {
    /// How long an object stays after it was first seen to be garbage: readers that have not heard yet still find it.
    pub grace: Duration,
    /// Shortest time from the end of one collection to the next.
    pub interval_min: Duration,
    /// Objects that are remembered as garbage; more are looked at later.
    pub marked_max: usize,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            commits_max: 4_096,
            segments_max: 1_024,
            interval: Duration::from_secs(30),
            idle: Duration::from_secs(10),
            history_kept: Duration::from_secs(300),
        }
    }
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self {
            segments_min: 64,
            age_max: Duration::from_secs(60),
            stay_bytes_min: 2 << 20,
            chunk_bytes_max: 32 << 20,
            round_bytes_max: 256 << 20,
            object_bytes_max: 32 << 20,
            object_batches_max: 65_536,
            fan_in: 8,
            level_max: 6,
            slice_bytes_max: 8 << 20,
            read_bytes: 1 << 20,
            requests_max: 16,
            page_slices_max: 4_096,
            read_attempts_max: 3,
        }
    }
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
        }
    }
}

impl Default for GarbageSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(600),
            interval_min: Duration::from_secs(30),
            marked_max: 1 << 20,
        }
    }
}

impl Settings {
    /// For one process over a local directory: requests cost nothing, readers hear of a new root at once. Space is given back
    /// within seconds.
    #[must_use]
    pub fn local() -> Self {
        Self {
            scope: Scope::Everything,
            checkpoint: CheckpointSettings {
                interval: Duration::from_secs(10),
                ..CheckpointSettings::default()
            },
            merge: MergeSettings {
                age_max: Duration::from_secs(5),
                ..MergeSettings::default()
            },
            retention: RetentionSettings {
                interval: Duration::from_secs(10),
            },
            garbage: GarbageSettings {
                grace: Duration::from_secs(1),
                interval_min: Duration::from_secs(2),
                ..GarbageSettings::default()
            },
            expiry: ExpirySettings::default(),
        }
    }
}
