//! `commit/<sid>`: how far a session has come. Every commit of the session compares and moves it, so each applies at most
//! once. Leased like the session.

use bytes::Bytes;
use esker_segment::id::{CommitNumber, SegmentNumber, SessionId};
use esker_segment::wire::FormatError;

use super::{decoder, encoder, numbered, parse_numbered};

/// What all keys of the family begin with.
pub const PREFIX: &str = "commit/";
const VERSION: u8 = 1;

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Commit numbers used up: each is in the log, or was voided and never will be.
    pub commits: CommitNumber,
    /// Every segment of the session up to this number is in the log or never will be.
    pub segments: SegmentNumber,
}

/// The key of a session's progress.
#[must_use]
pub fn key(session: SessionId) -> Bytes {
    numbered(PREFIX, session.0)
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<SessionId> {
    parse_numbered(PREFIX, key).map(SessionId)
}

impl Progress {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u64(self.commits.0);
        out.u64(self.segments.0);
        out.finish().into()
    }

    /// The inverse of [`Progress::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("commit counter", VERSION, value)?;
        let this = Self {
            commits: CommitNumber(input.u64()?),
            segments: SegmentNumber(input.u64()?),
        };
        input.finish()?;
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = Progress {
            commits: CommitNumber(258),
            segments: SegmentNumber(3),
        };
        let bytes = this.encode();
        assert_eq!(&bytes[..], b"\x01\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(Progress::decode(&bytes), Ok(this));
        assert_eq!(&key(SessionId(1))[..], b"commit/0000000000000001");
        assert_eq!(parse_key(&key(SessionId(1))), Some(SessionId(1)));
    }
}
