//! State objects: the verdict state of a fold as bytes, and back (`docs/formats/fold-state.md`).
//!
//! Owns: which sections there are; head, topics and groups.
//! Does not own: the container with its checksums (`esker_segment::container`), the unmerged index (index objects), when
//! a checkpoint is taken.
//!
//! Invariants: two folds that reached the same state encode to the same bytes, whatever their history; bytes that decode
//! encode to the same bytes; a state that decodes breaks no invariant of the fold.

use bytes::Bytes;
use esker_segment::container::{Container, ContainerBuilder, ContainerKind, Written};
use esker_segment::id::{IncarnationId, IncarnationNumber, LogIndex, Offset, ProducerId, TopicId, TopicPartition};
use esker_segment::wire::{Decoder, Encoder, FormatError};

use crate::digest::Digest;
use crate::entry::body::{decode_limits, encode_limits, partition as put_partition, take_partition, take_u16};
use crate::entry::{GROUP_ID_BYTES_MAX, OffsetCommit, TOPIC_NAME_BYTES_MAX};
use crate::fold::{Fold, SUPPORTED_LEVEL};
use crate::partition::{AbortedTxn, Partition, PartitionTxns};
use crate::topic::Topic;
use crate::window::INDEX_MAX;

mod producers;

/// The version written.
pub const STATE_VERSION: u16 = 1;

const HEAD: &str = "head";
const TOPICS: &str = "topics";
const PRODUCERS: &str = "producers";
const WINDOWS: &str = "windows";
const GROUPS: &str = "groups";

/// Fewest bytes of a topic: id, name, two indexes, count.
const TOPIC_BYTES_MIN: usize = 20;
/// Fewest bytes of a partition: log start, length, first epoch, flags.
const PARTITION_BYTES_MIN: usize = 4;
/// Fewest bytes of a group: id, count.
const GROUP_BYTES_MIN: usize = 2;
/// Fewest bytes of a committed offset: topic id, partition, offset, epoch, metadata, timestamp, index.
const COMMITTED_BYTES_MIN: usize = 22;

/// Flag of a partition: incarnations began while it existed.
const HAS_EPOCHS: u8 = 1;
/// Flag of a partition: it has aborted transactions.
const HAS_ABORTED: u8 = 2;

pub(crate) fn invalid<T>(what: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Invalid { what })
}

/// An offset as an unsigned varint: offsets of a partition are never negative.
pub(crate) fn put_offset(offset: Offset, since: Offset, out: &mut Encoder) {
    out.varint(offset.0.wrapping_sub(since.0).cast_unsigned());
}

pub(crate) fn take_offset(since: Offset, input: &mut Decoder<'_>) -> Result<Offset, FormatError> {
    let distance = i64::try_from(input.varint()?).ok();
    let offset = distance.and_then(|distance| since.0.checked_add(distance));
    offset.map(Offset).ok_or(FormatError::Invalid { what: "offset" })
}

/// A log index that is not above that of the state.
pub(crate) fn take_index(last: LogIndex, input: &mut Decoder<'_>) -> Result<LogIndex, FormatError> {
    let index = LogIndex(input.varint()?);
    if index > last {
        invalid("log index above that of the state")
    } else {
        Ok(index)
    }
}

impl Fold {
    /// The verdict state as a state object.
    #[must_use]
    pub fn encode_state(&self) -> Written {
        self.begin_state().finish()
    }

    /// The sections of the verdict state, for somebody who has more to say in the same object.
    #[must_use]
    pub fn begin_state(&self) -> ContainerBuilder {
        let mut out = ContainerBuilder::new(ContainerKind::State, STATE_VERSION);
        let mut section = |name, encode: &dyn Fn(&mut Encoder)| {
            let mut content = Encoder::new();
            encode(&mut content);
            out.section(name, content.finish());
        };
        section(HEAD, &|out| self.encode_head(out));
        section(TOPICS, &|out| self.encode_topics(out));
        section(PRODUCERS, &|out| self.producers.encode(out));
        section(WINDOWS, &|out| self.encode_windows(out));
        section(GROUPS, &|out| self.encode_groups(out));
        out
    }

    /// The fold of a state object, with an empty unmerged index.
    ///
    /// # Errors
    /// Whatever is wrong with the object; `OverLimit` when it needs a higher feature level than this program knows.
    pub fn decode_state(object: &Bytes) -> Result<Self, FormatError> {
        let container = Container::decode(ContainerKind::State, STATE_VERSION, object)?;
        let mut fold = Self::new();
        let section = |name, decode: &mut dyn FnMut(&mut Decoder<'_>) -> Result<(), FormatError>| {
            let mut input = Decoder::new(container.section(name)?);
            decode(&mut input)?;
            input.finish()
        };
        section(HEAD, &mut |input| fold.decode_head(input))?;
        section(TOPICS, &mut |input| fold.decode_topics(input))?;
        section(PRODUCERS, &mut |input| fold.decode_producers(input))?;
        section(WINDOWS, &mut |input| fold.decode_windows(input))?;
        section(GROUPS, &mut |input| fold.decode_groups(input))?;
        fold.stage_again();
        Ok(fold)
    }

    fn encode_head(&self, out: &mut Encoder) {
        out.varint(self.index.0);
        out.u64(self.digest.0);
        out.u128(self.incarnation_id.0);
        out.count(self.incarnations.len());
        for (began_at, number) in &self.incarnations {
            out.varint(began_at.0);
            out.varint(u64::from(number.0));
        }
        out.varint(u64::from(self.level));
        encode_limits(&self.limits, out);
    }

    fn decode_head(&mut self, input: &mut Decoder<'_>) -> Result<(), FormatError> {
        self.index = take_index(INDEX_MAX, input)?;
        self.digest = Digest(input.u64()?);
        self.incarnation_id = IncarnationId(input.u128()?);
        for _ in 0..input.count("incarnations", usize::MAX, 2)? {
            let began_at = take_index(self.index, input)?;
            let number = IncarnationNumber(input.varint_u32("incarnation number")?);
            if self.incarnations.last().is_some_and(|(last, _)| *last > began_at) || number <= self.incarnation {
                return invalid("order of incarnations");
            }
            self.incarnations.push((began_at, number));
            self.incarnation = number;
        }
        self.level = take_u16("feature level", input)?;
        if self.level > SUPPORTED_LEVEL {
            let (found, max) = (u64::from(self.level), u64::from(SUPPORTED_LEVEL));
            return Err(FormatError::OverLimit {
                what: "feature level",
                found,
                max,
            });
        }
        self.limits = decode_limits(input)?;
        Ok(())
    }

    fn encode_topics(&self, out: &mut Encoder) {
        out.varint(self.topics.deleted_at.0);
        out.count(self.topics.by_id.len());
        for (id, topic) in &self.topics.by_id {
            out.u128(id.0);
            out.str(&topic.name);
            out.varint(topic.created_at.0);
            out.varint(topic.deletion_before.0);
            out.count(topic.partitions.len());
            topic
                .partitions
                .iter()
                .for_each(|partition| encode_partition(partition, out));
        }
    }

    fn decode_topics(&mut self, input: &mut Decoder<'_>) -> Result<(), FormatError> {
        self.topics.deleted_at = take_index(self.index, input)?;
        let mut last = None;
        for _ in 0..input.count("topics", usize::MAX, TOPIC_BYTES_MIN)? {
            let id = TopicId(input.u128()?);
            let name = input.str("topic name", TOPIC_NAME_BYTES_MAX)?.into();
            let created_at = take_index(self.index, input)?;
            let deletion_before = take_index(created_at, input)?;
            let count = input.count("partitions", usize::MAX, PARTITION_BYTES_MIN)?;
            let partitions: Result<Vec<_>, _> = (0..count).map(|_| decode_partition(self.incarnation, input)).collect();
            let topic = Topic {
                name,
                created_at,
                deletion_before,
                partitions: partitions?,
            };
            if last.replace(id) >= Some(id) || id == TopicId(0) || count == 0 || !self.topics.restore(id, topic) {
                return invalid("order of topics");
            }
        }
        Ok(())
    }

    fn encode_groups(&self, out: &mut Encoder) {
        // Groups that have nothing but staged offsets come back with the producers.
        let groups = || self.groups.by_id.iter().filter(|(_, group)| !group.offsets.is_empty());
        out.count(groups().count());
        for (id, group) in groups() {
            out.str(id);
            out.count(group.offsets.len());
            for (at, committed) in &group.offsets {
                put_partition(*at, out);
                committed.commit.encode(out);
                out.varint(committed.committed_at.0);
            }
        }
    }

    fn decode_groups(&mut self, input: &mut Decoder<'_>) -> Result<(), FormatError> {
        let mut last: Option<&str> = None;
        for _ in 0..input.count("groups", usize::MAX, GROUP_BYTES_MIN)? {
            let id = input.str("group id", GROUP_ID_BYTES_MAX)?;
            if last.replace(id) >= Some(id) {
                return invalid("order of groups");
            }
            let mut last_at = None;
            let offsets = input.count("offsets of a group", usize::MAX, COMMITTED_BYTES_MIN)?;
            for _ in 0..offsets {
                let at = take_partition(input)?;
                let commit = OffsetCommit::decode(input)?;
                let committed_at = take_index(self.index, input)?;
                if last_at.replace(at) >= Some(at) || self.topics.partition(at).is_none() {
                    return invalid("order of committed offsets");
                }
                self.groups.commit(id, at, commit, committed_at);
            }
            if offsets == 0 {
                return invalid("group without offsets");
            }
        }
        Ok(())
    }

    /// What open transactions have staged counts again in the groups.
    fn stage_again(&mut self) {
        let open = self
            .producers
            .known
            .values()
            .filter_map(|producer| producer.open.as_ref());
        for ((group, at), commit) in open.flat_map(|open| &open.staged) {
            self.groups.stage(group, *at, commit);
        }
    }
}

fn encode_partition(partition: &Partition, out: &mut Encoder) {
    put_offset(partition.log_start, Offset(0), out);
    put_offset(partition.high_watermark, partition.log_start, out);
    out.varint(u64::from(partition.first_epoch.0));
    let aborted = partition.txns.as_ref().map_or(&[][..], |txns| &txns.aborted);
    let epochs = &partition.epochs;
    let has = |flag, any: bool| if any { flag } else { 0 };
    out.u8(has(HAS_EPOCHS, !epochs.is_empty()) | has(HAS_ABORTED, !aborted.is_empty()));
    if !epochs.is_empty() {
        out.count(epochs.len());
        for (number, start) in epochs {
            out.varint(u64::from(number.0));
            put_offset(*start, Offset(0), out);
        }
    }
    if !aborted.is_empty() {
        out.count(aborted.len());
        for aborted in aborted {
            out.zigzag(aborted.producer.0);
            put_offset(aborted.first, Offset(0), out);
            put_offset(aborted.marker, aborted.first, out);
            put_offset(aborted.stable_after, Offset(0), out);
        }
    }
}

fn decode_partition(now: IncarnationNumber, input: &mut Decoder<'_>) -> Result<Partition, FormatError> {
    let log_start = take_offset(Offset(0), input)?;
    let high_watermark = take_offset(log_start, input)?;
    let first_epoch = IncarnationNumber(input.varint_u32("incarnation number")?);
    let flags = input.u8()?;
    if flags & !(HAS_EPOCHS | HAS_ABORTED) != 0 || first_epoch > now {
        return invalid("flags of a partition");
    }
    let mut partition = Partition {
        high_watermark,
        log_start,
        first_epoch,
        ..Partition::default()
    };
    if flags & HAS_EPOCHS != 0 {
        partition.epochs = decode_epochs(first_epoch, high_watermark, input)?;
        if partition.epochs.last().is_some_and(|(number, _)| *number > now) {
            return invalid("epoch of a partition");
        }
    }
    if flags & HAS_ABORTED != 0 {
        let aborted = decode_aborted(high_watermark, input)?;
        partition.txns = Some(Box::new(PartitionTxns {
            aborted,
            ..PartitionTxns::default()
        }));
    }
    Ok(partition)
}

fn decode_epochs(
    first: IncarnationNumber,
    high_watermark: Offset,
    input: &mut Decoder<'_>,
) -> Result<Vec<(IncarnationNumber, Offset)>, FormatError> {
    let mut epochs: Vec<(IncarnationNumber, Offset)> = Vec::new();
    for _ in 0..input.count("epochs", usize::MAX, 2)? {
        let number = IncarnationNumber(input.varint_u32("incarnation number")?);
        let start = take_offset(Offset(0), input)?;
        let (last, last_start) = epochs
            .last()
            .map_or((first, None), |(last, start)| (*last, Some(*start)));
        if number <= last || last_start >= Some(start) || start > high_watermark {
            return invalid("order of epochs");
        }
        epochs.push((number, start));
    }
    if epochs.is_empty() {
        invalid("epochs without any")
    } else {
        Ok(epochs)
    }
}

fn decode_aborted(high_watermark: Offset, input: &mut Decoder<'_>) -> Result<Vec<AbortedTxn>, FormatError> {
    let mut all: Vec<AbortedTxn> = Vec::new();
    for _ in 0..input.count("aborted transactions", usize::MAX, 4)? {
        let producer = ProducerId(input.zigzag()?);
        let first = take_offset(Offset(0), input)?;
        let aborted = AbortedTxn {
            producer,
            first,
            marker: take_offset(first, input)?,
            stable_after: take_offset(Offset(0), input)?,
        };
        let in_order = all.last().is_none_or(|last| last.marker < aborted.marker);
        if !in_order || aborted.marker <= first || aborted.marker >= high_watermark {
            return invalid("order of aborted transactions");
        }
        all.push(aborted);
    }
    if all.is_empty() {
        invalid("aborted transactions without any")
    } else {
        Ok(all)
    }
}

/// Partitions of the table of windows, by their number there.
pub(crate) fn slots_of(fold: &Fold) -> Vec<Option<TopicPartition>> {
    let mut slots = Vec::new();
    for (at, partition) in fold.topics.partitions() {
        let Some(slot) = partition.window_slot else { continue };
        let slot = usize::try_from(slot.0).expect("slots fit memory");
        if slots.len() <= slot {
            slots.resize(slot + 1, None);
        }
        slots[slot] = Some(at);
    }
    slots
}

/// A partition that a state refers to must be there.
pub(crate) fn known_partition(fold: &mut Fold, at: TopicPartition) -> Result<&mut Partition, FormatError> {
    fold.topics.partition_mut(at).ok_or(FormatError::Invalid {
        what: "partition of a state",
    })
}
