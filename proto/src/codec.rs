//! Protocol buffers within limits: what a request repeats is counted before it is decoded.
//!
//! Owns: how many records, headers and other things a request may hold; memory that fits what is encoded.
//! Does not own: how long it may be (whoever serves says that).
//!
//! A record without anything takes two bytes on the wire and more than a hundred in memory, a header or a name not much less; and of
//! each thing that an administrator names, the answer says something.
//!
//! Invariants: MEM-1.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::v1;

/// Records of one message.
pub const RECORDS_MAX: usize = 65_536;
/// Headers of all records of one message.
pub const HEADERS_MAX: usize = 65_536;
/// Sequences of partitions with which a stream goes on.
pub const SEQUENCES_MAX: usize = 100_000;
/// Topics, partitions, configs or the like that one message names.
pub const THINGS_MAX: usize = 10_000;

/// Something that a message repeats.
struct Repeated {
    /// What it is called in an error.
    what: &'static str,
    /// The numbers of the fields on the way to it.
    path: &'static [u64],
    /// Whether what is there are numbers, packed one after the other.
    packed: bool,
    most: usize,
}

impl Repeated {
    const fn new(what: &'static str, path: &'static [u64], most: usize) -> Self {
        Self {
            what,
            path,
            packed: false,
            most,
        }
    }
}

const fn records(path: &'static [u64]) -> Repeated {
    Repeated::new("records", path, RECORDS_MAX)
}

const fn headers(path: &'static [u64]) -> Repeated {
    Repeated::new("headers", path, HEADERS_MAX)
}

const fn things(path: &'static [u64]) -> Repeated {
    Repeated::new("things", path, THINGS_MAX)
}

const fn numbers(path: &'static [u64]) -> Repeated {
    Repeated {
        packed: true,
        ..Repeated::new("partitions", path, THINGS_MAX)
    }
}

/// A list at field 1, as most requests of administrators have.
const LIST: &[Repeated] = &[things(&[1])];

/// What each request repeats. Answers are made by agents, and not counted.
static REQUESTS: &[(TypeId, &[Repeated])] = &[
    (TypeId::of::<v1::ProduceRequest>(), &[records(&[2]), headers(&[2, 4])]),
    (
        TypeId::of::<v1::ProduceStreamRequest>(),
        &[
            records(&[2, 2]),
            headers(&[2, 2, 4]),
            Repeated::new("sequences", &[1, 3], SEQUENCES_MAX),
        ],
    ),
    (
        TypeId::of::<v1::SubscribeRequest>(),
        &[things(&[1, 1]), things(&[2, 2])],
    ),
    (TypeId::of::<v1::CommitRequest>(), &[things(&[3])]),
    (
        TypeId::of::<v1::CreateTopicsRequest>(),
        &[things(&[1]), things(&[1, 3])],
    ),
    (TypeId::of::<v1::DeleteTopicsRequest>(), LIST),
    (TypeId::of::<v1::DescribeTopicsRequest>(), LIST),
    (TypeId::of::<v1::CreatePartitionsRequest>(), LIST),
    (TypeId::of::<v1::DescribeConfigsRequest>(), LIST),
    (
        TypeId::of::<v1::AlterConfigsRequest>(),
        &[things(&[1]), things(&[1, 2])],
    ),
    (TypeId::of::<v1::ListOffsetsRequest>(), LIST),
    (TypeId::of::<v1::DeleteRecordsRequest>(), LIST),
    (TypeId::of::<v1::DescribeGroupsRequest>(), LIST),
    (TypeId::of::<v1::DeleteGroupsRequest>(), LIST),
    (
        TypeId::of::<v1::GroupOffsetsRequest>(),
        &[things(&[2]), numbers(&[2, 2])],
    ),
    (TypeId::of::<v1::AlterGroupOffsetsRequest>(), &[things(&[2])]),
];

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
    type Encoder = FittingEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        FittingEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Takes memory for the whole message at once: records are not copied again and again as it grows.
#[derive(Clone, Debug)]
pub struct FittingEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for FittingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.reserve(item.encoded_len());
        item.encode_raw(target);
        Ok(())
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
        check(&bytes, repeated_in::<U>())?;
        let decoded = U::decode(bytes);
        decoded
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("{error}; this is no message of the API")))
    }
}

fn repeated_in<U: 'static>() -> &'static [Repeated] {
    let kind = TypeId::of::<U>();
    let found = REQUESTS.iter().find(|(request, _)| *request == kind);
    found.map_or(&[], |(_, repeated)| repeated)
}

fn check(message: &[u8], repeated: &[Repeated]) -> Result<(), Status> {
    for repeated in repeated {
        let Repeated { what, most, .. } = repeated;
        if repeated.count(message, repeated.path)? > *most {
            return Err(Status::invalid_argument(format!(
                "more than {most} {what} in one message; send fewer at once"
            )));
        }
    }
    Ok(())
}

impl Repeated {
    /// How many there are in a message, at the end of this path; when it is clear that there are too many, it ends.
    fn count(&self, message: &[u8], path: &[u64]) -> Result<usize, Status> {
        let Some((wanted, deeper)) = path.split_first() else {
            let numbers = || message.iter().filter(|byte| **byte < 0x80).count();
            return Ok(if self.packed { numbers() } else { 1 });
        };
        let (mut counted, mut rest) = (0, message);
        while !rest.is_empty() && counted <= self.most {
            let (field, value) = take_field(&mut rest)?;
            if field == *wanted {
                counted += value.map_or(Ok(1), |value| self.count(value, deeper))?;
            }
        }
        Ok(counted)
    }
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
        let request = v1::ProduceRequest {
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
        let request = v1::ProduceStreamRequest {
            step: Some(Step::Batch(batch)),
        };
        request.encode_to_vec()
    }

    fn refused<U: 'static>(message: &[u8]) -> String {
        check(message, repeated_in::<U>()).unwrap_err().message().to_owned()
    }

    #[test]
    fn records_and_headers_are_counted_where_they_are() {
        let produce = repeated_in::<v1::ProduceRequest>();
        let stream = repeated_in::<v1::ProduceStreamRequest>();
        for (message, repeated) in [
            (request as fn(usize, usize) -> Vec<u8>, produce),
            (step as fn(usize, usize) -> Vec<u8>, stream),
        ] {
            assert!(check(&message(RECORDS_MAX, HEADERS_MAX), repeated).is_ok());
            let refused = check(&message(RECORDS_MAX + 1, 0), repeated).unwrap_err();
            assert!(refused.message().contains("records in one message"), "{refused}");
            let refused = check(&message(1, HEADERS_MAX + 1), repeated).unwrap_err();
            assert!(refused.message().contains("headers in one message"), "{refused}");
        }
        // The parts of a message that comes in several add up.
        let twice = [step(RECORDS_MAX / 2 + 1, 0), step(RECORDS_MAX / 2 + 1, 0)].concat();
        assert!(check(&twice, stream).is_err());
    }

    #[test]
    fn what_requests_name_is_counted() {
        let topics = |count| v1::CreateTopicsRequest {
            topics: vec![v1::NewTopic::default(); count],
            ..Default::default()
        };
        let repeated = repeated_in::<v1::CreateTopicsRequest>();
        assert!(check(&topics(THINGS_MAX).encode_to_vec(), repeated).is_ok());
        assert!(refused::<v1::CreateTopicsRequest>(&topics(THINGS_MAX + 1).encode_to_vec()).contains("things"));
        // Packed or not, and however they are divided.
        let partitions = |count| v1::TopicPartitions {
            topic: "t".to_owned(),
            partitions: vec![300; count],
        };
        let offsets = v1::GroupOffsetsRequest {
            partitions: vec![partitions(THINGS_MAX / 2), partitions(THINGS_MAX / 2 + 1)],
            ..Default::default()
        };
        assert!(refused::<v1::GroupOffsetsRequest>(&offsets.encode_to_vec()).contains("partitions"));
        let mut unpacked = vec![0x12, 0, 0, 0];
        unpacked.extend([0x10, 1].repeat(THINGS_MAX + 1));
        let length = u32::try_from(unpacked.len() - 4).unwrap();
        for (nth, shift) in [0, 7, 14].into_iter().enumerate() {
            let more = if nth < 2 { 0x80 } else { 0 };
            unpacked[nth + 1] = u8::try_from(length >> shift & 0x7f).unwrap() | more;
        }
        let decoded = v1::GroupOffsetsRequest::decode(&unpacked[..]).unwrap();
        assert_eq!(decoded.partitions[0].partitions.len(), THINGS_MAX + 1);
        assert!(refused::<v1::GroupOffsetsRequest>(&unpacked).contains("partitions"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for garbage in [&b"\xff"[..], b"\x12\x7f", b"\x0b\x0c", b"\x12\x02\x0b\x0c", &[0xff; 11]] {
            assert!(
                refused::<v1::ProduceRequest>(garbage).contains("no message"),
                "{garbage:?}"
            );
        }
    }
}
