//! The walk over a Produce request sees what the generated decoder sees, and refuses what it refuses.

mod schema;

use bytes::Bytes;
use esker_kafka::messages::ProduceRequest;
use esker_kafka::{DecodeError, ProducePartition, ProduceWalk, Reader, Str, TopicRef};
use schema::random::{Rng, sample};

#[derive(Debug, PartialEq)]
struct Seen {
    transactional_id: Option<Str>,
    acks: i16,
    timeout_ms: i32,
    partitions: Vec<ProducePartition>,
}

fn walked(bytes: Bytes, version: i16) -> Result<Seen, DecodeError> {
    let mut walk = ProduceWalk::new(Reader::new(bytes), version)?;
    let mut partitions = Vec::new();
    while let Some(partition) = walk.next_partition()? {
        partitions.push(partition);
    }
    Ok(Seen {
        transactional_id: walk.transactional_id.clone(),
        acks: walk.acks,
        timeout_ms: walk.timeout_ms,
        partitions,
    })
}

fn decoded(bytes: Bytes, version: i16) -> Result<Seen, DecodeError> {
    let mut r = Reader::new(bytes);
    let request = ProduceRequest::decode(&mut r, version)?;
    let mut partitions = Vec::new();
    for topic in request.topic_data {
        let named = if version >= 13 {
            TopicRef::Id(topic.topic_id)
        } else {
            TopicRef::Name(topic.name)
        };
        for partition in topic.partition_data {
            partitions.push(ProducePartition {
                topic: named.clone(),
                index: partition.index,
                records: partition.records.map(|records| records.to_bytes()),
            });
        }
    }
    Ok(Seen {
        transactional_id: request.transactional_id,
        acks: request.acks,
        timeout_ms: request.timeout_ms,
        partitions,
    })
}

#[test]
fn walk_and_decoder_agree_on_good_and_on_damaged_requests() {
    let definitions = schema::definition::load_all();
    let definition = &definitions["ProduceRequest"];
    let (mut good, mut bad) = (0, 0);
    for version in ProduceRequest::VERSION_MIN..=ProduceRequest::VERSION_MAX {
        for seed in 0..300 {
            let mut rng = Rng(seed);
            let richness = 1 + rng.below(4);
            let mut bytes = sample(definition, version, &mut rng, richness).bytes;
            // Every third as it is, the others with a byte changed, cut off, or one more.
            match seed % 6 {
                1 | 2 => {
                    let at = rng.below(bytes.len());
                    bytes[at] = rng.next().to_le_bytes()[0];
                }
                4 => bytes.truncate(rng.below(bytes.len())),
                5 => bytes.push(0),
                _ => {}
            }
            let bytes = Bytes::from(bytes);
            let expected = decoded(bytes.clone(), version);
            if expected.is_ok() {
                good += 1
            } else {
                bad += 1
            }
            assert_eq!(walked(bytes, version), expected, "version {version} seed {seed}");
        }
    }
    assert!(good > 1000 && bad > 500, "{good} good and {bad} bad requests");
}

#[test]
fn walk_and_decoder_agree_on_every_hostile_length() {
    let definitions = schema::definition::load_all();
    for version in ProduceRequest::VERSION_MIN..=ProduceRequest::VERSION_MAX {
        let request = sample(&definitions["ProduceRequest"], version, &mut Rng(5), 3);
        for mark in request.marks {
            for value in [0u8, 1, 2, 0x7f, 0x80, 0xff] {
                let mut bytes = request.bytes.clone();
                bytes[mark.at..mark.at + mark.bytes].fill(value);
                bytes.resize(bytes.len() + 40_000, value);
                let bytes = Bytes::from(bytes);
                assert_eq!(
                    walked(bytes.clone(), version),
                    decoded(bytes, version),
                    "{version} {mark:?} {value}"
                );
            }
        }
    }
}

/// Kafka takes as much of a frame as the request is.
#[test]
fn bytes_after_a_request_are_ignored() {
    let definitions = schema::definition::load_all();
    for version in ProduceRequest::VERSION_MIN..=ProduceRequest::VERSION_MAX {
        let mut bytes = sample(&definitions["ProduceRequest"], version, &mut Rng(5), 3).bytes;
        let alone = walked(Bytes::from(bytes.clone()), version).unwrap();
        bytes.extend([0, 1, 0xff]);
        assert_eq!(walked(Bytes::from(bytes), version), Ok(alone), "version {version}");
    }
}

#[test]
fn versions_that_cannot_be_decoded_are_refused() {
    for version in [-1, 0, 2, 14] {
        let refused = ProduceWalk::new(Reader::new(Bytes::from_static(&[0; 32])), version);
        assert!(
            matches!(refused, Err(DecodeError::UnsupportedVersion { .. })),
            "{version}"
        );
    }
}

#[test]
fn record_bytes_share_the_frame() {
    let mut frame = vec![
        0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 3,
    ];
    frame.extend(b"abc");
    let frame = Bytes::from(frame);
    let mut walk = ProduceWalk::new(Reader::new(frame.clone()), 3).unwrap();
    let partition = walk.next_partition().unwrap().unwrap();
    let records = partition.records.unwrap();
    assert_eq!(records, "abc");
    assert_eq!(records.as_ptr(), frame[frame.len() - 3..].as_ptr());
    assert_eq!(walk.next_partition(), Ok(None));
}
