//! Batches under way: attempts to store them, and what came of those.
//!
//! Owns: how many may be under way, repeating what failed for a while, acks, what is stored when a batch is refused.
//! Does not own: sequences (`session`), reading from the client (`super`).
//!
//! Before the first ack of a partition only one batch is sent there: a fold that knows nothing of a producer takes any sequence, and
//! a batch that overtook its predecessor would shut it out.
//!
//! Invariants: IDM-1, LOG-4, MEM-1 (a batch holds the budget of its message until it is acknowledged, and its client has taken the ack
//! before it).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use esker_kafka::ErrorCode;
use esker_kafka::messages::produce_request::ProduceRequest as KafkaProduce;
use esker_kafka::messages::produce_response::{PartitionProduceResponse, ProduceResponse as KafkaProduced};
use esker_proto::v1::StoredRecords;
use esker_proto::v1::produce_stream_response::{Ack, Refused, Step as Answer, StoredBatch};
use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::session::{Part, Stamped};
use super::{PAUSE_MAX, RETRY_MAX};
use crate::grpc::calls::Caller;
use crate::grpc::errors::{batch_refusal, error_code, internal, is_retriable};
use crate::grpc::measured;
use crate::grpc::producer::{PRODUCE, Split, outcomes, produce_request};
use crate::kafka::budget::BudgetShare;

/// Batches of a stream that are under way: what the fold remembers of each producer.
pub(super) const UNACKED_MAX: usize = 5;
/// From so many bytes under way on, no more are read.
const UNACKED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The pause before the first repeat; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(20);

/// The batches of a stream that are under way, oldest first.
pub(super) struct UnderWay {
    caller: Caller,
    topic: String,
    unacked: VecDeque<Unacked>,
    /// While the last one is being taken in: that may take a while, if its predecessor is missing.
    taking: Option<BoxFuture<'static, ()>>,
    /// Partitions of which the fold knows this producer.
    known: BTreeSet<i32>,
    /// Batches under way of each partition.
    by_partition: BTreeMap<i32, usize>,
    /// Counts attempts; and the last repeated one of each partition.
    attempts: u64,
    repeated: BTreeMap<i32, u64>,
    /// Why the stream ends when nothing is under way any more.
    refusal: Option<Refusal>,
}

/// A batch was refused.
struct Refusal {
    status: Status,
    /// Some part of a batch may be stored, or may yet be: only its session can settle that, so the stream ends as one that is to be
    /// resumed.
    open: bool,
    /// What of it, and of those after it, is stored.
    stored: Vec<StoredBatch>,
}

impl Refusal {
    /// Of a part of a batch.
    fn new(code: ErrorCode, what: &str, message: Option<&str>) -> Self {
        Self {
            status: batch_refusal(code, passes(code), what, message),
            open: passes(code),
            stored: Vec::new(),
        }
    }

    /// Another part is refused as well. The first one says why the stream ends, unless only the other one leaves anything open.
    fn and(&mut self, other: Self) {
        if other.open && !self.open {
            (self.status, self.open) = (other.status, true);
        }
    }

    /// What a client is told next. What is stored is not the whole truth if anything is open.
    fn answer(&mut self) -> Result<Answer, Status> {
        let stored = std::mem::take(&mut self.stored);
        if self.open || stored.is_empty() {
            return Err(self.status.clone());
        }
        Ok(Answer::Refused(Refused { stored }))
    }
}

/// Whether an error passes by itself. As long as it does not, nobody knows whether an attempt before it has stored something.
fn passes(code: ErrorCode) -> bool {
    match code {
        // The agent has looked twice, or the bytes will not get better.
        ErrorCode::UnknownTopicOrPartition | ErrorCode::CorruptMessage => false,
        code => is_retriable(code),
    }
}

/// A batch under way.
struct Unacked {
    number: u64,
    split: Split,
    /// What is neither stored nor refused yet.
    parts: Vec<Part>,
    /// The budget of all parts.
    held: Option<Arc<BudgetShare>>,
    bases: BTreeMap<i32, i64>,
    refused: BTreeSet<i32>,
    next_sequences: BTreeMap<i32, i32>,
    bytes: usize,
    produced: BoxFuture<'static, Result<KafkaProduced, Status>>,
    attempt: u64,
    pause: Duration,
    give_up_at: Instant,
}

impl UnderWay {
    /// None yet; of these partitions the fold knows the producer.
    pub(super) fn new(caller: Caller, topic: String, known: BTreeSet<i32>) -> Self {
        Self {
            caller,
            topic,
            unacked: VecDeque::new(),
            taking: None,
            known,
            by_partition: BTreeMap::new(),
            attempts: 0,
            repeated: BTreeMap::new(),
            refusal: None,
        }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// As many as a client may have sent ahead.
    pub(super) fn is_full(&self) -> bool {
        self.unacked.len() >= UNACKED_MAX
    }

    /// Whether another batch may be read.
    pub(super) fn reads(&self) -> bool {
        let bytes: usize = self.unacked.iter().map(|unacked| unacked.bytes).sum();
        bytes < UNACKED_BYTES_MAX && !self.is_refused()
    }

    /// Whether a batch was refused, after which nothing more is taken in.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Whether a batch may be sent to its partitions now: not before the one before it is in the write-ahead buffer, which keeps their
    /// order.
    pub(super) fn has_room(&self, split: &Split) -> bool {
        let in_order = self.taking.is_none();
        in_order
            && split.by_partition.keys().all(|partition| {
                let under_way = self.by_partition.get(partition).copied().unwrap_or(0);
                let most = if self.known.contains(partition) { UNACKED_MAX } else { 1 };
                under_way < most
            })
    }

    /// Has a batch taken in, for which there is room.
    pub(super) fn send(&mut self, number: u64, split: Split, batch: Stamped, held: Option<Arc<BudgetShare>>) {
        let Stamped { parts, next_sequences } = batch;
        for partition in next_sequences.keys() {
            *self.by_partition.entry(*partition).or_default() += 1;
        }
        self.attempts += 1;
        let request = self.request(&parts);
        let (caller, share) = (self.caller.clone(), held.clone());
        let (told, taken) = oneshot::channel();
        self.taking = Some(Box::pin(async move {
            // Whoever waits for it is gone only with all that is under way.
            let _ = told.send(caller.take_under(share, PRODUCE, &request).await);
        }));
        self.unacked.push_back(Unacked {
            number,
            split,
            bytes: parts.iter().map(|part| part.batch.len()).sum(),
            parts,
            held,
            bases: BTreeMap::new(),
            refused: BTreeSet::new(),
            next_sequences,
            produced: Box::pin(async move {
                let taken = taken.await.map_err(|gone| internal("ProduceStream", &gone))??;
                taken.answer::<KafkaProduce>().await
            }),
            attempt: self.attempts,
            pause: PAUSE_FIRST,
            give_up_at: Instant::now() + RETRY_MAX,
        });
    }

    fn request(&self, parts: &[Part]) -> KafkaProduce {
        let batches = parts.iter().map(|part| (part.partition, part.batch.clone()));
        produce_request(&self.topic, batches)
    }

    /// What becomes of the attempt that the oldest batch is at, or nothing once the last one is taken in. It waits for ever if there are
    /// none. May be dropped before.
    pub(super) async fn attempt(&mut self) -> Option<Result<KafkaProduced, Status>> {
        let front = self.unacked.front_mut().map(|front| &mut front.produced);
        let (front, taking) = (OptionFuture::from(front), OptionFuture::from(self.taking.as_mut()));
        tokio::select! {
            biased;
            Some(produced) = front => Some(produced),
            Some(()) = taking => {
                self.taking = None;
                None
            }
            else => std::future::pending().await,
        }
    }

    /// An attempt of the oldest batch has ended: it is acknowledged, or tried again, or refused. Then nothing more is taken in,
    /// and the stream ends when it is known what is stored of the batches after it.
    pub(super) fn on_attempt(&mut self, produced: Result<KafkaProduced, Status>) -> Result<Option<Ack>, Status> {
        let mut front = self.unacked.pop_front().expect("the attempt was its");
        let produced = match produced {
            Ok(produced) => produced,
            // No memory for it just now.
            Err(status) if status.code() == Code::ResourceExhausted && Instant::now() < front.give_up_at => {
                KafkaProduced::default()
            }
            Err(status) => return Err(status),
        };
        for outcome in outcomes(produced) {
            if error_code(outcome.error_code) == ErrorCode::None {
                front.bases.insert(outcome.index, outcome.base_offset);
            } else if !self.may_pass(&front, &outcome) {
                self.refuse(&mut front, &outcome);
            }
        }
        let (bases, refused) = (&front.bases, &front.refused);
        front
            .parts
            .retain(|part| !bases.contains_key(&part.partition) && !refused.contains(&part.partition));
        if !front.parts.is_empty() {
            self.repeat(&mut front);
            self.unacked.push_front(front);
            return Ok(None);
        }
        let Some(refusal) = &mut self.refusal else {
            return Ok(Some(self.acknowledge(front)));
        };
        if !front.bases.is_empty() {
            let StoredRecords { partitions, offsets } = front.split.places(&front.bases);
            refusal.stored.push(StoredBatch {
                number: front.number,
                partitions,
                offsets,
            });
        }
        Ok(None)
    }

    /// Whether an error is one that another attempt may mend.
    fn may_pass(&self, front: &Unacked, outcome: &PartitionProduceResponse) -> bool {
        if Instant::now() >= front.give_up_at {
            return false;
        }
        match error_code(outcome.error_code) {
            // Its predecessor was missing, and has been sent again since.
            ErrorCode::OutOfOrderSequenceNumber => self
                .repeated
                .get(&outcome.index)
                .is_some_and(|repeated| *repeated > front.attempt),
            code => passes(code),
        }
    }

    fn refuse(&mut self, front: &mut Unacked, outcome: &PartitionProduceResponse) {
        front.refused.insert(outcome.index);
        let what = format!(
            "batch {} in partition {} of {:?}",
            front.number, outcome.index, self.topic
        );
        let code = error_code(outcome.error_code);
        let refusal = Refusal::new(code, &what, outcome.error_message.as_deref());
        match &mut self.refusal {
            Some(first) => first.and(refusal),
            None => self.refusal = Some(refusal),
        }
    }

    fn repeat(&mut self, front: &mut Unacked) {
        self.attempts += 1;
        front.attempt = self.attempts;
        for part in &front.parts {
            self.repeated.insert(part.partition, self.attempts);
        }
        let (caller, request, pause) = (self.caller.clone(), self.request(&front.parts), front.pause);
        let held = front.held.clone();
        front.pause = (pause * 2).min(PAUSE_MAX);
        front.produced = Box::pin(async move {
            tokio::time::sleep(pause).await;
            let taken = caller.take_under(held, PRODUCE, &request).await?;
            taken.answer::<KafkaProduce>().await
        });
    }

    fn acknowledge(&mut self, front: Unacked) -> Ack {
        for partition in front.next_sequences.keys() {
            self.known.insert(*partition);
            if let Some(under_way) = self.by_partition.get_mut(partition) {
                *under_way -= 1;
            }
        }
        measured::records_stored(front.split.records);
        let StoredRecords { partitions, offsets } = front.split.places(&front.bases);
        Ack {
            number: front.number,
            partitions,
            offsets,
            next_sequences: front.next_sequences.into_iter().collect(),
        }
    }

    /// Once nothing is under way after a refusal: says what is stored, if anything is, and then why the stream ends.
    pub(super) fn refused(&mut self) -> Option<Result<Answer, Status>> {
        let refusal = self.refusal.as_mut().filter(|_| self.unacked.is_empty())?;
        Some(refusal.answer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: ErrorCode) -> Refusal {
        Refusal::new(code, code.name(), None)
    }

    fn with_something_stored(mut refusal: Refusal) -> Refusal {
        refusal.stored.push(StoredBatch::default());
        refusal
    }

    #[test]
    fn what_may_be_stored_is_not_hidden_behind_what_is_refused() {
        let unknown = || refusal(ErrorCode::RequestTimedOut);
        let refused = || refusal(ErrorCode::MessageTooLarge);
        for (first, second) in [(refused(), unknown()), (unknown(), refused())] {
            let mut ended = with_something_stored(first);
            ended.and(second);
            let status = ended.answer().expect_err("nobody knows what is stored");
            let detail = esker_proto::error_detail(&status).unwrap();
            assert_eq!(detail.kafka_name, "REQUEST_TIMED_OUT");
            assert!(
                detail.retriable && !detail.what_to_do.contains("new session"),
                "{detail:?}"
            );
        }
    }

    #[test]
    fn what_is_refused_for_good_is_told_with_what_is_stored() {
        let mut ended = with_something_stored(refusal(ErrorCode::MessageTooLarge));
        ended.and(refusal(ErrorCode::InvalidRecord));
        assert!(matches!(ended.answer(), Ok(Answer::Refused(refused)) if refused.stored.len() == 1));
        let status = ended.answer().unwrap_err();
        assert_eq!(
            esker_proto::error_detail(&status).unwrap().kafka_name,
            "MESSAGE_TOO_LARGE"
        );
    }
}
