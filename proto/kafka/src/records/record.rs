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
    /// Checked when it was made: `count` headers and nothing else.
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
        let mut rest = self.wire.clone();
        (0..self.count).map(move |_| take_header(&mut rest).expect("checked when made"))
    }

    /// Checks that `wire` holds exactly `count` headers.
    fn from_wire(wire: Bytes, count: usize) -> Option<Self> {
        let mut rest = wire.clone();
        for _ in 0..count {
            take_header(&mut rest)?;
        }
        rest.is_empty().then_some(Self { wire, count })
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

fn take_header(rest: &mut Bytes) -> Option<Header> {
    let key = take_bytes(rest)??;
    let value = take_bytes(rest)?;
    Some(Header { key, value })
}

/// Takes a length-prefixed value: `None` if malformed, `Some(None)` for null. Any negative length is null, as in
/// Kafka.
#[expect(clippy::option_option, reason = "malformed and null are different")]
fn take_bytes(rest: &mut Bytes) -> Option<Option<Bytes>> {
    let (length, used) = varint::read_i32(rest)?;
    let Ok(length) = usize::try_from(length) else {
        let _ = rest.split_to(used);
        return Some(None);
    };
    if length > rest.len() - used {
        return None;
    }
    let _ = rest.split_to(used);
    Some(Some(rest.split_to(length)))
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

impl Record {
    /// Reads a record from its bytes (without their length), which must hold nothing else.
    pub(crate) fn parse(mut body: Bytes, header: &BatchHeader) -> Result<(Self, i32), &'static str> {
        if body.is_empty() {
            return Err("no attributes");
        }
        // Attributes of a record are not used by any version of Kafka.
        let _ = body.split_to(1);
        let (timestamp_delta, used) = varint::read_i64(&body).ok_or("bad timestamp delta")?;
        let _ = body.split_to(used);
        let (offset_delta, used) = varint::read_i32(&body).ok_or("bad offset delta")?;
        let _ = body.split_to(used);
        let key = take_bytes(&mut body).ok_or("bad key")?;
        let value = take_bytes(&mut body).ok_or("bad value")?;
        let (count, used) = varint::read_i32(&body).ok_or("bad header count")?;
        let _ = body.split_to(used);
        let count = usize::try_from(count).map_err(|_| "negative header count")?;
        // A header takes two bytes at least.
        if count > body.len() / 2 {
            return Err("more headers than bytes for them");
        }
        let headers = Headers::from_wire(body, count).ok_or("bad headers")?;
        let timestamp = match header.timestamp_type() {
            TimestampType::Create => header.base_timestamp.wrapping_add(timestamp_delta),
            TimestampType::LogAppend => header.max_timestamp,
        };
        let offset = header.base_offset.wrapping_add(i64::from(offset_delta));
        Ok((
            Self {
                offset,
                timestamp,
                key,
                value,
                headers,
            },
            offset_delta,
        ))
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
