//! Newtypes for the ids, offsets and counters that formats and the fold share.
//!
//! Owns: the types and their plain conversions. Adding two offsets does not compile; an offset plus a count of
//! records does.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Offset of a record within its partition.
    Offset(i64)
);
number!(
    /// Index of a partition within its topic.
    PartitionIndex(u32)
);
number!(
    /// Id of a producer, granted in blocks by `ProducerIds` entries.
    ProducerId(i64)
);
number!(
    /// Epoch of a producer id.
    ProducerEpoch(i16)
);
number!(
    /// Sequence number of a record of an idempotent producer; wraps from `i32::MAX` to 0.
    Sequence(i32)
);
number!(
    /// Dense position of a commit in the log: the first commit of a cluster has index 1.
    LogIndex(u64)
);
number!(
    /// Id of one running process; never reused within an incarnation.
    SessionId(u64)
);
number!(
    /// Which commit of its session a commit is; the first is 1.
    CommitNumber(u64)
);
number!(
    /// Number of this life of the cluster. It is also every partition's leader epoch.
    IncarnationNumber(u32)
);
number!(
    /// Milliseconds since the Unix epoch, as records carry them; -1 means none.
    Timestamp(i64)
);

/// Id of a topic: 128 random bits, never reused, shown as Kafka shows a UUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

/// A partition of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl Offset {
    /// The offset `records` after this one; saturates at `i64::MAX`.
    #[must_use]
    pub const fn plus(self, records: u32) -> Self {
        Self(self.0.saturating_add(records as i64))
    }
}

impl Sequence {
    /// The sequence `records` after this one, wrapping from `i32::MAX` to 0 as Kafka does.
    #[must_use]
    pub fn plus(self, records: u32) -> Self {
        let sum = (i64::from(self.0) + i64::from(records)) % (i64::from(i32::MAX) + 1);
        Self(i32::try_from(sum).expect("a remainder of 2^31 fits"))
    }
}

impl fmt::Display for TopicId {
    /// URL-safe base64 without padding, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 128 bits are 21 full groups of six and one of two, which is shifted up.
        for group in 0..21 {
            let bits = (self.0 >> (122 - group * 6)) & 63;
            let letter = ALPHABET[usize::try_from(bits).expect("six bits")];
            write!(f, "{}", char::from(letter))?;
        }
        let last = ALPHABET[usize::try_from((self.0 & 3) << 4).expect("six bits")];
        write!(f, "{}", char::from(last))
    }
}
