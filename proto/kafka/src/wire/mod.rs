//! The primitive types of the Kafka wire protocol and how they are read and written.
//!
//! Owns: strings, UUIDs, record fields, the bounded `Reader` and the gathering `Writer`.
//! Does not own: message layouts (`messages`), what is inside a record batch (`records`).
//!
//! Invariants: nothing is allocated from a peer's count before the bytes are there, and a whole decode
//! allocates at most [`DECODE_BUDGET_BASE`] + [`DECODE_BUDGET_FACTOR`] × frame length (MEM-1).

mod error;
mod reader;
mod record_data;
mod str;
mod uuid;
mod writer;

pub use self::error::{DecodeError, EncodeError};
pub use self::reader::{DECODE_BUDGET_BASE, DECODE_BUDGET_FACTOR, Reader, STRING_LEN_MAX, UNKNOWN_TAGS_MAX};
pub use self::record_data::Records;
pub use self::str::Str;
pub use self::uuid::Uuid;
pub(crate) use self::writer::TagWriter;
pub use self::writer::{SHARE_BYTES_MIN, Writer};
