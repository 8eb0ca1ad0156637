//! Reads primitives from one frame, and never believes a length before the bytes are there.
//!
//! Invariants: every slice shares the frame; counts are bounded by what is left of the frame and by the frame's
//! memory budget before anything is allocated; nothing here panics on any input.

use bytes::Bytes;

use super::{DecodeError, Records, Str, Uuid};

/// Longest string the protocol allows, in bytes, compact or not (Kafka refuses longer ones too).
pub const STRING_LEN_MAX: usize = 0x7fff;
/// Most unknown tagged fields that are skipped in one section.
pub const UNKNOWN_TAGS_MAX: usize = 64;
/// Memory that decoding any frame may allocate, in bytes.
pub const DECODE_BUDGET_BASE: usize = 64 * 1024;
/// Memory that decoding may allocate beyond that, in bytes per byte of the frame.
pub const DECODE_BUDGET_FACTOR: usize = 16;

type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over one frame.
#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    pos: usize,
    end: usize,
    budget: usize,
}

/// A tagged field being read.
pub(crate) struct Tag {
    pub(crate) id: u32,
    outer_end: usize,
}

/// A section of tagged fields being read.
pub(crate) struct TagSection {
    left: u32,
    unknown: usize,
}

impl Reader {
    /// Starts at the first byte of `frame` (without its length prefix).
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        let budget = end
            .saturating_mul(DECODE_BUDGET_FACTOR)
            .saturating_add(DECODE_BUDGET_BASE);
        Self {
            frame,
            pos: 0,
            end,
            budget,
        }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.end - self.pos
    }

    /// Position in the frame.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.pos
    }

    /// What has not been read yet, sharing the frame.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.pos..self.end)
    }

    /// Checks that the whole frame was read.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] if not.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { at: self.pos, count }),
        }
    }

    fn advance(&mut self, needed: usize) -> Result<usize> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(DecodeError::Truncated {
                at: self.pos,
                needed,
                remaining,
            });
        }
        let start = self.pos;
        self.pos += needed;
        Ok(start)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let start = self.advance(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.frame[start..start + N]);
        Ok(out)
    }

    fn slice(&mut self, len: usize) -> Result<Bytes> {
        let start = self.advance(len)?;
        Ok(self.frame.slice(start..start + len))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.fixed::<1>()?[0])
    }

    /// A boolean: any byte but 0 is true, as in Kafka.
    ///
    /// # Errors
    /// Truncated input.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.byte()? != 0)
    }

    /// A signed byte.
    ///
    /// # Errors
    /// Truncated input.
    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// A 16-bit integer.
    ///
    /// # Errors
    /// Truncated input.
    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// An unsigned 16-bit integer.
    ///
    /// # Errors
    /// Truncated input.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    /// A 32-bit integer.
    ///
    /// # Errors
    /// Truncated input.
    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A 64-bit integer.
    ///
    /// # Errors
    /// Truncated input.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// A double.
    ///
    /// # Errors
    /// Truncated input.
    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    /// A UUID.
    ///
    /// # Errors
    /// Truncated input.
    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    /// An unsigned variable-length integer of at most five bytes and 32 bits.
    ///
    /// # Errors
    /// Truncated input, or more than 32 bits.
    pub fn uvarint(&mut self) -> Result<u32> {
        let at = self.pos;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::InvalidVarint { at });
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::InvalidVarint { at })
    }

    /// A length or count: `None` is null. `flex` lengths are compact (unsigned, plus one).
    fn length(&mut self, flex: bool) -> Result<Option<usize>> {
        if flex {
            return self.compact_length();
        }
        let at = self.pos;
        let length = self.i32()?;
        Self::signed_length(at, length)
    }

    fn compact_length(&mut self) -> Result<Option<usize>> {
        let at = self.pos;
        let raw = self.uvarint()?;
        let Some(length) = raw.checked_sub(1) else {
            return Ok(None);
        };
        usize::try_from(length)
            .map(Some)
            .map_err(|_| DecodeError::InvalidVarint { at })
    }

    fn signed_length(at: usize, length: i32) -> Result<Option<usize>> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength { at, length }),
        }
    }

    fn not_null<T>(at: usize, value: Option<T>) -> Result<T> {
        value.ok_or(DecodeError::UnexpectedNull { at })
    }

    fn null_if<T>(at: usize, allowed: bool, value: Option<T>) -> Result<Option<T>> {
        if value.is_none() && !allowed {
            Err(DecodeError::UnexpectedNull { at })
        } else {
            Ok(value)
        }
    }

    fn any_string(&mut self, flex: bool) -> Result<Option<Str>> {
        let at = self.pos;
        let length = if flex {
            self.compact_length()?
        } else {
            let length = self.i16()?;
            Self::signed_length(at, i32::from(length))?
        };
        let Some(length) = length else { return Ok(None) };
        if length > STRING_LEN_MAX {
            return Err(DecodeError::StringTooLong { at, length });
        }
        let bytes = self.slice(length)?;
        Str::from_utf8(bytes).map(Some).ok_or(DecodeError::InvalidUtf8 { at })
    }

    /// A string.
    ///
    /// # Errors
    /// Truncated input, a bad length, null, or bytes that are not UTF-8.
    pub fn string(&mut self, flex: bool) -> Result<Str> {
        let at = self.pos;
        let value = self.any_string(flex)?;
        Self::not_null(at, value)
    }

    /// A string that may be null, if `nullable` says so for this version.
    ///
    /// # Errors
    /// As [`Reader::string`].
    pub fn nullable_string(&mut self, flex: bool, nullable: bool) -> Result<Option<Str>> {
        let at = self.pos;
        let value = self.any_string(flex)?;
        Self::null_if(at, nullable, value)
    }

    /// Bytes, sharing the frame.
    ///
    /// # Errors
    /// Truncated input, a bad length, or null.
    pub fn bytes(&mut self, flex: bool) -> Result<Bytes> {
        let at = self.pos;
        let value = self.nullable_bytes(flex, true)?;
        Self::not_null(at, value)
    }

    /// Bytes that may be null, if `nullable` says so for this version.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn nullable_bytes(&mut self, flex: bool, nullable: bool) -> Result<Option<Bytes>> {
        let at = self.pos;
        let value = match self.length(flex)? {
            Some(length) => Some(self.slice(length)?),
            None => None,
        };
        Self::null_if(at, nullable, value)
    }

    /// Record batches, sharing the frame.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn records(&mut self, flex: bool) -> Result<Records> {
        Ok(Records::from(self.bytes(flex)?))
    }

    /// Record batches that may be null, if `nullable` says so for this version.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn nullable_records(&mut self, flex: bool, nullable: bool) -> Result<Option<Records>> {
        Ok(self.nullable_bytes(flex, nullable)?.map(Records::from))
    }

    /// True if a struct follows, false for null. Any byte but a negative one means present, as in Kafka.
    pub(crate) fn struct_present(&mut self, nullable: bool) -> Result<bool> {
        let at = self.pos;
        let present = self.i8()? >= 0;
        if !present && !nullable {
            Err(DecodeError::UnexpectedNull { at })
        } else {
            Ok(present)
        }
    }

    /// An array's element count: at most what fits into the rest of the frame when one element takes at least
    /// `wire_min` bytes.
    fn array_count(&mut self, flex: bool, wire_min: usize) -> Result<Option<usize>> {
        let at = self.pos;
        let Some(count) = self.length(flex)? else {
            return Ok(None);
        };
        let remaining = self.remaining();
        if count > remaining / wire_min {
            return Err(DecodeError::ArrayTooLong { at, count, remaining });
        }
        Ok(Some(count))
    }

    /// Takes the memory for `count` elements of `size` bytes from the frame's budget.
    fn charge(&mut self, at: usize, count: usize, size: usize) -> Result<()> {
        let needed = count.saturating_mul(size);
        if needed > self.budget {
            return Err(DecodeError::OverBudget {
                at,
                needed,
                budget: self.budget,
            });
        }
        self.budget -= needed;
        Ok(())
    }

    /// The count of an array of structs of `size` bytes in memory, checked and charged as when they are decoded.
    pub(crate) fn struct_count(&mut self, flex: bool, wire_min: usize, size: usize) -> Result<usize> {
        let at = self.pos;
        let count = self.array_count(flex, wire_min)?;
        let count = Self::not_null(at, count)?;
        self.charge(at, count, size)?;
        Ok(count)
    }

    fn items<T>(&mut self, flex: bool, wire_min: usize, item: fn(&mut Self) -> Result<T>) -> Result<Option<Vec<T>>> {
        let at = self.pos;
        let Some(count) = self.array_count(flex, wire_min)? else {
            return Ok(None);
        };
        self.charge(at, count, size_of::<T>())?;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(item(self)?);
        }
        Ok(Some(out))
    }

    /// An array of structs.
    pub(crate) fn structs<T>(
        &mut self,
        flex: bool,
        version: i16,
        wire_min: usize,
        item: fn(&mut Self, i16) -> Result<T>,
    ) -> Result<Vec<T>> {
        let at = self.pos;
        let value = self.nullable_structs(flex, true, version, wire_min, item)?;
        Self::not_null(at, value)
    }

    /// An array of structs that may be null.
    pub(crate) fn nullable_structs<T>(
        &mut self,
        flex: bool,
        nullable: bool,
        version: i16,
        wire_min: usize,
        item: fn(&mut Self, i16) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let at = self.pos;
        let Some(count) = self.array_count(flex, wire_min)? else {
            return Self::null_if(at, nullable, None);
        };
        self.charge(at, count, size_of::<T>())?;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(item(self, version)?);
        }
        Ok(Some(out))
    }

    /// Starts a section of tagged fields.
    pub(crate) fn tag_section(&mut self) -> Result<TagSection> {
        Ok(TagSection {
            left: self.uvarint()?,
            unknown: 0,
        })
    }

    /// The next tagged field; reads are confined to its value until [`Reader::end_tag`].
    pub(crate) fn next_tag(&mut self, section: &mut TagSection) -> Result<Option<Tag>> {
        if section.left == 0 {
            return Ok(None);
        }
        section.left -= 1;
        let id = self.uvarint()?;
        let at = self.pos;
        let size = self.uvarint()?;
        let size = usize::try_from(size).map_err(|_| DecodeError::InvalidVarint { at })?;
        let remaining = self.remaining();
        if size > remaining {
            return Err(DecodeError::Truncated {
                at,
                needed: size,
                remaining,
            });
        }
        let tag = Tag {
            id,
            outer_end: self.end,
        };
        self.end = self.pos + size;
        Ok(Some(tag))
    }

    /// Passes over the value of a tagged field that we do not know.
    pub(crate) fn skip_tag(&mut self, section: &mut TagSection) -> Result<()> {
        section.unknown += 1;
        if section.unknown > UNKNOWN_TAGS_MAX {
            return Err(DecodeError::TooManyTags {
                at: self.pos,
                limit: UNKNOWN_TAGS_MAX,
            });
        }
        self.pos = self.end;
        Ok(())
    }

    /// Leaves a tagged field, whose value must have been read in full.
    #[expect(clippy::needless_pass_by_value, reason = "the field is over")]
    pub(crate) fn end_tag(&mut self, tag: Tag) -> Result<()> {
        let unread = self.remaining();
        if unread != 0 {
            return Err(DecodeError::TagNotConsumed {
                at: self.pos,
                tag: tag.id,
                unread,
            });
        }
        self.end = tag.outer_end;
        Ok(())
    }

    /// Passes over a whole section of which we know no field.
    pub(crate) fn skip_tags(&mut self) -> Result<()> {
        let mut section = self.tag_section()?;
        while let Some(tag) = self.next_tag(&mut section)? {
            self.skip_tag(&mut section)?;
            self.end_tag(tag)?;
        }
        Ok(())
    }
}

/// Arrays of primitives: a concrete pair of functions per element type.
impl Reader {
    pub(crate) fn i8_array(&mut self, flex: bool) -> Result<Vec<i8>> {
        let at = self.pos;
        let value = self.items(flex, 1, Self::i8)?;
        Self::not_null(at, value)
    }

    pub(crate) fn i16_array(&mut self, flex: bool) -> Result<Vec<i16>> {
        let at = self.pos;
        let value = self.items(flex, 2, Self::i16)?;
        Self::not_null(at, value)
    }

    pub(crate) fn i32_array(&mut self, flex: bool) -> Result<Vec<i32>> {
        let at = self.pos;
        let value = self.items(flex, 4, Self::i32)?;
        Self::not_null(at, value)
    }

    pub(crate) fn nullable_i32_array(&mut self, flex: bool, nullable: bool) -> Result<Option<Vec<i32>>> {
        let at = self.pos;
        let value = self.items(flex, 4, Self::i32)?;
        Self::null_if(at, nullable, value)
    }

    pub(crate) fn i64_array(&mut self, flex: bool) -> Result<Vec<i64>> {
        let at = self.pos;
        let value = self.items(flex, 8, Self::i64)?;
        Self::not_null(at, value)
    }

    pub(crate) fn uuid_array(&mut self, flex: bool) -> Result<Vec<Uuid>> {
        let at = self.pos;
        let value = self.items(flex, 16, Self::uuid)?;
        Self::not_null(at, value)
    }

    pub(crate) fn nullable_uuid_array(&mut self, flex: bool, nullable: bool) -> Result<Option<Vec<Uuid>>> {
        let at = self.pos;
        let value = self.items(flex, 16, Self::uuid)?;
        Self::null_if(at, nullable, value)
    }

    fn strings(&mut self, flex: bool) -> Result<Option<Vec<Str>>> {
        if flex {
            self.items(true, 1, |r| r.string(true))
        } else {
            self.items(false, 2, |r| r.string(false))
        }
    }

    pub(crate) fn string_array(&mut self, flex: bool) -> Result<Vec<Str>> {
        let at = self.pos;
        let value = self.strings(flex)?;
        Self::not_null(at, value)
    }

    pub(crate) fn nullable_string_array(&mut self, flex: bool, nullable: bool) -> Result<Option<Vec<Str>>> {
        let at = self.pos;
        let value = self.strings(flex)?;
        Self::null_if(at, nullable, value)
    }
}
