//! `published/<sid>`: how far the objects that a session wrote beside segments have come. Every publication of the session
//! compares and moves it, so that what a live session has under way is told from what it has given up. Leased like the
//! session.

use bytes::Bytes;
use esker_segment::id::{SegmentNumber, SessionId};
use esker_segment::wire::FormatError;

use super::{decoder, encoder, numbered, parse_numbered};

/// What all keys of the family begin with.
pub const PREFIX: &str = "published/";
const VERSION: u8 = 1;

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

/// The value: each object of the session up to this number is named by a root, or never will be by a later one.
#[must_use]
pub fn encode(through: SegmentNumber) -> Bytes {
    let mut out = encoder(VERSION);
    out.u64(through.0);
    out.finish().into()
}

/// The inverse of [`encode`].
///
/// # Errors
/// What is wrong with the value.
pub fn decode(value: &[u8]) -> Result<SegmentNumber, FormatError> {
    let mut input = decoder("publication counter", VERSION, value)?;
    let through = SegmentNumber(input.u64()?);
    input.finish()?;
    Ok(through)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        assert_eq!(&encode(SegmentNumber(5))[..], b"\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(decode(&encode(SegmentNumber(5))), Ok(SegmentNumber(5)));
        assert_eq!(&key(SessionId(1))[..], b"published/0000000000000001");
        assert_eq!(parse_key(&key(SessionId(1))), Some(SessionId(1)));
    }
}
