//! The delta coding that the indexes of fresh and merged segments share.
//!
//! Owns: one byte of flags a batch, timestamps and producer stamps relative to what came before.
//! Does not own: the validity of what is decoded (`BatchMeta::check`).

use crate::id::{LogIndex, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId, TopicPartition};
use crate::index::{BatchMeta, ProducerStamp};
use crate::wire::{Decoder, Encoder, FormatError};

/// Fewest bytes of a run: its partition, a count, one batch.
pub(crate) const RUN_BYTES_MIN: usize = 2 + BATCH_BYTES_MIN;
/// Fewest bytes of a batch: flags, records, bytes, timestamp, CRC.
pub(crate) const BATCH_BYTES_MIN: usize = 8;

/// Bits 0 and 1 of the flags: how the producer stamp is written.
const STAMP_MASK: u8 = 0b11;
/// There is none.
const STAMP_NONE: u8 = 0;
/// As of the batch before it in the run, and its sequence continues that one's.
const STAMP_CONTINUES: u8 = 1;
/// As the last stamp in the index, but for the sequence.
const STAMP_SEQUENCE: u8 = 2;
/// All fields.
const STAMP_FULL: u8 = 3;
/// With all fields: it belongs to a transaction.
const TRANSACTIONAL: u8 = 1 << 2;
/// With all fields: the index of its verification follows.
const VERIFIED: u8 = 1 << 3;
/// Merged segments only: a control batch.
pub(crate) const CONTROL: u8 = 1 << 4;

/// Writes ascending partitions: a varint whose lowest bit says that a topic id follows.
#[derive(Debug, Default)]
pub(crate) struct PartitionEncoder {
    last: Option<TopicPartition>,
}

impl PartitionEncoder {
    /// Whether the partition is another than the one before.
    pub(crate) fn encode(&mut self, at: TopicPartition, out: &mut Encoder) {
        match self.last.replace(at) {
            Some(last) if last.topic == at.topic => {
                let step = at
                    .partition
                    .0
                    .checked_sub(last.partition.0)
                    .expect("partitions are sorted");
                out.varint(u64::from(step) << 1);
            }
            last => {
                assert!(last.is_none_or(|last| last.topic < at.topic), "topics are sorted");
                out.varint(u64::from(at.partition.0) << 1 | 1);
                out.u128(at.topic.0);
            }
        }
    }
}

/// The inverse of [`PartitionEncoder`].
#[derive(Debug, Default)]
pub(crate) struct PartitionDecoder {
    last: Option<TopicPartition>,
}

impl PartitionDecoder {
    /// The partition, and whether it is another than the one before.
    pub(crate) fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(TopicPartition, bool), FormatError> {
        let head = input.varint()?;
        let invalid = FormatError::Invalid {
            what: "order of partitions",
        };
        let number = u32::try_from(head >> 1).map_err(|_| invalid.clone())?;
        let at = if head & 1 == 1 {
            TopicPartition {
                topic: TopicId(input.u128()?),
                partition: PartitionIndex(number),
            }
        } else {
            let last = self.last.ok_or(invalid.clone())?;
            let partition = last.partition.0.checked_add(number).ok_or(invalid.clone())?;
            TopicPartition {
                topic: last.topic,
                partition: PartitionIndex(partition),
            }
        };
        let new = self.last != Some(at);
        if self
            .last
            .is_some_and(|last| at < last || (head & 1 == 1 && at.topic == last.topic))
        {
            return Err(invalid);
        }
        self.last = Some(at);
        Ok((at, new))
    }
}

/// What the delta coding of batches remembers.
#[derive(Debug, Default)]
struct Memory {
    timestamp: Timestamp,
    stamp: Option<ProducerStamp>,
    /// Sequence that would continue the batch before it in this run.
    continues_at: Option<Sequence>,
}

impl Memory {
    fn note(&mut self, batch: &BatchMeta) {
        self.timestamp = batch.max_timestamp;
        self.continues_at = batch.producer.map(|stamp| stamp.first_sequence.plus(batch.records));
        if batch.producer.is_some() {
            self.stamp = batch.producer;
        }
    }

    fn last_id(&self) -> i64 {
        self.stamp.map_or(0, |stamp| stamp.id.0)
    }
}

/// Writes batches one after the other.
#[derive(Debug, Default)]
pub(crate) struct BatchEncoder {
    memory: Memory,
}

impl BatchEncoder {
    /// The next batch is the first of its run.
    pub(crate) fn begin_run(&mut self) {
        self.memory.continues_at = None;
    }

    /// Appends a batch; `extra` is 0 or `CONTROL`.
    pub(crate) fn encode(&mut self, batch: &BatchMeta, extra: u8, out: &mut Encoder) {
        let mode = batch.producer.map_or(STAMP_NONE, |stamp| self.mode(stamp));
        let (mut flags, full) = (extra | mode, batch.producer.filter(|_| mode == STAMP_FULL));
        if let Some(stamp) = full {
            flags |= if stamp.transactional { TRANSACTIONAL } else { 0 };
            flags |= if stamp.verified_at.is_some() { VERIFIED } else { 0 };
        }
        out.u8(flags);
        out.varint(u64::from(batch.records));
        out.varint(u64::from(batch.bytes));
        out.zigzag(batch.max_timestamp.0.wrapping_sub(self.memory.timestamp.0));
        out.u32(batch.crc);
        if let Some(stamp) = full {
            out.zigzag(stamp.id.0.wrapping_sub(self.memory.last_id()));
            out.varint(u64::from(stamp.epoch.0.cast_unsigned()));
        }
        if let Some(stamp) = batch.producer.filter(|_| mode != STAMP_CONTINUES) {
            out.varint(u64::from(stamp.first_sequence.0.cast_unsigned()));
        }
        if let Some(verified) = full.and_then(|stamp| stamp.verified_at) {
            out.varint(verified.0);
        }
        self.memory.note(batch);
    }

    fn mode(&self, stamp: ProducerStamp) -> u8 {
        let as_last = self.memory.stamp.is_some_and(|last| {
            ProducerStamp {
                first_sequence: stamp.first_sequence,
                ..last
            } == stamp
        });
        match (as_last, self.memory.continues_at) {
            (true, Some(sequence)) if sequence == stamp.first_sequence => STAMP_CONTINUES,
            (true, _) => STAMP_SEQUENCE,
            (false, _) => STAMP_FULL,
        }
    }
}

/// The inverse of [`BatchEncoder`].
#[derive(Debug, Default)]
pub(crate) struct BatchDecoder {
    memory: Memory,
}

impl BatchDecoder {
    /// The next batch is the first of its run.
    pub(crate) fn begin_run(&mut self) {
        self.memory.continues_at = None;
    }

    /// A batch and its extra flags, of which only those in `extra_allowed` may be set.
    pub(crate) fn decode(
        &mut self,
        extra_allowed: u8,
        input: &mut Decoder<'_>,
    ) -> Result<(BatchMeta, u8), FormatError> {
        let flags = input.u8()?;
        let mode = flags & STAMP_MASK;
        let allowed = STAMP_MASK
            | extra_allowed
            | if mode == STAMP_FULL {
                TRANSACTIONAL | VERIFIED
            } else {
                0
            };
        if flags & !allowed != 0 {
            return Err(FormatError::Invalid { what: "flags of batch" });
        }
        let mut batch = BatchMeta {
            records: input.varint_u32("record count of batch")?,
            bytes: input.varint_u32("length of batch")?,
            max_timestamp: Timestamp(self.memory.timestamp.0.wrapping_add(input.zigzag()?)),
            crc: input.u32()?,
            producer: None,
        };
        batch.producer = self.stamp(flags, input)?;
        self.memory.note(&batch);
        Ok((batch, flags & extra_allowed))
    }

    fn stamp(&self, flags: u8, input: &mut Decoder<'_>) -> Result<Option<ProducerStamp>, FormatError> {
        let mode = flags & STAMP_MASK;
        if mode == STAMP_NONE {
            return Ok(None);
        }
        let dangling = FormatError::Invalid {
            what: "producer relative to none",
        };
        if mode == STAMP_FULL {
            let id = ProducerId(self.memory.last_id().wrapping_add(input.zigzag()?));
            let epoch = i16::try_from(input.varint()?).map_err(|_| FormatError::Invalid { what: "producer epoch" })?;
            let first_sequence = sequence(input)?;
            let verified_at = if flags & VERIFIED != 0 {
                Some(LogIndex(input.varint()?))
            } else {
                None
            };
            let transactional = flags & TRANSACTIONAL != 0;
            let epoch = ProducerEpoch(epoch);
            return Ok(Some(ProducerStamp {
                id,
                epoch,
                first_sequence,
                transactional,
                verified_at,
            }));
        }
        let last = self.memory.stamp.ok_or(dangling.clone())?;
        let first_sequence = if mode == STAMP_CONTINUES {
            self.memory.continues_at.ok_or(dangling)?
        } else {
            sequence(input)?
        };
        Ok(Some(ProducerStamp { first_sequence, ..last }))
    }
}

fn sequence(input: &mut Decoder<'_>) -> Result<Sequence, FormatError> {
    let found = input.varint()?;
    i32::try_from(found)
        .map(Sequence)
        .map_err(|_| FormatError::Invalid { what: "sequence" })
}
