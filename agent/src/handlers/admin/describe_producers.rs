//! `DescribeProducers`: the producers of a partition, from the fold.
//!
//! Invariants: LOG-6 (a partition is denied, and its producers are told, only after a read barrier).

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_kafka::messages::describe_producers_request::DescribeProducersRequest;
use esker_kafka::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use esker_kafka::{ErrorCode, Str};
use esker_model::fold::ProducerView;

use super::lookup::Lookup;
use crate::agent::Agent;
use crate::handlers::partition_of;

/// Partitions with producers that one answer tells of: each walks all that is remembered of producers. Those that nobody has produced to
/// with a sequence do not count: who looks for hanging transactions asks for all partitions of an agent.
const PARTITIONS_MAX: usize = 1_000;

/// Answers; every partition of the request is in the answer.
pub async fn answer(agent: &Arc<Agent>, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut lookup = Lookup::new(agent);
    let behind = lookup.is_behind().await;
    let (mut asked_for, mut told) = (BTreeSet::new(), 0);
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = lookup.topic(&asked.name).await;
        let mut partitions = Vec::with_capacity(asked.partition_indexes.len());
        for index in asked.partition_indexes {
            let producers = match partition_of(&topic, index) {
                Err(code) => Err((code, "no such topic or partition".to_owned())),
                Ok(_) if behind => Err((ErrorCode::NotLeaderOrFollower, "the log cannot be read".to_owned())),
                Ok(at) if told < PARTITIONS_MAX && asked_for.insert(at) => {
                    // The log is followed, and others are served, between one walk and the next.
                    tokio::task::yield_now().await;
                    let producers = agent.replica.fold().producers(at);
                    told += usize::from(!producers.is_empty());
                    Ok(producers)
                }
                Ok(_) => {
                    let message =
                        format!("a request may ask for {PARTITIONS_MAX} partitions with producers, each once");
                    Err((ErrorCode::InvalidRequest, message))
                }
            };
            let (producers, refused) = match producers {
                Ok(producers) => (producers, None),
                Err(refused) => (Vec::new(), Some(refused)),
            };
            partitions.push(PartitionResponse {
                partition_index: index,
                error_code: refused.as_ref().map_or(0, |(code, _)| code.code()),
                error_message: refused.map(|(_, message)| Str::from(message)),
                active_producers: producers.iter().map(state).collect(),
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
