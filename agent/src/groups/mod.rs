//! Classic consumer groups: membership, and the offsets that groups commit.
//!
//! Owns: the group state machine (`group`), the coordinator that runs it (`coordinator`), the Kafka requests about groups
//! (`handlers`).
//! Does not own: where offsets are kept (the [`seams::OffsetLog`] seam), what topics exist (the [`seams::TopicNames`] seam), sockets.
//!
//! Invariants: GRP-1, MEM-1.

pub mod coordinator;
pub mod error;
#[cfg(test)]
mod fakes;
pub mod group;
pub mod handlers;
pub mod ids;
pub mod seams;
pub mod settings;
mod subscriptions;
