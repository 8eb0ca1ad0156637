//! Requests on one connection: at their time, as many in flight as may be, and how long each took.
//!
//! Owns: the window, the moment from which a request is timed.
//! Does not own: what is in a request.
//!
//! Invariants: the time of a request begins when it was due, and without a rate when it was sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::messages::produce_response::ProduceResponse;
use esker_kafka::{ApiKey, Records, Str};
use esker_kafka_client::{Acks, Connection, Error, Refusal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::latencies::Latencies;
use super::pace::Pace;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a load ends.
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) until: Instant,
    pub(super) stop: CancellationToken,
}

impl Limits {
    pub(super) fn are_reached(&self) -> bool {
        self.stop.is_cancelled() || Instant::now() >= self.until
    }
}

/// What one connection, or all of them, did.
pub(super) struct Done {
    pub(super) requests: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) latencies: Latencies,
    /// When the last answer came.
    pub(super) last: Option<Instant>,
}

impl Done {
    pub(super) fn nothing() -> Self {
        Self {
            requests: 0,
            records: 0,
            bytes: 0,
            latencies: Latencies::new(),
            last: None,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.latencies.add(&other.latencies);
        self.last = self.last.max(other.last);
    }
}

/// What goes into a request, and what it counts for.
pub(super) struct Next {
    pub(super) batches: Vec<(i32, Records)>,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// Produce requests on one connection.
pub(super) struct ProduceLane {
    pub(super) connection: Connection,
    pub(super) topic: Str,
    pub(super) acks: Acks,
    pub(super) pace: Pace,
    pub(super) in_flight_max: usize,
    pub(super) limits: Limits,
    /// Requests at most.
    pub(super) requests_max: u64,
}

type Answer = Pin<Box<dyn Future<Output = Result<Option<ProduceResponse>, Error>> + Send>>;

/// A request under way.
struct Sent {
    due: Instant,
    records: u64,
    bytes: u64,
    answer: Answer,
}

impl ProduceLane {
    /// Sends what `next` makes of the number of the request, until it is enough; then waits for the last answer.
    pub(super) async fn run(self, mut next: impl FnMut(u64) -> Next) -> anyhow::Result<Done> {
        let mut done = Done::nothing();
        let mut alarm = Alarm::new()?;
        let mut under_way: VecDeque<Sent> = VecDeque::new();
        let mut nth = 0;
        loop {
            let over = nth >= self.requests_max || self.limits.are_reached();
            let room = !over && under_way.len() < self.in_flight_max;
            if over && under_way.is_empty() {
                return Ok(done);
            }
            let due = self.pace.due(nth).min(self.limits.until);
            tokio::select! {
                biased;
                answer = async { under_way.front_mut().expect("checked").answer.as_mut().await }, if !under_way.is_empty() => {
                    let sent = under_way.pop_front().expect("it is there");
                    self.on_answer(&sent, answer?, &mut done)?;
                }
                rang = alarm.until(due), if room => {
                    rang?;
                    if !self.limits.are_reached() {
                        under_way.push_back(self.send(next(nth), due).await?);
                        nth += 1;
                    }
                }
                () = self.limits.stop.cancelled(), if !over => {}
            }
        }
    }

    async fn send(&self, next: Next, due: Instant) -> Result<Sent, Error> {
        let partition_data = next.batches.into_iter().map(|(index, records)| PartitionProduceData {
            index,
            records: Some(records),
        });
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks.code(),
            timeout_ms: i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: partition_data.collect(),
                ..TopicProduceData::default()
            }],
        };
        let answer: Answer = if self.acks == Acks::None {
            let posted = self.connection.post(&request).await?;
            Box::pin(async move { posted.within(PATIENCE).await.map(|()| None) })
        } else {
            let reply = self.connection.send(&request).await?;
            Box::pin(async move { reply.within(PATIENCE).await.map(Some) })
        };
        Ok(Sent {
            due,
            records: next.records,
            bytes: next.bytes,
            answer,
        })
    }

    /// A request that was refused ends the load: a figure of those would be none.
    fn on_answer(&self, sent: &Sent, answer: Option<ProduceResponse>, done: &mut Done) -> anyhow::Result<()> {
        let partitions = answer.iter().flat_map(|answer| &answer.responses);
        for partition in partitions.flat_map(|topic| &topic.partition_responses) {
            let words = partition.error_message.as_deref();
            Refusal::check(ApiKey::Produce, partition.error_code, words)
                .map_err(Error::from)
                .with_context(|| format!("partition {} of topic {} refused a batch", partition.index, self.topic))?;
        }
        let now = Instant::now();
        done.latencies.record(now.duration_since(sent.due));
        done.requests += 1;
        done.records += sent.records;
        done.bytes += sent.bytes;
        done.last = Some(now);
        Ok(())
    }
}
