//! `log/head`: put by every commit, so that its version counts them. Log index = base + version; no key, no commit yet.

use bytes::Bytes;
use esker_segment::id::{IncarnationNumber, LogIndex};
use esker_segment::wire::FormatError;

use super::incarnation::Incarnation;
use super::{decoder, encoder};
use crate::store::KeyValue;

/// The key.
pub const KEY: Bytes = Bytes::from_static(b"log/head");
const VERSION: u8 = 1;

/// What each commit of an incarnation puts there, always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The incarnation.
    pub incarnation: IncarnationNumber,
    /// Log index before its first commit.
    pub base: LogIndex,
}

impl Head {
    /// The head of an incarnation.
    #[must_use]
    pub const fn of(incarnation: &Incarnation) -> Self {
        Self {
            incarnation: incarnation.number,
            base: incarnation.base,
        }
    }

    /// The log index of the commit that put the key.
    ///
    /// # Errors
    /// The value is damaged.
    pub fn index(kv: &KeyValue) -> Result<LogIndex, FormatError> {
        let head = Self::decode(&kv.value)?;
        Ok(LogIndex(head.base.0.saturating_add(kv.version)))
    }

    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u32(self.incarnation.0);
        out.u64(self.base.0);
        out.finish().into()
    }

    /// The inverse of [`Head::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("log head", VERSION, value)?;
        let this = Self {
            incarnation: IncarnationNumber(input.u32()?),
            base: LogIndex(input.u64()?),
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
        let this = Head {
            incarnation: IncarnationNumber(1),
            base: LogIndex(7),
        };
        assert_eq!(&this.encode()[..], b"\x01\x01\0\0\0\x07\0\0\0\0\0\0\0");
        assert_eq!(Head::decode(&this.encode()), Ok(this));
    }
}
