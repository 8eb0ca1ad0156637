//! `counter/session`: the last session id that was given out. Ids are never used twice.

use bytes::Bytes;
use esker_segment::id::SessionId;
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// The key.
pub const KEY: Bytes = Bytes::from_static(b"counter/session");
const VERSION: u8 = 1;

/// The value.
#[must_use]
pub fn encode(last: SessionId) -> Bytes {
    let mut out = encoder(VERSION);
    out.u64(last.0);
    out.finish().into()
}

/// The inverse of [`encode`].
///
/// # Errors
/// What is wrong with the value.
pub fn decode(value: &[u8]) -> Result<SessionId, FormatError> {
    let mut input = decoder("session counter", VERSION, value)?;
    let last = SessionId(input.u64()?);
    input.finish()?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        assert_eq!(&encode(SessionId(1))[..], b"\x01\x01\0\0\0\0\0\0\0");
        assert_eq!(decode(&encode(SessionId(1))), Ok(SessionId(1)));
    }
}
