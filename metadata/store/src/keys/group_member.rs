//! `group/<shard>/m/<number>`: a member of a group as some generation has it. Written once; a member that changes gets another
//! record under another number, and counts from when the generation's key names that one.

use bytes::Bytes;
use esker_segment::wire::FormatError;

use super::group::{PREFIX, TEXT_BYTES_MAX, in_shard};
use super::{decoder, digits, encoder, parse_digits};

const VERSION: u8 = 1;
/// Most protocols of a member.
const PROTOCOLS_MAX: usize = 1024;
/// Most bytes of metadata or of an assignment.
const DATA_BYTES_MAX: usize = crate::store::TXN_BYTES_MAX;

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its member id.
    pub id: String,
    /// Its `group.instance.id`.
    pub instance: Option<String>,
    /// Client id of its latest join.
    pub client_id: String,
    /// The address it joined from.
    pub client_host: String,
    /// Session time-out in milliseconds.
    pub session_ms: u64,
    /// Rebalance time-out in milliseconds.
    pub rebalance_ms: u64,
    /// Protocols it offers, best first, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// What it is assigned.
    pub assignment: Bytes,
}

/// The key of a record.
#[must_use]
pub fn key(shard: u16, number: u64) -> Bytes {
    let shard = format!("{PREFIX}{shard:04x}/m/");
    Bytes::from([shard.as_bytes(), &digits(number)].concat())
}

/// The inverse of [`key`], for a key of that shard.
#[must_use]
pub fn parse_key(shard: u16, key: &[u8]) -> Option<u64> {
    parse_digits(in_shard(shard, key)?.strip_prefix(b"m/")?)
}

impl Member {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.str(&self.id);
        out.bool(self.instance.is_some());
        if let Some(instance) = &self.instance {
            out.str(instance);
        }
        out.str(&self.client_id);
        out.str(&self.client_host);
        out.varint(self.session_ms);
        out.varint(self.rebalance_ms);
        out.count(self.protocols.len());
        for (name, metadata) in &self.protocols {
            out.str(name);
            out.bytes(metadata);
        }
        out.bytes(&self.assignment);
        out.finish().into()
    }

    /// The inverse of [`Member::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("member of a group", VERSION, value)?;
        let id = input.str("member id", TEXT_BYTES_MAX)?.to_owned();
        let instance = if input.bool()? {
            Some(input.str("instance id", TEXT_BYTES_MAX)?.to_owned())
        } else {
            None
        };
        let mut this = Self {
            id,
            instance,
            client_id: input.str("client id", TEXT_BYTES_MAX)?.to_owned(),
            client_host: input.str("client host", TEXT_BYTES_MAX)?.to_owned(),
            session_ms: input.varint()?,
            rebalance_ms: input.varint()?,
            ..Self::default()
        };
        for _ in 0..input.count("protocols", PROTOCOLS_MAX, 2)? {
            let name = input.str("protocol", TEXT_BYTES_MAX)?.to_owned();
            let metadata = Bytes::copy_from_slice(input.bytes("metadata", DATA_BYTES_MAX)?);
            this.protocols.push((name, metadata));
        }
        this.assignment = Bytes::copy_from_slice(input.bytes("assignment", DATA_BYTES_MAX)?);
        input.finish()?;
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = Member {
            id: "m-1".to_owned(),
            instance: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            session_ms: 300,
            rebalance_ms: 1,
            protocols: vec![("range".to_owned(), Bytes::from_static(b"t"))],
            assignment: Bytes::from_static(b"xy"),
        };
        let bytes = this.encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x03m-1\x01\x01i\x01c\x02/h\xac\x02\x01\x01\x05range\x01t\x02xy"
        );
        assert_eq!(Member::decode(&bytes), Ok(this));
        let dynamic = Member::default();
        assert_eq!(Member::decode(&dynamic.encode()), Ok(dynamic));
        assert_eq!(&key(1, 255)[..], b"group/0001/m/00000000000000ff");
        assert_eq!(parse_key(1, b"group/0001/m/00000000000000ff"), Some(255));
        assert_eq!(parse_key(2, b"group/0001/m/00000000000000ff"), None);
        assert_eq!(parse_key(1, b"group/0001/m/ff"), None);
    }
}
