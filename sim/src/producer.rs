//! Simulated producers: an idempotent one with up to five batches in flight, and a plain one. Both send again until every
//! batch is acknowledged.
//!
//! Owns: which batch is sent when, as the Java client and librdkafka do it.
//! Does not own: what an acknowledgement means (`history`, `verdict`).
//!
//! Invariants: IDM-1 is what it checks: the first batch that is not acknowledged is never out of order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use esker_kafka::messages::init_producer_id_request::InitProducerIdRequest;
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use esker_kafka::records::{BatchBuilder, Codec, Compression, Headers};
use esker_kafka::{ErrorCode, Records, Str};

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::history::{History, RecordId};
use crate::link::{Gone, Link};
use crate::oracle::Oracle;
use crate::planted::Bug;
use crate::scenario::{PARTITIONS, TOPIC};
use crate::trace::Trace;

const PRODUCE_VERSION: i16 = 9;
const INIT_VERSION: i16 = 4;
/// `max.in.flight.requests.per.connection`, and the window of the fold.
const IN_FLIGHT_MAX: usize = 5;

/// What a producer is made of.
pub(crate) struct ProducerParts {
    pub(crate) number: u32,
    pub(crate) idempotent: bool,
    pub(crate) batches: u32,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) history: Arc<History>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) bug: Option<Bug>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    InFlight,
    Done,
}

/// A batch: always the same bytes, however often it is sent.
#[derive(Debug)]
struct Batch {
    first: RecordId,
    count: u32,
    bytes: Bytes,
    stage: Stage,
    sent_before: bool,
}

/// A producer.
pub(crate) struct Producer {
    parts: ProducerParts,
    batches: BTreeMap<i32, Vec<Batch>>,
    /// For each request without an answer, what it carried: partition and place in `batches`.
    in_flight: VecDeque<Vec<(i32, usize)>>,
    /// After a failure one batch at a time is sent again (Java), or all in their order (librdkafka).
    retries_singly: bool,
}

impl Producer {
    pub(crate) fn new(mut parts: ProducerParts) -> Self {
        let retries_singly = parts.dice.percent(50);
        Self {
            parts,
            batches: BTreeMap::new(),
            in_flight: VecDeque::new(),
            retries_singly,
        }
    }

    /// Produces everything.
    pub(crate) async fn run(mut self) {
        let id = if self.parts.idempotent {
            self.take_id().await
        } else {
            (-1, -1)
        };
        self.prepare(id);
        let mut link = Link::open(&self.parts.fleet).await;
        while !self.is_done() {
            if self.step(&mut link).await == Err(Gone) {
                self.on_gone();
                self.parts.dice.pause_ms(20..300).await;
                link = Link::open(&self.parts.fleet).await;
            }
        }
        self.parts
            .trace
            .note(format_args!("producer {} is done", self.parts.number));
    }

    fn in_flight_max(&self) -> usize {
        let more = self.parts.bug == Some(Bug::WindowTooSmall);
        IN_FLIGHT_MAX + usize::from(more)
    }

    async fn take_id(&mut self) -> (i64, i16) {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        loop {
            let mut link = Link::open(&self.parts.fleet).await;
            if let Ok(answer) = link.call(INIT_VERSION, &request).await
                && answer.error_code == 0
            {
                return (answer.producer_id, answer.producer_epoch);
            }
            self.parts.dice.pause_ms(20..200).await;
        }
    }

    /// Makes all batches of the run.
    fn prepare(&mut self, (id, epoch): (i64, i16)) {
        let mut next: BTreeMap<i32, u32> = BTreeMap::new();
        for _ in 0..self.parts.batches {
            let dice = &mut self.parts.dice;
            let partition = i32::try_from(dice.count(0..PARTITIONS)).expect("few partitions");
            let count = dice.count(1..4);
            let first = RecordId {
                producer: self.parts.number,
                partition,
                number: *next.entry(partition).or_default(),
            };
            next.insert(partition, first.number + count);
            let stamp = (id >= 0 && self.parts.bug != Some(Bug::StampsDropped)).then_some((id, epoch));
            let batch = Batch {
                first,
                count,
                bytes: build(first, count, stamp),
                stage: Stage::Waiting,
                sent_before: false,
            };
            self.batches.entry(partition).or_default().push(batch);
        }
    }

    fn is_done(&self) -> bool {
        self.batches.values().flatten().all(|batch| batch.stage == Stage::Done)
    }

    /// Sends the next request, or takes the next answer.
    async fn step(&mut self, link: &mut Link) -> Result<(), Gone> {
        let in_flight_max = self.in_flight_max();
        if self.in_flight.len() < in_flight_max && (self.in_flight.is_empty() || self.parts.dice.percent(60)) {
            self.parts.dice.pause_ms(0..60).await;
            let next = self.next_batches();
            if !next.is_empty() {
                return self.send(link, next).await;
            }
        }
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let answer = link.receive::<ProduceRequest>(PRODUCE_VERSION).await?;
        self.on_answer(answer);
        Ok(())
    }

    /// The batches of the next request: of one partition, or one of each.
    fn next_batches(&mut self) -> Vec<(i32, usize)> {
        let ready: Vec<(i32, usize)> = self
            .batches
            .iter()
            .filter_map(|(partition, batches)| Some((*partition, self.next_of(batches)?)))
            .collect();
        if ready.is_empty() || self.parts.dice.percent(30) {
            return ready;
        }
        let one = self.parts.dice.within(0..u64::try_from(ready.len()).expect("few"));
        vec![ready[usize::try_from(one).expect("few")]]
    }

    fn next_of(&self, batches: &[Batch]) -> Option<usize> {
        let first = batches.iter().position(|batch| batch.stage != Stage::Done)?;
        let next = batches.iter().position(|batch| batch.stage == Stage::Waiting)?;
        let is_retry = batches[next].sent_before;
        let overtaken = batches[next..].iter().any(|batch| batch.stage == Stage::InFlight);
        let held = self.parts.idempotent
            && (next >= first + self.in_flight_max()
                || (is_retry && (overtaken || (self.retries_singly && next != first))));
        (!held).then_some(next)
    }

    async fn send(&mut self, link: &mut Link, next: Vec<(i32, usize)>) -> Result<(), Gone> {
        let mut partition_data = Vec::new();
        for (partition, at) in &next {
            let batch = &mut self.batches.get_mut(partition).expect("it is one of ours")[*at];
            batch.stage = Stage::InFlight;
            batch.sent_before = true;
            self.parts.history.on_sent(batch.first, batch.count);
            partition_data.push(PartitionProduceData {
                index: *partition,
                records: Some(Records::from(batch.bytes.clone())),
            });
        }
        self.in_flight.push_back(next);
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: i32::try_from(self.parts.dice.within(500..8_000)).expect("small"),
            topic_data: vec![TopicProduceData {
                name: Str::from_static(TOPIC),
                partition_data,
                ..TopicProduceData::default()
            }],
        };
        link.send(PRODUCE_VERSION, &request).await
    }

    fn on_answer(&mut self, answer: ProduceResponse) {
        let sent = self.in_flight.pop_front().expect("answers come for requests");
        let answers: BTreeMap<i32, PartitionProduceResponse> = answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partition_responses)
            .map(|partition| (partition.index, partition))
            .collect();
        for (partition, at) in sent {
            match answers.get(&partition) {
                Some(answer) => self.on_batch(partition, at, answer),
                None => self
                    .parts
                    .history
                    .violate(format!("no answer for partition {partition}")),
            }
        }
    }

    fn on_batch(&mut self, partition: i32, at: usize, answer: &PartitionProduceResponse) {
        let batches = self.batches.get_mut(&partition).expect("it is one of ours");
        let is_first = batches[..at].iter().all(|batch| batch.stage == Stage::Done);
        let batch = &mut batches[at];
        let (first, count) = (batch.first, batch.count);
        let (number, base) = (self.parts.number, answer.base_offset);
        self.parts.trace.note(format_args!(
            "producer {number}: {partition}#{} answered {} at {base}",
            first.number, answer.error_code
        ));
        if answer.error_code == 0 {
            batch.stage = Stage::Done;
            self.parts.history.on_acknowledged(first, count, base);
            if self.parts.oracle.high_watermark(partition) < base + i64::from(count) {
                let what = format!("LOG-4: {partition}@{base} was acknowledged and is not in the log");
                self.parts.history.violate(what);
            }
            return;
        }
        batch.stage = Stage::Waiting;
        let code = answer.error_code;
        let out_of_order = code == ErrorCode::OutOfOrderSequenceNumber.code();
        let retriable = [
            ErrorCode::RequestTimedOut,
            ErrorCode::KafkaStorageError,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::NotEnoughReplicas,
        ];
        if !(retriable.iter().any(|error| error.code() == code) || (out_of_order && !is_first)) {
            let said = answer
                .error_message
                .as_ref()
                .map(Str::as_str)
                .unwrap_or_default()
                .to_owned();
            let what = format!(
                "IDM-1: producer {number} was told {code} for {partition}#{}: {said}",
                first.number
            );
            self.parts.history.violate(what);
        }
    }

    /// Everything without an answer is sent again.
    fn on_gone(&mut self) {
        self.in_flight.clear();
        for batch in self.batches.values_mut().flatten() {
            if batch.stage == Stage::InFlight {
                batch.stage = Stage::Waiting;
            }
        }
    }
}

fn build(first: RecordId, count: u32, stamp: Option<(i64, i16)>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::from(Compression::None));
    if let Some((id, epoch)) = stamp {
        builder = builder.producer(id, epoch, i32::try_from(first.number).expect("few records"));
    }
    for nth in 0..count {
        let value = first.plus(nth).value();
        let appended = builder.append(1_700_000_000_000, None, Some(&value), &Headers::new());
        appended.expect("a few small records fit");
    }
    builder.build().expect("a small batch can be built").bytes().clone()
}
