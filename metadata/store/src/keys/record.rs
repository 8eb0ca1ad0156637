//! `log/e/<sid>/<n>`: a commit record, the entries of the n-th commit of a session. `esker-model` encodes the value.

use bytes::Bytes;
use esker_segment::id::{CommitNumber, SessionId};

use super::{DIGITS, digits, parse_digits};

/// What all keys of the family begin with.
pub const PREFIX: &str = "log/e/";
/// Most bytes of a record.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// The key of a record.
#[must_use]
pub fn key(session: SessionId, number: CommitNumber) -> Bytes {
    Bytes::from([PREFIX.as_bytes(), &digits(session.0), b"/", &digits(number.0)].concat())
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<(SessionId, CommitNumber)> {
    let (session, rest) = key.strip_prefix(PREFIX.as_bytes())?.split_at_checked(DIGITS)?;
    Some((
        SessionId(parse_digits(session)?),
        CommitNumber(parse_digits(rest.strip_prefix(b"/")?)?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = key(SessionId(16), CommitNumber(255));
        assert_eq!(&this[..], b"log/e/0000000000000010/00000000000000ff");
        assert_eq!(parse_key(&this), Some((SessionId(16), CommitNumber(255))));
        assert_eq!(parse_key(b"log/e/0000000000000010"), None);
        assert_eq!(parse_key(b"log/head"), None);
    }
}
