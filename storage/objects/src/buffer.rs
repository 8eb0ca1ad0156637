//! The write-ahead buffer: gathers record batches until it is worth a PUT.
//!
//! Owns: which batches share a segment, and when to flush it.
//! Does not own: uploads and commits (the agent's writer drives this), back-pressure (permits on `bytes`), the clock: every
//! `now` is time since some start, given by the caller.
//!
//! Invariants: batches leave in the order in which they came; no segment grows beyond the limits by more than one batch;
//! nothing is flushed while nothing is buffered.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::TopicPartition;
use esker_segment::index::{BatchMeta, IndexSize};
use esker_segment::segment::SegmentBuilder;
use esker_segment::wire::FormatError;

#[cfg(test)]
mod tests;

/// When a buffer is flushed; may change while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSettings {
    /// `flush.bytes.max`: rule (a), bytes of batches.
    pub segment_bytes_max: u64,
    /// Rule (a), bytes of the batch index: it stands in the commit record.
    pub index_bytes_max: usize,
    /// `flush.age`: rule (b), how long a record waits at most.
    pub flush_age: Duration,
    /// `flush.min.interval`: rule (c), how long after the begin of the last flush the next one begins at once.
    pub flush_interval_min: Duration,
}

impl BufferSettings {
    /// For object stores, where every PUT costs money and 100 ms.
    pub const OBJECT_STORE: Self = Self {
        segment_bytes_max: 8 << 20,
        index_bytes_max: 64 << 10,
        flush_age: Duration::from_millis(250),
        flush_interval_min: Duration::from_millis(250),
    };
    /// For a local directory.
    pub const LOCAL_DIRECTORY: Self = Self {
        flush_age: Duration::from_millis(5),
        flush_interval_min: Duration::from_millis(1),
        ..Self::OBJECT_STORE
    };
}

/// How long rule (c) waits for the end of uploads in flight. What comes in while a disk takes one shares the next segment; a store that takes
/// longer would hold back every producer that waits for answers by one more upload (docs/decisions/0502-flushes-beside-uploads.md).
const UPLOAD_SHORT: Duration = Duration::from_millis(10);
/// What a flush costs beside its bytes is small from this size on. A smaller one gathers more, as long as more is about to come
/// (docs/decisions/0503-flushes-gather-echoes.md).
const WORTH_BYTES: u64 = 1 << 20;
/// How long a small flush waits at most for producers that were answered a moment ago.
const ECHO_MAX: Duration = Duration::from_millis(2);

/// Names a pushed batch: tickets count up by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why a flush is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlushReason {
    /// Rule (a): enough bytes, or enough index.
    Full,
    /// Rule (b): the oldest record has waited long enough.
    Age,
    /// Rule (c): the last flush began long enough ago.
    LeadingEdge,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushDecision {
    /// Take a segment and upload it, then ask again.
    Flush(FlushReason),
    /// Ask again at this time, or when a batch was pushed or an upload has ended.
    WaitUntil(Duration),
    /// Nothing is buffered.
    Idle,
}

/// The batches of one segment.
#[derive(Clone, Debug, Default)]
pub struct PendingSegment {
    /// The batches in the order in which they were pushed, not yet laid out.
    pub batches: SegmentBuilder,
    /// Ticket of the first of them.
    pub first: Ticket,
}

impl PendingSegment {
    /// The ticket of each batch, in the order in which they were pushed: that of `Segment::places`.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> + use<> {
        (self.first.0..).take(self.batches.len()).map(Ticket)
    }
}

/// Batches that wait for a segment.
#[derive(Clone, Debug)]
pub struct Buffer {
    settings: BufferSettings,
    /// Segments that are full, oldest first.
    full: VecDeque<PendingSegment>,
    open: PendingSegment,
    open_index: IndexSize,
    /// When the first batch of `open` was pushed.
    open_since: Duration,
    next: Ticket,
    bytes: u64,
    last_flush_began: Option<Duration>,
    /// Segments that were taken and whose batches are not answered.
    unanswered: usize,
    echo: Option<Echo>,
}

/// Producers that were answered send again, most of them at once: a small flush waits for them, but not for long.
#[derive(Clone, Copy, Debug)]
struct Echo {
    /// So many batches wait when all of them have sent again.
    batches: usize,
    /// Whoever has not by then does not count.
    until: Duration,
}

impl Buffer {
    /// An empty one.
    #[must_use]
    pub fn new(settings: BufferSettings) -> Self {
        Self {
            settings,
            full: VecDeque::new(),
            open: PendingSegment::default(),
            open_index: IndexSize::default(),
            open_since: Duration::ZERO,
            next: Ticket::default(),
            bytes: 0,
            last_flush_began: None,
            unanswered: 0,
            echo: None,
        }
    }

    /// Changes the rules from now on.
    pub fn set_settings(&mut self, settings: BufferSettings) {
        self.settings = settings;
    }

    /// Adds a batch. It takes the next ticket.
    ///
    /// # Errors
    /// `Invalid` when the meta data cannot be that of a batch of this length; nothing is added then.
    pub fn push(
        &mut self,
        now: Duration,
        at: TopicPartition,
        meta: BatchMeta,
        data: Bytes,
    ) -> Result<Ticket, FormatError> {
        let ticket = self.next;
        let began = self.open.batches.is_empty();
        self.open.batches.push(at, meta, data)?;
        if began {
            (self.open_since, self.open.first) = (now, ticket);
        }
        self.open_index.add(at, &meta);
        self.next = Ticket(ticket.0 + 1);
        self.bytes += u64::from(meta.bytes);
        if self.is_full() {
            self.full.push_back(std::mem::take(&mut self.open));
            self.open_index = IndexSize::default();
        }
        Ok(ticket)
    }

    fn is_full(&self) -> bool {
        self.open.batches.bytes() >= self.settings.segment_bytes_max
            || self.open_index.bound_bytes() >= self.settings.index_bytes_max
    }

    /// Bytes of all buffered batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is buffered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.batches.is_empty()
    }

    /// Whether to flush, given how many uploads are in flight.
    #[must_use]
    pub fn decide_flush(&self, now: Duration, in_flight: usize) -> FlushDecision {
        if !self.full.is_empty() {
            return FlushDecision::Flush(FlushReason::Full);
        }
        if self.open.batches.is_empty() {
            return FlushDecision::Idle;
        }
        if self.is_full() {
            return FlushDecision::Flush(FlushReason::Full); // the limits were lowered meanwhile
        }
        let aged = self.open_since.saturating_add(self.settings.flush_age);
        if now >= aged {
            return FlushDecision::Flush(FlushReason::Age);
        }
        match self.edge(in_flight) {
            Some(edge) if now < edge => FlushDecision::WaitUntil(aged.min(edge)),
            _ => FlushDecision::Flush(FlushReason::LeadingEdge),
        }
    }

    /// When rule (c) holds; `None` when nothing was flushed yet.
    fn edge(&self, in_flight: usize) -> Option<Duration> {
        let small = self.open.batches.bytes() < WORTH_BYTES;
        // The answers to a flush bring more, so a small one waits for these too.
        let busy = in_flight > 0 || (small && self.unanswered > 0);
        let interval = if busy {
            self.settings.flush_interval_min.max(UPLOAD_SHORT)
        } else {
            self.settings.flush_interval_min
        };
        let edge = self.last_flush_began?.saturating_add(interval);
        let echo = self.echo.filter(|echo| small && self.open.batches.len() < echo.batches);
        Some(echo.map_or(edge, |echo| edge.max(echo.until)))
    }

    /// The batches of a segment that was taken, so many, are answered, or about to be.
    pub fn on_answered(&mut self, now: Duration, batches: usize) {
        self.unanswered -= 1;
        let took = now.saturating_sub(self.last_flush_began.unwrap_or(now));
        self.echo = Some(Echo {
            batches: self.open.batches.len() + batches,
            // Half of what a flush takes: waiting for the next one would take longer.
            until: now + (took / 2).min(ECHO_MAX),
        });
    }

    /// Takes the next segment out, oldest first: a flush begins now. `None` when nothing is buffered.
    pub fn take(&mut self, now: Duration) -> Option<PendingSegment> {
        let taken = match self.full.pop_front() {
            Some(full) => full,
            None if self.open.batches.is_empty() => return None,
            None => {
                self.open_index = IndexSize::default();
                std::mem::take(&mut self.open)
            }
        };
        self.bytes -= taken.batches.bytes();
        self.last_flush_began = Some(now);
        self.unanswered += 1;
        self.echo = None;
        Some(taken)
    }
}
