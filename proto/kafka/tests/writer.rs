//! Encoding shares what is large, copies what is small, and refuses what the protocol cannot say.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use esker_kafka::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use esker_kafka::messages::{MetadataRequest, MetadataResponse, ProduceRequest, RequestHeader};
use esker_kafka::{EncodeError, Reader, Records, SHARE_BYTES_MIN, STRING_LEN_MAX, Str, Uuid, Writer};

fn fetch_response(partitions: Vec<Records>) -> FetchResponse {
    let partitions = partitions
        .into_iter()
        .map(|records| PartitionData {
            records: Some(records),
            ..PartitionData::default()
        })
        .collect();
    let topic = FetchableTopicResponse {
        topic_id: Uuid(7),
        partitions,
        ..FetchableTopicResponse::default()
    };
    FetchResponse {
        responses: vec![topic],
        ..FetchResponse::default()
    }
}

#[test]
fn record_bytes_are_gathered_not_copied() {
    let bodies: Vec<Bytes> = (1..4u8)
        .map(|n| Bytes::from(vec![n; SHARE_BYTES_MIN * usize::from(n)]))
        .collect();
    let one: Records = [
        Bytes::from_static(&[9; 61]),
        bodies[0].clone(),
        Bytes::from_static(&[8; 61]),
        bodies[1].clone(),
    ]
    .into_iter()
    .collect();
    let response = fetch_response(vec![one, Records::from(bodies[2].clone())]);
    let mut w = Writer::framed();
    w.i32(77);
    response.encode(&mut w, 17).unwrap();
    let announced = w.len();
    let chunks = w.finish().unwrap();
    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), announced);
    for body in &bodies {
        assert!(
            chunks.iter().any(|chunk| chunk.as_ptr() == body.as_ptr()),
            "a body was copied"
        );
    }
    // Header and small parts, body, patched header, body, rest and next partition, body, end.
    assert_eq!(chunks.len(), 7);

    let frame = Bytes::from(chunks.concat());
    let mut r = Reader::new(frame);
    assert_eq!(
        usize::try_from(r.i32().unwrap()).unwrap(),
        r.remaining(),
        "length prefix"
    );
    assert_eq!(r.i32().unwrap(), 77);
    let again = FetchResponse::decode(&mut r, 17).unwrap();
    r.finish().unwrap();
    assert_eq!(again, response);
    let partition = &again.responses[0].partitions[0];
    assert_eq!(
        partition.records.as_ref().unwrap().chunks().len(),
        1,
        "decoding yields one chunk"
    );
}

#[test]
fn one_frame_without_large_values_is_one_chunk() {
    let mut w = Writer::framed();
    MetadataResponse::default().encode(&mut w, 12).unwrap();
    let chunks = w.finish().unwrap();
    assert_eq!(chunks.len(), 1);
    assert_eq!(
        chunks[0][..4],
        u32::try_from(chunks[0].len() - 4).unwrap().to_be_bytes()
    );
    assert_eq!(Writer::new().finish().unwrap(), Vec::<Bytes>::new());
    assert_eq!(Writer::framed().into_bytes().unwrap(), Bytes::from_static(&[0; 4]));
}

#[test]
fn values_that_a_version_cannot_carry_are_refused() {
    let encode = |request: &MetadataRequest, version| request.encode(&mut Writer::new(), version);
    // Asking for all topics is null from version 1 on.
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    assert_eq!(
        encode(&all, 0),
        Err(EncodeError::UnexpectedNull {
            field: "MetadataRequest.topics"
        })
    );
    assert_eq!(encode(&all, 1), Ok(()));
    let quiet = MetadataRequest {
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let refused = EncodeError::UnsupportedField {
        field: "MetadataRequest.allow_auto_topic_creation",
        version: 3,
    };
    assert_eq!(encode(&quiet, 3), Err(refused));
    assert_eq!(encode(&quiet, 4), Ok(()));
    let refused = EncodeError::UnsupportedVersion {
        message: "MetadataRequest",
        version: 99,
    };
    assert_eq!(encode(&quiet, 99), Err(refused));
}

#[test]
fn strings_beyond_the_protocols_limit_are_refused_both_ways() {
    for version in [3, 13] {
        for (length, fits) in [(STRING_LEN_MAX, true), (STRING_LEN_MAX + 1, false)] {
            let id = Some(Str::from("x".repeat(length)));
            let request = ProduceRequest {
                transactional_id: id,
                ..ProduceRequest::default()
            };
            let mut w = Writer::new();
            let refused = Err(EncodeError::TooLong { length });
            assert_eq!(request.encode(&mut w, version), if fits { Ok(()) } else { refused });
        }
    }
    // Compact length 0x8001: 32,768 bytes.
    let mut frame = vec![0x81, 0x80, 0x02];
    frame.resize(40_000, b'x');
    let refused = Reader::new(Bytes::from(frame)).string(true);
    assert_eq!(
        refused,
        Err(esker_kafka::DecodeError::StringTooLong { at: 0, length: 32_768 })
    );
}

#[test]
fn request_headers_keep_the_old_string_form_of_the_client_id() {
    let header = RequestHeader {
        request_api_key: 18,
        request_api_version: 3,
        correlation_id: 5,
        client_id: Some("me".into()),
    };
    let mut w = Writer::new();
    header.encode(&mut w, 2).unwrap();
    assert_eq!(
        w.into_bytes().unwrap(),
        Bytes::from_static(b"\0\x12\0\x03\0\0\0\x05\0\x02me\0")
    );
}

#[test]
fn strings_compare_and_hash_as_text() {
    use std::collections::{BTreeSet, HashSet};
    let frame = Bytes::from_static(b"\0\x05topic");
    let shared = Reader::new(frame.clone()).string(false).unwrap();
    assert_eq!(shared, "topic");
    assert_eq!(shared.as_bytes().as_ptr(), frame[2..].as_ptr(), "shares the frame");
    assert_ne!(
        shared.detached().as_bytes().as_ptr(),
        frame[2..].as_ptr(),
        "has its own memory"
    );
    assert!(HashSet::from([shared.clone()]).contains("topic"));
    assert!(BTreeSet::from([shared.clone()]).contains("topic"));
    let mut sorted = [shared.clone(), Str::from("b"), Str::new(), Str::from("a")];
    sorted.sort();
    assert_eq!(sorted, ["", "a", "b", "topic"]);
    let bad = Reader::new(Bytes::from_static(b"\0\x02\xc3\x28")).string(false);
    assert_eq!(bad, Err(esker_kafka::DecodeError::InvalidUtf8 { at: 0 }));
}
