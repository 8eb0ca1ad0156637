//! The batch index: round trips, bytes that must never change, and everything that must be refused.

use proptest::prelude::*;

use super::{BatchIndex, BatchMeta, IndexSize, ProducerStamp, Run};
use crate::id::{LogIndex, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};
use crate::wire::{Decoder, Encoder, FormatError};

/// Any batch that passes `check`, mostly of the kind that really occurs.
pub(crate) fn any_batch() -> impl Strategy<Value = BatchMeta> {
    let timestamp = prop_oneof![8 => 1_700_000_000_000..1_700_000_001_000_i64, 1 => any::<i64>()];
    let id = prop_oneof![8 => 1000..1010_i64, 1 => 0..=i64::MAX];
    let stamp = (id, 0..=i16::MAX, 0..=i32::MAX, any::<bool>(), any::<Option<u64>>()).prop_map(
        |(id, epoch, sequence, transactional, verified_at)| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            first_sequence: Sequence(sequence),
            transactional,
            verified_at: verified_at.filter(|_| transactional).map(LogIndex),
        },
    );
    let records = prop_oneof![4 => 1..1000_u32, 1 => 1..=i32::MAX.unsigned_abs()];
    let bytes = prop_oneof![4 => 61..70_000_u32, 1 => 61..=i32::MAX.unsigned_abs()];
    (records, bytes, timestamp, any::<u32>(), prop::option::of(stamp)).prop_map(
        |(records, bytes, max_timestamp, crc, producer)| BatchMeta {
            records,
            bytes,
            max_timestamp: Timestamp(max_timestamp),
            crc,
            producer,
        },
    )
}

/// A run in which some batches continue the one before.
fn any_batches() -> impl Strategy<Value = Vec<BatchMeta>> {
    prop::collection::vec((any_batch(), any::<bool>()), 1..5).prop_map(|drawn| {
        let mut batches: Vec<BatchMeta> = Vec::new();
        for (mut batch, continues) in drawn {
            if let Some(stamp) = batches.last().filter(|_| continues).and_then(|last| {
                last.producer.map(|stamp| ProducerStamp {
                    first_sequence: stamp.first_sequence.plus(last.records),
                    ..stamp
                })
            }) {
                batch.producer = Some(stamp);
            }
            batches.push(batch);
        }
        batches
    })
}

pub(crate) fn any_index() -> impl Strategy<Value = BatchIndex> {
    let topic = prop_oneof![0..4_u128, any::<u128>()];
    let partition = prop_oneof![0..4_u32, any::<u32>()];
    prop::collection::btree_map((topic, partition), any_batches(), 0..8).prop_map(|runs| BatchIndex {
        runs: runs
            .into_iter()
            .map(|((topic, partition), batches)| Run {
                topic: TopicId(topic),
                partition: PartitionIndex(partition),
                batches,
            })
            .collect(),
    })
}

fn encoded(index: &BatchIndex) -> Vec<u8> {
    let mut out = Encoder::new();
    index.encode(&mut out);
    out.finish()
}

proptest! {
    #[test]
    fn an_index_reads_back(index in any_index()) {
        prop_assert_eq!(index.check(), Ok(()));
        let bytes = encoded(&index);
        let mut input = Decoder::new(&bytes);
        prop_assert_eq!(BatchIndex::decode(&mut input), Ok(index));
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn the_size_bound_holds_for_any_order_of_arrival(
        (index, arrival) in any_index().prop_flat_map(|index| {
            let flat: Vec<_> =
                index.runs.iter().flat_map(|run| run.batches.iter().map(|batch| (run.at(), *batch))).collect();
            (Just(index), Just(flat).prop_shuffle())
        })
    ) {
        let mut size = IndexSize::default();
        for (at, batch) in &arrival {
            size.add(*at, batch);
        }
        prop_assert!(size.bound_bytes() >= index.encoded_len(), "{} < {}", size.bound_bytes(), index.encoded_len());
        prop_assert_eq!(size.batches(), arrival.len() as u64);
    }

    #[test]
    fn arbitrary_bytes_decode_to_a_valid_index_or_to_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(index) = BatchIndex::decode(&mut Decoder::new(&bytes)) {
            prop_assert_eq!(index.check(), Ok(()));
        }
    }

    #[test]
    fn a_damaged_index_decodes_to_a_valid_one_or_to_an_error(
        index in any_index(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&index);
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(index) = BatchIndex::decode(&mut Decoder::new(&bytes)) {
            prop_assert_eq!(index.check(), Ok(()));
        }
    }
}

fn batch(sequence: i32) -> BatchMeta {
    BatchMeta {
        records: 10,
        bytes: 1024,
        max_timestamp: Timestamp(1_700_000_000_000),
        crc: 0xdead_beef,
        producer: Some(ProducerStamp {
            id: ProducerId(4001),
            epoch: ProducerEpoch(0),
            first_sequence: Sequence(sequence),
            transactional: false,
            verified_at: None,
        }),
    }
}

fn run(topic: u128, partition: u32, batches: Vec<BatchMeta>) -> Run {
    Run {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
        batches,
    }
}

#[test]
fn the_bytes_of_version_1_do_not_change() {
    let plain = BatchMeta {
        producer: None,
        max_timestamp: Timestamp(-1),
        ..batch(0)
    };
    let verified = ProducerStamp {
        id: ProducerId(4000),
        epoch: ProducerEpoch(3),
        transactional: true,
        verified_at: Some(LogIndex(300)),
        ..batch(7).producer.unwrap()
    };
    let verified = BatchMeta {
        producer: Some(verified),
        ..batch(7)
    };
    let index = BatchIndex {
        runs: vec![
            run(1, 5, vec![batch(0), batch(10)]),
            run(1, 7, vec![batch(90), plain, verified]),
        ],
    };
    #[rustfmt::skip]
    let golden = [
        2,                                                       // runs
        5 << 1 | 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // partition 5 of a new topic, 1
        2,                                                       // batches
        3, 10, 0x80, 8, 0x80, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0xef, 0xbe, 0xad, 0xde, 0xc2, 0x3e, 0, 0, // all of it
        1, 10, 0x80, 8, 0, 0xef, 0xbe, 0xad, 0xde,               // continues
        2 << 1, 3,                                               // partition 7 of the same topic, three batches
        2, 10, 0x80, 8, 0, 0xef, 0xbe, 0xad, 0xde, 90,           // same producer, sequence 90
        0, 10, 0x80, 8, 0x81, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0xef, 0xbe, 0xad, 0xde, // no producer, no timestamp
        15, 10, 0x80, 8, 0x82, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0xef, 0xbe, 0xad, 0xde, 1, 3, 7, 0xac, 2, // verified at 300
    ];
    assert_eq!(encoded(&index), golden);
    assert_eq!(BatchIndex::decode(&mut Decoder::new(&golden)), Ok(index));
}

#[test]
fn typical_idempotent_batches_take_at_most_16_bytes_each() {
    // 200 partitions of one topic, two producers, one batch each per flush: no run is longer than two batches.
    let mut size = IndexSize::default();
    let runs: Vec<Run> = (0..200)
        .map(|partition| {
            let stamped = |id: i64, time: i64| {
                let mut batch = batch(1_000_000 + i32::try_from(partition).unwrap() * 977);
                batch.max_timestamp.0 += time + i64::from(partition % 17);
                batch.producer = batch.producer.map(|stamp| ProducerStamp {
                    id: ProducerId(id),
                    ..stamp
                });
                batch
            };
            run(77, partition, vec![stamped(4001, 40), stamped(4002, 0)])
        })
        .collect();
    let index = BatchIndex { runs };
    for run in &index.runs {
        run.batches.iter().for_each(|batch| size.add(run.at(), batch));
    }
    let (batches, bytes, bound) = (index.batches(), index.encoded_len(), size.bound_bytes());
    assert!(bytes <= 16 * batches, "{bytes} bytes for {batches} batches");
    assert!(
        bound <= bytes + bytes / 4,
        "the bound {bound} wastes more than a quarter of {bytes}"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let good = batch(0);
    let stamped = |change: fn(&mut ProducerStamp)| {
        let mut stamp = good.producer.unwrap();
        change(&mut stamp);
        BatchMeta {
            producer: Some(stamp),
            ..good
        }
    };
    for bad in [
        BatchMeta { records: 0, ..good },
        BatchMeta {
            records: 1 << 31,
            ..good
        },
        BatchMeta { bytes: 60, ..good },
        BatchMeta { bytes: 1 << 31, ..good },
        stamped(|stamp| stamp.id.0 = -1),
        stamped(|stamp| stamp.epoch.0 = -1),
        stamped(|stamp| stamp.first_sequence.0 = -1),
        stamped(|stamp| stamp.verified_at = Some(LogIndex(1))),
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
        let index = BatchIndex {
            runs: vec![run(1, 0, vec![bad])],
        };
        assert!(
            BatchIndex::decode(&mut Decoder::new(&encoded(&index))).is_err(),
            "{bad:?}"
        );
    }
}

#[test]
fn runs_out_of_order_repeated_or_empty_are_refused() {
    let order = Err(FormatError::Invalid { what: "order of runs" });
    let twice = BatchIndex {
        runs: vec![run(1, 0, vec![batch(0)]), run(1, 0, vec![batch(0)])],
    };
    assert_eq!(twice.check(), order);
    assert_eq!(
        BatchIndex::decode(&mut Decoder::new(&encoded(&twice))).map(|_| ()),
        order
    );
    let back = BatchIndex {
        runs: vec![run(2, 0, vec![batch(0)]), run(1, 0, vec![batch(0)])],
    };
    assert_eq!(back.check(), order);
    let empty = BatchIndex {
        runs: vec![run(1, 0, vec![])],
    };
    assert_eq!(
        empty.check(),
        Err(FormatError::Invalid {
            what: "run without batches"
        })
    );
    // The same topic announced twice would be a second encoding.
    let mut again = encoded(&BatchIndex {
        runs: vec![run(1, 0, vec![batch(0)])],
    });
    let run = again[1..].to_vec();
    again[0] = 2;
    again.extend_from_slice(&run);
    assert!(BatchIndex::decode(&mut Decoder::new(&again)).is_err());
}

#[test]
fn a_huge_count_allocates_nothing() {
    let mut out = Encoder::new();
    out.varint(u64::MAX);
    let refused = BatchIndex::decode(&mut Decoder::new(out.as_slice()));
    assert!(
        matches!(refused, Err(FormatError::Truncated { left: 0, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_stamp_relative_to_nothing_is_refused() {
    for mode in [1, 2] {
        let mut out = Encoder::new();
        out.count(1);
        out.varint(1);
        out.u128(1);
        out.count(1);
        out.raw(&[mode, 1, 61, 0, 0, 0, 0, 0, 0]);
        let refused = BatchIndex::decode(&mut Decoder::new(out.as_slice()));
        assert_eq!(
            refused,
            Err(FormatError::Invalid {
                what: "producer relative to none"
            })
        );
    }
}
