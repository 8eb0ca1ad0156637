//! What a producer must not send is refused, with the code that Kafka answers.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_kafka::records::{
    Batch, BatchBuilder, BatchError, BatchHeader, Codec, Compression, InvalidRecord, ProduceLimits, Record,
    validate_produce_batch,
};

const LIMITS: ProduceLimits = ProduceLimits {
    batch_bytes_max: 1 << 20,
};
const LATEST: i16 = 13;

fn records(count: i64) -> Vec<Record> {
    let record = |i: i64| Record {
        offset: i,
        timestamp: 1_700_000_000_000 + i * 3 - (i % 5) * 10,
        key: (i % 3 != 0).then(|| Bytes::from(format!("key {i}"))),
        value: (i % 4 != 3).then(|| Bytes::from(vec![b'v'; usize::try_from(i * 37 % 900).unwrap()])),
        headers: (0..i % 3).map(|h| ("same key", (h != 1).then_some([7u8; 2]))).collect(),
    };
    (0..count).map(record).collect()
}

fn build(codec: impl Into<Codec>, records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::new(codec.into());
    for record in records {
        builder
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )
            .unwrap();
    }
    builder.build().unwrap()
}

/// A valid batch of three records with a changed header and, if asked for, a CRC that fits.
fn altered(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let batch = build(Compression::None, &records(3));
    let mut header = *batch.header();
    change(&mut header);
    let bytes = [&header.to_bytes()[..], &batch.body()].concat();
    with_crc(bytes)
}

fn with_crc(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]);
    bytes[17..21].copy_from_slice(&u32::try_from(crc).unwrap().to_be_bytes());
    Bytes::from(bytes)
}

fn refusal(bytes: &Bytes) -> BatchError {
    validate_produce_batch(bytes, LIMITS, LATEST).unwrap_err()
}

#[test]
fn damage_is_noticed_wherever_it_is() {
    let good = build(Compression::None, &records(3)).bytes().clone();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x40;
        let bytes = Bytes::from(bytes);
        // Only the leader epoch is not protected, and not the producer's to say.
        let accepted = validate_produce_batch(&bytes, LIMITS, LATEST).is_ok();
        assert_eq!(accepted, (12..16).contains(&at), "byte {at}");
    }
    for cut in 0..good.len() {
        assert!(
            validate_produce_batch(&good.slice(..cut), LIMITS, LATEST).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn what_producers_must_not_send_gets_kafkas_code() {
    let invalid = |bytes: &Bytes| match refusal(bytes) {
        BatchError::InvalidRecord { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        invalid(&altered(|h| h.base_offset = 5)),
        InvalidRecord::BaseOffset { base_offset: 5 }
    );
    assert_eq!(
        invalid(&altered(|h| h.count = 2)),
        InvalidRecord::Count {
            count: 2,
            last_offset_delta: 2
        }
    );
    assert_eq!(
        invalid(&altered(|h| h.count = i32::MIN)),
        InvalidRecord::Count {
            count: i32::MIN,
            last_offset_delta: 2
        }
    );
    let none = altered(|h| (h.count, h.last_offset_delta) = (0, -1));
    assert_eq!(
        invalid(&none),
        InvalidRecord::Count {
            count: 0,
            last_offset_delta: -1
        }
    );
    assert_eq!(invalid(&altered(|h| h.attributes |= 0x20)), InvalidRecord::Control);
    assert_eq!(
        invalid(&altered(|h| h.attributes |= 0x40)),
        InvalidRecord::DeleteHorizon
    );
    assert_eq!(
        invalid(&altered(|h| h.attributes |= 0x10)),
        InvalidRecord::TransactionalWithoutProducer
    );
    assert_eq!(
        invalid(&altered(|h| h.producer_id = 1)),
        InvalidRecord::Producer {
            id: 1,
            epoch: -1,
            sequence: -1
        }
    );
    assert_eq!(invalid(&Bytes::new()), InvalidRecord::NotOneBatch);
    let twice = altered(|_| ());
    assert_eq!(
        invalid(&Bytes::from([&twice[..], &twice].concat())),
        InvalidRecord::NotOneBatch
    );
}

#[test]
fn other_refusals_have_kafkas_codes_too() {
    let twice = altered(|_| ());
    let code = |bytes: &Bytes| refusal(bytes).code();
    assert_eq!(code(&altered(|h| h.attributes |= 0x08)), ErrorCode::InvalidTimestamp);
    assert_eq!(
        code(&altered(|h| h.attributes |= 0x05)),
        ErrorCode::UnsupportedCompressionType
    );
    assert_eq!(code(&altered(|h| h.batch_length = -1)), ErrorCode::CorruptMessage);
    assert_eq!(code(&altered(|h| h.batch_length = i32::MAX)), ErrorCode::CorruptMessage);
    assert_eq!(code(&altered(|h| h.count = 2)), ErrorCode::InvalidRecord);
    for magic in [0u8, 1, 3] {
        let mut old = altered(|_| ()).to_vec();
        old[16] = magic;
        assert_eq!(
            refusal(&Bytes::from(old)),
            BatchError::UnsupportedMagic {
                magic: i8::try_from(magic).unwrap()
            }
        );
    }
    let limits = ProduceLimits {
        batch_bytes_max: twice.len() - 1,
    };
    let large = validate_produce_batch(&twice, limits, LATEST).unwrap_err();
    assert_eq!(large.code(), ErrorCode::MessageTooLarge);
}

#[test]
fn idempotent_and_transactional_batches_are_accepted() {
    let with_producer = |h: &mut BatchHeader| (h.producer_id, h.producer_epoch, h.base_sequence) = (7, 0, i32::MAX);
    let batch = validate_produce_batch(&altered(with_producer), LIMITS, LATEST).unwrap();
    assert_eq!(batch.header().last_sequence(), 1, "sequence numbers wrap to 0");
    let transactional = altered(|h| {
        with_producer(h);
        h.attributes |= 0x10;
    });
    assert!(
        validate_produce_batch(&transactional, LIMITS, LATEST)
            .unwrap()
            .header()
            .is_transactional()
    );
    // Some clients leave a sequence of 0 in batches without a producer id.
    validate_produce_batch(&altered(|h| h.base_sequence = 0), LIMITS, LATEST).unwrap();
}

#[test]
fn zstd_needs_produce_version_7() {
    let batch = build(Compression::Zstd, &records(3));
    let refused = validate_produce_batch(batch.bytes(), LIMITS, 6).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UnsupportedCompressionType);
    validate_produce_batch(batch.bytes(), LIMITS, 7).unwrap();
}
