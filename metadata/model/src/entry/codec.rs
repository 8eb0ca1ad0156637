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
/// What most bodies fit into, and what a batch adds to one.
const BODY_BYTES: usize = 128;
const BATCH_BYTES: usize = 16;
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

/// The bytes of a record in the making: each entry is encoded once, when it comes.
#[derive(Clone, Debug)]
pub struct RecordBuilder {
    out: Encoder,
    entries: u8,
}

/// Where the number of entries stands in a record: it is small enough for one byte.
const COUNT_AT: usize = 1;
const _: () = assert!(ENTRIES_MAX < 0x80);

impl Default for RecordBuilder {
    fn default() -> Self {
        let mut out = Encoder::with_capacity(256);
        out.u8(VERSION);
        out.u8(0);
        Self { out, entries: 0 }
    }
}

impl RecordBuilder {
    /// Adds entries, at least one: all of them or none.
    ///
    /// # Errors
    /// `NotEncodable` when a limit of the format is exceeded.
    pub fn push(&mut self, entries: &[Entry]) -> Result<(), NotEncodable> {
        let count = usize::from(self.entries) + entries.len();
        let total = u8::try_from(count)
            .ok()
            .filter(|_| !entries.is_empty() && count <= ENTRIES_MAX);
        let total = total.ok_or(NotEncodable::Entries(count))?;
        let before = self.out.len();
        let encoded = entries.iter().try_for_each(|entry| {
            entry.check()?;
            entry.encode(&mut self.out);
            match self.out.len() {
                bytes if bytes > RECORD_BYTES_MAX => Err(NotEncodable::Bytes(bytes)),
                _ => Ok(()),
            }
        });
        match encoded {
            Ok(()) => self.entries = total,
            Err(_) => self.out.truncate(before),
        }
        encoded
    }

    /// The bytes of the record.
    ///
    /// # Panics
    /// When there is no entry.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        assert!(self.entries > 0, "a record has entries");
        let mut bytes = self.out.finish();
        bytes[COUNT_AT] = self.entries;
        bytes
    }
}

impl CommitRecord {
    /// The bytes of the record.
    ///
    /// # Errors
    /// `NotEncodable` when a limit of the format is exceeded.
    pub fn encode(&self) -> Result<Vec<u8>, NotEncodable> {
        let mut record = RecordBuilder::default();
        record.push(&self.entries)?;
        Ok(record.finish())
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
        let mut body = Encoder::with_capacity(match self {
            Self::Segment(segment) => BODY_BYTES + segment.index.batches() * BATCH_BYTES,
            _ => BODY_BYTES,
        });
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
