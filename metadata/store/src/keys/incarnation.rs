//! `incarnation`: which life of the cluster this is. Written once by bootstrap, anew by recovery.

use bytes::Bytes;
use esker_segment::id::{IncarnationNumber, LogIndex};
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// The key.
pub const KEY: Bytes = Bytes::from_static(b"incarnation");
const VERSION: u8 = 1;

/// One life of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// 1 for a new cluster; recovery adds one. It is every partition's leader epoch.
    pub number: IncarnationNumber,
    /// Random, so that a cluster cloned from a backup is told from its original.
    pub id: u128,
    /// Log index before the first commit of this incarnation; 0 for a new cluster.
    pub base: LogIndex,
}

impl Incarnation {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u32(self.number.0);
        out.u128(self.id);
        out.u64(self.base.0);
        out.finish().into()
    }

    /// The inverse of [`Incarnation::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("incarnation", VERSION, value)?;
        let this = Self {
            number: IncarnationNumber(input.u32()?),
            id: input.u128()?,
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
        let this = Incarnation {
            number: IncarnationNumber(2),
            id: 0x0f,
            base: LogIndex(9),
        };
        let bytes = this.encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x02\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0"
        );
        assert_eq!(Incarnation::decode(&bytes), Ok(this));
        assert!(Incarnation::decode(&bytes[..28]).is_err());
    }
}
