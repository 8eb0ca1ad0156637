//! The commit log over the coordination store: one order of commits for the whole cluster.
//!
//! Owns: cluster bootstrap, sessions, the committer (each commit applies at most once, whatever happens), the follower
//! (each commit once and in order, whatever the watch does), the read barrier, checkpoints and truncation.
//! Does not own: what records mean (`esker-model`), what a checkpoint holds (the agent).

mod backoff;
mod bootstrap;
mod checkpoint;
mod committer;
mod election;
mod follower;
mod position;
mod recent;
mod session;

pub use backoff::Backoff;
pub use bootstrap::{Cluster, bootstrap};
pub use checkpoint::{
    HistoryKept, LogSnapshot, PublishedRoot, RootOutcome, Truncated, Truncation, publish_root, read_log, read_root,
};
pub use committer::{
    Commit, CommitResult, Committer, CommitterSettings, EXTRAS_BYTES_MAX, EXTRAS_MAX, Pending, SubmitError,
    extras_bytes,
};
pub use election::{Elected, Leadership, resign, stand};
pub use follower::{AppliedCommit, FollowEnd, Follower, FollowerSettings, LogSink, SinkError};
pub use position::{LogHandle, LogPosition};
pub use session::{Session, SessionError};
