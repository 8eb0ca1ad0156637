//! Newtypes for the ids, offsets and counters that formats and the fold share.
//!
//! Owns: the types and their plain conversions. Adding two offsets does not compile; an offset plus a count of
//! records does.

use std::fmt;
use std::str::FromStr;

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
    /// Which segment of its session a segment is, in flush order; the first is 1.
    SegmentNumber(u64)
);
number!(
    /// Number of this life of the cluster. It is also every partition's leader epoch.
    IncarnationNumber(u32)
);
number!(
    /// Milliseconds since the Unix epoch, as records carry them; -1 means none.
    Timestamp(i64)
);

/// Random id of one life of a cluster: tells a clone of the coordination store from the original.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncarnationId(pub u128);

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

impl fmt::Display for IncarnationId {
    /// 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Why a text is not a topic id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic id is 22 characters of URL-safe base64")]
pub struct NotATopicId;

/// URL-safe base64, as Kafka shows ids.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl FromStr for TopicId {
    type Err = NotATopicId;

    fn from_str(text: &str) -> Result<Self, NotATopicId> {
        let [first @ .., last] = text.as_bytes() else {
            return Err(NotATopicId);
        };
        if first.len() != 21 {
            return Err(NotATopicId);
        }
        let digit = |letter: &u8| {
            let at = ALPHABET.iter().position(|known| known == letter).ok_or(NotATopicId)?;
            Ok(u128::try_from(at).expect("below 64"))
        };
        let mut bits = 0_u128;
        for letter in first {
            bits = bits << 6 | digit(letter)?;
        }
        // The last letter carries two bits; the other four are padding and must be zero.
        let last = digit(last)?;
        if last & 15 != 0 {
            return Err(NotATopicId);
        }
        Ok(Self(bits << 2 | last >> 4))
    }
}

impl fmt::Display for TopicId {
    /// URL-safe base64 without padding, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

#[cfg(test)]
mod tests {
    //! Text forms of ids, and arithmetic at the edges.

    use proptest::prelude::*;

    use super::{NotATopicId, Offset, Sequence, TopicId};

    proptest! {
        #[test]
        fn a_topic_id_is_read_as_it_is_shown(bits in any::<u128>()) {
            let text = TopicId(bits).to_string();
            prop_assert_eq!(text.len(), 22);
            prop_assert_eq!(text.parse(), Ok(TopicId(bits)));
        }

        #[test]
        fn a_text_that_parses_is_the_only_text_of_its_id(text in "[A-Za-z0-9_-]{21,23}") {
            if let Ok(id) = text.parse::<TopicId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn a_topic_id_is_shown_as_kafka_shows_a_uuid() {
        // org.apache.kafka.common.Uuid(0x0123456789abcdefL, 0xfedcba9876543210L).toString()
        let id = TopicId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!("ASNFZ4mrze_-3LqYdlQyEB".parse::<TopicId>(), Err(NotATopicId));
        assert_eq!("".parse::<TopicId>(), Err(NotATopicId));
    }

    #[test]
    fn a_sequence_wraps_to_zero_and_an_offset_does_not_wrap() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Offset(i64::MAX).plus(1), Offset(i64::MAX));
    }
}
