//! What clients saw: what they sent, which offsets they were told, what they read where.
//!
//! Owns: the checks that a single observation allows, and the list of violations.
//! Does not own: the checks of the whole log at the end (`verdict`).
//!
//! Invariants: LOG-1, LOG-6.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::trace::Trace;

/// Which record of which producer. Its bytes are the record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordId {
    /// The producer.
    pub(crate) producer: u32,
    /// The partition that it was sent to.
    pub(crate) partition: i32,
    /// The how-manieth record of the producer for this partition, from 0.
    pub(crate) number: u32,
}

impl RecordId {
    /// The record of the same producer and partition that comes so much later.
    pub(crate) fn plus(self, nth: u32) -> Self {
        Self {
            number: self.number + nth,
            ..self
        }
    }

    /// The value of the record: the id, and padding that depends on it.
    pub(crate) fn value(self) -> Vec<u8> {
        let mut value = Vec::with_capacity(64);
        value.extend(self.producer.to_be_bytes());
        value.extend(self.partition.to_be_bytes());
        value.extend(self.number.to_be_bytes());
        let fill = u8::try_from((self.number ^ self.producer) % 251).expect("below 251");
        value.resize(12 + usize::from(fill % 40), fill);
        value
    }

    /// The inverse of [`RecordId::value`]; `None` when nobody can have sent this.
    pub(crate) fn parse(value: &Bytes) -> Option<Self> {
        let part = |at: usize| -> Option<[u8; 4]> { value.get(at..at + 4)?.try_into().ok() };
        let id = Self {
            producer: u32::from_be_bytes(part(0)?),
            partition: i32::from_be_bytes(part(4)?),
            number: u32::from_be_bytes(part(8)?),
        };
        (id.value() == value[..]).then_some(id)
    }
}

/// The history of a run.
#[derive(Debug)]
pub(crate) struct History {
    state: Mutex<State>,
    trace: Trace,
}

#[derive(Debug, Default)]
struct State {
    /// How often records were sent.
    sent: BTreeMap<RecordId, u32>,
    /// Where records were acknowledged.
    acknowledged: BTreeMap<RecordId, i64>,
    /// What was read where.
    read: BTreeMap<(i32, i64), RecordId>,
    /// Per partition, the offset after the last that was acknowledged or read.
    known_end: BTreeMap<i32, i64>,
    violations: Vec<String>,
}

impl History {
    pub(crate) fn new(trace: Trace) -> Self {
        Self {
            state: Mutex::default(),
            trace,
        }
    }

    /// Notes that an invariant was broken.
    pub(crate) fn violate(&self, what: String) {
        self.trace.note(format_args!("VIOLATION {what}"));
        self.lock().violations.push(what);
    }

    /// A batch was sent, or is about to be.
    pub(crate) fn on_sent(&self, first: RecordId, count: u32) {
        let mut state = self.lock();
        for nth in 0..count {
            *state.sent.entry(first.plus(nth)).or_default() += 1;
        }
    }

    /// How often a record was sent.
    pub(crate) fn sent(&self, id: RecordId) -> u32 {
        self.lock().sent.get(&id).copied().unwrap_or(0)
    }

    /// A batch was acknowledged.
    pub(crate) fn on_acknowledged(&self, first: RecordId, count: u32, base: i64) {
        let mut state = self.lock();
        for nth in 0..count {
            let id = first.plus(nth);
            state.acknowledged.insert(id, base + i64::from(nth));
        }
        state.know_end(first.partition, base + i64::from(count));
    }

    /// A record was read at an offset.
    pub(crate) fn on_read(&self, partition: i32, offset: i64, value: Option<&Bytes>) {
        let found = value.and_then(RecordId::parse).filter(|id| id.partition == partition);
        let Some(id) = found else {
            return self.violate(format!(
                "LOG-1: {partition}@{offset} holds what nobody sent there: {value:?}"
            ));
        };
        let before = {
            let mut state = self.lock();
            state.know_end(partition, offset + 1);
            state.read.insert((partition, offset), id)
        };
        if before.is_some_and(|before| before != id) {
            self.violate(format!("LOG-1: {partition}@{offset} was {before:?} and is {id:?}"));
        }
    }

    /// The offset after the last one that some client knows to exist.
    pub(crate) fn known_end(&self, partition: i32) -> i64 {
        self.lock().known_end.get(&partition).copied().unwrap_or(0)
    }

    /// All that was acknowledged.
    pub(crate) fn acknowledged(&self) -> BTreeMap<RecordId, i64> {
        self.lock().acknowledged.clone()
    }

    /// What was ever read in a partition, by offset.
    pub(crate) fn read_in(&self, partition: i32) -> Vec<(i64, RecordId)> {
        let state = self.lock();
        let range = state.read.range((partition, i64::MIN)..=(partition, i64::MAX));
        range.map(|((_, offset), id)| (*offset, *id)).collect()
    }

    /// What was broken, in order.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn know_end(&mut self, partition: i32, end: i64) {
        let known = self.known_end.entry(partition).or_default();
        *known = end.max(*known);
    }
}
