//! Writes records to one topic: gathers them in batches, sends these to who leads their partitions, and again if need be.
//!
//! Owns: what an answer means for a batch, and what is said of records at the end.
//! Does not own: order and sequence numbers (`queue`), where records come from.
//!
//! Invariants: no more than `buffer_bytes` of records are held, but for one that is larger. With an identity nothing is stored
//! twice. Without one, nothing whose outcome is not known is sent again. A record is acknowledged, refused, or said to be
//! unknown; never forgotten.

mod queue;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_kafka::messages::init_producer_id_request::InitProducerIdRequest;
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use esker_kafka::partitioner::partition_of_key;
use esker_kafka::records::{BatchError, Codec, Record};
use esker_kafka::{ApiKey, ErrorCode, Records, Str};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Repeat, To};
use crate::connection::{Posted, Reply};
use crate::error::{Error, Refusal};

use self::queue::{Queue, Sealed, Shape};

/// Batches of one partition that are in flight at the same time; brokers remember five.
const IN_FLIGHT_MAX: usize = 5;
/// Batches of several partitions share a request up to this size.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// When a broker answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader has it.
    Leader,
    /// When everybody has it who is in sync.
    #[default]
    All,
}

impl Acks {
    /// Kafka's number.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Who a producer is to brokers that drop duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Given out by the cluster.
    pub id: i64,
    /// Of this id.
    pub epoch: i16,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// If nobody gives one out.
    pub async fn ask(client: &Client) -> Result<Self, Error> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = client.call(To::Any, Repeat::Harmless, &request, |response| {
            Refusal::check(ApiKey::InitProducerId, response.error_code, None)
        });
        let answer = answer.await?;
        Ok(Self {
            id: answer.producer_id,
            epoch: answer.producer_epoch,
        })
    }
}

/// How records are written.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// When a broker answers.
    pub acks: Acks,
    /// How batches are compressed.
    pub codec: Codec,
    /// Lets brokers drop what they have stored already; needs [`Acks::All`].
    pub idempotent: bool,
    /// Uncompressed bytes at which a batch is full.
    pub batch_bytes: usize,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// Most bytes of records that are not acknowledged.
    pub buffer_bytes: usize,
    /// How long a batch is tried to be written.
    pub delivery_timeout: Duration,
    /// Where records without a key begin.
    pub first_partition: i32,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            codec: Codec::default(),
            idempotent: true,
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            first_partition: 0,
        }
    }
}

/// A record to be written.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The caller's number of it, by which it is spoken of.
    pub tag: u64,
    /// Where to, if not by its key.
    pub partition: Option<i32>,
    /// Its offset does not matter.
    pub record: Record,
}

/// What came of the records of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Acknowledged.
    pub records: u64,
    /// The first and the last offset among them, if the broker told.
    pub offsets: Option<(i64, i64)>,
}

/// What came of everything.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By partition.
    pub written: BTreeMap<i32, Written>,
    /// Batches that were acknowledged.
    pub batches: u64,
    /// Bytes of keys, values and headers that were acknowledged.
    pub bytes: u64,
    /// Tags of records that may or may not have been stored, in order.
    pub unknown: Vec<u64>,
    /// Tags of records that certainly were not, in order.
    pub unwritten: Vec<u64>,
    /// What ended it before its time, and which record that was about.
    pub failure: Option<(Failure, u64)>,
}

impl Outcome {
    /// Records that were acknowledged.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.written.values().map(|written| written.records).sum()
    }
}

/// Why records could not be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody to write to, or a no.
    #[error(transparent)]
    Client(#[from] Error),
    /// A record that cannot be part of a batch.
    #[error(transparent)]
    Record(#[from] BatchError),
    /// There is no such partition.
    #[error("there is no partition {partition}; topic {topic} has {count}, from 0 on")]
    NoPartition {
        /// What was asked for.
        partition: i32,
        /// Of this topic.
        topic: String,
        /// So many there are.
        count: i32,
    },
    /// Tried until there was no time left.
    #[error("not acknowledged within {} s; the last trouble was: {last}", .after.as_secs())]
    Late {
        /// How long it was tried.
        after: Duration,
        /// What was wrong last.
        last: Error,
    },
}

/// What was acknowledged so far, for who watches.
#[derive(Debug, Default)]
pub struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Records, and bytes of keys, values and headers.
    #[must_use]
    pub fn acknowledged(&self) -> (u64, u64) {
        (self.records.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Writes to one topic.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    settings: ProducerSettings,
    topic: Str,
    /// How many it has.
    partitions: i32,
    /// Where records without a key go, until a batch of it is full.
    turn: i32,
    shape: Shape,
    queues: BTreeMap<i32, Queue>,
    requests: JoinSet<Answered>,
    /// Bytes of records that are not acknowledged.
    held: usize,
    outcome: Outcome,
}

/// One request and its end.
#[derive(Debug)]
struct Answered {
    batches: Vec<(i32, Sealed)>,
    answer: Result<Option<ProduceResponse>, Trouble>,
}

/// A request on its way.
enum Sent {
    Asked(Reply<ProduceRequest>),
    /// It has no answer.
    Posted(Posted<ProduceRequest>),
}

/// What is wrong with a request or a batch.
#[derive(Clone, Debug)]
struct Trouble {
    error: Error,
    /// It may have reached the broker.
    sent: bool,
}

impl Producer {
    /// Finds the topic, creating it where the cluster allows, and gets an identity.
    ///
    /// # Errors
    /// If there is no such topic, or nobody answers.
    pub async fn new(client: Client, topic: &str, settings: ProducerSettings) -> Result<Self, Error> {
        let partitions = client.topic(topic, true).await?.partitions.len();
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX).max(1);
        let idempotent = settings.idempotent && settings.acks == Acks::All;
        let identity = if idempotent {
            Some(Identity::ask(&client).await?)
        } else {
            None
        };
        Ok(Self {
            shape: Shape {
                codec: settings.codec,
                identity,
                batch_bytes: settings.batch_bytes,
            },
            turn: settings.first_partition.rem_euclid(partitions),
            client,
            settings,
            topic: topic.into(),
            partitions,
            queues: BTreeMap::new(),
            requests: JoinSet::new(),
            held: 0,
            outcome: Outcome::default(),
        })
    }

    /// Writes what comes in until there is no more, or until something cannot be written. What is in flight is waited for in
    /// both cases.
    pub async fn run(mut self, mut input: mpsc::Receiver<Vec<Outgoing>>, progress: &Progress) -> Outcome {
        let mut closed = false;
        loop {
            if let Err((failure, tag)) = self.send_due(closed).await {
                return self.give_up(failure, tag, progress).await;
            }
            if closed && self.queues.values().all(Queue::is_empty) {
                return self.outcome;
            }
            let wakes = self.wakes();
            let done = tokio::select! {
                biased;
                Some(answered) = self.requests.join_next() => self.on_answered(answered, progress),
                () = async { sleep_until(wakes.expect("checked")).await }, if wakes.is_some() => Ok(()),
                records = input.recv(), if !closed && self.held < self.settings.buffer_bytes => {
                    closed = records.is_none();
                    self.append(records.unwrap_or_default())
                }
            };
            if let Err((failure, tag)) = done {
                return self.give_up(failure, tag, progress).await;
            }
        }
    }

    fn wakes(&self) -> Option<Instant> {
        let linger = self.settings.linger;
        self.queues
            .values()
            .filter_map(|queue| queue.wakes(linger, IN_FLIGHT_MAX))
            .min()
    }

    fn append(&mut self, records: Vec<Outgoing>) -> Result<(), (Failure, u64)> {
        let now = Instant::now();
        let mut records = records.into_iter();
        while let Some(Outgoing { tag, partition, record }) = records.next() {
            let appended = self.append_one(tag, partition, &record, now);
            if let Err(failure) = appended {
                self.outcome.unwritten.push(tag);
                self.outcome.unwritten.extend(records.map(|record| record.tag));
                return Err((failure, tag));
            }
        }
        Ok(())
    }

    fn append_one(&mut self, tag: u64, partition: Option<i32>, record: &Record, now: Instant) -> Result<(), Failure> {
        let by_key = || match &record.key {
            Some(key) => partition_of_key(key, self.partitions),
            None => self.turn,
        };
        let partition = partition.unwrap_or_else(by_key);
        if (0..self.partitions).contains(&partition) {
            let queue = self.queues.entry(partition).or_default();
            let filled = queue.append(tag, record, &self.shape, now)?;
            if filled && partition == self.turn {
                self.turn = (self.turn + 1) % self.partitions;
            }
            self.held += queue::payload(record);
            return Ok(());
        }
        Err(Failure::NoPartition {
            partition,
            topic: self.topic.clone().into(),
            count: self.partitions,
        })
    }

    /// Sends all that is due; everything, if no more records will come.
    async fn send_due(&mut self, closed: bool) -> Result<(), (Failure, u64)> {
        let linger = if closed { Duration::ZERO } else { self.settings.linger };
        loop {
            let now = Instant::now();
            let mut taken = Vec::new();
            let mut done = Ok(());
            for (partition, queue) in &mut self.queues {
                match queue.take_due(now, linger, IN_FLIGHT_MAX) {
                    Ok(batch) => taken.extend(batch.map(|batch| (*partition, batch))),
                    Err(error) => done = done.and(Err((Failure::from(error), queue.first_tag()))),
                }
            }
            if taken.is_empty() {
                return done;
            }
            let mut due: BTreeMap<i32, Vec<(i32, Sealed)>> = BTreeMap::new();
            for (partition, batch) in taken {
                if done.is_err() {
                    self.queue(partition).came_back(batch, now);
                    continue;
                }
                match self.client.leader(&self.topic, partition).await {
                    Ok(leader) => due.entry(leader).or_default().push((partition, batch)),
                    Err(error) => done = self.on_trouble(partition, batch, Trouble { error, sent: false }),
                }
            }
            if done.is_err() {
                // Nothing more is sent, and nothing is forgotten.
                for (partition, batch) in due.into_values().flatten() {
                    self.queue(partition).came_back(batch, now);
                }
                return done;
            }
            for (node, batches) in due {
                self.send(node, batches).await;
            }
        }
    }

    /// Sends to one node, in as many requests as their sizes ask for.
    async fn send(&mut self, node: i32, batches: Vec<(i32, Sealed)>) {
        let mut batches = batches.into_iter().peekable();
        while batches.peek().is_some() {
            let mut request = Vec::new();
            let mut bytes = 0;
            while let Some(next) =
                batches.next_if(|(_, batch)| bytes == 0 || bytes + batch.bytes.len() <= REQUEST_BYTES_MAX)
            {
                bytes += next.1.bytes.len();
                request.push(next);
            }
            self.send_request(node, request).await;
        }
    }

    async fn send_request(&mut self, node: i32, batches: Vec<(i32, Sealed)>) {
        let patience = self.client.settings().request_timeout;
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.settings.acks.code(),
            timeout_ms: i32::try_from(patience.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: batches
                    .iter()
                    .map(|(index, batch)| PartitionProduceData {
                        index: *index,
                        records: Some(Records::from(batch.bytes.clone())),
                    })
                    .collect(),
                ..TopicProduceData::default()
            }],
        };
        let sent = match self.client.connection(To::Node(node)).await {
            Ok(connection) if self.settings.acks == Acks::None => connection.post(&request).await.map(Sent::Posted),
            Ok(connection) => connection.send(&request).await.map(Sent::Asked),
            Err(error) => Err(error),
        };
        self.requests.spawn(async move {
            let answer = match sent {
                Ok(Sent::Asked(reply)) => reply.within(patience).await.map(Some),
                Ok(Sent::Posted(posted)) => posted.within(patience).await.map(|()| None),
                Err(error) => {
                    let answer = Err(Trouble { error, sent: false });
                    return Answered { batches, answer };
                }
            };
            let answer = answer.map_err(|error| Trouble { error, sent: true });
            Answered { batches, answer }
        });
    }

    fn on_answered(
        &mut self,
        answered: Result<Answered, tokio::task::JoinError>,
        progress: &Progress,
    ) -> Result<(), (Failure, u64)> {
        let Answered { batches, answer } = answered.expect("requests neither panic nor are aborted");
        let mut result = Ok(());
        for (partition, batch) in batches {
            let of_batch = match &answer {
                Ok(None) => Ok(-1),
                Ok(Some(response)) => base_offset(response, partition).map_err(|error| Trouble { error, sent: true }),
                Err(trouble) => Err(trouble.clone()),
            };
            let done = match of_batch {
                Ok(base) => {
                    self.on_written(partition, &batch, base, progress);
                    Ok(())
                }
                Err(trouble) => self.on_trouble(partition, batch, trouble),
            };
            result = result.and(done);
        }
        result
    }

    fn on_written(&mut self, partition: i32, batch: &Sealed, base: i64, progress: &Progress) {
        let count = u64::try_from(batch.tags.len()).expect("lengths are 64 bits at most");
        let bytes = u64::try_from(batch.payload).expect("lengths are 64 bits at most");
        let written = self.outcome.written.entry(partition).or_default();
        written.records += count;
        if base >= 0 {
            let last = base + count.cast_signed() - 1;
            let (first, before) = written.offsets.unwrap_or((base, last));
            written.offsets = Some((first.min(base), before.max(last)));
        }
        self.outcome.batches += 1;
        self.outcome.bytes += bytes;
        progress.records.fetch_add(count, Ordering::Relaxed);
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held -= batch.payload;
        self.queue(partition).acknowledged(batch, Instant::now());
    }

    /// A batch was not acknowledged: again, in halves, or not at all.
    fn on_trouble(&mut self, partition: i32, mut batch: Sealed, trouble: Trouble) -> Result<(), (Failure, u64)> {
        let now = Instant::now();
        let verdict = trouble.verdict();
        let error = trouble.error;
        let tag = batch.tags[0];
        let shape = self.shape;
        batch.maybe_stored |= verdict == Verdict::Unknown;
        let queue = self.queues.get_mut(&partition).expect("it sent this batch");
        match verdict {
            Verdict::TooLarge if batch.tags.len() > 1 => {
                return queue.split(&batch, &shape, now).map_err(|error| (error.into(), tag));
            }
            Verdict::OutOfOrder if !queue.is_oldest(&batch) => {}
            Verdict::Unknown if shape.identity.is_some() => {}
            Verdict::Again => {}
            Verdict::TooLarge | Verdict::OutOfOrder | Verdict::Unknown | Verdict::Never => {
                queue.came_back(batch, now);
                return Err((error.into(), tag));
            }
        }
        let late = now.duration_since(batch.born) >= self.settings.delivery_timeout;
        queue.came_back(batch, now);
        self.client.forget(To::Leader(&self.topic, partition));
        if late {
            let after = self.settings.delivery_timeout;
            return Err((Failure::Late { after, last: error }, tag));
        }
        Ok(())
    }

    fn queue(&mut self, partition: i32) -> &mut Queue {
        self.queues.entry(partition).or_default()
    }

    /// Waits for what is in flight, and says what came of the rest.
    async fn give_up(mut self, failure: Failure, tag: u64, progress: &Progress) -> Outcome {
        while let Some(answered) = self.requests.join_next().await {
            // The first failure is the one that is told.
            let _ = self.on_answered(answered, progress);
        }
        for batch in self.queues.values_mut().flat_map(Queue::abandon) {
            let of = if batch.maybe_stored {
                &mut self.outcome.unknown
            } else {
                &mut self.outcome.unwritten
            };
            of.extend(batch.tags);
        }
        self.outcome.unknown.sort_unstable();
        self.outcome.unwritten.sort_unstable();
        self.outcome.failure = Some((failure, tag));
        self.outcome
    }
}

/// What to do about trouble with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was not stored, and may be at another try.
    Again,
    /// It may have been stored.
    Unknown,
    /// The records before it are not there.
    OutOfOrder,
    /// Smaller ones may do.
    TooLarge,
    /// It will not be stored.
    Never,
}

impl Trouble {
    fn verdict(&self) -> Verdict {
        let refusal = match &self.error {
            Error::Connect { .. } | Error::Unreachable { .. } => return Verdict::Again,
            Error::Lost { .. } | Error::Late { .. } if !self.sent => return Verdict::Again,
            Error::Lost { .. } | Error::Late { .. } | Error::Garbled { .. } => return Verdict::Unknown,
            Error::Unwritable { .. } | Error::Unsupported { .. } => return Verdict::Never,
            Error::Refused(refusal) => refusal,
        };
        match refusal.known() {
            Some(ErrorCode::MessageTooLarge) => Verdict::TooLarge,
            Some(ErrorCode::OutOfOrderSequenceNumber) => Verdict::OutOfOrder,
            Some(ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend) if self.sent => Verdict::Unknown,
            // Who leads is asked of a broker that knows; that a topic is unknown to another may pass.
            Some(ErrorCode::UnknownTopicOrPartition) if refusal.api == ApiKey::Metadata => Verdict::Never,
            Some(code) if code.is_retriable() => Verdict::Again,
            Some(_) | None => Verdict::Never,
        }
    }
}

/// Where the batch for a partition begins. One that the broker has already is as good as written.
fn base_offset(response: &ProduceResponse, partition: i32) -> Result<i64, Error> {
    let mut answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let missing = PartitionProduceResponse {
        error_code: ErrorCode::RequestTimedOut as i16,
        error_message: Some(Str::from_static("the answer does not speak of this partition")),
        ..PartitionProduceResponse::default()
    };
    let answer = answers.find(|answer| answer.index == partition).unwrap_or(&missing);
    if answer.error_code == ErrorCode::DuplicateSequenceNumber as i16 {
        return Ok(-1);
    }
    Refusal::check(ApiKey::Produce, answer.error_code, answer.error_message.as_deref())?;
    Ok(answer.base_offset)
}
