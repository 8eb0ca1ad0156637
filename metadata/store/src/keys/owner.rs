//! `own/<shard>`: which session coordinates a shard of groups and transactional ids. Leased like the session; what the
//! coordinator writes compares the create revision.

use bytes::Bytes;
use esker_segment::id::SessionId;
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// What all keys of the family begin with.
pub const PREFIX: &str = "own/";
const VERSION: u8 = 1;
/// Digits of a shard in its key.
pub(super) const SHARD_DIGITS: usize = 4;

/// The key of a shard; four hex digits.
#[must_use]
pub fn key(shard: u16) -> Bytes {
    Bytes::from(format!("{PREFIX}{shard:04x}"))
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
    let canonical = text.len() == SHARD_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u16::from_str_radix(text, 16).ok().filter(|_| canonical)
}

/// The value.
#[must_use]
pub fn encode(owner: SessionId) -> Bytes {
    let mut out = encoder(VERSION);
    out.u64(owner.0);
    out.finish().into()
}

/// The inverse of [`encode`].
///
/// # Errors
/// What is wrong with the value.
pub fn decode(value: &[u8]) -> Result<SessionId, FormatError> {
    let mut input = decoder("shard owner", VERSION, value)?;
    let owner = SessionId(input.u64()?);
    input.finish()?;
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        assert_eq!(&encode(SessionId(5))[..], b"\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(decode(&encode(SessionId(5))), Ok(SessionId(5)));
        assert_eq!(&key(63)[..], b"own/003f");
        assert_eq!(parse_key(b"own/003f"), Some(63));
        assert_eq!(parse_key(b"own/3f"), None);
        assert_eq!(parse_key(b"own/003F"), None);
    }
}
