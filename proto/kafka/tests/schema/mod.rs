//! What tests and the judge share: every message by name, Kafka's definitions read afresh, random wire bytes.
//!
//! Nothing here uses the generated layouts: the definitions are interpreted, so that generator and interpreter
//! check each other.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]

pub mod definition;
pub mod listing;
pub mod messages;
pub mod random;
pub mod tables;

use bytes::Bytes;
use esker_kafka::messages::Message;
use esker_kafka::{DecodeError, EncodeError, Reader, Writer};

/// One message type behind functions.
pub struct Entry {
    pub name: &'static str,
    pub first: i16,
    pub last: i16,
    /// Decodes and drops; the whole input must be used.
    pub decode: fn(Bytes, i16) -> Result<(), DecodeError>,
    /// Decodes one version and encodes another.
    pub recode: fn(Bytes, i16, i16) -> Result<Bytes, Failure>,
    /// Decodes and prints with `Debug`.
    pub view: fn(Bytes, i16) -> Result<String, DecodeError>,
}

/// Where a re-encoding failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Decode(DecodeError),
    Encode(EncodeError),
}

impl Entry {
    pub fn of<M: Message>() -> Self {
        Self {
            name: M::NAME,
            first: M::VERSION_MIN,
            last: M::VERSION_MAX,
            decode: |bytes, version| decode::<M>(bytes, version).map(drop),
            recode: |bytes, from, to| {
                let message = decode::<M>(bytes, from).map_err(Failure::Decode)?;
                let mut w = Writer::new();
                message.encode(&mut w, to).map_err(Failure::Encode)?;
                w.into_bytes().map_err(Failure::Encode)
            },
            view: |bytes, version| decode::<M>(bytes, version).map(|message| format!("{message:?}")),
        }
    }

    /// All versions.
    pub fn versions(&self) -> impl Iterator<Item = i16> + use<> {
        self.first..=self.last
    }
}

fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<M, DecodeError> {
    let mut r = Reader::new(bytes);
    let message = M::decode(&mut r, version)?;
    r.finish()?;
    Ok(message)
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string");
        out
    })
}

/// The bytes of hexadecimal text; `-` stands for none.
pub fn from_hex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}
