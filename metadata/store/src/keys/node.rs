//! `node/<id>`: which process has a Kafka node id. Leased like its session. `address/<host:port>` remembers, for ever, which id
//! an advertised address had last, so that a process that comes back gets it again.

use bytes::Bytes;
use esker_segment::wire::FormatError;

use super::{decoder, encoder, numbered, parse_numbered};

/// What all keys of the family begin with.
pub const PREFIX: &str = "node/";
/// What all keys of remembered addresses begin with.
pub const ADDRESS_PREFIX: &str = "address/";
const VERSION: u8 = 1;
/// Most bytes of an address.
const ADDRESS_BYTES_MAX: usize = 300;

/// Who has a node id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeClaim {
    /// The address that clients are told.
    pub address: String,
    /// A random number of the process, so that it knows its own claims of a lost session.
    pub process: u64,
}

/// The key of a node id, which is never negative.
#[must_use]
pub fn key(node: i32) -> Bytes {
    numbered(PREFIX, u64::from(node.unsigned_abs()))
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<i32> {
    parse_numbered(PREFIX, key).and_then(|number| i32::try_from(number).ok())
}

/// The key of a remembered address.
#[must_use]
pub fn address_key(address: &str) -> Bytes {
    Bytes::from(format!("{ADDRESS_PREFIX}{address}"))
}

/// The value of a remembered address.
#[must_use]
pub fn encode_id(node: i32) -> Bytes {
    let mut out = encoder(VERSION);
    out.u32(node.cast_unsigned());
    out.finish().into()
}

/// The inverse of [`encode_id`].
///
/// # Errors
/// What is wrong with the value.
pub fn decode_id(value: &[u8]) -> Result<i32, FormatError> {
    let mut input = decoder("node id", VERSION, value)?;
    let node = input.u32()?.cast_signed();
    input.finish()?;
    Ok(node)
}

impl NodeClaim {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u64(self.process);
        out.str(&self.address);
        out.finish().into()
    }

    /// The inverse of [`NodeClaim::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("node claim", VERSION, value)?;
        let process = input.u64()?;
        let address = input.str("address", ADDRESS_BYTES_MAX)?.to_owned();
        input.finish()?;
        Ok(Self { address, process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let claim = NodeClaim {
            address: "h:1".to_owned(),
            process: 5,
        };
        assert_eq!(&claim.encode()[..], b"\x01\x05\0\0\0\0\0\0\0\x03h:1");
        assert_eq!(NodeClaim::decode(&claim.encode()), Ok(claim));
        assert_eq!(&key(3)[..], b"node/0000000000000003");
        assert_eq!(parse_key(&key(3)), Some(3));
        assert_eq!(parse_key(b"node/ffffffffffffffff"), None);
        assert_eq!(&address_key("h:1")[..], b"address/h:1");
        assert_eq!(&encode_id(3)[..], b"\x01\x03\0\0\0");
        assert_eq!(decode_id(&encode_id(3)), Ok(3));
    }
}
