//! Gathers an encoded message into chunks for a vectored write.
//!
//! Invariants: small values are copied into one growing buffer; values of [`SHARE_BYTES_MIN`] or more that are
//! already shared are never copied. Lengths that the protocol cannot express are refused, never wrapped.

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::STRING_LEN_MAX;
use super::{EncodeError, Records, Str, Uuid};

/// Shared bytes at least this long become a chunk of their own instead of being copied.
pub const SHARE_BYTES_MIN: usize = 1024;

type Result<T> = std::result::Result<T, EncodeError>;

/// An encoded message under construction.
#[derive(Debug, Default)]
pub struct Writer {
    /// Everything that was copied, in order.
    small: BytesMut,
    /// Shared chunks, each with the position in `small` at which it belongs.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    /// True if `small` starts with four bytes kept for the frame's length.
    framed: bool,
}

impl Writer {
    /// An empty message without a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty frame: its first four bytes will be its length.
    #[must_use]
    pub fn framed() -> Self {
        let mut writer = Self {
            framed: true,
            ..Self::default()
        };
        writer.small.reserve(256);
        writer.small.put_i32(0);
        writer
    }

    /// Bytes written so far, including the length prefix of a framed one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.shared_len
    }

    /// True if nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunks in order, for a vectored write; the length prefix is filled in.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for a frame of 2 GiB or more.
    pub fn finish(mut self) -> Result<Vec<Bytes>> {
        if self.framed {
            let length = wire_length(self.len() - 4)?;
            self.small[..4].copy_from_slice(&length.to_be_bytes());
        }
        let mut small = self.small.freeze();
        let mut chunks = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut taken = 0;
        for (position, chunk) in self.shared {
            if position > taken {
                chunks.push(small.split_to(position - taken));
                taken = position;
            }
            chunks.push(chunk);
        }
        if !small.is_empty() {
            chunks.push(small);
        }
        Ok(chunks)
    }

    /// The message in one piece; copies if there is more than one chunk.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn into_bytes(self) -> Result<Bytes> {
        let mut chunks = self.finish()?;
        if chunks.len() == 1 {
            return Ok(chunks.remove(0));
        }
        Ok(Bytes::from(chunks.concat()))
    }

    /// Appends bytes as they are, without a length, copying them.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.small.put_slice(bytes);
    }

    /// Appends bytes as they are, without a length, sharing them if they are long.
    pub fn raw_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.small.put_slice(bytes);
        } else {
            self.shared_len += bytes.len();
            self.shared.push((self.small.len(), bytes.clone()));
        }
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.small.put_u8(u8::from(value));
    }

    /// A signed byte.
    pub fn i8(&mut self, value: i8) {
        self.small.put_i8(value);
    }

    /// A 16-bit integer.
    pub fn i16(&mut self, value: i16) {
        self.small.put_i16(value);
    }

    /// An unsigned 16-bit integer.
    pub fn u16(&mut self, value: u16) {
        self.small.put_u16(value);
    }

    /// A 32-bit integer.
    pub fn i32(&mut self, value: i32) {
        self.small.put_i32(value);
    }

    /// A 64-bit integer.
    pub fn i64(&mut self, value: i64) {
        self.small.put_i64(value);
    }

    /// A double.
    pub fn f64(&mut self, value: f64) {
        self.small.put_f64(value);
    }

    /// A UUID.
    pub fn uuid(&mut self, value: Uuid) {
        self.small.put_slice(&value.to_bytes());
    }

    /// An unsigned variable-length integer.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.small.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.small.put_u8(value.to_le_bytes()[0]);
    }

    /// The length of a value or array; `None` is null.
    fn length(&mut self, flex: bool, length: Option<usize>) -> Result<()> {
        let length = length.map(wire_length).transpose()?;
        if flex {
            self.uvarint(length.map_or(0, |length| length.unsigned_abs() + 1));
        } else {
            self.i32(length.unwrap_or(-1));
        }
        Ok(())
    }

    fn any_string(&mut self, flex: bool, value: Option<&Str>) -> Result<()> {
        let length = value.map_or(0, Str::len);
        let too_long = EncodeError::TooLong { length };
        if length > STRING_LEN_MAX {
            return Err(too_long);
        }
        if flex {
            self.length(true, value.map(Str::len))?;
        } else {
            let length = i16::try_from(length).map_err(|_| too_long)?;
            self.i16(if value.is_some() { length } else { -1 });
        }
        self.small.put_slice(value.map_or(&[], Str::as_bytes));
        Ok(())
    }

    /// A string.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] beyond 32,767 bytes.
    pub fn string(&mut self, flex: bool, value: &Str) -> Result<()> {
        self.any_string(flex, Some(value))
    }

    /// A string that may be null, if `nullable` says so for this version.
    ///
    /// # Errors
    /// Too long, or null where `field` must not be.
    pub fn nullable_string(
        &mut self,
        flex: bool,
        nullable: bool,
        value: Option<&Str>,
        field: &'static str,
    ) -> Result<()> {
        check_null(nullable, value.is_none(), field)?;
        self.any_string(flex, value)
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] beyond 2 GiB.
    pub fn bytes(&mut self, flex: bool, value: &Bytes) -> Result<()> {
        self.length(flex, Some(value.len()))?;
        self.raw_shared(value);
        Ok(())
    }

    /// Bytes that may be null, if `nullable` says so for this version.
    ///
    /// # Errors
    /// Too long, or null where `field` must not be.
    pub fn nullable_bytes(
        &mut self,
        flex: bool,
        nullable: bool,
        value: Option<&Bytes>,
        field: &'static str,
    ) -> Result<()> {
        check_null(nullable, value.is_none(), field)?;
        match value {
            Some(value) => self.bytes(flex, value),
            None => self.length(flex, None),
        }
    }

    /// Record batches; long chunks are shared.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] beyond 2 GiB.
    pub fn records(&mut self, flex: bool, value: &Records) -> Result<()> {
        self.length(flex, Some(value.len()))?;
        for chunk in value.chunks() {
            self.raw_shared(chunk);
        }
        Ok(())
    }

    /// Record batches that may be null, if `nullable` says so for this version.
    ///
    /// # Errors
    /// Too long, or null where `field` must not be.
    pub fn nullable_records(
        &mut self,
        flex: bool,
        nullable: bool,
        value: Option<&Records>,
        field: &'static str,
    ) -> Result<()> {
        check_null(nullable, value.is_none(), field)?;
        match value {
            Some(value) => self.records(flex, value),
            None => self.length(flex, None),
        }
    }

    /// The marker before a struct that may be null.
    pub(crate) fn struct_marker(&mut self, nullable: bool, present: bool, field: &'static str) -> Result<()> {
        check_null(nullable, !present, field)?;
        self.i8(if present { 1 } else { -1 });
        Ok(())
    }

    fn items<T>(&mut self, flex: bool, values: &[T], item: fn(&mut Self, &T) -> Result<()>) -> Result<()> {
        self.length(flex, Some(values.len()))?;
        for value in values {
            item(self, value)?;
        }
        Ok(())
    }

    /// An array of structs.
    pub(crate) fn structs<T>(
        &mut self,
        flex: bool,
        version: i16,
        values: &[T],
        item: fn(&T, &mut Self, i16) -> Result<()>,
    ) -> Result<()> {
        self.length(flex, Some(values.len()))?;
        for value in values {
            item(value, self, version)?;
        }
        Ok(())
    }

    /// A null array.
    pub(crate) fn null_array(&mut self, flex: bool, nullable: bool, field: &'static str) -> Result<()> {
        check_null(nullable, true, field)?;
        self.length(flex, None)
    }

    /// A section of tagged fields without any.
    pub(crate) fn no_tags(&mut self) {
        self.small.put_u8(0);
    }

    /// A section of tagged fields.
    pub(crate) fn tags(&mut self, tags: TagWriter) -> Result<()> {
        let count = tags.fields.len();
        self.uvarint(u32::try_from(count).map_err(|_| EncodeError::TooLong { length: count })?);
        for (tag, value) in tags.fields {
            let size = wire_length(value.len())?;
            self.uvarint(tag);
            self.uvarint(size.unsigned_abs());
            let base = self.small.len();
            self.shared_len += value.shared_len;
            self.shared.extend(
                value
                    .shared
                    .into_iter()
                    .map(|(position, chunk)| (base + position, chunk)),
            );
            self.small.put_slice(&value.small);
        }
        Ok(())
    }
}

/// Arrays of primitives.
impl Writer {
    pub(crate) fn i8_array(&mut self, flex: bool, values: &[i8]) -> Result<()> {
        self.items(flex, values, |w, value| {
            w.i8(*value);
            Ok(())
        })
    }

    pub(crate) fn i16_array(&mut self, flex: bool, values: &[i16]) -> Result<()> {
        self.items(flex, values, |w, value| {
            w.i16(*value);
            Ok(())
        })
    }

    pub(crate) fn i32_array(&mut self, flex: bool, values: &[i32]) -> Result<()> {
        self.items(flex, values, |w, value| {
            w.i32(*value);
            Ok(())
        })
    }

    pub(crate) fn i64_array(&mut self, flex: bool, values: &[i64]) -> Result<()> {
        self.items(flex, values, |w, value| {
            w.i64(*value);
            Ok(())
        })
    }

    pub(crate) fn uuid_array(&mut self, flex: bool, values: &[Uuid]) -> Result<()> {
        self.items(flex, values, |w, value| {
            w.uuid(*value);
            Ok(())
        })
    }

    pub(crate) fn string_array(&mut self, flex: bool, values: &[Str]) -> Result<()> {
        if flex {
            self.items(true, values, |w, value| w.string(true, value))
        } else {
            self.items(false, values, |w, value| w.string(false, value))
        }
    }
}

/// The tagged fields of one struct, gathered before their count is known.
#[derive(Debug, Default)]
pub(crate) struct TagWriter {
    fields: Vec<(u32, Writer)>,
}

impl TagWriter {
    /// A writer for the value of one more field. Tags must be added in rising order.
    pub(crate) fn field(&mut self, tag: u32) -> &mut Writer {
        self.fields.push((tag, Writer::new()));
        &mut self.fields.last_mut().expect("pushed just now").1
    }
}

fn check_null(nullable: bool, null: bool, field: &'static str) -> Result<()> {
    if null && !nullable {
        Err(EncodeError::UnexpectedNull { field })
    } else {
        Ok(())
    }
}

/// A length as the protocol's signed 32-bit integer; one less than its maximum so that compact lengths fit too.
fn wire_length(length: usize) -> Result<i32> {
    match i32::try_from(length) {
        Ok(wire) if wire < i32::MAX => Ok(wire),
        Ok(_) | Err(_) => Err(EncodeError::TooLong { length }),
    }
}
