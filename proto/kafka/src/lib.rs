//! The Kafka wire protocol: messages of every API and version, and record batches.
//!
//! Owns: the bytes of requests, responses and record batches, API keys and their versions, error codes, and what
//! clients agree on among themselves: partitioner and assignors.
//! Does not own: sockets, framing limits, what any request means.
//!
//! Invariants: pure (no IO, clock, randomness or logging); input from a peer never panics and never makes it
//! allocate more than a bounded multiple of what was received (MEM-1).

mod api;
pub mod assignor;
mod error_code;
mod generated;
pub mod messages;
pub mod partitioner;
mod produce_walk;
pub mod records;
mod wire;

pub use self::api::{Listeners, UnknownApiKey, VersionRange};
pub use self::error_code::{ErrorCode, UnknownErrorCode};
pub use self::generated::api_key::ApiKey;
pub use self::produce_walk::{ProducePartition, ProduceWalk, TopicRef};
pub use self::wire::{
    DECODE_BUDGET_BASE, DECODE_BUDGET_FACTOR, DecodeError, EncodeError, Reader, Records, SHARE_BYTES_MIN,
    STRING_LEN_MAX, Str, UNKNOWN_TAGS_MAX, Uuid, Writer,
};
