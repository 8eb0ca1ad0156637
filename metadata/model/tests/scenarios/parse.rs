//! Commands of scenario files into entries.

use bytes::Bytes;
use esker_model::entry::{
    ExpireProducers, FeatureLevel, ForgetAborted, Incarnation, Limits, OffsetAction, OffsetChange, OffsetCommit,
    Offsets, Opaque, PartitionsGrow, ProducerFence, ProducerIds, SegmentEntry, TopicCreate, TopicDelete, Trim, TxnEnd,
    TxnOutcome, TxnStamp,
};
use esker_model::{Entry, Fold};
use esker_segment::id::{
    IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber,
    Sequence, SessionId, Timestamp, TopicId, TopicPartition,
};
use esker_segment::index::{BatchIndex, BatchMeta, ProducerStamp, Run};
use esker_segment::name::SegmentName;
use esker_segment::segment::SEGMENT_HEADER_BYTES;

use crate::world::Names;

/// The words of a command: `key=value`, or flags.
pub(crate) struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self(text.split_whitespace().collect())
    }

    pub(crate) fn first(&self) -> &'a str {
        self.0.first().copied().unwrap_or_default()
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{key}={text} is no such number")),
        )
    }

    fn need<T: std::str::FromStr>(&self, key: &str) -> T {
        self.number(key)
            .unwrap_or_else(|| panic!("{key}= is missing in {:?}", self.0))
    }
}

/// `t/0`.
pub(crate) fn partition(names: &Names, word: &str) -> TopicPartition {
    let (topic, partition) = word.split_once('/').unwrap_or_else(|| panic!("{word} is no partition"));
    let partition = PartitionIndex(partition.parse().expect("a partition number"));
    TopicPartition {
        topic: names.id(topic),
        partition,
    }
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex digits");
    digits.chunks(2).map(byte).collect()
}

/// One entry.
pub(crate) fn entry(names: &mut Names, fold: &Fold, command: &str) -> Entry {
    let (head, rest) = command.split_once(": ").unwrap_or((command, ""));
    let (kind, rest_of_head) = head.split_once(' ').unwrap_or((head, ""));
    let words = Words::of(rest_of_head);
    let producer = || (ProducerId(words.need("pid")), ProducerEpoch(words.need("epoch")));
    match kind {
        "segment" => Entry::Segment(segment(names, words.first(), &words, rest)),
        "txn-end" => {
            let (producer, epoch) = producer();
            let outcome = if words.has("commit") {
                TxnOutcome::Commit
            } else {
                TxnOutcome::Abort
            };
            assert!(words.has("commit") != words.has("abort"), "commit or abort: {command}");
            let next_epoch = ProducerEpoch(words.number("next").unwrap_or(epoch.0 + 1));
            let timestamp = Timestamp(words.number("ts").unwrap_or(0));
            Entry::TxnEnd(TxnEnd {
                producer,
                epoch,
                outcome,
                timestamp,
                next_epoch,
            })
        }
        "fence" => {
            let (producer, epoch) = producer();
            Entry::ProducerFence(ProducerFence { producer, epoch })
        }
        "ids" => Entry::ProducerIds(ProducerIds {
            count: words.need("count"),
        }),
        "expire" => Entry::ExpireProducers(ExpireProducers {
            windows_untouched_since: LogIndex(words.number("windows").unwrap_or(0)),
            floors_untouched_since: LogIndex(words.number("floors").unwrap_or(0)),
        }),
        "topic" | "delete" | "grow" | "trim" => topic_entry(names, fold, kind, &words),
        "offsets" => Entry::Offsets(offsets(names, &words, rest)),
        "incarnation" => {
            let number: u32 = words.first().parse().expect("a number");
            Entry::Incarnation(Incarnation {
                number: IncarnationNumber(number),
                id: IncarnationId(number.into()),
            })
        }
        "feature" => Entry::FeatureLevel(FeatureLevel {
            level: words.need("level"),
            limits: limits(&words),
        }),
        "forget-aborted" => {
            let (partition, below) = (partition(names, words.first()), Offset(words.need("below")));
            Entry::ForgetAborted(ForgetAborted { partition, below })
        }
        "opaque" => {
            let body = Bytes::from(hex(words.text("body").unwrap_or("")));
            Entry::Opaque(Opaque {
                kind: words.need("kind"),
                level: words.need("level"),
                body,
            })
        }
        _ => panic!("no such command: {command}"),
    }
}

fn topic_entry(names: &mut Names, fold: &Fold, kind: &str, words: &Words<'_>) -> Entry {
    match kind {
        "topic" => {
            let topic = match words.number("id") {
                Some(id) => TopicId(id),
                None => names.create(words.first(), fold),
            };
            let partitions = words.number("partitions").unwrap_or(1);
            Entry::TopicCreate(TopicCreate {
                topic,
                name: words.first().into(),
                partitions,
            })
        }
        "delete" => Entry::TopicDelete(TopicDelete {
            topic: names.id(words.first()),
        }),
        "grow" => {
            let (topic, partitions) = (names.id(words.first()), words.need("partitions"));
            Entry::PartitionsGrow(PartitionsGrow { topic, partitions })
        }
        _ => {
            let (partition, log_start) = (partition(names, words.first()), Offset(words.need("to")));
            Entry::Trim(Trim { partition, log_start })
        }
    }
}

fn segment(names: &Names, name: &str, words: &Words<'_>, batches: &str) -> SegmentEntry {
    let number: u64 = name
        .trim_start_matches('s')
        .trim_end_matches(':')
        .parse()
        .expect("segments are s1, s2, …");
    let mut index = BatchIndex::default();
    for text in batches.split(" | ").filter(|text| !text.is_empty()) {
        let (at, meta) = batch(names, text);
        match index.runs.iter_mut().find(|run| run.at() == at) {
            Some(run) => run.batches.push(meta),
            None => index.runs.push(Run {
                topic: at.topic,
                partition: at.partition,
                batches: vec![meta],
            }),
        }
    }
    index.runs.sort_by_key(Run::at);
    SegmentEntry {
        name: SegmentName {
            incarnation: IncarnationNumber(0),
            session: SessionId(1),
            number: SegmentNumber(number),
            attempt: 0,
        },
        bytes: words
            .number("bytes")
            .unwrap_or(SEGMENT_HEADER_BYTES + index.bytes() + 100),
        content_hash: number.into(),
        zone: words.text("zone").unwrap_or("").into(),
        confirmed: 0,
        index,
    }
}

fn batch(names: &Names, text: &str) -> (TopicPartition, BatchMeta) {
    let words = Words::of(text);
    let producer = words.number("pid").map(|id| ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(words.number("epoch").unwrap_or(0)),
        first_sequence: Sequence(words.need("seq")),
        transactional: words.has("txn"),
        verified_at: words.number("verified").map(LogIndex),
    });
    let meta = BatchMeta {
        records: words.need("count"),
        bytes: words.number("bytes").unwrap_or(100),
        max_timestamp: Timestamp(words.number("ts").unwrap_or(0)),
        crc: 0,
        producer,
    };
    (partition(names, words.first()), meta)
}

fn offsets(names: &Names, words: &Words<'_>, changes: &str) -> Offsets {
    let txn = words.has("txn").then(|| TxnStamp {
        producer: ProducerId(words.need("pid")),
        epoch: ProducerEpoch(words.need("epoch")),
        verified_at: words.number("verified").map(LogIndex),
    });
    let change = |text: &str| {
        let words = Words::of(text);
        let (at, offset) = match words.first().split_once('=') {
            Some((at, offset)) => (at, Some(offset.parse().expect("an offset"))),
            None => (words.first(), None),
        };
        let action = match offset {
            Some(offset) => OffsetAction::Commit(OffsetCommit {
                offset: Offset(offset),
                leader_epoch: words.number("epoch"),
                metadata: words.text("meta").unwrap_or("").into(),
                timestamp: Timestamp(words.number("ts").unwrap_or(0)),
            }),
            None if words.has("delete") => OffsetAction::Delete,
            None => OffsetAction::Expire {
                untouched_since: LogIndex(words.need("expire")),
            },
        };
        let at = partition(names, at);
        OffsetChange {
            topic: at.topic,
            partition: at.partition,
            action,
        }
    };
    Offsets {
        group: words.first().into(),
        shard: 0,
        txn,
        changes: changes.split(" | ").map(change).collect(),
    }
}

fn limits(words: &Words<'_>) -> Limits {
    let usual = Limits::default();
    Limits {
        partitions_max: words.number("partitions").unwrap_or(usual.partitions_max),
        topic_partitions_max: words.number("topic-partitions").unwrap_or(usual.topic_partitions_max),
        producer_windows_max: words.number("windows").unwrap_or(usual.producer_windows_max),
        transactional_producers_max: words.number("producers").unwrap_or(usual.transactional_producers_max),
        group_offsets_max: words.number("offsets").unwrap_or(usual.group_offsets_max),
        group_bytes_max: words.number("group-bytes").unwrap_or(usual.group_bytes_max),
    }
}
