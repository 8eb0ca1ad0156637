//! Bodies of the kinds of entries.
//!
//! Owns: the codes of the kinds, the fields of each, in order (`docs/formats/commit-record.md`).
//! Does not own: the frame (`codec`), the batch index inside `Segment` (`esker-segment`).

use esker_segment::id::{
    IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use esker_segment::index::BatchIndex;
use esker_segment::name::SegmentName;
use esker_segment::wire::{Decoder, Encoder, FormatError};

use super::codec::FIRST_LEVEL;
use super::{
    Entry, ExpireProducers, FeatureLevel, ForgetAborted, GROUP_ID_BYTES_MAX, Incarnation, Limits,
    OFFSET_METADATA_BYTES_MAX, OffsetAction, OffsetChange, OffsetCommit, Offsets, PartitionsGrow, ProducerFence,
    ProducerIds, RECORD_BYTES_MAX, SegmentEntry, TOPIC_NAME_BYTES_MAX, TopicCreate, TopicDelete, Trim, TxnEnd,
    TxnOutcome, TxnStamp, ZONE_BYTES_MAX,
};

/// Fewest bytes of an offset change: topic id, partition, action.
const CHANGE_BYTES_MIN: usize = 18;

mod kind {
    //! Codes of the kinds of entries; never reused.
    pub(super) const SEGMENT: u8 = 1;
    pub(super) const TXN_END: u8 = 2;
    pub(super) const PRODUCER_FENCE: u8 = 3;
    pub(super) const PRODUCER_IDS: u8 = 4;
    pub(super) const EXPIRE_PRODUCERS: u8 = 5;
    pub(super) const TOPIC_CREATE: u8 = 6;
    pub(super) const TOPIC_DELETE: u8 = 7;
    pub(super) const PARTITIONS_GROW: u8 = 8;
    pub(super) const TRIM: u8 = 9;
    pub(super) const OFFSETS: u8 = 10;
    pub(super) const INCARNATION: u8 = 11;
    pub(super) const FEATURE_LEVEL: u8 = 12;
    pub(super) const FORGET_ABORTED: u8 = 13;
}

/// Appends the body; says of which kind and level it is.
pub(super) fn encode_body(entry: &Entry, out: &mut Encoder) -> (u8, u16) {
    let kind = match entry {
        Entry::Segment(segment) => {
            encode_segment(segment, out);
            kind::SEGMENT
        }
        Entry::TxnEnd(end) => {
            encode_txn_end(*end, out);
            kind::TXN_END
        }
        Entry::ProducerFence(fence) => {
            producer(fence.producer, fence.epoch, out);
            kind::PRODUCER_FENCE
        }
        Entry::ProducerIds(ids) => {
            out.varint(u64::from(ids.count));
            kind::PRODUCER_IDS
        }
        Entry::ExpireProducers(expire) => {
            out.varint(expire.windows_untouched_since.0);
            out.varint(expire.floors_untouched_since.0);
            kind::EXPIRE_PRODUCERS
        }
        Entry::TopicCreate(create) => {
            out.u128(create.topic.0);
            out.str(&create.name);
            out.varint(u64::from(create.partitions));
            kind::TOPIC_CREATE
        }
        Entry::TopicDelete(delete) => {
            out.u128(delete.topic.0);
            kind::TOPIC_DELETE
        }
        Entry::PartitionsGrow(grow) => {
            out.u128(grow.topic.0);
            out.varint(u64::from(grow.partitions));
            kind::PARTITIONS_GROW
        }
        Entry::Trim(trim) => {
            partition(trim.partition, out);
            out.zigzag(trim.log_start.0);
            kind::TRIM
        }
        Entry::Offsets(offsets) => {
            encode_offsets(offsets, out);
            kind::OFFSETS
        }
        Entry::Incarnation(incarnation) => {
            out.varint(u64::from(incarnation.number.0));
            out.u128(incarnation.id.0);
            kind::INCARNATION
        }
        Entry::FeatureLevel(feature) => {
            out.varint(u64::from(feature.level));
            encode_limits(&feature.limits, out);
            kind::FEATURE_LEVEL
        }
        Entry::ForgetAborted(forget) => {
            partition(forget.partition, out);
            out.zigzag(forget.below.0);
            kind::FORGET_ABORTED
        }
        Entry::Opaque(opaque) => {
            out.raw(&opaque.body);
            return (opaque.kind, opaque.level);
        }
    };
    (kind, FIRST_LEVEL)
}

/// Reads a body; `None` for an unknown kind.
pub(super) fn decode_body(kind: u8, body: &[u8]) -> Result<Option<Entry>, FormatError> {
    let mut input = Decoder::new(body);
    let input = &mut input;
    let entry = match kind {
        kind::SEGMENT => Entry::Segment(decode_segment(input)?),
        kind::TXN_END => Entry::TxnEnd(decode_txn_end(input)?),
        kind::PRODUCER_FENCE => {
            let (producer, epoch) = take_producer(input)?;
            Entry::ProducerFence(ProducerFence { producer, epoch })
        }
        kind::PRODUCER_IDS => Entry::ProducerIds(ProducerIds {
            count: input.varint_u32("producer ids")?,
        }),
        kind::EXPIRE_PRODUCERS => Entry::ExpireProducers(ExpireProducers {
            windows_untouched_since: LogIndex(input.varint()?),
            floors_untouched_since: LogIndex(input.varint()?),
        }),
        kind::TOPIC_CREATE => Entry::TopicCreate(TopicCreate {
            topic: TopicId(input.u128()?),
            name: input.str("topic name", TOPIC_NAME_BYTES_MAX)?.into(),
            partitions: input.varint_u32("partitions")?,
        }),
        kind::TOPIC_DELETE => Entry::TopicDelete(TopicDelete {
            topic: TopicId(input.u128()?),
        }),
        kind::PARTITIONS_GROW => Entry::PartitionsGrow(PartitionsGrow {
            topic: TopicId(input.u128()?),
            partitions: input.varint_u32("partitions")?,
        }),
        kind::TRIM => Entry::Trim(Trim {
            partition: take_partition(input)?,
            log_start: Offset(input.zigzag()?),
        }),
        kind::OFFSETS => Entry::Offsets(decode_offsets(input)?),
        kind::INCARNATION => Entry::Incarnation(Incarnation {
            number: IncarnationNumber(input.varint_u32("incarnation number")?),
            id: IncarnationId(input.u128()?),
        }),
        kind::FEATURE_LEVEL => Entry::FeatureLevel(FeatureLevel {
            level: take_u16("feature level", input)?,
            limits: decode_limits(input)?,
        }),
        kind::FORGET_ABORTED => Entry::ForgetAborted(ForgetAborted {
            partition: take_partition(input)?,
            below: Offset(input.zigzag()?),
        }),
        _ => return Ok(None),
    };
    input.finish()?;
    Ok(Some(entry))
}

fn encode_segment(segment: &SegmentEntry, out: &mut Encoder) {
    segment.name.encode(out);
    out.varint(segment.bytes);
    out.u128(segment.content_hash);
    out.str(&segment.zone);
    out.varint(segment.confirmed);
    segment.index.encode(out);
}

fn decode_segment(input: &mut Decoder<'_>) -> Result<SegmentEntry, FormatError> {
    Ok(SegmentEntry {
        name: SegmentName::decode(input)?,
        bytes: input.varint()?,
        content_hash: input.u128()?,
        zone: input.str("zone", ZONE_BYTES_MAX)?.into(),
        confirmed: input.varint()?,
        index: BatchIndex::decode(input)?,
    })
}

fn encode_txn_end(end: TxnEnd, out: &mut Encoder) {
    producer(end.producer, end.epoch, out);
    out.bool(end.outcome == TxnOutcome::Commit);
    out.zigzag(end.timestamp.0);
    epoch(end.next_epoch, out);
}

fn decode_txn_end(input: &mut Decoder<'_>) -> Result<TxnEnd, FormatError> {
    let (producer, epoch) = take_producer(input)?;
    let outcome = if input.bool()? {
        TxnOutcome::Commit
    } else {
        TxnOutcome::Abort
    };
    let timestamp = Timestamp(input.zigzag()?);
    Ok(TxnEnd {
        producer,
        epoch,
        outcome,
        timestamp,
        next_epoch: take_epoch(input)?,
    })
}

fn encode_offsets(offsets: &Offsets, out: &mut Encoder) {
    out.str(&offsets.group);
    out.varint(u64::from(offsets.shard));
    out.u8(match &offsets.txn {
        None => 0,
        Some(TxnStamp { verified_at: None, .. }) => 1,
        Some(TxnStamp {
            verified_at: Some(_), ..
        }) => 2,
    });
    if let Some(txn) = &offsets.txn {
        producer(txn.producer, txn.epoch, out);
        if let Some(verified_at) = txn.verified_at {
            out.varint(verified_at.0);
        }
    }
    out.count(offsets.changes.len());
    for change in &offsets.changes {
        partition(
            TopicPartition {
                topic: change.topic,
                partition: change.partition,
            },
            out,
        );
        match &change.action {
            OffsetAction::Delete => out.u8(0),
            OffsetAction::Commit(commit) => {
                out.u8(1);
                commit.encode(out);
            }
            OffsetAction::Expire { untouched_since } => {
                out.u8(2);
                out.varint(untouched_since.0);
            }
        }
    }
}

fn decode_offsets(input: &mut Decoder<'_>) -> Result<Offsets, FormatError> {
    let group = input.str("group id", GROUP_ID_BYTES_MAX)?.into();
    let shard = take_u16("coordinator shard", input)?;
    let txn = match input.u8()? {
        0 => None,
        form @ (1 | 2) => {
            let (producer, epoch) = take_producer(input)?;
            let verified_at = if form == 2 {
                Some(LogIndex(input.varint()?))
            } else {
                None
            };
            Some(TxnStamp {
                producer,
                epoch,
                verified_at,
            })
        }
        _ => {
            return Err(FormatError::Invalid {
                what: "form of transaction stamp",
            });
        }
    };
    let count = input.count("offset changes", RECORD_BYTES_MAX, CHANGE_BYTES_MIN)?;
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let at = take_partition(input)?;
        let action = match input.u8()? {
            0 => OffsetAction::Delete,
            1 => OffsetAction::Commit(OffsetCommit::decode(input)?),
            2 => OffsetAction::Expire {
                untouched_since: LogIndex(input.varint()?),
            },
            _ => return Err(FormatError::Invalid { what: "offset action" }),
        };
        changes.push(OffsetChange {
            topic: at.topic,
            partition: at.partition,
            action,
        });
    }
    Ok(Offsets {
        group,
        shard,
        txn,
        changes,
    })
}

impl OffsetCommit {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.zigzag(self.offset.0);
        // 0 is none, otherwise the epoch plus one.
        out.varint(self.leader_epoch.map_or(0, |epoch| u64::from(epoch) + 1));
        out.str(&self.metadata);
        out.zigzag(self.timestamp.0);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let offset = Offset(input.zigzag()?);
        let leader_epoch = match input.varint()?.checked_sub(1) {
            None => None,
            Some(epoch) => Some(u32::try_from(epoch).map_err(|_| FormatError::Invalid {
                what: "leader epoch of offset",
            })?),
        };
        let metadata = input.str("offset metadata", OFFSET_METADATA_BYTES_MAX)?.into();
        Ok(Self {
            offset,
            leader_epoch,
            metadata,
            timestamp: Timestamp(input.zigzag()?),
        })
    }
}

pub(crate) fn encode_limits(limits: &Limits, out: &mut Encoder) {
    out.varint(u64::from(limits.partitions_max));
    out.varint(u64::from(limits.topic_partitions_max));
    out.varint(u64::from(limits.producer_windows_max));
    out.varint(u64::from(limits.transactional_producers_max));
    out.varint(u64::from(limits.group_offsets_max));
    out.varint(limits.group_bytes_max);
}

pub(crate) fn decode_limits(input: &mut Decoder<'_>) -> Result<Limits, FormatError> {
    Ok(Limits {
        partitions_max: input.varint_u32("limit of partitions")?,
        topic_partitions_max: input.varint_u32("limit of partitions of a topic")?,
        producer_windows_max: input.varint_u32("limit of producer windows")?,
        transactional_producers_max: input.varint_u32("limit of transactional producers")?,
        group_offsets_max: input.varint_u32("limit of group offsets")?,
        group_bytes_max: input.varint()?,
    })
}

pub(crate) fn partition(at: TopicPartition, out: &mut Encoder) {
    out.u128(at.topic.0);
    out.varint(u64::from(at.partition.0));
}

pub(crate) fn take_partition(input: &mut Decoder<'_>) -> Result<TopicPartition, FormatError> {
    let topic = TopicId(input.u128()?);
    Ok(TopicPartition {
        topic,
        partition: PartitionIndex(input.varint_u32("partition")?),
    })
}

pub(crate) fn take_u16(what: &'static str, input: &mut Decoder<'_>) -> Result<u16, FormatError> {
    let found = input.varint()?;
    u16::try_from(found).map_err(|_| FormatError::OverLimit {
        what,
        found,
        max: u64::from(u16::MAX),
    })
}

pub(crate) fn epoch(epoch: ProducerEpoch, out: &mut Encoder) {
    out.zigzag(i64::from(epoch.0));
}

pub(crate) fn take_epoch(input: &mut Decoder<'_>) -> Result<ProducerEpoch, FormatError> {
    let epoch = i16::try_from(input.zigzag()?).map_err(|_| FormatError::Invalid { what: "producer epoch" })?;
    Ok(ProducerEpoch(epoch))
}

pub(crate) fn producer(id: ProducerId, at: ProducerEpoch, out: &mut Encoder) {
    out.zigzag(id.0);
    epoch(at, out);
}

pub(crate) fn take_producer(input: &mut Decoder<'_>) -> Result<(ProducerId, ProducerEpoch), FormatError> {
    Ok((ProducerId(input.zigzag()?), take_epoch(input)?))
}
