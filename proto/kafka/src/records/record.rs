//! One record: its key, value and headers, and its layout inside a batch.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{BatchHeader, TimestampType};
use super::varint;

/// A record; its parts share the memory it was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Offset, relative to the batch's own base offset field.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Bytes>,
    /// Value; null is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// UTF-8 by convention, but nobody checks: kept as the producer sent it.
    pub key: Bytes,
    /// Value, or null.
    pub value: Option<Bytes>,
}

/// The headers of a record: an ordered list that may hold a key twice. They are kept in wire form, so that a
/// record with millions of empty headers takes no more memory than its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Checked when it was read: `count` headers and nothing else.
    wire: Bytes,
    count: usize,
}

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wire: Bytes::new(),
            count: 0,
        }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In the order in which the producer added them.
    pub fn iter(&self) -> impl Iterator<Item = Header> + use<> {
        let wire = self.wire.clone();
        let mut at = 0;
        (0..self.count).map(move |_| {
            let mut rest = &wire[at..];
            let (key, value) = take_header(&mut rest).expect("checked when made");
            at = wire.len() - rest.len();
            Header {
                key: wire.slice_ref(key),
                value: value.map(|value| wire.slice_ref(value)),
            }
        })
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, Option<V>)>>(headers: I) -> Self {
        let mut wire = BytesMut::new();
        let mut count = 0;
        for (key, value) in headers {
            put_bytes(&mut wire, Some(key.as_ref()));
            put_bytes(&mut wire, value.as_ref().map(AsRef::as_ref));
            count += 1;
        }
        Self {
            wire: wire.freeze(),
            count,
        }
    }
}

/// Takes a header from the front: its key and its value.
fn take_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key = take_bytes(rest)??;
    let value = take_bytes(rest)?;
    Some((key, value))
}

/// Takes a length-prefixed value: `None` if malformed, `Some(None)` for null. Any negative length is null, as in
/// Kafka.
#[expect(clippy::option_option, reason = "malformed and null are different")]
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, used) = varint::read_i32(rest)?;
    *rest = &rest[used..];
    let Ok(length) = usize::try_from(length) else {
        return Some(None);
    };
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some(value))
}

fn put_bytes(out: &mut impl BufMut, value: Option<&[u8]>) {
    match value {
        None => varint::put_i64(out, -1),
        Some(value) => {
            varint::put_i64(out, wire_len(value.len()));
            out.put_slice(value);
        }
    }
}

fn bytes_len(value: Option<&[u8]>) -> usize {
    value.map_or(1, |value| varint::len_i64(wire_len(value.len())) + value.len())
}

/// Lengths beyond `i64` cannot exist in memory; ones beyond `i32` are refused when the batch is built.
fn wire_len(length: usize) -> i64 {
    i64::try_from(length).expect("memory is smaller than 2^63 bytes")
}

/// A record where it lies: read without taking hold of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its timestamp, relative to the batch's.
    pub timestamp_delta: i64,
    /// Its offset, relative to the batch's.
    pub offset_delta: i32,
    /// Key, or null.
    pub key: Option<&'a [u8]>,
    /// Value, or null.
    pub value: Option<&'a [u8]>,
    /// Its headers in wire form, and how many they are.
    headers: (&'a [u8], usize),
}

impl<'a> RecordView<'a> {
    /// Reads a record from its bytes (without their length), which must hold nothing else.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, &'static str> {
        // Attributes of a record are not used by any version of Kafka.
        let (_, mut rest) = body.split_first().ok_or("no attributes")?;
        let (timestamp_delta, used) = varint::read_i64(rest).ok_or("bad timestamp delta")?;
        rest = &rest[used..];
        let (offset_delta, used) = varint::read_i32(rest).ok_or("bad offset delta")?;
        rest = &rest[used..];
        let key = take_bytes(&mut rest).ok_or("bad key")?;
        let value = take_bytes(&mut rest).ok_or("bad value")?;
        let (count, used) = varint::read_i32(rest).ok_or("bad header count")?;
        rest = &rest[used..];
        let count = usize::try_from(count).map_err(|_| "negative header count")?;
        // A header takes two bytes at least.
        if count > rest.len() / 2 {
            return Err("more headers than bytes for them");
        }
        let wire = rest;
        for _ in 0..count {
            take_header(&mut rest).ok_or("bad headers")?;
        }
        if !rest.is_empty() {
            return Err("bad headers");
        }
        Ok(Self {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers: (wire, count),
        })
    }

    /// The record on its own; `body` is what it was read from.
    pub(crate) fn to_record(self, body: &Bytes, header: &BatchHeader) -> Record {
        let (wire, count) = self.headers;
        Record {
            offset: header.base_offset.wrapping_add(i64::from(self.offset_delta)),
            timestamp: match header.timestamp_type() {
                TimestampType::Create => header.base_timestamp.wrapping_add(self.timestamp_delta),
                TimestampType::LogAppend => header.max_timestamp,
            },
            key: self.key.map(|key| body.slice_ref(key)),
            value: self.value.map(|value| body.slice_ref(value)),
            headers: Headers {
                wire: body.slice_ref(wire),
                count,
            },
        }
    }
}

/// A record about to be written.
pub(crate) struct RecordParts<'a> {
    pub(crate) offset_delta: i32,
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a Headers,
}

impl RecordParts<'_> {
    /// Appends the record with its length.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        let count = wire_len(self.headers.count);
        let body = 1
            + varint::len_i64(self.timestamp_delta)
            + varint::len_i64(i64::from(self.offset_delta))
            + bytes_len(self.key)
            + bytes_len(self.value)
            + varint::len_i64(count)
            + self.headers.wire.len();
        out.reserve(body + varint::VARINT_BYTES_MAX);
        varint::put_i64(out, wire_len(body));
        out.put_u8(0);
        varint::put_i64(out, self.timestamp_delta);
        varint::put_i64(out, i64::from(self.offset_delta));
        put_bytes(out, self.key);
        put_bytes(out, self.value);
        varint::put_i64(out, count);
        out.put_slice(&self.headers.wire);
    }
}
