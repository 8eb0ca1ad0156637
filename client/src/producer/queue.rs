//! Records that are not on their way yet, and the batches that are made of them.
//!
//! Owns: when a batch is complete, how large it is, order.
//! Does not own: what is sent already (`session`).

use std::collections::VecDeque;
use std::time::Duration;

use esker_proto::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{HEADERS_MAX, RECORDS_MAX};
use crate::error::Error;
use crate::record::Stored;

/// A record without an outcome.
pub(super) struct Pending {
    /// Counts what was taken in.
    pub(super) nth: u64,
    pub(super) record: v1::Record,
    /// What it adds to a batch.
    pub(super) bytes: usize,
    /// What it holds of the producer's room.
    pub(super) held: u32,
    pub(super) accepted: Instant,
    pub(super) reply: oneshot::Sender<Result<Stored, Error>>,
}

pub(super) struct Queue {
    /// Batches that were refused or not taken, and are to be sent as they are now before anything else.
    again: VecDeque<Vec<Pending>>,
    waiting: VecDeque<Pending>,
    waiting_bytes: usize,
    /// So many of those that wait do not wait for others.
    urgent: usize,
    linger: Duration,
    batch_bytes: usize,
}

impl Queue {
    pub(super) fn new(linger: Duration, batch_bytes: usize) -> Self {
        Self {
            again: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            urgent: 0,
            linger,
            batch_bytes,
        }
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.waiting_bytes += pending.bytes;
        self.waiting.push_back(pending);
    }

    /// To be sent before everything else, and before what was put back earlier.
    pub(super) fn put_back(&mut self, batch: Vec<Pending>) {
        if !batch.is_empty() {
            self.again.push_front(batch);
        }
    }

    /// What waits now does not wait for others.
    pub(super) fn hurry(&mut self) {
        self.urgent = self.waiting.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.waiting.is_empty()
    }

    /// When there is a batch to be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        if let Some(batch) = self.again.front() {
            return batch.first().map(|first| first.accepted);
        }
        let first = self.waiting.front()?.accepted;
        let full = self.waiting_bytes >= self.batch_bytes || self.waiting.len() >= RECORDS_MAX;
        Some(if full || self.urgent > 0 {
            first
        } else {
            first + self.linger
        })
    }

    /// The next batch; it has at least one record.
    pub(super) fn cut(&mut self) -> Option<Vec<Pending>> {
        if let Some(batch) = self.again.pop_front() {
            return Some(batch);
        }
        let (mut count, mut bytes, mut headers) = (0, 0, 0);
        for pending in &self.waiting {
            bytes += pending.bytes;
            headers += pending.record.headers.len();
            let fits = bytes <= self.batch_bytes && headers <= HEADERS_MAX && count < RECORDS_MAX;
            if count > 0 && !fits {
                break;
            }
            count += 1;
        }
        let batch: Vec<Pending> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= batch.iter().map(|pending| pending.bytes).sum::<usize>();
        self.urgent = self.urgent.saturating_sub(count);
        (!batch.is_empty()).then_some(batch)
    }

    /// The record that was taken in first.
    pub(super) fn oldest(&self) -> Option<&Pending> {
        let again = self.again.front().and_then(|batch| batch.first());
        again.or(self.waiting.front())
    }

    /// Takes out what was taken in at this moment or before.
    pub(super) fn older_than(&mut self, moment: Instant) -> Vec<Pending> {
        let mut old = Vec::new();
        while self.oldest().is_some_and(|oldest| oldest.accepted <= moment) {
            match self.again.pop_front() {
                Some(batch) => old.extend(batch),
                None => {
                    let first = self.waiting.pop_front().expect("it is the oldest");
                    self.waiting_bytes -= first.bytes;
                    self.urgent = self.urgent.saturating_sub(1);
                    old.push(first);
                }
            }
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(bytes: usize) -> Pending {
        Pending {
            nth: 0,
            record: v1::Record::default(),
            bytes,
            held: 0,
            accepted: Instant::now(),
            reply: oneshot::channel().0,
        }
    }

    fn sizes(batch: Option<Vec<Pending>>) -> Vec<usize> {
        let batch = batch.into_iter().flatten();
        batch.map(|pending| pending.bytes).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_due_when_it_is_full_or_old_or_wanted() {
        let linger = Duration::from_millis(10);
        let mut queue = Queue::new(linger, 100);
        assert_eq!(queue.due(), None);
        queue.push(pending(60));
        let now = Instant::now();
        assert_eq!(queue.due(), Some(now + linger));
        queue.hurry();
        assert_eq!(queue.due(), Some(now));
        assert_eq!(sizes(queue.cut()), [60]);
        queue.push(pending(60));
        assert_eq!(queue.due(), Some(now + linger));
        queue.push(pending(60));
        assert_eq!(queue.due(), Some(now), "full");
        assert_eq!(sizes(queue.cut()), [60]);
        assert_eq!(queue.due(), Some(now + linger));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_back_goes_first_and_as_it_was() {
        let mut queue = Queue::new(Duration::ZERO, 100);
        queue.push(pending(3));
        queue.put_back(vec![pending(2)]);
        queue.put_back(vec![pending(200), pending(1)]);
        assert_eq!(sizes(queue.cut()), [200, 1]);
        assert_eq!(sizes(queue.cut()), [2]);
        assert_eq!(sizes(queue.cut()), [3]);
        assert!(queue.is_empty() && queue.cut().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_larger_than_a_batch_is_one() {
        let mut queue = Queue::new(Duration::ZERO, 100);
        queue.push(pending(1_000));
        queue.push(pending(1));
        assert_eq!(sizes(queue.cut()), [1_000]);
        assert_eq!(sizes(queue.cut()), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_are_taken_out_in_order() {
        let mut queue = Queue::new(Duration::ZERO, 100);
        queue.push(pending(2));
        queue.put_back(vec![pending(1)]);
        let moment = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.push(pending(3));
        let old = queue.older_than(moment);
        assert_eq!(sizes(Some(old)), [1, 2]);
        assert_eq!(sizes(queue.cut()), [3]);
    }
}
