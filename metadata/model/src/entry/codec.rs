//! Bytes of commit records (`docs/formats/commit-record.md`).
//!
//! Owns: the frame of a record: version, count, per entry kind, level, length, body.
//! Does not own: the bodies (`body`).
//!
//! Invariants: decoding is bounded by the input; a record that decodes can be written again. An entry whose body does
//! not decode becomes `Opaque` and its neighbours are not affected; only a broken frame spoils the record.

use bytes::Bytes;
use esker_segment::wire::{Decoder, Encoder, FormatError};

use super::body::{decode_body, encode_body};
use super::{
    CommitRecord, ENTRIES_MAX, Entry, GROUP_ID_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, OffsetAction, Opaque,
    RECORD_BYTES_MAX, TOPIC_NAME_BYTES_MAX, ZONE_BYTES_MAX,
};

/// Version of the frame.
const VERSION: u8 = 1;
/// Fewest bytes of an entry: kind, level, length.
const ENTRY_BYTES_MIN: usize = 3;

/// Why bytes are not a commit record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRecord {
    /// Longer than any record may be.
    #[error("a record of {bytes} bytes is longer than the limit")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A frame of another version. The version of the frame never changes while a cluster lives.
    #[error("unknown record version {0}")]
    Version(u8),
    /// The frame is broken.
    #[error("malformed record: {0}")]
    Frame(#[from] FormatError),
}

/// Why a record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEncodable {
    /// No entry, or more than 32.
    #[error("a record of {0} entries")]
    Entries(usize),
    /// More than 1 MiB.
    #[error("a record of {0} bytes")]
    Bytes(usize),
    /// A text above its limit.
    #[error("{what} of {bytes} bytes")]
    Text {
        /// Which field.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The batch index breaks its invariants.
    #[error("batch index is not valid")]
    Index,
}

/// Feature level of all kinds so far.
pub(crate) const FIRST_LEVEL: u16 = 1;

impl CommitRecord {
    /// The bytes of the record.
    ///
    /// # Errors
    /// `NotEncodable` when a limit of the format is exceeded.
    pub fn encode(&self) -> Result<Vec<u8>, NotEncodable> {
        if self.entries.is_empty() || self.entries.len() > ENTRIES_MAX {
            return Err(NotEncodable::Entries(self.entries.len()));
        }
        let mut out = Encoder::with_capacity(256);
        out.u8(VERSION);
        out.count(self.entries.len());
        for entry in &self.entries {
            entry.check()?;
            entry.encode(&mut out);
        }
        if out.len() > RECORD_BYTES_MAX {
            return Err(NotEncodable::Bytes(out.len()));
        }
        Ok(out.finish())
    }

    /// Reads a record. Entries that do not decode are `Opaque`.
    ///
    /// # Errors
    /// `MalformedRecord` when the frame itself is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(MalformedRecord::TooLong { bytes: bytes.len() });
        }
        let mut input = Decoder::new(bytes);
        let version = input.u8()?;
        if version != VERSION {
            return Err(MalformedRecord::Version(version));
        }
        let count = input.count("entries of a record", ENTRIES_MAX, ENTRY_BYTES_MIN)?;
        if count == 0 {
            return Err(FormatError::Invalid {
                what: "record without entries",
            }
            .into());
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry::decode(&mut input)?);
        }
        input.finish()?;
        Ok(Self { entries })
    }
}

impl Entry {
    /// Feature level that one needs to read and apply the entry.
    #[must_use]
    pub fn level(&self) -> u16 {
        match self {
            Self::Opaque(opaque) => opaque.level,
            Self::FeatureLevel(wanted) => wanted.level,
            _ => FIRST_LEVEL,
        }
    }

    /// Bytes that the entry takes in a record; what a committer needs to fill a record to its limit.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.len()
    }

    fn check(&self) -> Result<(), NotEncodable> {
        let text = |what, text: &str, max| {
            if text.len() > max {
                Err(NotEncodable::Text {
                    what,
                    bytes: text.len(),
                })
            } else {
                Ok(())
            }
        };
        match self {
            Self::Segment(segment) => {
                segment.index.check().map_err(|_| NotEncodable::Index)?;
                text("zone", &segment.zone, ZONE_BYTES_MAX)
            }
            Self::TopicCreate(create) => text("topic name", &create.name, TOPIC_NAME_BYTES_MAX),
            Self::Offsets(offsets) => {
                text("group id", &offsets.group, GROUP_ID_BYTES_MAX)?;
                offsets.changes.iter().try_for_each(|change| match &change.action {
                    OffsetAction::Commit(commit) => {
                        text("offset metadata", &commit.metadata, OFFSET_METADATA_BYTES_MAX)
                    }
                    OffsetAction::Delete | OffsetAction::Expire { .. } => Ok(()),
                })
            }
            _ => Ok(()),
        }
    }

    /// Appends kind, level, length and body.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        let mut body = Encoder::new();
        let (kind, level) = encode_body(self, &mut body);
        out.u8(kind);
        out.varint(u64::from(level));
        out.bytes(body.as_slice());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let kind = input.u8()?;
        let level = input.varint()?;
        let level = u16::try_from(level).map_err(|_| FormatError::OverLimit {
            what: "feature level of entry",
            found: level,
            max: u64::from(u16::MAX),
        })?;
        let body = input.bytes("entry", RECORD_BYTES_MAX)?;
        let known = if level == FIRST_LEVEL {
            decode_body(kind, body).ok().flatten()
        } else {
            None
        };
        Ok(known.unwrap_or_else(|| {
            Self::Opaque(Opaque {
                kind,
                level,
                body: Bytes::copy_from_slice(body),
            })
        }))
    }
}
