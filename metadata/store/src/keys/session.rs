//! `session/<sid>`: one running process. Leased; gone when the process is.

use bytes::Bytes;
use esker_segment::id::SessionId;
use esker_segment::wire::{Decoder, Encoder, FormatError};

use super::{decoder, encoder, numbered, parse_numbered};

/// What all keys of the family begin with.
pub const PREFIX: &str = "session/";
const VERSION: u8 = 1;
/// Most bytes of a name, host, zone or version.
const TEXT_BYTES_MAX: usize = 255;
/// Most endpoints of a process.
const ENDPOINTS_MAX: usize = 64;
/// Fewest bytes of an endpoint.
const ENDPOINT_BYTES_MIN: usize = 4;

/// What a process says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The Kafka node id.
    pub node_id: i32,
    /// Its availability zone; empty for none.
    pub zone: String,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// The software it runs.
    pub version: String,
    /// How busy it is, 0 to 1000.
    pub load_permille: u16,
    /// Whether it is going away and must not be given new work.
    pub draining: bool,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the listener; `peer` is the one for other agents.
    pub listener: String,
    /// Host as clients are told it.
    pub host: String,
    /// Port as clients are told it.
    pub port: u16,
}

/// The key of a session.
#[must_use]
pub fn key(session: SessionId) -> Bytes {
    numbered(PREFIX, session.0)
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<SessionId> {
    parse_numbered(PREFIX, key).map(SessionId)
}

impl SessionInfo {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u32(self.node_id.cast_unsigned());
        out.str(&self.zone);
        out.str(&self.version);
        out.u16(self.load_permille);
        out.bool(self.draining);
        out.count(self.endpoints.len());
        for endpoint in &self.endpoints {
            endpoint.encode(&mut out);
        }
        out.finish().into()
    }

    /// The inverse of [`SessionInfo::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("session", VERSION, value)?;
        let mut this = Self {
            node_id: input.u32()?.cast_signed(),
            zone: input.str("zone", TEXT_BYTES_MAX)?.to_owned(),
            version: input.str("version", TEXT_BYTES_MAX)?.to_owned(),
            load_permille: input.u16()?,
            draining: input.bool()?,
            endpoints: Vec::new(),
        };
        for _ in 0..input.count("endpoints", ENDPOINTS_MAX, ENDPOINT_BYTES_MIN)? {
            this.endpoints.push(Endpoint::decode(&mut input)?);
        }
        input.finish()?;
        Ok(this)
    }
}

impl Endpoint {
    fn encode(&self, out: &mut Encoder) {
        out.str(&self.listener);
        out.str(&self.host);
        out.u16(self.port);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            listener: input.str("listener", TEXT_BYTES_MAX)?.to_owned(),
            host: input.str("host", TEXT_BYTES_MAX)?.to_owned(),
            port: input.u16()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = SessionInfo {
            node_id: 7,
            zone: "a".to_owned(),
            endpoints: vec![Endpoint {
                listener: "k".to_owned(),
                host: "h".to_owned(),
                port: 9092,
            }],
            version: "1".to_owned(),
            load_permille: 500,
            draining: true,
        };
        let bytes = this.encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x07\0\0\0\x01a\x011\xf4\x01\x01\x01\x01k\x01h\x84\x23"
        );
        assert_eq!(SessionInfo::decode(&bytes), Ok(this));
        assert_eq!(&key(SessionId(10))[..], b"session/000000000000000a");
        assert_eq!(parse_key(&key(SessionId(10))), Some(SessionId(10)));
    }

    #[test]
    fn a_count_of_endpoints_beyond_the_bytes_is_refused() {
        let mut bytes = SessionInfo::default().encode().to_vec();
        *bytes.last_mut().unwrap() = 50;
        assert!(matches!(
            SessionInfo::decode(&bytes),
            Err(FormatError::Truncated { .. })
        ));
    }
}
