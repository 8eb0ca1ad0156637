//! The events of the newest revisions, kept in bounded memory for watches.
//!
//! Owns: which revisions can still be watched from. Watches hold no queue of their own: they read here, so a slow one
//! costs nothing and is told `Compacted` when it is overtaken.
//!
//! Invariants: revisions are dense; the events of one revision are never separated.

use std::collections::VecDeque;

use crate::store::{MetadataError, Revision, WatchEvent};

/// Bytes that an event takes besides its key and value; an estimate.
const EVENT_OVERHEAD_BYTES: usize = 160;

/// How much history is kept; the newest revision always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Events.
    pub events_max: usize,
    /// Their keys and values, with overhead.
    pub bytes_max: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            events_max: 16_384,
            bytes_max: 8 << 20,
        }
    }
}

/// A queue of revisions with their events.
#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    /// The events of `oldest`, `oldest + 1` and so on.
    revisions: VecDeque<Vec<WatchEvent>>,
    oldest: Revision,
    events: usize,
    bytes: usize,
}

impl History {
    /// An empty history after `revision`.
    #[must_use]
    pub const fn new(limits: HistoryLimits, revision: Revision) -> Self {
        Self {
            limits,
            revisions: VecDeque::new(),
            oldest: Revision(revision.0 + 1),
            events: 0,
            bytes: 0,
        }
    }

    /// The oldest revision whose events are all here.
    #[must_use]
    pub const fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Adds the events of one or more new revisions, in order.
    ///
    /// # Panics
    /// When a revision is left out.
    pub fn push(&mut self, events: Vec<WatchEvent>) {
        for event in events {
            let revision = event.revision();
            let next = self.next();
            if revision == next {
                self.revisions.push_back(Vec::new());
            } else {
                assert_eq!(revision.0 + 1, next.0, "revisions are dense and rise");
            }
            self.events += 1;
            self.bytes += footprint(&event);
            self.revisions.back_mut().expect("pushed above or before").push(event);
        }
        while self.revisions.len() > 1 && (self.events > self.limits.events_max || self.bytes > self.limits.bytes_max) {
            self.forget_oldest();
        }
    }

    /// Forgets all revisions before this one.
    pub fn compact(&mut self, revision: Revision) {
        while self.oldest < revision && !self.revisions.is_empty() {
            self.forget_oldest();
        }
    }

    /// See [`super::Keyspace::events`].
    ///
    /// # Errors
    /// `Compacted` when `from` is gone.
    pub fn read(
        &self,
        prefix: &[u8],
        from: Revision,
        events_max: usize,
    ) -> Result<(Vec<WatchEvent>, Revision), MetadataError> {
        if from < self.oldest {
            return Err(MetadataError::Compacted { oldest: self.oldest });
        }
        let skip = usize::try_from(from.0 - self.oldest.0).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut next = from;
        for events in self.revisions.iter().skip(skip) {
            if found.len() >= events_max {
                break;
            }
            found.extend(events.iter().filter(|event| event.key().starts_with(prefix)).cloned());
            next.0 += 1;
        }
        Ok((found, next))
    }

    fn next(&self) -> Revision {
        Revision(self.oldest.0 + u64::try_from(self.revisions.len()).expect("a length fits"))
    }

    fn forget_oldest(&mut self) {
        let gone = self.revisions.pop_front().expect("callers checked that there is one");
        self.events -= gone.len();
        self.bytes -= gone.iter().map(footprint).sum::<usize>();
        self.oldest.0 += 1;
    }
}

fn footprint(event: &WatchEvent) -> usize {
    EVENT_OVERHEAD_BYTES
        + match event {
            WatchEvent::Put(kv) => kv.key.len() + kv.value.len(),
            WatchEvent::Delete { key, .. } => key.len(),
        }
}
