//! Produce: from the request to the acknowledgement.
//!
//! Owns: the path of a request: walk, validate, enter the write-ahead buffer in order, wait for the verdicts, answer.
//! Does not own: flush, upload and commit (`writer`), verdicts (`esker_model`).
//!
//! Invariants: LOG-3, LOG-4, LOG-6, IDM-1, MEM-1.

pub mod acks;
mod response;
pub mod sequencer;
pub mod throttle;
mod timestamps;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::{ErrorCode, ProducePartition, ProduceWalk, Reader, TopicRef};
use esker_segment::id::{PartitionIndex, TopicPartition};
use metrics::histogram;
use tokio::time::Instant;

use self::acks::{Acks, Patience};
use self::response::Slot;
use self::validate::{Refusal, Rules, Valid, validate};
use crate::agent::{Absent, Agent};
use crate::internal_topics::may_append;
use crate::kafka::budget::BudgetShare;
use crate::kafka::connection::{Accepted, CloseConnection};
use crate::kafka::dispatch::{ReplyHeader, RequestContext};
use crate::topics::TopicView;
use crate::writer::pipeline::Entering;

/// What a batch may take to be stored, at least; the time-out that clients send when nobody told them another one.
const STORE_PATIENCE_MIN: Duration = Duration::from_secs(30);

/// Partitions of one request.
const PARTITIONS_MAX: usize = 100_000;

/// Takes a produce request in: its batches are in the write-ahead buffer when this returns, in order.
///
/// # Errors
/// A request that does not decode, or that failed although the client wants no answer (as in Kafka), closes the connection.
pub async fn accept(
    agent: Arc<Agent>,
    context: RequestContext,
    reply: ReplyHeader,
    body: Reader,
    budget: Option<Arc<BudgetShare>>,
) -> Result<Accepted, CloseConnection> {
    let began = Instant::now();
    let malformed = |cause| CloseConnection(format!("Produce version {}: {cause}", context.version));
    let mut walk = ProduceWalk::new(body, context.version).map_err(malformed)?;
    let mut partitions = Vec::new();
    while let Some(partition) = walk.next_partition().map_err(malformed)? {
        if partitions.len() == PARTITIONS_MAX {
            return Err(CloseConnection("too many partitions in one produce request".to_owned()));
        }
        partitions.push(partition);
    }
    let acks = walk.acks;
    let patience = patience(began, acks, walk.timeout_ms);
    let admitted = agent.throttle.admit(patience.answer_by).await;
    let (slots, pending) = if let Err(refusal) = admitted {
        refuse_all(partitions, &refusal, patience)
    } else if acks != 0 && agent.is_leaving() {
        let refusal = Refusal::new(
            ErrorCode::NotLeaderOrFollower,
            "this agent is going or cut off, another one leads now",
        );
        refuse_all(partitions, &refusal, patience)
    } else if matches!(acks, -1..=1) {
        enter_all(&agent, &context, partitions, budget, patience).await
    } else {
        let refusal = Refusal::new(ErrorCode::InvalidRequiredAcks, "acks must be 0, 1 or -1");
        refuse_all(partitions, &refusal, patience)
    };
    if acks == 0 {
        if let Some(message) = slots.iter().find_map(Slot::refusal) {
            return Err(CloseConnection(format!("produce with acks=0 failed: {message}")));
        }
        return Ok(Accepted {
            reply: Box::pin(async { Ok(None) }),
            pipelined: true,
        });
    }
    let answer = async move {
        pending.filled().await;
        histogram!("esker_produce_ack_seconds").record(began.elapsed().as_secs_f64());
        reply.frame(&response::build(&agent, slots, &pending.outcomes()))
    };
    Ok(Accepted {
        reply: Box::pin(answer),
        pipelined: true,
    })
}

/// As in Kafka, the client's time-out counts only when it waits for all replicas. However short it is, uploads get their time:
/// one that is given up takes with it what other producers have sent after it.
fn patience(began: Instant, acks: i16, timeout_ms: i32) -> Patience {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let store_by = began + timeout.max(STORE_PATIENCE_MIN);
    let answer_by = if acks == -1 { began + timeout } else { store_by };
    Patience { answer_by, store_by }
}

fn refuse_all(partitions: Vec<ProducePartition>, refusal: &Refusal, patience: Patience) -> (Vec<Slot>, Arc<Acks>) {
    let refused = |partition: ProducePartition| Slot::refused(&partition, refusal.clone());
    (partitions.into_iter().map(refused).collect(), Acks::new(0, patience))
}

async fn enter_all(
    agent: &Arc<Agent>,
    context: &RequestContext,
    partitions: Vec<ProducePartition>,
    budget: Option<Arc<BudgetShare>>,
    patience: Patience,
) -> (Vec<Slot>, Arc<Acks>) {
    let mut slots = Vec::with_capacity(partitions.len());
    let mut valid = Vec::with_capacity(partitions.len());
    let mut topic: Option<(TopicRef, Result<TopicView, Absent>)> = None;
    for partition in partitions {
        if topic.as_ref().is_none_or(|(named, _)| *named != partition.topic) {
            let view = agent.topic(&partition.topic).await;
            topic = Some((partition.topic.clone(), view));
        }
        let view = topic.as_ref().map_or(&Err(Absent::Certainly), |(_, view)| view);
        match check(agent, context, view, &partition).await {
            Ok((at, batch)) => {
                slots.push(Slot::entered(&partition, at, valid.len(), batch.log_append_time_ms));
                valid.push((at, batch));
            }
            Err(refusal) => slots.push(Slot::refused(&partition, refusal)),
        }
    }
    let acks = Acks::new(valid.len(), patience);
    for (slot, (at, batch)) in valid.into_iter().enumerate() {
        let ack = Acks::ack(&acks, slot);
        let entering = Entering {
            at,
            meta: batch.meta,
            ack,
            budget: budget.clone(),
        };
        enter(agent, entering, &batch.data).await;
    }
    (slots, acks)
}

/// Finds the partition and checks the batch.
async fn check(
    agent: &Arc<Agent>,
    context: &RequestContext,
    view: &Result<TopicView, Absent>,
    partition: &ProducePartition,
) -> Result<(TopicPartition, Valid), Refusal> {
    let by_id = matches!(partition.topic, TopicRef::Id(_));
    let unknown = if by_id {
        ErrorCode::UnknownTopicId
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    let refuse = |absent: Absent, denied, what| Refusal::new(absent.code(denied, ErrorCode::NotLeaderOrFollower), what);
    let view = view.as_ref().map_err(|why| refuse(*why, unknown, "no such topic"))?;
    let missing = || Refusal::new(ErrorCode::UnknownTopicOrPartition, "no such partition");
    let index = u32::try_from(partition.index).map_err(|_| missing())?;
    if index >= view.partitions {
        let found = agent.partition_after_barrier(view.id, index).await;
        let denied = ErrorCode::UnknownTopicOrPartition;
        found.map_err(|why| refuse(why, denied, "no such partition"))?;
    }
    if !may_append(context.client_id.as_deref(), &view.name) {
        return Err(Refusal::new(
            ErrorCode::InvalidTopic,
            "nobody appends to an internal topic",
        ));
    }
    let rules = Rules {
        topic: view.settings,
        version: context.version,
        now_ms: agent.clock.now_ms(),
        decompressed_bytes_max: agent.decompressed_bytes_max(),
    };
    let at = TopicPartition {
        topic: view.id,
        partition: PartitionIndex(index),
    };
    Ok((at, validate(partition.records.as_ref(), &rules)?))
}

/// Enters a batch; one that is ahead of its producer waits for its predecessor, for a while. After that the fold refuses it.
async fn enter(agent: &Arc<Agent>, batch: Entering, data: &Bytes) {
    let patience_ends = Instant::now() + agent.settings.producers.order_wait;
    let inbox = &agent.log.inbox;
    let mut batch = batch;
    loop {
        let settled = inbox.settled.notified();
        let patient = Instant::now() < patience_ends;
        match inbox.enter(batch, data, |stamp, at| agent.view.expected(stamp, at), patient) {
            None => return,
            Some(waiting) => batch = waiting,
        }
        // Whichever comes first, it looks again.
        drop(tokio::time::timeout_at(patience_ends, settled).await);
    }
}
