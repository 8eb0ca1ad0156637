//! Protocol buffers within limits: messages of records are counted before they are decoded.
//!
//! Owns: how many records and headers a message may hold.
//! Does not own: how long it may be (whoever serves says that).
//!
//! A record without anything takes two bytes on the wire and more than a hundred in memory, a header not much less.
//!
//! Invariants: MEM-1.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::v1::{ProduceRequest, ProduceStreamRequest};

/// Records of one message.
pub const RECORDS_MAX: usize = 65_536;
/// Headers of all records of one message.
pub const HEADERS_MAX: usize = 65_536;

/// Field `records` of a produce request; the records of the field `batch` of a stream.
const PRODUCE_PATH: &[u64] = &[2];
const STREAM_PATH: &[u64] = &[2, 2];
/// Field `headers` of a record.
const HEADERS: u64 = 4;

/// As `tonic_prost::ProstCodec`, within limits.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Counts, then decodes.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        if let Some(path) = records_path::<U>() {
            check(&bytes, path)?;
        }
        let decoded = U::decode(bytes);
        decoded
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("{error}; this is no message of the API")))
    }
}

/// Where the records of a message are, if it is one of those with records.
fn records_path<U: 'static>() -> Option<&'static [u64]> {
    let kind = TypeId::of::<U>();
    if kind == TypeId::of::<ProduceRequest>() {
        Some(PRODUCE_PATH)
    } else if kind == TypeId::of::<ProduceStreamRequest>() {
        Some(STREAM_PATH)
    } else {
        None
    }
}

/// What there is in a message so far.
#[derive(Default)]
struct Counted {
    records: usize,
    headers: usize,
}

fn check(message: &[u8], path: &[u64]) -> Result<(), Status> {
    let mut counted = Counted::default();
    counted.add_message(message, path)
}

impl Counted {
    /// Counts the records that are at the end of the path.
    fn add_message(&mut self, message: &[u8], path: &[u64]) -> Result<(), Status> {
        let Some((wanted, deeper)) = path.split_first() else {
            return self.add_record(message);
        };
        let mut rest = message;
        while !rest.is_empty() {
            if let (field, Some(value)) = take_field(&mut rest)?
                && field == *wanted
            {
                self.add_message(value, deeper)?;
            }
        }
        Ok(())
    }

    fn add_record(&mut self, record: &[u8]) -> Result<(), Status> {
        self.records += 1;
        if self.records > RECORDS_MAX {
            return Err(too_many("records", RECORDS_MAX));
        }
        let mut rest = record;
        while !rest.is_empty() {
            if let (HEADERS, Some(_)) = take_field(&mut rest)? {
                self.headers += 1;
                if self.headers > HEADERS_MAX {
                    return Err(too_many("headers", HEADERS_MAX));
                }
            }
        }
        Ok(())
    }
}

fn too_many(what: &str, most: usize) -> Status {
    Status::invalid_argument(format!(
        "more than {most} {what} in one message; send fewer records at once"
    ))
}

/// The number of the next field, and its bytes if it has a length.
fn take_field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Option<&'a [u8]>), Status> {
    next_field(rest).ok_or_else(|| Status::invalid_argument("this is no message of the API"))
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = take_varint(rest)?;
    let value = match tag & 7 {
        0 => {
            take_varint(rest)?;
            None
        }
        1 => {
            take(rest, 8)?;
            None
        }
        2 => {
            let length = usize::try_from(take_varint(rest)?).ok()?;
            Some(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            None
        }
        // Groups: nothing of the API has them.
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::produce_stream_request::{Batch, Step};
    use crate::v1::{Header, Record};

    fn records(records: usize, headers: usize) -> Vec<Record> {
        let mut all = vec![Record::default(); records];
        all[0].headers = vec![Header::default(); headers];
        all
    }

    fn request(count: usize, headers: usize) -> Vec<u8> {
        let request = ProduceRequest {
            topic: "t".to_owned(),
            records: records(count, headers),
        };
        request.encode_to_vec()
    }

    fn step(count: usize, headers: usize) -> Vec<u8> {
        let batch = Batch {
            number: 1 << 40,
            records: records(count, headers),
        };
        let request = ProduceStreamRequest {
            step: Some(Step::Batch(batch)),
        };
        request.encode_to_vec()
    }

    #[test]
    fn records_and_headers_are_counted_where_they_are() {
        let produce = records_path::<ProduceRequest>().unwrap();
        let stream = records_path::<ProduceStreamRequest>().unwrap();
        assert!(records_path::<crate::v1::FetchRequest>().is_none());
        for (message, path) in [
            (request as fn(usize, usize) -> Vec<u8>, produce),
            (step as fn(usize, usize) -> Vec<u8>, stream),
        ] {
            assert!(check(&message(RECORDS_MAX, HEADERS_MAX), path).is_ok());
            let refused = check(&message(RECORDS_MAX + 1, 0), path).unwrap_err();
            assert!(refused.message().contains("records in one message"), "{refused}");
            let refused = check(&message(1, HEADERS_MAX + 1), path).unwrap_err();
            assert!(refused.message().contains("headers in one message"), "{refused}");
        }
        // The parts of a message that comes in several add up.
        let twice = [step(RECORDS_MAX / 2 + 1, 0), step(RECORDS_MAX / 2 + 1, 0)].concat();
        assert!(check(&twice, stream).is_err());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for garbage in [&b"\xff"[..], b"\x12\x7f", b"\x0b\x0c", b"\x12\x02\x0b\x0c", &[0xff; 11]] {
            assert!(check(garbage, PRODUCE_PATH).is_err(), "{garbage:?}");
        }
    }
}
