//! The fold of the commit log: every offset, duplicate check, transaction outcome and committed group offset is a pure
//! function of the entries in their order.
//!
//! Owns: entries and their bytes (`entry`), verdicts (`verdict`), the state and how an entry changes it (`fold`).
//! Does not own: how the log is stored and followed (`esker-metadata`), bytes of records, time, IO.
//!
//! # How it is used
//!
//! ```text
//! let record = CommitRecord { entries: vec![Entry::Segment(..), ..] };      // 1 to 32
//! store(record.encode()?);                                                  // at most 1 MiB
//!
//! let mut fold = Fold::new();                                               // or from a checkpoint
//! let applied = fold.apply_bytes(CommitPosition { index, session, number }, &bytes)?;
//! applied.verdicts    // one EntryVerdict per entry; Segment(Vec<BatchVerdict>) in the order of the batch index
//! applied.advanced    // partitions whose high watermark or last stable offset rose: wake their fetchers
//! ```
//!
//! - Read: `fold.partition(tp)` (log start, last stable, high watermark), `topic`, `topic_named`, `topics`, `aborted`,
//!   `leader_epoch_at`, `leader_epoch_end`, `producer`, `open_transactions`, `group_offset`, `group_offsets`.
//! - Fetch: `fold.locate(tp, offset)` gives the unmerged batches from the one that contains the offset on; below
//!   `fold.unmerged_start(tp)` manifests know better. `Source::Marker` batches have no bytes: they are synthesised from
//!   `MarkerInfo` and the offset. `locate_timestamp` and `locate_max_timestamp` serve ListOffsets.
//! - Checkpoint: `fold.encode_state()` and `Fold::decode_state` for the state object; `export_unmerged` says what index
//!   objects must hold, `import_index` takes them back in after a start, `forget_merged` drops what the root says is
//!   merged.
//!
//! # Rules that writers of entries must keep
//!
//! - Every InitProducerId of a transactional id commits a `ProducerFence` with the epoch that it hands out. When a
//!   transaction of the old epoch is open, a `TxnEnd` with `Abort` and `next_epoch` one higher takes its place. A
//!   transactional batch is stored only if its epoch *equals* the producer's.
//! - Clients without transactions V2: `next_epoch == epoch`, and batches carry `verified_at`. With V2: `next_epoch` is one
//!   more.
//! - Producers without a transactional id take ids from a granted block and need no entry of their own.

mod digest;
pub mod entry;
pub mod fold;
pub mod group;
mod partition;
pub mod placement;
mod producer;
pub mod state;
mod topic;
pub mod unmerged;
pub mod verdict;
mod window;

pub use digest::Digest;
pub use entry::{CommitRecord, Entry};
pub use fold::{CommitPosition, Fold};
pub use partition::AbortedTxn;
pub use verdict::{Applied, BatchVerdict, EntryVerdict};
pub use window::WINDOW_BATCHES;
