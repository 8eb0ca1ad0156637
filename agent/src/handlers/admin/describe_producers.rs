//! `DescribeProducers`: the producers of a partition, from the fold.
//!
//! Invariants: LOG-6 (a partition is denied, and its producers are told, only after a read barrier).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_kafka::messages::describe_producers_request::DescribeProducersRequest;
use esker_kafka::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use esker_kafka::{ErrorCode, Str};
use esker_model::fold::ProducerView;
use esker_segment::id::{ProducerId, TopicPartition};

use super::lookup::Lookup;
use crate::agent::Agent;
use crate::handlers::partition_of;

/// Partitions with producers that one answer tells of. Those that nobody has produced to with a sequence do not count: who looks for
/// hanging transactions asks for all partitions of an agent.
const PARTITIONS_MAX: usize = 1_000;

/// A partition of the request.
type Found = Result<TopicPartition, (ErrorCode, &'static str)>;

/// Answers; every partition of the request is in the answer.
pub async fn answer(agent: &Arc<Agent>, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut found = Vec::with_capacity(request.topics.len());
    let mut lookup = Lookup::new(agent);
    let behind = lookup.is_behind().await;
    for asked in &request.topics {
        let topic = lookup.topic(&asked.name).await;
        let each = asked
            .partition_indexes
            .iter()
            .map(|index| match partition_of(&topic, *index) {
                Err(code) => Err((code, "no such topic or partition")),
                Ok(_) if behind => Err((ErrorCode::NotLeaderOrFollower, "the log cannot be read")),
                Ok(at) => Ok(at),
            });
        found.push(each.collect::<Vec<Found>>());
    }
    let all = found.iter().flatten().filter_map(|found| found.as_ref().ok().copied());
    let mut telling = Telling {
        agent,
        producers: agent.replica.fold().producer_ids(all),
        answered: BTreeSet::new(),
        told: 0,
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for (asked, found) in request.topics.into_iter().zip(found) {
        let mut partitions = Vec::with_capacity(found.len());
        for (index, found) in asked.partition_indexes.into_iter().zip(found) {
            let producers = match found {
                Ok(at) => telling.producers(at).await,
                Err((code, message)) => Err((code, message.to_owned())),
            };
            let (producers, refused) = match producers {
                Ok(producers) => (producers, None),
                Err(refused) => (Vec::new(), Some(refused)),
            };
            partitions.push(PartitionResponse {
                partition_index: index,
                error_code: refused.as_ref().map_or(0, |(code, _)| code.code()),
                error_message: refused.map(|(_, message)| Str::from(message)),
                active_producers: producers,
            });
        }
        topics.push(TopicResponse {
            name: asked.name,
            partitions,
        });
    }
    DescribeProducersResponse {
        topics,
        ..Default::default()
    }
}

/// What one answer tells.
struct Telling<'a> {
    agent: &'a Agent,
    producers: BTreeMap<TopicPartition, Vec<ProducerId>>,
    answered: BTreeSet<TopicPartition>,
    /// Partitions with producers.
    told: usize,
}

impl Telling<'_> {
    /// The producers of a partition.
    async fn producers(&mut self, at: TopicPartition) -> Result<Vec<ProducerState>, (ErrorCode, String)> {
        if self.told == PARTITIONS_MAX || !self.answered.insert(at) {
            let message = format!("a request may ask for {PARTITIONS_MAX} partitions with producers, each once");
            return Err((ErrorCode::InvalidRequest, message));
        }
        let Some(ids) = self.producers.remove(&at) else {
            return Ok(Vec::new());
        };
        self.told += 1;
        // The log is followed, and others are served, between one partition and the next.
        tokio::task::yield_now().await;
        let fold = self.agent.replica.fold();
        let known = ids.into_iter().filter_map(|id| fold.producer(at, id));
        Ok(known.map(|producer| state(&producer)).collect())
    }
}

/// The fold knows no times, so there is no last timestamp.
fn state(producer: &ProducerView) -> ProducerState {
    let next = producer.next_sequence.0;
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: if next == 0 { i32::MAX } else { next - 1 },
        last_timestamp: -1,
        coordinator_epoch: -1,
        current_txn_start_offset: producer.open_from.map_or(-1, |offset| offset.0),
    }
}
