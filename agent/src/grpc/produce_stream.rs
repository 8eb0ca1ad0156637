//! A stream of batches that are each stored once, in order, whatever is repeated.
//!
//! Owns: sequences of a session, which batches are under way, repeating what failed for a while.
//! Does not own: who notices duplicates (the fold's window for each producer), single requests (`producer`).
//!
//! The stream is driven by whoever reads its answers: a client that does not read acks is not read from either. At most
//! `UNACKED_MAX` batches are under way, as many as the fold remembers of a producer in each partition. It is for the client to keep
//! to that: acks that were sent may be lost with the connection, and a batch that the fold has forgotten cannot be told from one
//! that is missing. Before the first ack of a partition only one is sent there: a fold that knows nothing of a producer takes any
//! sequence, and a batch that overtook its predecessor would shut it out.
//!
//! Invariants: IDM-1, LOG-4, MEM-1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_kafka::messages::init_producer_id_request::InitProducerIdRequest;
use esker_kafka::messages::produce_request::ProduceRequest as KafkaProduce;
use esker_kafka::messages::produce_response::{PartitionProduceResponse, ProduceResponse as KafkaProduced};
use esker_proto::v1::produce_stream_request::{Batch, Open, Step};
use esker_proto::v1::produce_stream_response::{Ack, Opened, Refused, Step as Answer, StoredBatch};
use esker_proto::v1::{ProduceStreamRequest, ProduceStreamResponse, Session, StoredRecords};
use futures::future::BoxFuture;
use futures::{Stream, stream};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::calls::Caller;
use super::contents::Contents;
use super::errors::{batch_refusal, check_name, error_code, invalid, is_retriable, refusal};
use super::producer::{PRODUCE, Split, outcomes, partitions_of, produce_request};
use super::records::{self, Stamp};
use crate::kafka::budget::BudgetShare;

const INIT_PRODUCER_ID: i16 = 4;
/// Batches of a stream that are under way: what the fold remembers of each producer.
const UNACKED_MAX: usize = 5;
/// From so many bytes under way on, no more are read.
const UNACKED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Partitions that a session may speak of.
const PARTITIONS_MAX: i32 = 100_000;
/// The first message must come by then.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long errors that pass by themselves are waited out.
const RETRY_MAX: Duration = Duration::from_secs(120);
/// Pauses between attempts.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Produced = BoxFuture<'static, Result<KafkaProduced, Status>>;

/// The answers to a stream of requests.
pub(super) fn answers(
    caller: Caller,
    contents: Contents,
    requests: Streaming<ProduceStreamRequest>,
) -> impl Stream<Item = Result<ProduceStreamResponse, Status>> {
    let state = State::New(Box::new((caller, contents, requests)));
    stream::unfold(state, |state| async move {
        match step(state).await {
            Ok(Some((answer, next))) => Some((Ok(ProduceStreamResponse { step: Some(answer) }), next)),
            Ok(None) => None,
            Err(status) => Some((Err(status), State::Ended)),
        }
    })
}

enum State {
    New(Box<(Caller, Contents, Streaming<ProduceStreamRequest>)>),
    Open(Box<Stage>),
    Ended,
}

async fn step(state: State) -> Result<Option<(Answer, State)>, Status> {
    match state {
        State::New(new) => {
            let (caller, contents, requests) = *new;
            let stage = Stage::open(caller, contents, requests).await?;
            let session = Some(stage.session);
            Ok(Some((Answer::Opened(Opened { session }), State::Open(Box::new(stage)))))
        }
        State::Open(mut stage) => {
            let answer = stage.next().await?;
            Ok(answer.map(|answer| (answer, State::Open(stage))))
        }
        State::Ended => Ok(None),
    }
}

/// A stream that was opened.
struct Stage {
    caller: Caller,
    contents: Contents,
    requests: Streaming<ProduceStreamRequest>,
    /// The client may still send.
    more: bool,
    topic: String,
    session: Session,
    epoch: i16,
    /// The sequence of the next batch of each partition.
    sequences: BTreeMap<i32, i32>,
    /// Partitions of which the fold knows this producer.
    known: BTreeSet<i32>,
    /// The number that the next batch must have; any, if the session goes on.
    next_number: Option<u64>,
    /// Read, but there is no room for it yet.
    waiting: Option<Waiting>,
    unacked: VecDeque<Unacked>,
    /// Batches under way of each partition.
    under_way: BTreeMap<i32, usize>,
    /// Counts attempts; and the last repeated one of each partition.
    attempts: u64,
    repeated: BTreeMap<i32, u64>,
    /// Why the stream ends when nothing is under way any more.
    refusal: Option<Refusal>,
}

/// A batch was refused.
struct Refusal {
    status: Status,
    /// What of it, and of those after it, is stored.
    stored: Vec<StoredBatch>,
}

/// A batch that was read, and the budget that its message holds.
struct Waiting {
    batch: Batch,
    split: Split,
    held: Option<BudgetShare>,
}

/// A batch under way.
struct Unacked {
    number: u64,
    split: Split,
    /// What is neither stored nor refused yet.
    parts: Vec<Part>,
    bases: BTreeMap<i32, i64>,
    refused: BTreeSet<i32>,
    next_sequences: BTreeMap<i32, i32>,
    bytes: usize,
    produced: Produced,
    attempt: u64,
    pause: Duration,
    give_up_at: Instant,
}

/// The records of one partition.
#[derive(Clone)]
struct Part {
    partition: i32,
    batch: Bytes,
}

impl Stage {
    async fn open(
        caller: Caller,
        contents: Contents,
        mut requests: Streaming<ProduceStreamRequest>,
    ) -> Result<Self, Status> {
        let first = tokio::time::timeout(OPEN_DEADLINE, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Open came; send it first"))??;
        let Some(Step::Open(open)) = first.and_then(|first| first.step) else {
            return Err(invalid("the first message is not Open; send it first"));
        };
        let resumed = open.session.is_some();
        let session = match &open.session {
            Some(session) => *session,
            None => begin(&caller, &open.topic).await?,
        };
        let epoch = check_open(&open, &session)?;
        Ok(Self {
            caller,
            contents,
            requests,
            more: true,
            topic: open.topic,
            session,
            epoch,
            known: open.next_sequences.keys().copied().collect(),
            sequences: open.next_sequences.into_iter().collect(),
            next_number: (!resumed).then_some(0),
            waiting: None,
            unacked: VecDeque::new(),
            under_way: BTreeMap::new(),
            attempts: 0,
            repeated: BTreeMap::new(),
            refusal: None,
        })
    }

    /// The next answer; `None` when everything was acknowledged and nothing more will come.
    async fn next(&mut self) -> Result<Option<Answer>, Status> {
        loop {
            if let Some(refusal) = self.refusal.take_if(|_| self.unacked.is_empty()) {
                return self.refused(refusal).map(Some);
            }
            self.send_waiting().await?;
            if !self.more && self.waiting.is_none() && self.unacked.is_empty() {
                return Ok(None);
            }
            let bytes: usize = self.unacked.iter().map(|unacked| unacked.bytes).sum();
            let reads = self.more && self.waiting.is_none() && bytes < UNACKED_BYTES_MAX;
            let agent = &self.caller.agent;
            let (leaving, stop) = (agent.leaving.clone(), agent.stop.clone());
            let front = self.unacked.front_mut();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(going()),
                () = leaving.cancelled() => return Err(going()),
                produced = attempt_of(front) => {
                    if let Some(ack) = self.on_produced(produced)? {
                        return Ok(Some(Answer::Ack(ack)));
                    }
                }
                message = self.requests.message(), if reads => match message? {
                    Some(message) => self.on_message(message)?,
                    None => self.more = false,
                },
            }
        }
    }

    fn on_message(&mut self, message: ProduceStreamRequest) -> Result<(), Status> {
        let Some(Step::Batch(batch)) = message.step else {
            return Err(invalid("only batches may follow Open"));
        };
        if self.unacked.len() >= UNACKED_MAX {
            return Err(invalid(format!(
                "batch {} came before {UNACKED_MAX} others were acknowledged; wait for their acks",
                batch.number
            )));
        }
        if let Some(expected) = self.next_number
            && expected != batch.number
        {
            let found = batch.number;
            return Err(invalid(format!(
                "batch {found} came where {expected} was expected; number them one by one"
            )));
        }
        if batch.records.is_empty() {
            return Err(invalid(format!(
                "batch {} has no records; send at least one",
                batch.number
            )));
        }
        let (session, number) = (&self.session, batch.number);
        if !self.contents.is_unchanged(session, &self.topic, number, &batch.records) {
            return Err(Status::failed_precondition(format!(
                "batch {number} is not what it was when it was sent before; send it unchanged, or open a new session"
            )));
        }
        self.next_number = number.checked_add(1);
        let partitions = u64::from(self.session.partitions.cast_unsigned());
        let keyless = i32::try_from(batch.number % partitions).expect("less than an i32");
        let split = Split::new(&batch.records, self.session.partitions, keyless);
        if let Some(outside) = split
            .by_partition
            .keys()
            .find(|partition| !(0..self.session.partitions).contains(partition))
        {
            let what = format!("partition {outside} of {:?}", self.topic);
            let why = format!("the session has {} partitions", self.session.partitions);
            return Err(refusal(ErrorCode::UnknownTopicOrPartition, &what, Some(&why)));
        }
        let held = self.caller.received.take();
        self.waiting = Some(Waiting { batch, split, held });
        Ok(())
    }

    /// Has the batch that waits taken in, if there is room.
    async fn send_waiting(&mut self) -> Result<(), Status> {
        let Some(waiting) = self.waiting.take_if(|waiting| {
            waiting.split.by_partition.keys().all(|partition| {
                let under_way = self.under_way.get(partition).copied().unwrap_or(0);
                let most = if self.known.contains(partition) { UNACKED_MAX } else { 1 };
                under_way < most
            })
        }) else {
            return Ok(());
        };
        let Waiting { batch, split, held } = waiting;
        let now_ms = self.caller.agent.clock.now_ms();
        let mut parts = Vec::with_capacity(split.by_partition.len());
        let mut next_sequences = BTreeMap::new();
        for (partition, chosen) in &split.by_partition {
            let sequence = self.sequences.get(partition).copied().unwrap_or(0);
            let stamp = Stamp {
                producer: self.session.producer_id,
                epoch: self.epoch,
                sequence,
            };
            let built = records::batch(chosen.iter().map(|nth| &batch.records[*nth]), now_ms, Some(stamp))?;
            next_sequences.insert(*partition, sequence_after(sequence, built.header().count));
            parts.push(Part {
                partition: *partition,
                batch: built.bytes().clone(),
            });
        }
        for (partition, next) in &next_sequences {
            self.sequences.insert(*partition, *next);
            *self.under_way.entry(*partition).or_default() += 1;
        }
        self.attempts += 1;
        // In the write-ahead buffer before the next batch is looked at: that keeps their order.
        let taken = self.caller.take_under(held, PRODUCE, &self.request(&parts)).await;
        self.unacked.push_back(Unacked {
            number: batch.number,
            split,
            bytes: parts.iter().map(|part| part.batch.len()).sum(),
            parts,
            bases: BTreeMap::new(),
            refused: BTreeSet::new(),
            next_sequences,
            produced: Box::pin(async move { taken?.answer::<KafkaProduce>().await }),
            attempt: self.attempts,
            pause: PAUSE_FIRST,
            give_up_at: Instant::now() + RETRY_MAX,
        });
        Ok(())
    }

    fn request(&self, parts: &[Part]) -> KafkaProduce {
        let batches = parts.iter().map(|part| (part.partition, part.batch.clone()));
        produce_request(&self.topic, batches)
    }

    /// An attempt of the oldest batch has ended: it is acknowledged, or tried again, or refused. Then nothing more is taken in,
    /// and the stream ends when it is known what is stored of the batches after it.
    fn on_produced(&mut self, produced: Result<KafkaProduced, Status>) -> Result<Option<Ack>, Status> {
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
                let what = format!(
                    "batch {} in partition {} of {:?}",
                    front.number, outcome.index, self.topic
                );
                let code = error_code(outcome.error_code);
                front.refused.insert(outcome.index);
                self.refusal.get_or_insert_with(|| Refusal {
                    status: batch_refusal(code, &what, outcome.error_message.as_deref()),
                    stored: Vec::new(),
                });
                (self.more, self.waiting) = (false, None);
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

    /// Says what is stored, if anything is, and then why the stream ends.
    fn refused(&mut self, refusal: Refusal) -> Result<Answer, Status> {
        let Refusal { status, stored } = refusal;
        if stored.is_empty() {
            return Err(status);
        }
        self.refusal = Some(Refusal {
            status,
            stored: Vec::new(),
        });
        Ok(Answer::Refused(Refused { stored }))
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
            // The agent has looked twice, or the bytes will not get better.
            ErrorCode::UnknownTopicOrPartition | ErrorCode::CorruptMessage => false,
            code => is_retriable(code),
        }
    }

    fn repeat(&mut self, front: &mut Unacked) {
        self.attempts += 1;
        front.attempt = self.attempts;
        for part in &front.parts {
            self.repeated.insert(part.partition, self.attempts);
        }
        let (caller, request, pause) = (self.caller.clone(), self.request(&front.parts), front.pause);
        front.pause = (pause * 2).min(PAUSE_MAX);
        front.produced = Box::pin(async move {
            tokio::time::sleep(pause).await;
            caller.call(PRODUCE, &request).await
        });
    }

    fn acknowledge(&mut self, front: Unacked) -> Ack {
        for partition in front.next_sequences.keys() {
            self.known.insert(*partition);
            if let Some(under_way) = self.under_way.get_mut(partition) {
                *under_way -= 1;
            }
        }
        let StoredRecords { partitions, offsets } = front.split.places(&front.bases);
        Ack {
            number: front.number,
            partitions,
            offsets,
            next_sequences: front.next_sequences.into_iter().collect(),
        }
    }
}

/// What becomes of the attempt that the oldest batch is at; never anything, if there is none.
async fn attempt_of(front: Option<&mut Unacked>) -> Result<KafkaProduced, Status> {
    match front {
        Some(front) => (&mut front.produced).await,
        None => std::future::pending().await,
    }
}

fn going() -> Status {
    Status::unavailable("this agent is going; open the stream again with the session, at another agent if there is one")
}

/// A new session.
async fn begin(caller: &Caller, topic: &str) -> Result<Session, Status> {
    let partitions = partitions_of(caller, topic).await?;
    let request = InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    };
    let give_up_at = Instant::now() + RETRY_MAX;
    loop {
        let granted = caller.call(INIT_PRODUCER_ID, &request).await?;
        match error_code(granted.error_code) {
            ErrorCode::None => {
                return Ok(Session {
                    producer_id: granted.producer_id,
                    producer_epoch: i32::from(granted.producer_epoch),
                    partitions,
                });
            }
            code if is_retriable(code) && Instant::now() < give_up_at => tokio::time::sleep(PAUSE_MAX).await,
            code => return Err(refusal(code, "a new session", None)),
        }
    }
}

/// Checks what a client says of its session; returns the epoch.
fn check_open(open: &Open, session: &Session) -> Result<i16, Status> {
    if open.topic.is_empty() {
        return Err(invalid("there is no topic; name one"));
    }
    check_name(&open.topic)?;
    let epoch = i16::try_from(session.producer_epoch).ok().filter(|epoch| *epoch >= 0);
    let partitions = 1..=PARTITIONS_MAX;
    let sound = session.producer_id >= 0 && partitions.contains(&session.partitions);
    let (Some(epoch), true) = (epoch, sound) else {
        return Err(invalid("that is no session; send one as Opened said it, or none"));
    };
    let inside = |(partition, sequence): (&i32, &i32)| (0..session.partitions).contains(partition) && *sequence >= 0;
    if !open.next_sequences.iter().all(inside) || (open.session.is_none() && !open.next_sequences.is_empty()) {
        return Err(invalid(
            "next_sequences are not of this session; send them as the acks said them",
        ));
    }
    Ok(epoch)
}

/// The sequence after so many records; after the last one comes 0, as in Kafka.
fn sequence_after(sequence: i32, records: i32) -> i32 {
    let after = (i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1);
    i32::try_from(after).expect("less than 2^31")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_begin_again_after_the_last_one() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }
}
