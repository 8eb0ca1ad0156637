//! The write-ahead buffer as the produce path sees it: where batches enter, and when.
//!
//! Owns: the buffer and the sequencer under one lock, so that the order in which batches of a producer enter is the order in
//! which they are flushed.
//! Does not own: flushing (`writer`).
//!
//! Invariants: IDM-1.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::TopicPartition;
use esker_segment::index::{BatchMeta, ProducerStamp};
use esker_segment::segment::SegmentBuilder;
use esker_storage::buffer::{Buffer, BufferSettings, FlushDecision};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::pipeline::Entering;
use crate::produce::sequencer::{Expected, Order, Sequencer};

/// Where batches enter.
pub struct Inbox {
    state: Mutex<State>,
    /// Something entered.
    pub entered: Notify,
    /// Something was settled, so what waited for its predecessor may look again.
    pub settled: Notify,
    started: Instant,
}

struct State {
    buffer: Buffer,
    /// One for each batch in the buffer, in the same order.
    waiting: VecDeque<Entering>,
    sequencer: Sequencer,
}

impl Inbox {
    /// An empty one.
    #[must_use]
    pub fn new(settings: BufferSettings) -> Self {
        Self {
            state: Mutex::new(State {
                buffer: Buffer::new(settings),
                waiting: VecDeque::new(),
                sequencer: Sequencer::default(),
            }),
            entered: Notify::new(),
            settled: Notify::new(),
            started: Instant::now(),
        }
    }

    /// Time on the buffer's scale.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// An instant on tokio's scale.
    #[must_use]
    pub fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// Whether nothing waits to be flushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether to flush, given how many uploads are in flight.
    #[must_use]
    pub fn decide_flush(&self, in_flight: usize) -> FlushDecision {
        self.lock().buffer.decide_flush(self.now(), in_flight)
    }

    /// Takes the batches of the next segment, oldest first: a flush begins now.
    pub fn take(&self) -> Option<(SegmentBuilder, Vec<Entering>)> {
        let mut state = self.lock();
        let pending = state.buffer.take(self.now())?;
        let count = pending.batches.len();
        Some((pending.batches, state.waiting.drain(..count).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a batch in unless its predecessor is missing; then it is handed back. `folded` is asked only when this agent
    /// has nothing of the producer under way.
    #[must_use]
    pub fn enter(
        &self,
        batch: Entering,
        data: &Bytes,
        folded: impl FnOnce(ProducerStamp, TopicPartition) -> Expected,
        patient: bool,
    ) -> Option<Entering> {
        let now = self.now();
        let mut state = self.lock();
        if let Some(stamp) = batch.meta.producer
            && patient
            && state.sequencer.decide(stamp, batch.at, folded) == Order::Wait
        {
            return Some(batch);
        }
        state
            .buffer
            .push(now, batch.at, batch.meta, data.clone())
            .expect("validation left a sound batch");
        state.sequencer.on_entered(batch.at, &batch.meta);
        state.waiting.push_back(batch);
        drop(state);
        self.entered.notify_one();
        self.settled.notify_waiters();
        None
    }

    /// The batches of a segment that was taken were judged or failed.
    pub fn settle(&self, settled: impl ExactSizeIterator<Item = (TopicPartition, BatchMeta)>) {
        let now = self.now();
        let mut state = self.lock();
        state.buffer.on_answered(now, settled.len());
        for (at, meta) in settled {
            state.sequencer.on_settled(at, &meta);
        }
        drop(state);
        self.settled.notify_waiters();
    }
}
