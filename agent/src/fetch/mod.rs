//! Fetch: from an offset to record bytes, waiting for new ones if there are none.
//!
//! Owns: the checks of a request, the division of its byte limits, the long poll.
//! Does not own: where batches lie (`replica`, `merged`), their bytes (`read`).
//!
//! Invariants: LOG-6 (an offset is denied only after a read barrier), TXN-1, MEM-1. A fetch answers at `max_wait_ms`, always.
//! Fetch sessions (KIP-227) are not kept: every answer has session id 0, so clients send full requests.

pub mod read;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest};
use esker_kafka::messages::fetch_response::{AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData};
use esker_kafka::{ErrorCode, Records, TopicRef};
use esker_segment::id::{Offset, PartitionIndex, TopicPartition};
use tokio::time::Instant;

use crate::agent::{Absent, Agent};
use crate::kafka::dispatch::RequestContext;
use crate::replica_view::{Isolation, Located};
use crate::wake::Wakers;

/// First version that names topics by id.
const TOPIC_ID_FROM: i16 = 13;
/// The session epoch of a full request by a client that would like a session.
const NEW_SESSION: i32 = 0;
/// The session epoch of a full request by a client that wants no session, or no more.
const NO_SESSION: i32 = -1;
/// Longest wait that a client may ask for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// One partition of the request and what is known of it.
struct Wanted {
    request: FetchPartition,
    at: Option<TopicPartition>,
    /// The error to answer, once that is decided.
    error: Option<ErrorCode>,
    located: Option<Located>,
    /// An agent of the client's zone, which this one is not in (KIP-392).
    nearer: Option<i32>,
}

/// One topic of the request.
struct WantedTopic {
    topic: TopicRef,
    partitions: Vec<Wanted>,
}

/// Answers a fetch.
pub async fn answer(agent: &Arc<Agent>, context: &RequestContext, request: FetchRequest) -> FetchResponse {
    if !matches!(request.session_epoch, NEW_SESSION | NO_SESSION) {
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return FetchResponse {
            error_code,
            ..Default::default()
        };
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let until = Instant::now() + wait;
    let isolation = if request.isolation_level == 1 {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let limit = bytes_limit(request.max_bytes).min(u64::from(agent.settings.network.fetch_bytes_max));
    // More than the limit never comes, so it is not waited for.
    let wanted_min = u64::try_from(request.min_bytes).unwrap_or(0).min(limit);
    let mut topics = resolve(agent, context, request).await;
    let everything: Vec<TopicPartition> = topics.iter().flat_map(|t| &t.partitions).filter_map(|p| p.at).collect();
    // Nothing can come for a request that asks for nothing: a consumer that closes sends one and waits for the answer.
    let until = if everything.is_empty() { Instant::now() } else { until };
    // Registered before the first look, so that nothing slips between looking and waiting.
    let interest = Wakers::register(&agent.wakers, everything);
    loop {
        let (available, enough) = locate_all(agent, &mut topics, isolation, limit).await;
        if available >= wanted_min.max(1) || enough || wanted_min == 0 || Instant::now() >= until {
            break;
        }
        tokio::select! {
            biased;
            () = agent.leaving.cancelled() => break,
            () = agent.stop.cancelled() => break,
            () = interest.woken() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
    drop(interest);
    respond(agent, topics, isolation, limit).await
}

fn bytes_limit(bytes: i32) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

async fn resolve(agent: &Arc<Agent>, context: &RequestContext, request: FetchRequest) -> Vec<WantedTopic> {
    let (view, rack) = (agent.members.view(), request.rack_id);
    let leaving = agent.is_leaving();
    let is_near = rack.is_empty() || *rack == *agent.members.identity().zone();
    let nearer = |at: &TopicPartition| view.placement.in_zone(*at, &rack).filter(|_| !is_near);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let by_id = context.version >= TOPIC_ID_FROM;
        let named = if by_id {
            TopicRef::Id(topic.topic_id)
        } else {
            TopicRef::Name(topic.topic)
        };
        let view = agent.topic(&named).await;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for request in topic.partitions {
            let absent = |absent: Absent, denied| Err(absent.code(denied, ErrorCode::NotLeaderOrFollower));
            let found = match (&view, u32::try_from(request.partition)) {
                (Err(why), _) if by_id => absent(*why, ErrorCode::UnknownTopicId),
                (Err(why), _) => absent(*why, ErrorCode::UnknownTopicOrPartition),
                (Ok(_), Err(_)) => Err(ErrorCode::UnknownTopicOrPartition),
                (Ok(view), Ok(index)) => {
                    let found = if index < view.partitions {
                        Ok(())
                    } else {
                        agent.partition_after_barrier(view.id, index).await
                    };
                    let at = TopicPartition {
                        topic: view.id,
                        partition: PartitionIndex(index),
                    };
                    found.map_or_else(|why| absent(why, ErrorCode::UnknownTopicOrPartition), |()| Ok(at))
                }
            };
            let epoch = if leaving {
                Err(ErrorCode::NotLeaderOrFollower)
            } else {
                agent.check_leader_epoch(request.current_leader_epoch)
            };
            partitions.push(Wanted {
                nearer: found.as_ref().ok().and_then(nearer),
                at: found.ok(),
                error: found.err().or(epoch.err()),
                request,
                located: None,
            });
        }
        topics.push(WantedTopic {
            topic: named,
            partitions,
        });
    }
    topics
}

/// Looks up what there is for each partition. Returns how many bytes could be sent, and whether waiting for more is no use:
/// there is an error to tell, or more than the request's limits let through.
async fn locate_all(agent: &Arc<Agent>, topics: &mut [WantedTopic], isolation: Isolation, limit: u64) -> (u64, bool) {
    let (mut available, mut enough) = (0, false);
    for wanted in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if let (Some(at), None) = (wanted.at, wanted.error) {
            let most = bytes_limit(wanted.request.partition_max_bytes).min(limit.saturating_sub(available));
            match locate(agent, at, Offset(wanted.request.fetch_offset), isolation, most).await {
                Ok(located) => {
                    available += located.bytes();
                    enough |= located
                        .places
                        .last()
                        .is_some_and(|place| place.end() < located.readable_end);
                    // Nothing to wait for: the client shall fetch there.
                    enough |= wanted.nearer.is_some();
                    wanted.located = Some(located);
                }
                Err((code, located)) => {
                    wanted.error = Some(code);
                    wanted.located = located;
                }
            }
        }
        enough |= wanted.error.is_some();
    }
    (available, enough)
}

/// Finds the batches from an offset on; an offset is denied only by a fold that is up to date.
async fn locate(
    agent: &Arc<Agent>,
    at: TopicPartition,
    from: Offset,
    isolation: Isolation,
    bytes_max: u64,
) -> Result<Located, (ErrorCode, Option<Located>)> {
    let gone = (ErrorCode::UnknownTopicOrPartition, None);
    let located = agent.view.locate(at, from, isolation, bytes_max);
    let outside = |located: &Located| from > located.high_watermark || from < located.log_start;
    match located {
        Some(located) if !outside(&located) => return with_merged(agent, at, from, located, bytes_max).await,
        Some(_) | None => {}
    }
    if agent.barrier().await.is_err() {
        return Err((ErrorCode::LeaderNotAvailable, None));
    }
    let located = agent.view.locate(at, from, isolation, bytes_max).ok_or(gone)?;
    if outside(&located) {
        return Err((ErrorCode::OffsetOutOfRange, Some(located)));
    }
    with_merged(agent, at, from, located, bytes_max).await
}

/// Adds what is found through the manifest, for an offset below the unmerged batches.
async fn with_merged(
    agent: &Arc<Agent>,
    at: TopicPartition,
    from: Offset,
    mut located: Located,
    bytes_max: u64,
) -> Result<Located, (ErrorCode, Option<Located>)> {
    if !located.below_unmerged {
        return Ok(located);
    }
    match agent.merged.locate(at, from, located.readable_end, bytes_max).await {
        Ok(places) => {
            located.places = places.into_iter().map(read::Place::from).collect();
            Ok(located)
        }
        Err(error) => {
            tracing::error!(topic = %at.topic, partition = %at.partition, offset = %from, %error, "merged data unreadable");
            Err((ErrorCode::KafkaStorageError, Some(located)))
        }
    }
}

async fn respond(agent: &Arc<Agent>, topics: Vec<WantedTopic>, isolation: Isolation, limit: u64) -> FetchResponse {
    let mut sent = 0;
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let most = bytes_limit(wanted.request.partition_max_bytes).min(limit.saturating_sub(sent));
            let data = partition_data(agent, wanted, isolation, most, sent == 0).await;
            sent += data
                .records
                .as_ref()
                .map_or(0, |records| u64::try_from(records.len()).unwrap_or(u64::MAX));
            partitions.push(data);
        }
        let (name, topic_id) = match topic.topic {
            TopicRef::Name(name) => (name, Default::default()),
            TopicRef::Id(id) => (Default::default(), id),
        };
        responses.push(FetchableTopicResponse {
            topic: name,
            topic_id,
            partitions,
        });
    }
    FetchResponse {
        responses,
        ..Default::default()
    }
}

async fn partition_data(
    agent: &Arc<Agent>,
    wanted: Wanted,
    isolation: Isolation,
    most: u64,
    first: bool,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index: wanted.request.partition,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted_transactions: (isolation == Isolation::ReadCommitted).then(Vec::new),
        preferred_read_replica: -1,
        records: Some(Records::new()),
        ..Default::default()
    };
    if let Some(located) = &wanted.located {
        set_ends(&mut data, located);
    }
    if let Some(code) = wanted.error {
        data.error_code = code.code();
        return data;
    }
    let (Some(located), Some(at)) = (wanted.located, wanted.at) else {
        return data;
    };
    if let Some(nearer) = wanted.nearer {
        data.preferred_read_replica = nearer;
        return data;
    }
    let asked = Offset(wanted.request.fetch_offset);
    let mut read = read_within(agent, located.places, most, first).await;
    if read.as_ref().is_err_and(read::ReadError::is_gone) {
        // Merged away between looking and reading: look once more.
        match locate(agent, at, asked, isolation, most).await {
            Ok(again) => {
                set_ends(&mut data, &again);
                read = read_within(agent, again.places, most, first).await;
            }
            Err((code, again)) => {
                if let Some(again) = again {
                    set_ends(&mut data, &again);
                }
                data.error_code = code.code();
                return data;
            }
        }
    }
    match read {
        Ok(None) => {}
        Ok(Some((records, from, end))) => {
            if isolation == Isolation::ReadCommitted {
                data.aborted_transactions = Some(aborted(agent, at, from, end));
            }
            data.records = Some(records);
        }
        Err(error) => {
            tracing::error!(topic = %at.topic, partition = %at.partition, offset = %asked, %error, "records unreadable");
            data.error_code = ErrorCode::KafkaStorageError.code();
        }
    }
    data
}

/// The ends of the log as they were when the batches were looked up: no record lies above its answer's high watermark.
fn set_ends(data: &mut PartitionData, located: &Located) {
    data.high_watermark = located.high_watermark.0;
    data.last_stable_offset = located.last_stable.0;
    data.log_start_offset = located.log_start.0;
}

/// Reads the batches that fit; with the range of offsets that they take.
async fn read_within(
    agent: &Agent,
    places: Vec<read::Place>,
    most: u64,
    first: bool,
) -> Result<Option<(Records, Offset, Offset)>, read::ReadError> {
    let chosen = within(places, most, first);
    let Some(from) = chosen.first().map(|place| place.base) else {
        return Ok(None);
    };
    let (records, end) = read::records(agent, &chosen).await?;
    Ok(Some((records, from, end)))
}

/// The batches that fit; the first one of a response goes even above the limit, so that a consumer always gets on.
fn within(places: Vec<read::Place>, most: u64, first: bool) -> Vec<read::Place> {
    let mut bytes = 0;
    places
        .into_iter()
        .enumerate()
        .take_while(|(nth, place)| {
            bytes += u64::from(place.bytes);
            bytes <= most || (first && *nth == 0)
        })
        .map(|(_, place)| place)
        .collect()
}

fn aborted(agent: &Agent, at: TopicPartition, from: Offset, upto: Offset) -> Vec<AbortedTransaction> {
    let found = agent.view.aborted(at, from, upto);
    let unique: BTreeMap<_, _> = found.into_iter().map(|txn| ((txn.first, txn.producer), txn)).collect();
    unique
        .into_values()
        .map(|txn| AbortedTransaction {
            producer_id: txn.producer.0,
            first_offset: txn.first.0,
        })
        .collect()
}
