//! Requests, responses and other messages, one type per name, and what they have in common.
//!
//! Each message's own nested structs are in its module: `messages::fetch_response::PartitionData`.

pub use crate::generated::*;

use crate::ApiKey;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// A message with numbered versions.
pub trait Message: Sized + Clone + std::fmt::Debug + Default + PartialEq {
    /// Kafka's name of it.
    const NAME: &'static str;
    /// The first version that can be read and written.
    const VERSION_MIN: i16;
    /// The last version that can be read and written.
    const VERSION_MAX: i16;

    /// Reads the body as `version` lays it out; bytes may follow it.
    ///
    /// # Errors
    /// A version that does not exist, or bytes that are not such a message.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the body as `version` lays it out.
    ///
    /// # Errors
    /// A version that does not exist, or a value that it cannot carry.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A message that a client sends.
pub trait Request: Message {
    /// Its API.
    const KEY: ApiKey;
    /// What the server answers.
    type Response: Message;
}
