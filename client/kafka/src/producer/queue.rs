//! What is to be sent to one partition, in order.
//!
//! Owns: batches from their first record until they are acknowledged, their sequence numbers, what is sent again and when.
//! Does not own: connections, clocks (times are handed in), what an answer means.
//!
//! Invariants: sequence numbers leave in order. After a batch came back, nothing is sent until all that were in flight with it
//! are back too; then they go out again in their old order. So a broker that checks sequences stores each batch once.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::records::{Batch, BatchBuilder, BatchError, Codec, Record, RecordReader};
use tokio::time::Instant;

use super::Identity;

/// A record takes about so many bytes beside its key, value and headers.
const RECORD_OVERHEAD_BYTES: usize = 16;
/// Pauses before a batch is sent again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) codec: Codec,
    pub(super) identity: Option<Identity>,
    /// Uncompressed size at which a batch is full.
    pub(super) batch_bytes: usize,
}

/// A batch that takes no more records.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    /// The caller's numbers of its records.
    pub(super) tags: Vec<u64>,
    /// How many records of its partition came before it; what is sent of that is the sequence number.
    pub(super) position: u64,
    /// Of keys, values and headers.
    pub(super) payload: usize,
    /// When its first record came.
    pub(super) born: Instant,
    /// It went out once, and whether it was stored is not known.
    pub(super) maybe_stored: bool,
}

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    tags: Vec<u64>,
    payload: usize,
    born: Instant,
}

/// The batches of one partition.
#[derive(Debug, Default)]
pub(super) struct Queue {
    open: Option<Open>,
    /// In order of their positions.
    waiting: VecDeque<Sealed>,
    /// Their positions.
    in_flight: BTreeSet<u64>,
    /// Came back, and wait for those that are in flight.
    returned: Vec<Sealed>,
    next_position: u64,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    pause: Duration,
}

impl Queue {
    /// Takes a record; true if that made a batch full.
    pub(super) fn append(
        &mut self,
        tag: u64,
        record: &Record,
        shape: &Shape,
        now: Instant,
    ) -> Result<bool, BatchError> {
        let payload = payload(record);
        let mut filled = false;
        if let Some(open) = &self.open
            && open.builder.len() + payload + RECORD_OVERHEAD_BYTES > shape.batch_bytes
        {
            self.seal()?;
            filled = true;
        }
        let position = self.next_position;
        let open = self.open.get_or_insert_with(|| Open {
            builder: shape.builder(position),
            tags: Vec::new(),
            payload: 0,
            born: now,
        });
        open.builder.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        )?;
        open.tags.push(tag);
        open.payload += payload;
        Ok(filled)
    }

    /// Closes the batch that is being filled.
    fn seal(&mut self) -> Result<(), BatchError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let mut sealed = Sealed {
            bytes: Bytes::new(),
            tags: open.tags,
            position: self.next_position,
            payload: open.payload,
            born: open.born,
            maybe_stored: false,
        };
        self.next_position += count(&sealed.tags);
        match open.builder.build() {
            Ok(batch) => {
                sealed.bytes = batch.bytes().clone();
                self.waiting.push_back(sealed);
                Ok(())
            }
            Err(error) => {
                self.returned.push(sealed);
                Err(error)
            }
        }
    }

    /// The first record that is not acknowledged, of those that are not in flight.
    pub(super) fn first_tag(&self) -> u64 {
        let batches = self.returned.iter().chain(&self.waiting);
        batches
            .flat_map(|batch| batch.tags.first())
            .min()
            .copied()
            .unwrap_or_default()
    }

    /// True if there is nothing here, and nothing in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.waiting.is_empty() && self.in_flight.is_empty() && self.returned.is_empty()
    }

    /// When [`Queue::take_due`] may have something that it does not have now; `None` if only an answer can change that.
    pub(super) fn wakes(&self, linger: Duration, in_flight_max: usize) -> Option<Instant> {
        if self.in_flight.len() >= in_flight_max || !self.returned.is_empty() {
            return None;
        }
        let due = match (self.waiting.front(), &self.open) {
            (Some(first), _) => first.born,
            (None, Some(open)) => open.born + linger,
            (None, None) => return None,
        };
        Some(due.max(self.not_before.unwrap_or(due)))
    }

    /// The next batch to be sent now, if there is one. It counts as in flight until it is [`Queue::acknowledged`] or
    /// [`Queue::came_back`].
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        linger: Duration,
        in_flight_max: usize,
    ) -> Result<Option<Sealed>, BatchError> {
        if self.wakes(linger, in_flight_max).is_none_or(|wakes| wakes > now) {
            return Ok(None);
        }
        if self.waiting.is_empty() {
            self.seal()?;
        }
        let batch = self.waiting.pop_front();
        self.in_flight.extend(batch.as_ref().map(|batch| batch.position));
        Ok(batch)
    }

    /// A batch is stored.
    pub(super) fn acknowledged(&mut self, batch: &Sealed, now: Instant) {
        self.in_flight.remove(&batch.position);
        self.pause = Duration::ZERO;
        self.requeue(now);
    }

    /// A batch is to be sent again.
    pub(super) fn came_back(&mut self, batch: Sealed, now: Instant) {
        self.in_flight.remove(&batch.position);
        self.returned.push(batch);
        self.requeue(now);
    }

    fn requeue(&mut self, now: Instant) {
        if !self.in_flight.is_empty() || self.returned.is_empty() {
            return;
        }
        self.returned.sort_by_key(|batch| batch.position);
        for batch in self.returned.drain(..).rev() {
            self.waiting.push_front(batch);
        }
        self.pause = (self.pause * 2).clamp(RETRY_FIRST, RETRY_LAST);
        self.not_before = Some(now + self.pause);
    }

    /// True if everything before `batch`, which was sent, is acknowledged.
    pub(super) fn is_oldest(&self, batch: &Sealed) -> bool {
        let returned = self.returned.iter().map(|other| other.position);
        let mut unacknowledged = self.in_flight.iter().copied().chain(returned);
        unacknowledged.all(|position| position >= batch.position)
    }

    /// Two halves come back in place of a batch that was too large, or the whole batch if it has none.
    pub(super) fn split(&mut self, batch: &Sealed, shape: &Shape, now: Instant) -> Result<(), BatchError> {
        let [first, second] = match halves(batch, shape) {
            Ok(halves) => halves,
            Err(error) => {
                self.came_back(batch.clone(), now);
                return Err(error);
            }
        };
        self.returned.push(second);
        self.came_back(first, now);
        Ok(())
    }

    /// Gives up what was not sent, or came back.
    pub(super) fn abandon(&mut self) -> Vec<Sealed> {
        // A batch that cannot be closed has records that were not sent all the same.
        let open = self.open.take().map(|open| Sealed {
            bytes: Bytes::new(),
            tags: open.tags,
            position: self.next_position,
            payload: open.payload,
            born: open.born,
            maybe_stored: false,
        });
        self.returned
            .drain(..)
            .chain(self.waiting.drain(..))
            .chain(open)
            .collect()
    }
}

impl Shape {
    /// Sequence numbers go round at 2^31.
    fn builder(&self, position: u64) -> BatchBuilder {
        let sequence = i32::try_from(position & u64::from(i32::MAX.unsigned_abs())).expect("masked");
        let builder = BatchBuilder::new(self.codec);
        match self.identity {
            Some(Identity { id, epoch }) => builder.producer(id, epoch, sequence),
            None => builder,
        }
    }
}

/// Bytes of a record that are its own.
pub(super) fn payload(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers.map(|header| header.key.len() + length(&header.value)).sum();
    length(&record.key) + length(&record.value) + headers
}

fn count(tags: &[u64]) -> u64 {
    u64::try_from(tags.len()).expect("lengths are 64 bits at most")
}

fn halves(batch: &Sealed, shape: &Shape) -> Result<[Sealed; 2], BatchError> {
    let whole = Batch::parse(&batch.bytes)?;
    let mut records = RecordReader::new(&whole, usize::MAX)?;
    let (first, second) = batch.tags.split_at(batch.tags.len() / 2);
    let mut half = |tags: &[u64], position: u64| {
        let mut builder = shape.builder(position);
        let mut bytes = 0;
        for _ in tags {
            let Some(record) = records.next_record()? else { break };
            bytes += payload(&record);
            builder.append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )?;
        }
        Ok::<_, BatchError>(Sealed {
            bytes: builder.build()?.bytes().clone(),
            tags: tags.to_vec(),
            position,
            payload: bytes,
            born: batch.born,
            maybe_stored: batch.maybe_stored,
        })
    };
    Ok([
        half(first, batch.position)?,
        half(second, batch.position + count(first))?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    fn shape() -> Shape {
        Shape {
            codec: Codec::default(),
            identity: Some(Identity { id: 9, epoch: 0 }),
            batch_bytes: 1_000,
        }
    }

    fn record(bytes: usize) -> Record {
        Record {
            value: Some(Bytes::from(vec![b'x'; bytes])),
            ..Record::default()
        }
    }

    /// A queue with full batches of one record, as many as asked for and one that is being filled.
    fn filled(batches: u64, now: Instant) -> Queue {
        let mut queue = Queue::default();
        for tag in 0..=batches {
            queue.append(tag, &record(900), &shape(), now).unwrap();
        }
        queue
    }

    fn sequence(batch: &Sealed) -> i32 {
        Batch::parse(&batch.bytes).unwrap().header().base_sequence
    }

    #[test]
    fn a_full_batch_goes_at_once_and_others_when_they_have_waited() {
        let now = Instant::now();
        let mut queue = filled(1, now);
        let first = queue.take_due(now, LINGER, 5).unwrap().unwrap();
        assert_eq!((first.tags.as_slice(), sequence(&first)), (&[0][..], 0));
        assert!(queue.take_due(now, LINGER, 5).unwrap().is_none());
        assert_eq!(queue.wakes(LINGER, 5), Some(now + LINGER));
        assert!(
            queue.take_due(now + LINGER, LINGER, 1).unwrap().is_none(),
            "one is in flight"
        );
        let second = queue.take_due(now + LINGER, LINGER, 5).unwrap().unwrap();
        assert_eq!(sequence(&second), 1);
        queue.acknowledged(&second, now);
        queue.acknowledged(&first, now);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_came_back_goes_out_again_in_order_and_alone() {
        let now = Instant::now();
        let mut queue = filled(4, now);
        let sent: Vec<_> = std::iter::from_fn(|| queue.take_due(now, LINGER, 3).unwrap()).collect();
        assert_eq!(sent.len(), 3);
        assert!(queue.is_oldest(&sent[0]) && !queue.is_oldest(&sent[1]));
        queue.came_back(sent[0].clone(), now);
        assert!(!queue.is_oldest(&sent[1]), "the one that came back is older");
        queue.came_back(sent[2].clone(), now);
        assert!(
            queue.take_due(now + RETRY_LAST, LINGER, 5).unwrap().is_none(),
            "one is in flight"
        );
        queue.acknowledged(&sent[1], now);
        assert!(queue.take_due(now, LINGER, 5).unwrap().is_none(), "too soon");
        let later = now + RETRY_FIRST;
        let again: Vec<_> = std::iter::from_fn(|| queue.take_due(later, LINGER, 5).unwrap()).collect();
        assert_eq!(again.iter().map(sequence).collect::<Vec<_>>(), [0, 2, 3, 4]);
    }

    #[test]
    fn halves_are_the_same_records_with_the_same_sequence() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for tag in 10..15 {
            queue.append(tag, &record(9), &shape(), now).unwrap();
        }
        let whole = queue.take_due(now + LINGER, LINGER, 5).unwrap().unwrap();
        queue.split(&whole, &shape(), now).unwrap();
        let later = now + RETRY_FIRST;
        let first = queue.take_due(later, LINGER, 5).unwrap().unwrap();
        let second = queue.take_due(later, LINGER, 5).unwrap().unwrap();
        assert_eq!(
            (sequence(&first), first.tags.as_slice(), first.payload),
            (0, &[10, 11][..], 18)
        );
        assert_eq!((sequence(&second), second.tags.as_slice()), (2, &[12, 13, 14][..]));
        assert!(queue.take_due(later, LINGER, 5).unwrap().is_none());
    }

    #[test]
    fn sequences_go_round() {
        let now = Instant::now();
        let mut queue = Queue {
            next_position: u64::from(i32::MAX.unsigned_abs()),
            ..Queue::default()
        };
        for (tag, expected) in [(0, i32::MAX), (1, 0)] {
            queue.append(tag, &record(1), &shape(), now).unwrap();
            let batch = queue.take_due(now + LINGER, LINGER, 5).unwrap().unwrap();
            assert_eq!(sequence(&batch), expected);
        }
    }

    #[test]
    fn what_is_given_up_is_all_that_was_not_acknowledged() {
        let now = Instant::now();
        let mut queue = filled(3, now);
        let sent = queue.take_due(now, LINGER, 5).unwrap().unwrap();
        queue.came_back(sent, now);
        let given_up: Vec<_> = queue.abandon().into_iter().flat_map(|batch| batch.tags).collect();
        assert_eq!(given_up, [0, 1, 2, 3]);
        assert!(queue.is_empty());
    }
}
