//! `void/<sid>`: the last commit number of a session that was used up without a record, because the commit was refused.
//!
//! It tells a refused commit whose number was voided from one whose earlier, unanswered attempt got through after all.
//! Leased like the session.

use bytes::Bytes;
use esker_segment::id::{CommitNumber, SessionId};
use esker_segment::wire::FormatError;

use super::{decoder, encoder, numbered};

/// What all keys of the family begin with.
pub const PREFIX: &str = "void/";
const VERSION: u8 = 1;

/// The key of a session's last voided number.
#[must_use]
pub fn key(session: SessionId) -> Bytes {
    numbered(PREFIX, session.0)
}

/// The value.
#[must_use]
pub fn encode(number: CommitNumber) -> Bytes {
    let mut out = encoder(VERSION);
    out.u64(number.0);
    out.finish().into()
}

/// The inverse of [`encode`].
///
/// # Errors
/// What is wrong with the value.
pub fn decode(value: &[u8]) -> Result<CommitNumber, FormatError> {
    let mut input = decoder("voided commit", VERSION, value)?;
    let number = CommitNumber(input.u64()?);
    input.finish()?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        assert_eq!(&encode(CommitNumber(5))[..], b"\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(decode(&encode(CommitNumber(5))), Ok(CommitNumber(5)));
        assert_eq!(&key(SessionId(1))[..], b"void/0000000000000001");
    }
}
