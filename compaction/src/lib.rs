//! Compaction: everything that is done to data after it was committed.
//!
//! Owns: checkpoints and truncation (`checkpointer`), merging fresh segments into topic-ordered ones (`intake`, `levels`),
//! retention (`retention`), garbage collection (`garbage`), the loop that does them in turn (`service`), and the check of a
//! whole cluster at rest (`check`).
//! Does not own: serving (`esker-agent`), the fold (`esker-model`), formats (`esker-segment`).
//!
//! Invariants: GC-1, CMP-1, RET-1. What is published names only objects that are there; what two processes do at the same
//! time is decided by the compare on `root`, and the loser's objects are garbage.

pub mod check;
pub mod checkpointer;
pub mod duties;
pub mod edit;
pub mod expiry;
pub mod garbage;
pub mod incarnation;
pub mod intake;
pub mod levels;
pub mod liveness;
pub mod merge;
pub mod process;
pub mod recover;
pub mod retention;
pub mod round;
pub mod seams;
pub mod service;
pub mod settings;
pub mod survey;
