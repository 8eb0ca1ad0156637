//! Writing merged objects: batches come in order of partition and offset, objects go out.
//!
//! Owns: which batches share an object, where slices and objects are cut.
//! Does not own: which batches are merged (`intake`, `levels`), publication (`round`).
//!
//! Invariants: CMP-1: every batch goes into exactly one slice, at its offset. Topics of different policy never share an
//! object. MEM-1: at most twice the largest object waits to be written, give or take one slice.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_segment::id::{Offset, Timestamp, TopicId, TopicPartition};
use esker_segment::manifest::{ManifestSlice, MergedObject};
use esker_segment::merged::PlacedBatch;
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use esker_segment::segment::{BatchData, MergedBuilder, MergedSegment, SegmentHeader};
use esker_segment::wire::FormatError;

use crate::edit::NewSlice;
use crate::round::{RoundError, RoundWriter};
use crate::seams::{TopicPolicies, TopicPolicy};
use crate::settings::MergeSettings;

pub mod marker;
#[cfg(test)]
mod tests;

/// Of the time that a topic keeps its records, a slice spans at most this part, so that retention by time is not late by
/// more.
const SLICE_SPAN_PARTS: u32 = 16;

/// An offset range of a partition, about to get its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The partition.
    pub at: TopicPartition,
    /// First offset it speaks for.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
    /// Largest timestamp in it.
    pub max_timestamp: Timestamp,
}

/// Who shares an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    /// One topic for itself.
    Own(TopicId),
    /// All others with one policy.
    Shared(TopicPolicy),
}

/// Merged objects in the making, and those that are made.
pub struct Output<'a> {
    settings: MergeSettings,
    policies: &'a dyn TopicPolicies,
    /// Topics that get objects of their own, and how many bytes of them are still to come.
    own: BTreeMap<TopicId, u64>,
    current: Option<Stream>,
    pending: BTreeMap<Stream, Assembler>,
    made: Vec<NewSlice>,
}

impl<'a> Output<'a> {
    /// For batches of topics with these sizes.
    #[must_use]
    pub fn new(settings: MergeSettings, policies: &'a dyn TopicPolicies, topic_bytes: &BTreeMap<TopicId, u64>) -> Self {
        // Half an object at least: a smaller one would have to be merged again.
        let large = |bytes: &u64| *bytes >= settings.object_bytes_max / 2;
        let own = topic_bytes.iter().filter(|(_, bytes)| large(bytes));
        Self {
            settings,
            policies,
            own: own.map(|(topic, bytes)| (*topic, *bytes)).collect(),
            current: None,
            pending: BTreeMap::new(),
            made: Vec::new(),
        }
    }

    /// The batches pushed from now on are those of this range. Ranges come in order.
    ///
    /// # Errors
    /// When an object has to be written first, and cannot be.
    pub async fn begin(&mut self, range: Range, writer: &mut RoundWriter<'_>) -> Result<(), RoundError> {
        let topic = range.at.topic;
        let policy = self.policies.policy(topic);
        let stream = if self.own.contains_key(&topic) {
            Stream::Own(topic)
        } else {
            Stream::Shared(policy)
        };
        if let Some(last @ Stream::Own(_)) = self.current.replace(stream)
            && last != stream
        {
            self.write(last, writer).await?;
        }
        if self.is_full(stream) {
            self.write(stream, writer).await?;
        }
        while self.waiting_bytes() > 2 * self.settings.object_bytes_max {
            let largest = self.pending.iter().max_by_key(|(_, pending)| pending.bytes);
            let Some((&largest, _)) = largest else { break };
            self.write(largest, writer).await?;
        }
        let span_max = policy.retention.map(|retention| retention / SLICE_SPAN_PARTS);
        let pending = self.pending.entry(stream).or_default();
        pending.begin(range, span_max, &self.settings);
        Ok(())
    }

    /// Adds a batch to the range begun last.
    ///
    /// # Panics
    /// When none was begun.
    pub fn push(&mut self, batch: PlacedBatch, data: BatchData) {
        let stream = self.current.as_ref().expect("a range was begun");
        let pending = self.pending.get_mut(stream).expect("a range was begun in it");
        if let Stream::Own(topic) = stream
            && let Some(left) = self.own.get_mut(topic)
        {
            *left = left.saturating_sub(u64::from(batch.meta.bytes));
        }
        pending.push(batch, data);
    }

    /// Writes what is left, and gives the slices that were made.
    ///
    /// # Errors
    /// When an object cannot be written.
    pub async fn finish(mut self, writer: &mut RoundWriter<'_>) -> Result<Vec<NewSlice>, RoundError> {
        while let Some((&stream, _)) = self.pending.first_key_value() {
            self.write(stream, writer).await?;
        }
        Ok(self.made)
    }

    /// A topic with objects of its own leaves no small rest: the last object may be larger by a half.
    fn is_full(&self, stream: Stream) -> bool {
        let full = self
            .pending
            .get(&stream)
            .is_some_and(|pending| pending.is_full(&self.settings));
        match stream {
            Stream::Own(topic) => {
                let left = self.own.get(&topic).copied().unwrap_or_default();
                full && left >= self.settings.object_bytes_max / 2
            }
            Stream::Shared(_) => full,
        }
    }

    fn waiting_bytes(&self) -> u64 {
        self.pending.values().map(|pending| pending.bytes).sum()
    }

    async fn write(&mut self, stream: Stream, writer: &mut RoundWriter<'_>) -> Result<(), RoundError> {
        let pending = self.pending.remove(&stream).unwrap_or_default();
        if pending.slices.is_empty() {
            return Ok(());
        }
        let name = writer.name(ObjectKind::Merged);
        let header = writer.header(&name);
        let segment = pending.build(&header)?;
        self.made.extend(slices_of(&segment, name));
        writer.write(name, segment.chunks).await
    }
}

/// One object in the making.
#[derive(Debug, Default)]
struct Assembler {
    slices: Vec<PendingSlice>,
    bytes: u64,
    batches: usize,
}

#[derive(Debug)]
struct PendingSlice {
    at: TopicPartition,
    start: Offset,
    end: Offset,
    bytes: u64,
    /// Largest timestamp of the range it began with.
    first_timestamp: Timestamp,
    batches: Vec<(PlacedBatch, BatchData)>,
}

impl Assembler {
    fn is_full(&self, settings: &MergeSettings) -> bool {
        self.bytes >= settings.object_bytes_max || self.batches >= settings.object_batches_max
    }

    /// Extends the last slice if the range follows it, and it is neither too large nor too long.
    fn begin(&mut self, range: Range, span_max: Option<Duration>, settings: &MergeSettings) {
        let batches_max = settings.object_batches_max / 4;
        if let Some(last) = self.slices.last_mut() {
            let span = range.max_timestamp.0.abs_diff(last.first_timestamp.0);
            let follows = last.at == range.at && last.end == range.start;
            let fits = last.bytes < settings.slice_bytes_max
                && last.batches.len() < batches_max
                && span_max.is_none_or(|max| Duration::from_millis(span) <= max);
            if follows && fits {
                last.end = range.end;
                return;
            }
        }
        self.slices.push(PendingSlice {
            at: range.at,
            start: range.start,
            end: range.end,
            bytes: 0,
            first_timestamp: range.max_timestamp,
            batches: Vec::new(),
        });
    }

    fn push(&mut self, batch: PlacedBatch, data: BatchData) {
        let bytes = u64::from(batch.meta.bytes);
        let slice = self.slices.last_mut().expect("a range was begun");
        slice.bytes += bytes;
        slice.batches.push((batch, data));
        self.bytes += bytes;
        self.batches += 1;
    }

    fn build(self, header: &SegmentHeader) -> Result<MergedSegment, FormatError> {
        let mut builder = MergedBuilder::new();
        for slice in self.slices {
            builder.slice(slice.at, slice.start, slice.end);
            for (batch, data) in slice.batches {
                builder.push(batch, data)?;
            }
        }
        builder.finish(header)
    }
}

/// What a manifest says of a merged segment.
fn slices_of(segment: &MergedSegment, name: ObjectName) -> impl Iterator<Item = NewSlice> {
    let object = MergedObject {
        name,
        length_bytes: segment.length_bytes,
        index_position: segment.index_position,
        content_hash: segment.content_hash,
    };
    segment
        .index
        .slices
        .iter()
        .zip(&segment.positions)
        .map(move |(slice, position)| {
            let batches = &slice.batches;
            NewSlice {
                object,
                slice: ManifestSlice {
                    at: slice.at,
                    start: slice.start,
                    end: slice.end,
                    object: 0,
                    position: *position,
                    bytes: slice.bytes(),
                    records: batches.iter().map(|batch| u64::from(batch.meta.records)).sum(),
                    max_timestamp: batches
                        .iter()
                        .map(|batch| batch.meta.max_timestamp)
                        .max()
                        .unwrap_or(Timestamp(-1)),
                },
            }
        })
}

/// The header of an object of this name.
pub(crate) fn header(name: &ObjectName, incarnation_id: u128) -> SegmentHeader {
    let (ObjectName::Segment(name) | ObjectName::Other { name, .. }) = name;
    let SegmentName {
        incarnation,
        session,
        number,
        ..
    } = *name;
    SegmentHeader {
        incarnation,
        incarnation_id: esker_segment::id::IncarnationId(incarnation_id),
        session,
        number,
    }
}
