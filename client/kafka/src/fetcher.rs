//! Reads partitions from where it is told, as batches come.
//!
//! Owns: positions, which broker is asked for what, what waits to be taken.
//! Does not own: what is in a batch (`decode`), where to begin, groups.
//!
//! Invariants: an answer has room for some partitions, which take turns: none waits for ever while others have records. Each broker has one
//! request at most, and no more is asked for while `READY_BYTES_MAX` wait to be taken. What was
//! asked for before [`Fetcher::assign`] is dropped when it comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use esker_kafka::messages::fetch_response::{AbortedTransaction, FetchResponse, PartitionData};
use esker_kafka::records::BatchIter;
use esker_kafka::{ApiKey, ErrorCode, Str};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Repeat, To};
use crate::error::{Error, Refusal};

/// Bytes that wait to be taken before no more is asked for.
const READY_BYTES_MAX: usize = 16 << 20;
/// Before a broker that failed is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// How reading is done.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// How long a broker may wait for records.
    pub wait: Duration,
    /// Bytes of an answer, more or less.
    pub answer_bytes: usize,
    /// Bytes of each partition in an answer, more or less.
    pub partition_bytes: usize,
    /// Only what transactions have committed.
    pub read_committed: bool,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(500),
            answer_bytes: 8 << 20,
            partition_bytes: 1 << 20,
            read_committed: false,
        }
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
}

/// What came of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whose it is.
    pub of: TopicPartition,
    /// The first offset that was asked for; batches may begin before it.
    pub from: i64,
    /// Whole batches; there may be none.
    pub batches: Bytes,
    /// The offset after them.
    pub next: i64,
    /// Transactions whose records are to be left out.
    pub aborted: Vec<AbortedTransaction>,
}

/// A partition that cannot be read from where it was to be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("partition {} of topic {} at offset {offset}: {error}", .of.partition, .of.topic)]
pub struct FetchError {
    /// Which.
    pub of: TopicPartition,
    /// Where.
    pub offset: i64,
    /// Why.
    pub error: Error,
}

/// Reads any number of partitions.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    settings: FetchSettings,
    positions: BTreeMap<TopicPartition, i64>,
    /// Rises with every assignment.
    generation: u64,
    ready: VecDeque<Fetched>,
    ready_bytes: usize,
    requests: JoinSet<Answered>,
    /// Nodes that have a request.
    asked: BTreeSet<i32>,
    /// The last partition of which each node gave something: the next answer begins after it.
    served: BTreeMap<i32, TopicPartition>,
    /// Nobody is asked before.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Answered {
    node: i32,
    generation: u64,
    asked: Vec<(TopicPartition, i64)>,
    answer: Result<FetchResponse, Error>,
}

impl Fetcher {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(client: Client, settings: FetchSettings) -> Self {
        Self {
            client,
            settings,
            positions: BTreeMap::new(),
            generation: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            requests: JoinSet::new(),
            asked: BTreeSet::new(),
            served: BTreeMap::new(),
            not_before: None,
        }
    }

    /// Reads these from now on, and nothing else.
    pub fn assign(&mut self, positions: BTreeMap<TopicPartition, i64>) {
        self.positions = positions;
        self.generation += 1;
        self.ready.clear();
        self.ready_bytes = 0;
    }

    /// Reads no more of one.
    pub fn drop_partition(&mut self, of: &TopicPartition) {
        self.positions.remove(of);
        self.ready.retain(|ready| ready.of != *of);
        self.ready_bytes = self.ready.iter().map(|ready| ready.batches.len()).sum();
    }

    /// What came already, if anything did.
    pub fn take_ready(&mut self) -> Option<Fetched> {
        let fetched = self.ready.pop_front()?;
        self.ready_bytes -= fetched.batches.len();
        Some(fetched)
    }

    /// What came next; waits for it, for ever if nothing is assigned. Nothing is lost when it is given up.
    ///
    /// # Errors
    /// [`FetchError`] for a partition that cannot be read. Trouble that may pass is waited out.
    pub async fn next(&mut self) -> Result<Fetched, FetchError> {
        loop {
            self.ask().await?;
            if let Some(fetched) = self.take_ready() {
                return Ok(fetched);
            }
            let not_before = self.not_before;
            let answered = tokio::select! {
                biased;
                Some(answered) = self.requests.join_next() => answered,
                () = async { sleep_until(not_before.expect("checked")).await }, if not_before.is_some() => {
                    self.not_before = None;
                    continue;
                }
                else => std::future::pending().await,
            };
            self.on_answered(answered.expect("requests neither panic nor are aborted"))?;
        }
    }

    /// Sends to every broker that has something for us and no request.
    async fn ask(&mut self) -> Result<(), FetchError> {
        if self.ready_bytes >= READY_BYTES_MAX || self.not_before.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        let mut by_node: BTreeMap<i32, Vec<(TopicPartition, i64)>> = BTreeMap::new();
        for (of, offset) in &self.positions {
            match self.client.leader(&of.topic, of.partition).await {
                Ok(leader) => by_node.entry(leader).or_default().push((of.clone(), *offset)),
                Err(error) if self.client.may_pass(&error, Repeat::Harmless) => {
                    self.client.forget(To::Leader(&of.topic, of.partition));
                    self.not_before = Some(Instant::now() + RETRY);
                    return Ok(());
                }
                Err(error) => {
                    let (of, offset) = (of.clone(), *offset);
                    return Err(FetchError { of, offset, error });
                }
            }
        }
        for (node, mut partitions) in by_node {
            if self.asked.insert(node) {
                take_turns(&mut partitions, self.served.get(&node));
                self.ask_node(node, partitions);
            }
        }
        Ok(())
    }

    fn ask_node(&mut self, node: i32, asked: Vec<(TopicPartition, i64)>) {
        let request = self.request(&asked);
        let client = self.client.clone();
        let patience = client.settings().request_timeout + self.settings.wait;
        let generation = self.generation;
        self.requests.spawn(async move {
            let answer = match client.connection(To::Node(node)).await {
                Ok(connection) => connection.call(&request, patience).await,
                Err(error) => Err(error),
            };
            let answer = answer.and_then(|answer| {
                Refusal::check(ApiKey::Fetch, answer.error_code, None)?;
                Ok(answer)
            });
            Answered {
                node,
                generation,
                asked,
                answer,
            }
        });
    }

    fn request(&self, asked: &[(TopicPartition, i64)]) -> FetchRequest {
        let bytes = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (of, offset) in asked {
            let partition = FetchPartition {
                partition: of.partition,
                fetch_offset: *offset,
                partition_max_bytes: bytes(self.settings.partition_bytes),
                ..FetchPartition::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.topic == of.topic => topic.partitions.push(partition),
                _ => topics.push(FetchTopic {
                    topic: of.topic.clone(),
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        FetchRequest {
            max_wait_ms: i32::try_from(self.settings.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: bytes(self.settings.answer_bytes),
            isolation_level: i8::from(self.settings.read_committed),
            topics,
            ..FetchRequest::default()
        }
    }

    fn on_answered(&mut self, answered: Answered) -> Result<(), FetchError> {
        self.asked.remove(&answered.node);
        if answered.generation != self.generation {
            return Ok(());
        }
        let response = match answered.answer {
            Ok(response) => response,
            Err(error) if self.client.may_pass(&error, Repeat::Harmless) => {
                for (of, _) in &answered.asked {
                    self.client.forget(To::Leader(&of.topic, of.partition));
                }
                self.not_before = Some(Instant::now() + RETRY);
                return Ok(());
            }
            Err(error) => {
                let (of, offset) = answered.asked.into_iter().next().expect("never asked for nothing");
                return Err(FetchError { of, offset, error });
            }
        };
        for topic in response.responses {
            for partition in topic.partitions {
                let of = TopicPartition {
                    topic: topic.topic.detached(),
                    partition: partition.partition_index,
                };
                if partition.records.as_ref().is_some_and(|records| !records.is_empty()) {
                    self.served.insert(answered.node, of.clone());
                }
                self.on_partition(of, partition)?;
            }
        }
        Ok(())
    }

    fn on_partition(&mut self, of: TopicPartition, data: PartitionData) -> Result<(), FetchError> {
        // One that is not read any more, or that nobody asked for.
        let Some(position) = self.positions.get_mut(&of) else {
            return Ok(());
        };
        let from = *position;
        if let Err(refusal) = Refusal::check(ApiKey::Fetch, data.error_code, None) {
            let error = Error::from(refusal);
            let unknown = error.is(ErrorCode::UnknownTopicOrPartition);
            if !(unknown || self.client.may_pass(&error, Repeat::Harmless)) {
                return Err(FetchError {
                    of,
                    offset: from,
                    error,
                });
            }
            // Whoever knows the topic tells whether it is there.
            self.client.forget(To::Leader(&of.topic, of.partition));
            self.not_before = Some(Instant::now() + RETRY);
            return Ok(());
        }
        let bytes = data.records.map(|records| records.to_bytes()).unwrap_or_default();
        // The last batch may be cut off.
        let mut whole = 0;
        let mut next = from;
        for batch in BatchIter::new(bytes.clone()).map_while(Result::ok) {
            whole += batch.bytes().len();
            let header = batch.header();
            next = next.max(
                header
                    .base_offset
                    .saturating_add(i64::from(header.last_offset_delta))
                    .saturating_add(1),
            );
        }
        if whole == 0 && !bytes.is_empty() {
            let error = Error::from(Refusal {
                api: ApiKey::Fetch,
                code: ErrorCode::CorruptMessage as i16,
                message: Some("the answer does not begin with a whole record batch".to_owned()),
            });
            return Err(FetchError {
                of,
                offset: from,
                error,
            });
        }
        if whole > 0 {
            *position = next;
            self.ready_bytes += whole;
            self.ready.push_back(Fetched {
                of,
                from,
                batches: bytes.slice(..whole),
                next,
                aborted: data.aborted_transactions.unwrap_or_default(),
            });
        }
        Ok(())
    }
}

/// Brokers fill an answer in the order in which they were asked: those after the one that was served last come first.
fn take_turns(partitions: &mut [(TopicPartition, i64)], served: Option<&TopicPartition>) {
    let first = partitions.partition_point(|(of, _)| served.is_some_and(|served| of <= served));
    partitions.rotate_left(first);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_take_turns() {
        let of = |topic: &str, partition: i32| TopicPartition {
            topic: topic.into(),
            partition,
        };
        let all = [of("a", 0), of("a", 1), of("b", 0), of("b", 7)];
        for (served, first) in [
            (None, 0),
            (Some(of("a", 0)), 1),
            (Some(of("a", 5)), 2),
            (Some(of("b", 0)), 3),
            (Some(of("b", 7)), 0),
        ] {
            let mut asked: Vec<_> = all.iter().map(|of| (of.clone(), 0)).collect();
            take_turns(&mut asked, served.as_ref());
            let expected = all.iter().cycle().skip(first).take(all.len());
            assert!(asked.iter().map(|(of, _)| of).eq(expected), "{served:?}: {asked:?}");
        }
    }
}
