//! The primitives that every Esker format is made of: a bounded decoder and the encoder that mirrors it.
//!
//! Owns: fixed little-endian integers, canonical varints (LEB128, zigzag for signed ones), length-prefixed bytes and
//! text, `FormatError`.
//! Does not own: what the fields mean.
//!
//! Invariants: nothing is allocated from a length before that many bytes are known to be there; a value has exactly one
//! encoding; no input panics.

#[cfg(test)]
mod tests;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The input ends too early.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the next field takes at least.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// A varint is longer than its type or than it need be.
    #[error("varint is not canonical")]
    Varint,
    /// A count or length is above its limit.
    #[error("{what} is {found}, at most {max} allowed")]
    OverLimit {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The magic of another format, or no magic at all.
    #[error("this is not a {what}")]
    Magic {
        /// The format that was expected.
        what: &'static str,
    },
    /// A version that this code does not know.
    #[error("{what} has format version {found}, at most {known} is known")]
    Version {
        /// The format.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The newest known one.
        known: u16,
    },
    /// A CRC-32C does not match.
    #[error("checksum of {what} is {stored:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// The part it covers.
        what: &'static str,
        /// What is written.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A content hash does not match.
    #[error("content hash of {what} does not match its bytes")]
    Hash {
        /// The part it covers.
        what: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("{what} is not valid")]
    Invalid {
        /// The rule that is broken.
        what: &'static str,
    },
    /// Bytes are left after the last field.
    #[error("{left} bytes left over")]
    Trailing {
        /// How many.
        left: u64,
    },
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("no machine has more than 64 address bits")
}

/// Bytes that the varint of a value takes: 1 to 10.
#[must_use]
pub fn varint_len(value: u64) -> usize {
    let bits = usize::try_from(64 - (value | 1).leading_zeros()).expect("at most 64");
    bits.div_ceil(7)
}

/// Maps a signed number to an unsigned one so that small magnitudes stay small.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Appends fields to a growing buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with room for this many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    /// An empty one in the memory of a buffer that is not needed any more.
    #[must_use]
    pub fn reusing(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { out: buffer }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What is written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// Takes back everything beyond so many bytes.
    pub fn truncate(&mut self, bytes: usize) {
        self.out.truncate(bytes);
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Sixteen bytes, little-endian.
    pub fn u128(&mut self, value: u128) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A varint of 1 to 10 bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        self.out.push(u8::try_from(value).expect("seven bits"));
    }

    /// A zigzag varint of 1 to 10 bytes.
    pub fn zigzag(&mut self, value: i64) {
        self.varint(zigzag(value));
    }

    /// A count of items as a varint; the decoder's [`Decoder::count`].
    pub fn count(&mut self, items: usize) {
        self.varint(wide(items));
    }

    /// A varint length and the bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.raw(value);
    }

    /// A varint length and the UTF-8 bytes.
    pub fn str(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// The bytes alone.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }
}

/// Takes fields from a slice, never more than are there.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    input: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads from the beginning of a slice.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { input }
    }

    /// Bytes not yet taken.
    #[must_use]
    pub fn left(&self) -> usize {
        self.input.len()
    }

    /// All bytes not yet taken.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.input)
    }

    /// Succeeds when nothing is left.
    ///
    /// # Errors
    /// `Trailing`.
    pub fn finish(&self) -> Result<(), FormatError> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Trailing {
                left: wide(self.left()),
            })
        }
    }

    /// The next bytes, as many as asked for.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn raw(&mut self, bytes: usize) -> Result<&'a [u8], FormatError> {
        let Some((taken, rest)) = self.input.split_at_checked(bytes) else {
            return Err(FormatError::Truncated {
                needed: wide(bytes),
                left: wide(self.left()),
            });
        };
        self.input = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let Some((taken, rest)) = self.input.split_first_chunk::<N>() else {
            return Err(FormatError::Truncated {
                needed: wide(N),
                left: wide(self.left()),
            });
        };
        self.input = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.fixed()?))
    }

    /// 0 or 1, nothing else.
    ///
    /// # Errors
    /// `Truncated`, `Invalid`.
    pub fn bool(&mut self) -> Result<bool, FormatError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FormatError::Invalid { what: "boolean" }),
        }
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.fixed()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// Sixteen bytes, little-endian.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u128(&mut self) -> Result<u128, FormatError> {
        Ok(u128::from_le_bytes(self.fixed()?))
    }

    /// A canonical varint.
    ///
    /// # Errors
    /// `Truncated`, `Varint`.
    pub fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(FormatError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero would be a second encoding of the same value.
                return if byte == 0 && shift > 0 {
                    Err(FormatError::Varint)
                } else {
                    Ok(value)
                };
            }
        }
        Err(FormatError::Varint)
    }

    /// A varint that fits 32 bits.
    ///
    /// # Errors
    /// `Truncated`, `Varint`, `OverLimit`.
    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        let found = self.varint()?;
        u32::try_from(found).map_err(|_| FormatError::OverLimit {
            what,
            found,
            max: u64::from(u32::MAX),
        })
    }

    /// A zigzag varint.
    ///
    /// # Errors
    /// `Truncated`, `Varint`.
    pub fn zigzag(&mut self) -> Result<i64, FormatError> {
        Ok(unzigzag(self.varint()?))
    }

    /// A count of items that take at least `item_bytes_min` bytes each, so that a vector of that capacity is safe.
    ///
    /// # Errors
    /// `Truncated` when that many items cannot be there, `OverLimit` above `max`.
    pub fn count(&mut self, what: &'static str, max: usize, item_bytes_min: usize) -> Result<usize, FormatError> {
        let found = self.varint()?;
        let over = FormatError::OverLimit {
            what,
            found,
            max: wide(max),
        };
        let items = usize::try_from(found).map_err(|_| over.clone())?;
        if items > max {
            return Err(over);
        }
        let needed = items.saturating_mul(item_bytes_min);
        if needed > self.left() {
            return Err(FormatError::Truncated {
                needed: wide(needed),
                left: wide(self.left()),
            });
        }
        Ok(items)
    }

    /// Length-prefixed bytes, at most `max` of them.
    ///
    /// # Errors
    /// `Truncated`, `Varint`, `OverLimit`.
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], FormatError> {
        let length = self.count(what, max, 1)?;
        self.raw(length)
    }

    /// Length-prefixed UTF-8, at most `max` bytes.
    ///
    /// # Errors
    /// As [`Decoder::bytes`], and `Invalid`.
    pub fn str(&mut self, what: &'static str, max: usize) -> Result<&'a str, FormatError> {
        std::str::from_utf8(self.bytes(what, max)?).map_err(|_| FormatError::Invalid { what })
    }
}
