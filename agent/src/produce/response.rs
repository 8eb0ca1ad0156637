//! The answer to a produce request.
//!
//! Owns: the map from outcomes to Kafka's error codes. Produce never answers UNKNOWN_SERVER_ERROR.
//!
//! Invariants: LOG-4.

use esker_kafka::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use esker_kafka::{ErrorCode, ProducePartition, Str, TopicRef, Uuid};
use esker_model::BatchVerdict;
use esker_segment::id::{PartitionIndex, TopicPartition};

use super::acks::Outcome;
use super::validate::Refusal;
use crate::agent::Agent;

/// One partition of the request.
#[derive(Debug)]
pub(super) struct Slot {
    topic: TopicRef,
    index: i32,
    state: State,
}

#[derive(Debug)]
enum State {
    Refused(Refusal),
    Entered {
        at: TopicPartition,
        ack: usize,
        log_append_time_ms: i64,
    },
}

impl Slot {
    pub(super) fn refused(partition: &ProducePartition, refusal: Refusal) -> Self {
        Self {
            topic: partition.topic.clone(),
            index: partition.index,
            state: State::Refused(refusal),
        }
    }

    pub(super) fn entered(
        partition: &ProducePartition,
        at: TopicPartition,
        ack: usize,
        log_append_time_ms: i64,
    ) -> Self {
        let state = State::Entered {
            at,
            ack,
            log_append_time_ms,
        };
        Self {
            topic: partition.topic.clone(),
            index: partition.index,
            state,
        }
    }

    pub(super) fn refusal(&self) -> Option<&str> {
        match &self.state {
            State::Refused(refusal) => Some(&refusal.message),
            State::Entered { .. } => None,
        }
    }
}

pub(super) fn build(agent: &Agent, slots: Vec<Slot>, outcomes: &[Outcome]) -> ProduceResponse {
    let mut responses: Vec<TopicProduceResponse> = Vec::new();
    let mut slots = slots.into_iter();
    while let Some(first) = slots.next() {
        let (name, topic_id) = match &first.topic {
            TopicRef::Name(name) => (name.clone(), Uuid::ZERO),
            TopicRef::Id(id) => (Str::default(), *id),
        };
        let others = slots.as_slice().iter().take_while(|slot| slot.topic == first.topic);
        let others = others.count();
        let mut partition_responses = Vec::with_capacity(1 + others);
        for slot in std::iter::once(first).chain(slots.by_ref().take(others)) {
            partition_responses.push(answer(agent, slot, outcomes));
        }
        responses.push(TopicProduceResponse {
            name,
            topic_id,
            partition_responses,
        });
    }
    ProduceResponse {
        responses,
        ..Default::default()
    }
}

/// The answer to one partition.
fn answer(agent: &Agent, slot: Slot, outcomes: &[Outcome]) -> PartitionProduceResponse {
    match slot.state {
        State::Refused(refusal) => {
            let at = agent.known_topic(&slot.topic).and_then(|topic| {
                let partition = u32::try_from(slot.index)
                    .ok()
                    .filter(|index| *index < topic.partitions)?;
                Some(TopicPartition {
                    topic: topic.id,
                    partition: PartitionIndex(partition),
                })
            });
            refused(agent, slot.index, at, refusal)
        }
        State::Entered {
            at,
            ack,
            log_append_time_ms,
        } => judged(agent, slot.index, at, outcomes[ack], log_append_time_ms),
    }
}

fn refused(agent: &Agent, index: i32, at: Option<TopicPartition>, refusal: Refusal) -> PartitionProduceResponse {
    let log_start = at.filter(|_| tells_log_start(&refusal));
    let record_errors = refusal
        .records
        .iter()
        .map(|(batch_index, message)| BatchIndexAndErrorMessage {
            batch_index: *batch_index,
            batch_index_error_message: Some(Str::from(&**message)),
        })
        .collect();
    PartitionProduceResponse {
        index,
        error_code: refusal.code.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: log_start
            .and_then(|at| agent.view.log_start(at))
            .map_or(-1, |offset| offset.0),
        record_errors,
        error_message: Some(Str::from(refusal.message)),
        ..Default::default()
    }
}

/// Whether Kafka tells with an error where the log begins: with those that its log finds, not with those found before and beside it.
fn tells_log_start(refusal: &Refusal) -> bool {
    let code = refusal.code;
    !refusal.records.is_empty()
        || code == ErrorCode::InvalidTimestamp
        || code == ErrorCode::OutOfOrderSequenceNumber
        || code == ErrorCode::InvalidProducerEpoch
}

fn judged(
    agent: &Agent,
    index: i32,
    at: TopicPartition,
    outcome: Outcome,
    log_append_time_ms: i64,
) -> PartitionProduceResponse {
    match stored_at(outcome) {
        Ok(base) => PartitionProduceResponse {
            index,
            error_code: 0,
            base_offset: base,
            log_append_time_ms,
            log_start_offset: agent.view.log_start(at).map_or(-1, |offset| offset.0),
            ..Default::default()
        },
        Err((code, message)) => refused(agent, index, Some(at), Refusal::new(code, message)),
    }
}

/// Where the batch is, or what the producer is told instead.
fn stored_at(outcome: Outcome) -> Result<i64, (ErrorCode, String)> {
    let verdict = match outcome {
        Outcome::Judged(verdict) => verdict,
        Outcome::Unknown => return Err((ErrorCode::RequestTimedOut, "not committed in time".to_owned())),
        Outcome::NotCommitted => {
            return Err((
                ErrorCode::KafkaStorageError,
                "the object store did not take the batch".to_owned(),
            ));
        }
    };
    match verdict {
        BatchVerdict::Stored { base } | BatchVerdict::Duplicate { base } => Ok(base.0),
        BatchVerdict::OutOfOrder { expected, found } => Err((
            ErrorCode::OutOfOrderSequenceNumber,
            format!("sequence {found} found, {expected} expected"),
        )),
        BatchVerdict::Fenced { current } => Err((
            ErrorCode::InvalidProducerEpoch,
            format!("the producer's epoch is {current}"),
        )),
        BatchVerdict::NoSuchPartition => Err((ErrorCode::UnknownTopicOrPartition, "no such partition".to_owned())),
        BatchVerdict::UnknownProducer => Err((
            ErrorCode::InvalidProducerIdMapping,
            "the producer id was never granted".to_owned(),
        )),
        BatchVerdict::InvalidTxn(why) => Err((ErrorCode::InvalidTxnState, format!("{why:?}"))),
        BatchVerdict::Malformed => Err((ErrorCode::CorruptMessage, "the batch contradicts itself".to_owned())),
    }
}
