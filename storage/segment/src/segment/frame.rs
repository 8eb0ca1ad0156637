//! What stands around the batches of a segment: header, order list, footer.
//!
//! Owns: their byte layouts and checksums.

use crate::checksum::expect_crc;
use crate::id::{CommitNumber, IncarnationId, IncarnationNumber, LogIndex, SegmentNumber, SessionId};
use crate::segment::{SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_VERSION};
use crate::wire::{Decoder, Encoder, FormatError};

const HEADER_MAGIC: &[u8; 8] = b"ESKERSEG";
const FOOTER_MAGIC: &[u8; 8] = b"ESKEREND";
const FLAG_MERGED: u16 = 1;
/// Bytes of the header that its CRC covers.
const HEADER_COVERED: usize = 60;
/// Bytes of the footer that its CRC covers, after index and order list.
const FOOTER_COVERED: usize = 52;
const FOOTER_BYTES: usize = 64;

/// First bytes of a segment: who wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The incarnation in which it was written.
    pub incarnation: IncarnationNumber,
    /// Its random id, so that a clone of the cluster is told from the original.
    pub incarnation_id: IncarnationId,
    /// The session of its writer.
    pub session: SessionId,
    /// Which segment of the session it is.
    pub number: SegmentNumber,
}

impl SegmentHeader {
    pub(super) fn encode(&self, merged: bool, out: &mut Encoder) {
        let mut header = Encoder::with_capacity(HEADER_COVERED);
        header.raw(HEADER_MAGIC);
        header.u16(SEGMENT_VERSION);
        header.u16(if merged { FLAG_MERGED } else { 0 });
        header.u32(self.incarnation.0);
        header.u128(self.incarnation_id.0);
        header.u64(self.session.0);
        header.u64(self.number.0);
        header.raw(&[0; 12]);
        let crc = crate::checksum::crc32c(header.as_slice());
        out.raw(header.as_slice());
        out.u32(crc);
    }

    /// Reads the first 64 bytes of a segment; also says whether it is a merged one.
    ///
    /// # Errors
    /// `Truncated`, `Magic`, `Version`, `Checksum`, `Invalid`.
    pub fn decode(bytes: &[u8]) -> Result<(Self, bool), FormatError> {
        let header = Decoder::new(bytes).raw(as_len(SEGMENT_HEADER_BYTES))?;
        let mut input = Decoder::new(header);
        if input.raw(8)? != HEADER_MAGIC {
            return Err(FormatError::Magic { what: "segment" });
        }
        let merged = version_and_flags(&mut input)?;
        let decoded = Self {
            incarnation: IncarnationNumber(input.u32()?),
            incarnation_id: IncarnationId(input.u128()?),
            session: SessionId(input.u64()?),
            number: SegmentNumber(input.u64()?),
        };
        if input.raw(12)? != [0; 12] {
            return Err(FormatError::Invalid {
                what: "reserved bytes of segment header",
            });
        }
        expect_crc("segment header", input.u32()?, &header[..HEADER_COVERED])?;
        Ok((decoded, merged))
    }
}

fn version_and_flags(input: &mut Decoder<'_>) -> Result<bool, FormatError> {
    let found = input.u16()?;
    if found != SEGMENT_VERSION {
        return Err(FormatError::Version {
            what: "segment",
            found,
            known: SEGMENT_VERSION,
        });
    }
    match input.u16()? {
        0 => Ok(false),
        FLAG_MERGED => Ok(true),
        _ => Err(FormatError::Invalid {
            what: "flags of segment",
        }),
    }
}

/// A commit and the log index it got, as the writer of a segment saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    /// The session that committed.
    pub session: SessionId,
    /// Which commit of that session.
    pub commit: CommitNumber,
    /// Where it stands in the log.
    pub index: LogIndex,
    /// The segments of that session that it brought, which are numbered without a gap.
    pub segments: SegmentSpan,
}

/// Consecutive segments of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSpan {
    /// The first; 0 when there are none.
    pub first: SegmentNumber,
    /// How many.
    pub count: u32,
}

impl SegmentSpan {
    /// Extends the span by a segment.
    pub fn push(&mut self, number: SegmentNumber) {
        if self.count == 0 {
            self.first = number;
        }
        self.count += 1;
    }

    /// Their numbers.
    pub fn numbers(self) -> impl Iterator<Item = SegmentNumber> {
        (0..u64::from(self.count)).map(move |nth| SegmentNumber(self.first.0.wrapping_add(nth)))
    }
}

/// The commits that the writer of a segment has folded since its segment before, ascending by log index. All segments
/// together say the order of the log without the coordination store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderList {
    /// Ascending by log index.
    pub commits: Vec<Ordered>,
}

/// Fewest bytes of an entry of the list.
const ORDERED_BYTES_MIN: usize = 4;

impl OrderList {
    /// Appends the list, each entry relative to the one before.
    ///
    /// # Panics
    /// When log indexes do not ascend.
    pub fn encode(&self, out: &mut Encoder) {
        out.count(self.commits.len());
        let mut last = Ordered::default();
        for commit in &self.commits {
            assert!(commit.index > last.index, "log indexes ascend and begin at 1");
            out.varint(commit.index.0 - last.index.0);
            out.zigzag(commit.session.0.wrapping_sub(last.session.0).cast_signed());
            out.zigzag(commit.commit.0.wrapping_sub(last.commit.0).cast_signed());
            out.varint(u64::from(commit.segments.count));
            if commit.segments.count > 0 {
                out.varint(commit.segments.first.0);
            }
            last = *commit;
        }
    }

    /// The inverse of [`OrderList::encode`].
    ///
    /// # Errors
    /// Any `FormatError` of decoding.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let count = input.count("commits in order list", usize::MAX, ORDERED_BYTES_MIN)?;
        let mut commits = Vec::with_capacity(count);
        let mut last = Ordered::default();
        for _ in 0..count {
            let step = input.varint()?;
            let index = last.index.0.checked_add(step).filter(|_| step > 0);
            last = Ordered {
                index: LogIndex(index.ok_or(FormatError::Invalid {
                    what: "order of commits",
                })?),
                session: SessionId(last.session.0.wrapping_add(input.zigzag()?.cast_unsigned())),
                commit: CommitNumber(last.commit.0.wrapping_add(input.zigzag()?.cast_unsigned())),
                segments: SegmentSpan::default(),
            };
            last.segments.count = input.varint_u32("segments of a commit")?;
            if last.segments.count > 0 {
                last.segments.first = SegmentNumber(input.varint()?);
            }
            commits.push(last);
        }
        Ok(Self { commits })
    }
}

/// Last bytes of a segment: where its index lies, and what proves the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// First byte of the index; all batches lie before it.
    pub index_position: u64,
    /// Bytes of the index.
    pub index_bytes: u32,
    /// Bytes of the order list, which follows the index.
    pub order_bytes: u32,
    /// Number of runs (or slices).
    pub runs: u32,
    /// Number of batches.
    pub batches: u32,
    /// Number of offsets that the batches take.
    pub records: u64,
    /// XXH3-128 of the index.
    pub content_hash: u128,
    /// Whether the index is that of a merged segment.
    pub merged: bool,
    /// CRC-32C of index, order list and the footer up to here.
    pub(super) crc: u32,
}

impl Footer {
    /// Appends the 64 bytes; `tail` is index and order list.
    pub(super) fn encode(&self, tail: &[u8], out: &mut Encoder) {
        let mut footer = Encoder::with_capacity(as_len(SEGMENT_FOOTER_BYTES));
        footer.u64(self.index_position);
        footer.u32(self.index_bytes);
        footer.u32(self.order_bytes);
        footer.u32(self.runs);
        footer.u32(self.batches);
        footer.u64(self.records);
        footer.u128(self.content_hash);
        footer.u16(SEGMENT_VERSION);
        footer.u16(if self.merged { FLAG_MERGED } else { 0 });
        let crc = crate::checksum::crc32c(&[tail, footer.as_slice()].concat());
        footer.u32(crc);
        footer.raw(FOOTER_MAGIC);
        out.raw(footer.as_slice());
    }

    /// Reads the last 64 bytes of an object of `object_bytes`. The CRC is checked by [`super::SegmentTail::decode`].
    ///
    /// # Errors
    /// `Truncated`, `Magic`, `Version`, `Invalid` when the parts do not add up to the object.
    pub fn decode(last_bytes: &[u8], object_bytes: u64) -> Result<Self, FormatError> {
        let Some((_, last_bytes)) = last_bytes.split_last_chunk::<FOOTER_BYTES>() else {
            let left = u64::try_from(last_bytes.len()).expect("a length fits 64 bits");
            return Err(FormatError::Truncated {
                needed: SEGMENT_FOOTER_BYTES,
                left,
            });
        };
        let mut input = Decoder::new(last_bytes);
        let mut footer = Self {
            index_position: input.u64()?,
            index_bytes: input.u32()?,
            order_bytes: input.u32()?,
            runs: input.u32()?,
            batches: input.u32()?,
            records: input.u64()?,
            content_hash: input.u128()?,
            merged: false,
            crc: 0,
        };
        if !last_bytes.ends_with(FOOTER_MAGIC) {
            return Err(FormatError::Magic { what: "segment" });
        }
        footer.merged = version_and_flags(&mut input)?;
        footer.crc = input.u32()?;
        let rest = u64::from(footer.index_bytes) + u64::from(footer.order_bytes) + SEGMENT_FOOTER_BYTES;
        let total = footer.index_position.checked_add(rest);
        if footer.index_position < SEGMENT_HEADER_BYTES || total != Some(object_bytes) {
            return Err(FormatError::Invalid {
                what: "length of segment",
            });
        }
        Ok(footer)
    }

    /// Bytes of index, order list and footer: what [`super::SegmentTail::decode`] needs from the end of the object.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        u64::from(self.index_bytes) + u64::from(self.order_bytes) + SEGMENT_FOOTER_BYTES
    }

    /// Checks the CRC over `tail`, which ends with the footer.
    pub(super) fn check(&self, tail: &[u8]) -> Result<(), FormatError> {
        let uncovered = FOOTER_BYTES - FOOTER_COVERED;
        expect_crc("segment tail", self.crc, &tail[..tail.len() - uncovered])
    }
}

/// A small constant as a length.
pub(super) fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a small constant")
}
