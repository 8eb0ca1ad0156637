//! Bytes that must never change: a record with every kind of entry, the state it leads to, and the digest.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use bytes::Bytes;
use esker_model::entry::{
    ExpireProducers, FeatureLevel, ForgetAborted, Incarnation, Limits, OffsetAction, OffsetChange, OffsetCommit,
    Offsets, Opaque, PartitionsGrow, ProducerFence, ProducerIds, SegmentEntry, TopicCreate, TopicDelete, Trim, TxnEnd,
    TxnOutcome, TxnStamp,
};
use esker_model::{CommitPosition, CommitRecord, Entry, Fold};
use esker_segment::id::{
    CommitNumber, IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    SegmentNumber, Sequence, SessionId, Timestamp, TopicId, TopicPartition,
};
use esker_segment::index::{BatchIndex, BatchMeta, ProducerStamp, Run};
use esker_segment::name::SegmentName;

const TOPIC: TopicId = TopicId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const AT: TopicPartition = TopicPartition {
    topic: TOPIC,
    partition: PartitionIndex(1),
};

fn administration() -> Vec<Entry> {
    let limits = Limits {
        partitions_max: 1000,
        topic_partitions_max: 100,
        producer_windows_max: 10,
        transactional_producers_max: 9,
        group_offsets_max: 300,
        group_bytes_max: 70_000,
    };
    vec![
        Entry::Incarnation(Incarnation {
            number: IncarnationNumber(3),
            id: IncarnationId(7),
        }),
        Entry::FeatureLevel(FeatureLevel { level: 1, limits }),
        Entry::ProducerIds(ProducerIds { count: 1000 }),
        Entry::TopicCreate(TopicCreate {
            topic: TOPIC,
            name: "orders".into(),
            partitions: 2,
        }),
        Entry::TopicCreate(TopicCreate {
            topic: TopicId(5),
            name: "gone".into(),
            partitions: 1,
        }),
        Entry::PartitionsGrow(PartitionsGrow {
            topic: TOPIC,
            partitions: 3,
        }),
        Entry::TopicDelete(TopicDelete { topic: TopicId(5) }),
        Entry::ProducerFence(ProducerFence {
            producer: ProducerId(4),
            epoch: ProducerEpoch(2),
        }),
    ]
}

fn segment() -> Entry {
    let stamp = |id, epoch, transactional| ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        first_sequence: Sequence(0),
        transactional,
        verified_at: transactional.then_some(LogIndex(1)),
    };
    let batch = |producer| BatchMeta {
        records: 4,
        bytes: 333,
        max_timestamp: Timestamp(1_700_000_000_123),
        crc: 0xdead_beef,
        producer,
    };
    let batches = vec![
        batch(None),
        batch(Some(stamp(9, 1, false))),
        batch(Some(stamp(4, 2, true))),
    ];
    Entry::Segment(SegmentEntry {
        name: SegmentName {
            incarnation: IncarnationNumber(3),
            session: SessionId(77),
            number: SegmentNumber(500),
            attempt: 1,
        },
        bytes: 4096,
        content_hash: 0xabcd,
        zone: "eu-1a".into(),
        confirmed: 0b101,
        index: BatchIndex {
            runs: vec![Run {
                topic: TOPIC,
                partition: AT.partition,
                batches,
            }],
        },
    })
}

fn data() -> Vec<Entry> {
    let change = |action| OffsetChange {
        topic: TOPIC,
        partition: AT.partition,
        action,
    };
    let commit = || {
        OffsetAction::Commit(OffsetCommit {
            offset: Offset(3),
            leader_epoch: Some(3),
            metadata: "m".into(),
            timestamp: Timestamp(1_700_000_000_456),
        })
    };
    let offsets = |txn, changes| {
        Entry::Offsets(Offsets {
            group: "readers".into(),
            shard: 12,
            txn,
            changes,
        })
    };
    let stamp = |verified_at| {
        Some(TxnStamp {
            producer: ProducerId(4),
            epoch: ProducerEpoch(2),
            verified_at,
        })
    };
    let expire = change(OffsetAction::Expire {
        untouched_since: LogIndex(1),
    });
    vec![
        segment(),
        offsets(stamp(Some(LogIndex(1))), vec![change(commit())]),
        Entry::TxnEnd(TxnEnd {
            producer: ProducerId(4),
            epoch: ProducerEpoch(2),
            outcome: TxnOutcome::Abort,
            timestamp: Timestamp(1_700_000_000_789),
            next_epoch: ProducerEpoch(3),
        }),
        offsets(
            None,
            vec![change(commit()), change(OffsetAction::Delete), change(commit()), expire],
        ),
        offsets(stamp(None), vec![]),
        Entry::Trim(Trim {
            partition: AT,
            log_start: Offset(2),
        }),
        Entry::ForgetAborted(ForgetAborted {
            partition: AT,
            below: Offset(1),
        }),
        Entry::ExpireProducers(ExpireProducers {
            windows_untouched_since: LogIndex(1),
            floors_untouched_since: LogIndex(1),
        }),
        Entry::Opaque(Opaque {
            kind: 250,
            level: 1,
            body: Bytes::from_static(&[1, 2, 3]),
        }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_have_the_bytes_that_they_always_had() {
    let records = [administration(), data()].map(|entries| CommitRecord { entries });
    let bytes = records.each_ref().map(|record| hex(&record.encode().unwrap()));
    assert_eq!(bytes, [ADMINISTRATION, DATA]);
}

#[test]
fn digest_and_state_are_what_they_always_were() {
    let mut fold = Fold::new();
    for (number, entries) in (1..).zip([administration(), data()]) {
        let at = CommitPosition {
            index: LogIndex(number),
            session: SessionId(77),
            number: CommitNumber(number),
        };
        fold.apply(at, &CommitRecord { entries });
    }
    assert_eq!(
        (
            fold.digest().to_string().as_str(),
            format!("{:032x}", fold.encode_state().digest).as_str()
        ),
        (DIGEST, STATE)
    );
}

const ADMINISTRATION: &str = "\
    01080b011103070000000000000000000000000000000c010b01e807640a09ac02f0a204040102e807060118100f0e0d0c0b\
    0a090807060504030201066f7264657273020601160500000000000000000000000000000004676f6e6501080111100f0e0d\
    0c0b0a09080706050403020103070110050000000000000000000000000000000301020804\
";
const DATA: &str = "\
    0109010158034df403018020cdab00000000000000000000000000000565752d3161050103100f0e0d0c0b0a090807060504\
    030201030004cd02f6a1abfef962efbeadde0304cd0200efbeadde1201000f04cd0200efbeadde090200010a012a07726561\
    646572730c0208040101100f0e0d0c0b0a09080706050403020101010604016d90a7abfef96202010a080400aaacabfef962\
    060a016807726561646572730c0004100f0e0d0c0b0a09080706050403020101010604016d90a7abfef962100f0e0d0c0b0a\
    0908070605040302010100100f0e0d0c0b0a09080706050403020101010604016d90a7abfef962100f0e0d0c0b0a09080706\
    05040302010102010a010d07726561646572730c01080400090112100f0e0d0c0b0a09080706050403020101040d0112100f\
    0e0d0c0b0a09080706050403020101020501020101fa0103010203\
";
const DIGEST: &str = "d73c2e0073b4d3ea";
const STATE: &str = "a341628afb8d6aea8defc048ee89bbe7";
