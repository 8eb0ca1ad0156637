//! An idempotent session: what the client keeps of it, so that any agent can go on with it.
//!
//! Owns: numbers of batches, sequences as acks told them, batches that are not acknowledged.
//! Does not own: the stream (`link`), what becomes of records (`driver`).
//!
//! Invariants: a batch never changes within its session; at most `UNACKED_MAX` are not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use esker_proto::v1;
use esker_proto::v1::produce_stream_request::{Batch, Open, Step};
use esker_proto::v1::produce_stream_response::Ack;
use tokio::time::Instant;

use super::queue::Pending;
use crate::record::Stored;

/// As many as a cluster can recognise when they come again.
pub(super) const UNACKED_MAX: usize = 5;

pub(super) struct Session {
    /// Absent until an agent has opened it.
    identity: Option<v1::Session>,
    next_sequences: BTreeMap<i32, i32>,
    next_number: u64,
    unacked: VecDeque<Numbered>,
    born: Instant,
    /// It was begun in order to see new partitions.
    renewed: bool,
}

/// A batch of the session.
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) records: Vec<Pending>,
    /// It was sent over a connection that was lost: it may be stored.
    pub(super) in_doubt: bool,
    pub(super) was_sent: bool,
}

impl Session {
    pub(super) fn new(renewed: bool) -> Self {
        Self {
            identity: None,
            next_sequences: BTreeMap::new(),
            next_number: 0,
            unacked: VecDeque::new(),
            born: Instant::now(),
            renewed,
        }
    }

    /// What a stream begins with.
    pub(super) fn open(&self, topic: &str) -> Open {
        Open {
            topic: topic.to_owned(),
            session: self.identity,
            next_sequences: self.next_sequences.iter().map(|(p, s)| (*p, *s)).collect(),
        }
    }

    /// An agent says which session it has opened; whether that is this one.
    pub(super) fn opened(&mut self, identity: v1::Session) -> bool {
        *self.identity.get_or_insert(identity) == identity
    }

    pub(super) fn partitions(&self) -> i32 {
        self.identity.map_or(0, |identity| identity.partitions)
    }

    /// Whether the number of partitions was looked at just now, for the next batch.
    pub(super) fn is_fresh(&self) -> bool {
        self.renewed && self.next_number == 0
    }

    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        self.born.elapsed() > age
    }

    pub(super) fn unacked(&self) -> &VecDeque<Numbered> {
        &self.unacked
    }

    /// A new batch.
    pub(super) fn push(&mut self, records: Vec<Pending>) {
        debug_assert!(self.unacked.len() < UNACKED_MAX, "the driver asks for room first");
        self.unacked.push_back(Numbered {
            number: self.next_number,
            records,
            in_doubt: false,
            was_sent: false,
        });
        self.next_number += 1;
    }

    /// The message of the nth batch that is not acknowledged; it counts as sent.
    pub(super) fn message(&mut self, nth: usize) -> Option<Step> {
        let batch = self.unacked.get_mut(nth)?;
        batch.was_sent = true;
        Some(Step::Batch(Batch {
            number: batch.number,
            records: batch.records.iter().map(|pending| pending.record.clone()).collect(),
        }))
    }

    /// The connection over which the first ones were sent is lost.
    pub(super) fn doubt(&mut self, sent: usize) {
        for batch in self.unacked.iter_mut().take(sent) {
            batch.in_doubt = true;
        }
    }

    /// Takes an ack: the records and where they are. `None` if it is not that of the oldest batch.
    pub(super) fn acknowledge(&mut self, ack: Ack) -> Option<Vec<(Pending, Option<Stored>)>> {
        let front = self.unacked.front()?;
        let count = front.records.len();
        if ack.number != front.number || ack.partitions.len() != count || ack.offsets.len() != count {
            return None;
        }
        self.next_sequences.extend(ack.next_sequences);
        let places = Stored::zip(ack.partitions, ack.offsets);
        let records = self.unacked.pop_front()?.records;
        Some(records.into_iter().zip(places).collect())
    }

    /// Ends it: what was not acknowledged.
    pub(super) fn end(&mut self, renewed: bool) -> VecDeque<Numbered> {
        std::mem::replace(self, Self::new(renewed)).unacked
    }
}
