//! Producer windows: the last five batches of each (producer, partition), as Kafka keeps them.
//!
//! Owns: the sequence and epoch check of idempotent batches, the memory layout of up to a million windows.
//! Does not own: which producer ids exist, transactional epochs (`producer`), offsets (`partition`).
//!
//! Invariants: IDM-1. A window takes 68 bytes and its share of the hash table at most 12. Windows lie densely in chunks,
//! so that memory follows their number; their order depends on history and is never looked at.

use esker_segment::id::{LogIndex, Offset, ProducerEpoch, ProducerId, Sequence};
use hashbrown::HashTable;

mod slots;

pub(crate) use slots::WindowTable;

/// How many batches of a producer and partition are remembered; Java producers have at most five in flight.
pub const WINDOW_BATCHES: usize = 5;

/// Number of a partition within the table of windows; partitions without idempotent producers have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WindowSlot(pub(crate) u32);

/// What a window says to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowCheck {
    Next,
    Duplicate { base: Offset },
    OutOfOrder { expected: Sequence },
    Fenced { current: ProducerEpoch },
}

/// The last batches of one producer in one partition. 64-bit numbers are split so that the struct has no padding.
///
/// Within an epoch the sequences of successive batches are contiguous, so the counts of records and the sequence after
/// the last batch give every first sequence. Base offsets are kept as differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    producer: [u32; 2],
    /// Base offset of the newest batch.
    base: [u32; 2],
    slot: u32,
    /// Sequence after the newest batch.
    next_sequence: i32,
    /// Records of each batch, newest first.
    records: [u32; WINDOW_BATCHES],
    /// Difference between the base offsets of a batch and of the one before it.
    gaps: [u32; WINDOW_BATCHES - 1],
    touched_low: u32,
    epoch: i16,
    /// Number of batches (3 bits) and the high 13 bits of the log index of the last touch.
    packed: u16,
}

fn split(value: u64) -> [u32; 2] {
    let low = u32::try_from(value & u64::from(u32::MAX)).expect("masked");
    let high = u32::try_from(value >> 32).expect("shifted");
    [low, high]
}

fn join(parts: [u32; 2]) -> u64 {
    u64::from(parts[0]) | u64::from(parts[1]) << 32
}

/// Largest log index that a window can hold: 45 bits, a thousand years of a thousand commits a second.
pub(crate) const INDEX_MAX: LogIndex = LogIndex((1 << 45) - 1);

/// One batch of a window, in full; the form it has in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowBatch {
    pub(crate) base: Offset,
    pub(crate) records: u32,
}

impl Window {
    pub(crate) fn new(slot: WindowSlot, producer: ProducerId) -> Self {
        Self {
            producer: split(producer.0.cast_unsigned()),
            slot: slot.0,
            ..Self::default()
        }
    }

    pub(crate) fn producer(&self) -> ProducerId {
        ProducerId(join(self.producer).cast_signed())
    }

    pub(crate) fn slot(&self) -> WindowSlot {
        WindowSlot(self.slot)
    }

    pub(crate) fn epoch(&self) -> ProducerEpoch {
        ProducerEpoch(self.epoch)
    }

    pub(crate) fn next_sequence(&self) -> Sequence {
        Sequence(self.next_sequence)
    }

    fn len(&self) -> usize {
        usize::from(self.packed & 7)
    }

    pub(crate) fn touched(&self) -> LogIndex {
        LogIndex(join([self.touched_low, u32::from(self.packed >> 3)]))
    }

    fn set(&mut self, len: usize, touched: LogIndex) {
        let [low, high] = split(touched.0.min(INDEX_MAX.0));
        let len = u16::try_from(len).expect("at most five");
        self.touched_low = low;
        self.packed = u16::try_from(high).expect("13 bits of a bounded index") << 3 | len;
    }

    /// The batches, newest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = WindowBatch> + '_ {
        let mut base = join(self.base).cast_signed();
        (0..self.len()).map(move |at| {
            let batch = WindowBatch {
                base: Offset(base),
                records: self.records[at],
            };
            base = base.saturating_sub(i64::from(self.gaps.get(at).copied().unwrap_or(0)));
            batch
        })
    }

    /// Whether a batch may be stored.
    pub(crate) fn check(&self, epoch: ProducerEpoch, first: Sequence, records: u32) -> WindowCheck {
        if epoch.0 < self.epoch {
            return WindowCheck::Fenced { current: self.epoch() };
        }
        if epoch.0 > self.epoch {
            // A producer that bumped its epoch, locally or not, begins at 0.
            let zero = Sequence(0);
            return if first == zero {
                WindowCheck::Next
            } else {
                WindowCheck::OutOfOrder { expected: zero }
            };
        }
        if first.0 == self.next_sequence {
            return WindowCheck::Next;
        }
        let mut end = i64::from(self.next_sequence);
        for batch in self.batches() {
            // The first sequence of this batch, across the wrap from 2^31 - 1 to 0.
            end = (end - i64::from(batch.records)).rem_euclid(1 << 31);
            if i64::from(first.0) == end && records == batch.records {
                return WindowCheck::Duplicate { base: batch.base };
            }
        }
        WindowCheck::OutOfOrder {
            expected: self.next_sequence(),
        }
    }

    /// Takes the content of a checkpoint, batches newest first; `false` when it cannot be.
    pub(crate) fn restore(
        &mut self,
        epoch: ProducerEpoch,
        next: Sequence,
        touched: LogIndex,
        batches: &[WindowBatch],
    ) -> bool {
        let possible = epoch.0 >= 0 && next.0 >= 0 && touched <= INDEX_MAX && batches.len() <= WINDOW_BATCHES;
        let Some(newest) = batches.first().filter(|_| possible) else {
            return false;
        };
        (self.base, self.next_sequence, self.epoch) = (split(newest.base.0.cast_unsigned()), next.0, epoch.0);
        for (at, pair) in batches.windows(2).enumerate() {
            let gap = pair[0].base.0.checked_sub(pair[1].base.0);
            let Some(gap) = gap
                .and_then(|gap| u32::try_from(gap).ok())
                .filter(|gap| *gap >= pair[1].records)
            else {
                return false;
            };
            self.gaps[at] = gap;
        }
        for (at, batch) in batches.iter().enumerate() {
            self.records[at] = batch.records;
        }
        self.set(batches.len(), touched);
        true
    }

    /// Notes a stored batch.
    pub(crate) fn push(&mut self, epoch: ProducerEpoch, first: Sequence, batch: WindowBatch, at: LogIndex) {
        let last_base = join(self.base).cast_signed();
        // A gap of four thousand million offsets cannot be told; the batches before it are forgotten.
        let gap = u32::try_from(batch.base.0.saturating_sub(last_base)).ok();
        let kept = if epoch.0 == self.epoch && gap.is_some() {
            self.len().min(WINDOW_BATCHES - 1)
        } else {
            0
        };
        self.records.rotate_right(1);
        self.gaps.rotate_right(1);
        self.records[0] = batch.records;
        self.gaps[0] = if kept == 0 { 0 } else { gap.unwrap_or(0) };
        for at in kept + 1..WINDOW_BATCHES {
            self.records[at] = 0;
        }
        for at in kept..WINDOW_BATCHES - 1 {
            self.gaps[at] = 0;
        }
        self.base = split(batch.base.0.cast_unsigned());
        self.next_sequence = first.plus(batch.records).0;
        self.epoch = epoch.0;
        self.set(kept + 1, at);
    }
}

/// Windows in a chunk. Growing by chunks wastes at most one of them.
const CHUNK: usize = 4096;

/// All windows, found by (partition, producer). `slots` says which partitions they belong to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    chunks: Vec<Vec<Window>>,
    len: usize,
    table: HashTable<u32>,
}

/// Mixes a key; ids and slots are granted by the fold, so nobody can choose them to collide.
fn hash(slot: WindowSlot, producer: ProducerId) -> u64 {
    let mut mixed = producer.0.cast_unsigned() ^ u64::from(slot.0).rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn hash_of(window: &Window) -> u64 {
    hash(window.slot(), window.producer())
}

fn place(handle: u32) -> (usize, usize) {
    let at = usize::try_from(handle).expect("a table of windows fits memory");
    (at / CHUNK, at % CHUNK)
}

fn window(chunks: &[Vec<Window>], handle: u32) -> &Window {
    let (chunk, at) = place(handle);
    &chunks[chunk][at]
}

impl Windows {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The window of a producer in a partition.
    pub(crate) fn get_mut(&mut self, slot: WindowSlot, producer: ProducerId) -> Option<&mut Window> {
        let chunks = &self.chunks;
        let found = self.table.find(hash(slot, producer), |&handle| {
            let window = window(chunks, handle);
            window.slot() == slot && window.producer() == producer
        });
        let (chunk, at) = place(*found?);
        Some(&mut self.chunks[chunk][at])
    }

    pub(crate) fn get(&self, slot: WindowSlot, producer: ProducerId) -> Option<&Window> {
        let found = self.table.find(hash(slot, producer), |&handle| {
            let window = window(&self.chunks, handle);
            window.slot() == slot && window.producer() == producer
        });
        Some(window(&self.chunks, *found?))
    }

    /// Adds a window whose key is not there yet.
    pub(crate) fn insert(&mut self, added: Window) {
        let handle = u32::try_from(self.len).expect("a limit of 32 bits holds");
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.len / CHUNK;
        self.chunks[chunk].push(added);
        self.len += 1;
        let chunks = &self.chunks;
        self.table
            .insert_unique(hash_of(&added), handle, |&handle| hash_of(window(chunks, handle)));
    }

    /// All of them, in no order that means anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Window> {
        self.chunks.iter().flatten()
    }

    /// Keeps those for which `keep` holds; says how many went.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Window) -> bool) -> usize {
        let mut at = 0;
        let before = self.len;
        while at < self.len {
            if keep(&self.chunks[at / CHUNK][at % CHUNK]) {
                at += 1;
            } else {
                self.swap_remove(at);
            }
        }
        let removed = before - self.len;
        if removed > 0 {
            let chunks = &self.chunks;
            self.table
                .shrink_to(self.len, |&handle| hash_of(window(chunks, handle)));
        }
        removed
    }

    fn swap_remove(&mut self, at: usize) {
        let handle = u32::try_from(at).expect("handles are 32 bits");
        let last = u32::try_from(self.len - 1).expect("handles are 32 bits");
        let gone = hash_of(window(&self.chunks, handle));
        self.table
            .find_entry(gone, |&known| known == handle)
            .expect("every window is in the table")
            .remove();
        if last != handle {
            let moved = *window(&self.chunks, last);
            *self
                .table
                .find_mut(hash_of(&moved), |&known| known == last)
                .expect("every window is in the table") = handle;
            self.chunks[at / CHUNK][at % CHUNK] = moved;
        }
        self.len -= 1;
        let chunk = self.len / CHUNK;
        self.chunks[chunk].pop();
        self.chunks.truncate(self.len.div_ceil(CHUNK));
    }
}
