//! Random logs over a few topics, producers and groups: small enough that everything meets everything.

use bytes::Bytes;
use esker_model::entry::{
    ExpireProducers, FeatureLevel, ForgetAborted, Incarnation, Limits, OffsetAction, OffsetChange, OffsetCommit,
    Offsets, Opaque, PartitionsGrow, ProducerFence, ProducerIds, SegmentEntry, TopicCreate, TopicDelete, Trim, TxnEnd,
    TxnOutcome, TxnStamp,
};
use esker_model::{CommitRecord, Entry};
use esker_segment::checksum::content_hash;
use esker_segment::id::{
    IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber,
    Sequence, SessionId, Timestamp, TopicId, TopicPartition,
};
use esker_segment::index::{BatchIndex, BatchMeta, ProducerStamp, Run};
use esker_segment::name::SegmentName;
use esker_segment::segment::SEGMENT_HEADER_BYTES;
use esker_segment::wire::Encoder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Producer ids that a log grants at its beginning, and one more that it may not.
const PRODUCERS: i64 = 5;

pub(crate) fn partition() -> impl Strategy<Value = TopicPartition> {
    (1..4_u128, 0..2_u32).prop_map(|(topic, partition)| TopicPartition {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    })
}

fn producer() -> impl Strategy<Value = (ProducerId, ProducerEpoch)> {
    (0..=PRODUCERS, 0..3_i16).prop_map(|(id, epoch)| (ProducerId(id), ProducerEpoch(epoch)))
}

/// Batches are mostly of one record with low sequences, so that many of them fit together.
pub(crate) fn batch() -> impl Strategy<Value = BatchMeta> {
    let stamp = (producer(), 0..4_i32, any::<bool>(), option::weighted(0.3, 0..30_u64));
    let stamp = stamp.prop_map(|((id, epoch), sequence, transactional, verified)| ProducerStamp {
        id,
        epoch,
        first_sequence: Sequence(sequence),
        transactional,
        verified_at: verified.map(LogIndex).filter(|_| transactional),
    });
    (1..3_u32, 61..300_u32, -1..1000_i64, option::weighted(0.8, stamp)).prop_map(|(records, bytes, ts, producer)| {
        BatchMeta {
            records,
            bytes,
            max_timestamp: Timestamp(ts),
            crc: 7,
            producer,
        }
    })
}

pub(crate) fn index() -> impl Strategy<Value = BatchIndex> {
    vec((partition(), vec(batch(), 1..4)), 1..4).prop_map(|runs| {
        let mut sorted = std::collections::BTreeMap::new();
        for (at, batches) in runs {
            sorted.entry(at).or_insert_with(Vec::new).extend(batches);
        }
        let run = |(at, batches): (TopicPartition, _)| Run {
            topic: at.topic,
            partition: at.partition,
            batches,
        };
        BatchIndex {
            runs: sorted.into_iter().map(run).collect(),
        }
    })
}

fn hash(index: &BatchIndex) -> u128 {
    let mut out = Encoder::new();
    index.encode(&mut out);
    content_hash(out.as_slice())
}

pub(crate) fn segment_of(index: BatchIndex, number: u64) -> SegmentEntry {
    SegmentEntry {
        name: SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(number % 3),
            number: SegmentNumber(number),
            attempt: 0,
        },
        bytes: SEGMENT_HEADER_BYTES + index.bytes() + 50,
        content_hash: hash(&index),
        zone: ["", "a", "b"][usize::try_from(number % 3).unwrap()].into(),
        confirmed: number & 7,
        index,
    }
}

fn commit() -> impl Strategy<Value = OffsetCommit> {
    (-1..20_i64, option::of(0..3_u32), "[a-z]{0,4}", any::<i64>()).prop_map(|(offset, leader_epoch, metadata, ts)| {
        OffsetCommit {
            offset: Offset(offset),
            leader_epoch,
            metadata: metadata.into(),
            timestamp: Timestamp(ts),
        }
    })
}

fn offsets() -> impl Strategy<Value = Entry> {
    let action = prop_oneof![
        6 => commit().prop_map(OffsetAction::Commit),
        1 => Just(OffsetAction::Delete),
        1 => (0..40_u64).prop_map(|index| OffsetAction::Expire { untouched_since: LogIndex(index) }),
    ];
    let change = (partition(), action).prop_map(|(at, action)| OffsetChange {
        topic: at.topic,
        partition: at.partition,
        action,
    });
    let txn = (producer(), option::weighted(0.3, 0..30_u64)).prop_map(|((producer, epoch), verified)| TxnStamp {
        producer,
        epoch,
        verified_at: verified.map(LogIndex),
    });
    ("[gh]", option::of(txn), vec(change, 0..4), any::<u16>()).prop_map(|(group, txn, changes, shard)| {
        Entry::Offsets(Offsets {
            group: group.into(),
            shard,
            txn,
            changes,
        })
    })
}

fn producers() -> impl Strategy<Value = Entry> {
    let end = (producer(), any::<bool>(), -1..2_i16, any::<i64>());
    prop_oneof![
        4 => end.prop_map(|((producer, epoch), commit, step, timestamp)| Entry::TxnEnd(TxnEnd {
            producer,
            epoch,
            outcome: if commit { TxnOutcome::Commit } else { TxnOutcome::Abort },
            timestamp: Timestamp(timestamp),
            next_epoch: ProducerEpoch(epoch.0 + step),
        })),
        1 => producer().prop_map(|(producer, epoch)| Entry::ProducerFence(ProducerFence { producer, epoch })),
        1 => (0..3_u32).prop_map(|count| Entry::ProducerIds(ProducerIds { count })),
        1 => (0..60_u64, 0..60_u64).prop_map(|(windows, floors)| Entry::ExpireProducers(ExpireProducers {
            windows_untouched_since: LogIndex(windows),
            floors_untouched_since: LogIndex(floors),
        })),
    ]
}

fn topics() -> impl Strategy<Value = Entry> {
    let limits = (3..12_u32, 1..4_u32, 0..10_u32, 1..6_u32, 0..12_u32, 0..200_u64);
    let limits = limits.prop_map(|(partitions, per_topic, windows, producers, offsets, bytes)| Limits {
        partitions_max: partitions,
        topic_partitions_max: per_topic,
        producer_windows_max: windows,
        transactional_producers_max: producers,
        group_offsets_max: offsets,
        group_bytes_max: bytes,
    });
    let id = || (0..4_u128).prop_map(TopicId);
    prop_oneof![
        3 => (id(), "[ab][._]?", 0..4_u32).prop_map(|(topic, name, partitions)| Entry::TopicCreate(TopicCreate {
            topic, name: name.into(), partitions
        })),
        1 => id().prop_map(|topic| Entry::TopicDelete(TopicDelete { topic })),
        1 => (id(), 0..4_u32).prop_map(|(topic, partitions)| Entry::PartitionsGrow(PartitionsGrow { topic, partitions })),
        2 => (partition(), -1..20_i64).prop_map(|(partition, start)| Entry::Trim(Trim {
            partition, log_start: Offset(start)
        })),
        1 => (partition(), 0..20_i64).prop_map(|(partition, below)| Entry::ForgetAborted(ForgetAborted {
            partition, below: Offset(below)
        })),
        1 => (0..9_u32, any::<u128>()).prop_map(|(number, id)| Entry::Incarnation(Incarnation {
            number: IncarnationNumber(number), id: IncarnationId(id)
        })),
        1 => (0..2_u16, limits).prop_map(|(level, limits)| Entry::FeatureLevel(FeatureLevel { level, limits })),
        1 => (14..255_u8, 0..2_u16, vec(any::<u8>(), 0..5)).prop_map(|(kind, level, body)| Entry::Opaque(Opaque {
            kind, level, body: Bytes::from(body)
        })),
    ]
}

/// Any entry. Segments are numbered by the caller.
pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        10 => index().prop_map(|index| Entry::Segment(segment_of(index, 0))),
        4 => producers(),
        3 => offsets(),
        3 => topics(),
    ]
}

/// A log that begins with ids and topics, so that most of what follows has something to hit.
pub(crate) fn log(commits: usize) -> impl Strategy<Value = Vec<CommitRecord>> {
    vec(vec(entry(), 1..4), 1..commits).prop_map(|mut log| {
        let topic = |id: u128, name: &str| {
            Entry::TopicCreate(TopicCreate {
                topic: TopicId(id),
                name: name.into(),
                partitions: 2,
            })
        };
        let ids = Entry::ProducerIds(ProducerIds {
            count: u32::try_from(PRODUCERS).unwrap(),
        });
        log.insert(0, vec![topic(1, "one"), ids, topic(2, "two")]);
        log.iter_mut().for_each(without_reuse);
        let mut number = 0;
        for entry in log.iter_mut().flatten() {
            if let Entry::Segment(segment) = entry {
                number += 1;
                *segment = segment_of(std::mem::take(&mut segment.index), number);
            }
        }
        log.into_iter().map(|entries| CommitRecord { entries }).collect()
    })
}

/// Ids of topics are random and never used twice; these logs do use them twice, but not within one commit.
fn without_reuse(entries: &mut Vec<Entry>) {
    let deleted: Vec<TopicId> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::TopicDelete(delete) => Some(delete.topic),
            _ => None,
        })
        .collect();
    entries.retain(|entry| !matches!(entry, Entry::TopicCreate(create) if deleted.contains(&create.topic)));
    if entries.is_empty() {
        entries.push(Entry::ProducerIds(ProducerIds { count: 0 }));
    }
}
