//! `group/<shard>/w`: how many writes the groups of a shard have seen, and under which claim. Every write compares what the one
//! before left here, so that each happens once, in order, however often it is sent.

use bytes::Bytes;
use esker_segment::wire::FormatError;

use super::group::PREFIX;
use super::{decoder, encoder};
use crate::store::Revision;

const VERSION: u8 = 1;

/// The last write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Create revision of `own/<shard>` under which it was made.
    pub claim: Revision,
    /// How many there were.
    pub count: u64,
    /// The number that the next member record gets.
    pub next: u64,
}

/// The key of a shard.
#[must_use]
pub fn key(shard: u16) -> Bytes {
    Bytes::from(format!("{PREFIX}{shard:04x}/w"))
}

impl Writes {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u64(self.claim.0);
        out.u64(self.count);
        out.u64(self.next);
        out.finish().into()
    }

    /// The inverse of [`Writes::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("writes of groups", VERSION, value)?;
        let this = Self {
            claim: Revision(input.u64()?),
            count: input.u64()?,
            next: input.u64()?,
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
        let this = Writes {
            claim: Revision(7),
            count: 2,
            next: 9,
        };
        let bytes = this.encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0"
        );
        assert_eq!(Writes::decode(&bytes), Ok(this));
        assert_eq!(&key(10)[..], b"group/000a/w");
    }
}
