//! Reads primitives from one frame, and never believes a length before the bytes are there.
//!
//! Invariants: every slice shares the frame; counts are bounded by what is left of the frame and by the frame's
//! memory budget before anything is allocated; nothing here panics on any input.

mod arrays;
mod tags;

use bytes::Bytes;

use super::{DecodeError, Records, Str, Uuid};

pub use self::tags::UNKNOWN_TAGS_MAX;

/// Longest string the protocol allows, in bytes, compact or not (Kafka refuses longer ones too).
pub const STRING_LEN_MAX: usize = 0x7fff;
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
}
