//! The sections of a state object about producers: grants, epochs, open transactions, windows.
//!
//! Invariants: windows are written by partition and producer id, not in the order in which they lie in memory.

use std::collections::BTreeMap;

use esker_segment::id::{LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition};
use esker_segment::wire::{Decoder, Encoder, FormatError};

use super::{invalid, known_partition, put_offset, slots_of, take_index, take_offset};
use crate::entry::body::{epoch as put_epoch, partition as put_partition, take_epoch, take_partition};
use crate::entry::{GROUP_ID_BYTES_MAX, OffsetCommit};
use crate::fold::Fold;
use crate::producer::{OpenTxn, Producer, Producers};
use crate::window::{WINDOW_BATCHES, Window, WindowBatch};

/// Fewest bytes of a producer: id, epoch, two indexes, flag.
const PRODUCER_BYTES_MIN: usize = 5;
/// Fewest bytes of a staged offset: group, topic id, partition, offset, epoch, metadata, timestamp.
const STAGED_BYTES_MIN: usize = 22;
/// Fewest bytes of the windows of a partition: topic id, partition, count, one window.
const RUN_BYTES_MIN: usize = 18 + WINDOW_BYTES_MIN;
/// Fewest bytes of a window: producer, epoch, sequence, index, base, count, records.
const WINDOW_BYTES_MIN: usize = 7;

/// A number that rises from item to item.
fn put_step(value: i64, since: Option<i64>, out: &mut Encoder) {
    match since {
        None => out.zigzag(value),
        Some(since) => out.varint(value.wrapping_sub(since).cast_unsigned()),
    }
}

fn take_step(since: Option<i64>, input: &mut Decoder<'_>) -> Result<i64, FormatError> {
    let Some(since) = since else { return input.zigzag() };
    let step = i64::try_from(input.varint()?).ok().filter(|step| *step > 0);
    step.and_then(|step| since.checked_add(step))
        .ok_or(FormatError::Invalid {
            what: "order of producers",
        })
}

impl Producers {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.zigzag(self.next_id.0);
        out.varint(self.windows_expired_through.0);
        out.varint(self.floors_expired_through.0);
        out.count(self.grants.len());
        let mut last = None;
        for (first, at) in &self.grants {
            put_step(first.0, last.replace(first.0), out);
            out.varint(at.0);
        }
        out.count(self.known.len());
        let mut last = None;
        for (id, producer) in &self.known {
            put_step(id.0, last.replace(id.0), out);
            put_epoch(producer.floor, out);
            out.varint(producer.ended_at.0);
            out.varint(producer.touched.0);
            out.bool(producer.open.is_some());
            if let Some(open) = &producer.open {
                encode_open(open, out);
            }
        }
    }
}

fn encode_open(open: &OpenTxn, out: &mut Encoder) {
    put_epoch(open.epoch, out);
    out.varint(open.opened_at.0);
    out.count(open.partitions.len());
    for (at, first) in &open.partitions {
        put_partition(*at, out);
        put_offset(*first, Offset(0), out);
    }
    out.count(open.staged.len());
    for ((group, at), commit) in &open.staged {
        out.str(group);
        put_partition(*at, out);
        commit.encode(out);
    }
}

impl Fold {
    pub(super) fn decode_producers(&mut self, input: &mut Decoder<'_>) -> Result<(), FormatError> {
        self.producers.next_id = ProducerId(input.zigzag()?);
        if self.producers.next_id.0 < 0 {
            return invalid("number of producer ids");
        }
        self.producers.windows_expired_through = take_index(self.index, input)?;
        self.producers.floors_expired_through = take_index(self.index, input)?;
        let mut last = None;
        for _ in 0..input.count("grants", usize::MAX, 2)? {
            let first = take_step(last, input)?;
            last = Some(first);
            let at = take_index(self.index, input)?;
            let in_order = self.producers.grants.last().is_none_or(|(_, before)| *before <= at);
            if !in_order || !self.producers.is_granted(ProducerId(first)) {
                return invalid("order of grants");
            }
            self.producers.grants.push((ProducerId(first), at));
        }
        let mut last = None;
        for _ in 0..input.count("producers", usize::MAX, PRODUCER_BYTES_MIN)? {
            let id = take_step(last, input)?;
            last = Some(id);
            let id = ProducerId(id);
            if !self.producers.is_granted(id) {
                return invalid("producer that was never granted");
            }
            let mut producer = Producer {
                floor: take_epoch(input)?,
                ended_at: take_index(self.index, input)?,
                touched: take_index(self.index, input)?,
                open: None,
            };
            if input.bool()? {
                producer.open = Some(Box::new(self.decode_open(id, input)?));
            }
            self.producers.known.insert(id, producer);
        }
        Ok(())
    }

    fn decode_open(&mut self, id: ProducerId, input: &mut Decoder<'_>) -> Result<OpenTxn, FormatError> {
        let epoch = take_epoch(input)?;
        let opened_at = take_index(self.index, input)?;
        let mut open = OpenTxn {
            epoch,
            opened_at,
            partitions: BTreeMap::new(),
            staged: BTreeMap::new(),
        };
        for _ in 0..input.count("partitions of a transaction", usize::MAX, 18)? {
            let at = take_partition(input)?;
            let first = take_offset(Offset(0), input)?;
            let partition = known_partition(self, at)?;
            let taken = partition
                .txns
                .as_ref()
                .is_some_and(|txns| txns.open.contains_key(&first));
            if open.partitions.last_key_value().is_some_and(|(last, _)| *last >= at)
                || first >= partition.high_watermark
                || taken
            {
                return invalid("order of partitions of a transaction");
            }
            partition.open_txn(id, first);
            open.partitions.insert(at, first);
        }
        for _ in 0..input.count("staged offsets", usize::MAX, STAGED_BYTES_MIN)? {
            let group: Box<str> = input.str("group id", GROUP_ID_BYTES_MAX)?.into();
            let key = (group, take_partition(input)?);
            known_partition(self, key.1)?;
            if open.staged.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return invalid("order of staged offsets");
            }
            open.staged.insert(key, OffsetCommit::decode(input)?);
        }
        Ok(open)
    }

    pub(super) fn encode_windows(&self, out: &mut Encoder) {
        let slots = slots_of(self);
        let partition = |window: &Window| {
            let slot = usize::try_from(window.slot().0).expect("slots fit memory");
            slots[slot].expect("a live window has a partition")
        };
        let mut sorted: Vec<(TopicPartition, ProducerId, &Window)> = self
            .windows
            .all()
            .map(|window| (partition(window), window.producer(), window))
            .collect();
        sorted.sort_unstable_by_key(|(at, producer, _)| (*at, *producer));
        let runs = || sorted.chunk_by(|one, next| one.0 == next.0);
        out.count(runs().count());
        for run in runs() {
            put_partition(run[0].0, out);
            out.count(run.len());
            let mut last = None;
            for (_, producer, window) in run {
                put_step(producer.0, last.replace(producer.0), out);
                encode_window(window, out);
            }
        }
    }

    pub(super) fn decode_windows(&mut self, input: &mut Decoder<'_>) -> Result<(), FormatError> {
        let mut last_at = None;
        for _ in 0..input.count("partitions with windows", usize::MAX, RUN_BYTES_MIN)? {
            let at = take_partition(input)?;
            let count = input.count("windows", usize::MAX, WINDOW_BYTES_MIN)?;
            if last_at.replace(at) >= Some(at) || count == 0 {
                return invalid("order of windows");
            }
            let slot = self.windows.new_slot();
            let partition = known_partition(self, at)?;
            partition.window_slot = Some(slot);
            let high_watermark = partition.high_watermark;
            let mut last = None;
            for _ in 0..count {
                let id = take_step(last, input)?;
                last = Some(id);
                if !self.producers.is_granted(ProducerId(id)) {
                    return invalid("producer that was never granted");
                }
                let window = decode_window(Window::new(slot, ProducerId(id)), self.index, high_watermark, input)?;
                self.windows.insert(window);
            }
        }
        Ok(())
    }
}

fn encode_window(window: &Window, out: &mut Encoder) {
    put_epoch(window.epoch(), out);
    out.varint(u64::from(window.next_sequence().0.cast_unsigned()));
    out.varint(window.touched().0);
    out.count(window.batches().count());
    let mut newer = None;
    for batch in window.batches() {
        match newer.replace(batch.base) {
            None => put_offset(batch.base, Offset(0), out),
            Some(newer) => put_offset(newer, batch.base, out),
        }
        out.varint(u64::from(batch.records));
    }
}

fn decode_window(
    mut window: Window,
    last: LogIndex,
    high_watermark: Offset,
    input: &mut Decoder<'_>,
) -> Result<Window, FormatError> {
    let epoch: ProducerEpoch = take_epoch(input)?;
    let next = i32::try_from(input.varint()?).map_err(|_| FormatError::Invalid { what: "sequence" })?;
    let touched = take_index(last, input)?;
    let mut batches = Vec::with_capacity(WINDOW_BATCHES);
    for _ in 0..input.count("batches of a window", WINDOW_BATCHES, 2)? {
        let base = match batches.last() {
            None => take_offset(Offset(0), input)?,
            Some(WindowBatch { base: newer, .. }) => {
                let gap = input.varint_u32("gap between batches of a window")?;
                Offset(newer.0 - i64::from(gap))
            }
        };
        let records = input.varint_u32("records of a batch")?;
        let fits = base.0 >= 0
            && base
                .0
                .checked_add(i64::from(records))
                .is_some_and(|end| end <= high_watermark.0);
        if records == 0 || !fits {
            return invalid("batch of a window");
        }
        batches.push(WindowBatch { base, records });
    }
    if batches.is_empty() || !window.restore(epoch, Sequence(next), touched, &batches) {
        return invalid("window");
    }
    Ok(window)
}
