//! `leader/<duty>`: which session does something that one process should do: write checkpoints, compact. Leased like the
//! session. Two at once waste work and harm nothing: what they publish compares.

use bytes::Bytes;

pub use super::owner::{decode, encode};

/// What all keys of the family begin with.
pub const PREFIX: &str = "leader/";

/// Something that one process should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Writes checkpoints, truncates the log, compacts the store's history, expires producers.
    Checkpoint,
    /// Plans compaction and collects garbage.
    Compaction,
}

/// The key of a duty.
#[must_use]
pub fn key(duty: Duty) -> Bytes {
    Bytes::from_static(match duty {
        Duty::Checkpoint => b"leader/checkpoint",
        Duty::Compaction => b"leader/compaction",
    })
}
