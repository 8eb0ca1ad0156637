//! `ListOffsets`: earliest, latest, by timestamp exactly, and the record with the largest timestamp.
//!
//! Owns: which batch to look into, and the record in it.
//! Does not own: where batches lie (`replica_view`, `merged`).
//!
//! Invariants: LOG-6 (a read barrier comes before anything that depends on the end of the log); offsets respect the
//! isolation level.

use std::sync::Arc;

use esker_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use esker_kafka::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use esker_kafka::records::{RecordReader, TimestampType};
use esker_kafka::{ErrorCode, TopicRef};
use esker_segment::id::{Offset, Timestamp, TopicPartition};
use tracing::error;

use super::partition_of;
use crate::agent::Agent;
use crate::fetch::read::{self, Place, PlaceSource};
use crate::kafka::dispatch::RequestContext;
use crate::replica_view::Isolation;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The first version that knows each of the special timestamps.
const SPECIAL: [(i64, i16); 6] = [
    (LATEST, 1),
    (EARLIEST, 1),
    (MAX_TIMESTAMP, 7),
    (EARLIEST_LOCAL, 8),
    (LATEST_TIERED, 9),
    (EARLIEST_PENDING_UPLOAD, 11),
];

/// An offset, the timestamp of its record (-1 for the ends of the log).
type Found = (Offset, i64);

/// Answers.
pub async fn answer(agent: &Arc<Agent>, context: &RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed_only = request.isolation_level == 1;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let view = agent.topic(&TopicRef::Name(topic.name.clone())).await;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let found = match partition_of(&view, asked.partition_index) {
                Ok(at) if is_known(asked.timestamp, context.version) => {
                    one(agent, at, &asked, committed_only).await.map(|found| (at, found))
                }
                Ok(_) => Err(ErrorCode::UnsupportedVersion),
                Err(code) => Err(code),
            };
            partitions.push(respond(agent, context, asked.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

fn respond(
    agent: &Agent,
    context: &RequestContext,
    partition_index: i32,
    found: Result<(TopicPartition, Option<Found>), ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..Default::default()
    };
    match found {
        Ok((at, Some((offset, timestamp)))) => {
            response.offset = offset.0;
            response.timestamp = timestamp;
            let epoch = agent.replica.fold().leader_epoch_at(at, offset);
            if context.version >= 4 {
                response.leader_epoch = epoch.and_then(|epoch| i32::try_from(epoch.0).ok()).unwrap_or(-1);
            }
        }
        Ok((_, None)) => {}
        Err(code) => response.error_code = code.code(),
    }
    response
}

/// Whether a client of this version may ask for a timestamp.
fn is_known(timestamp: i64, version: i16) -> bool {
    let special = SPECIAL.iter().find(|(special, _)| *special == timestamp);
    timestamp >= 0 || special.is_some_and(|(_, since)| version >= *since)
}

async fn one(
    agent: &Arc<Agent>,
    at: TopicPartition,
    asked: &ListOffsetsPartition,
    committed_only: bool,
) -> Result<Option<Found>, ErrorCode> {
    agent.check_leader_epoch(asked.current_leader_epoch)?;
    agent.barrier().await.map_err(|_| ErrorCode::LeaderNotAvailable)?;
    let offsets = agent
        .replica
        .fold()
        .partition(at)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let end = if committed_only {
        offsets.last_stable
    } else {
        offsets.high_watermark
    };
    let unreadable = |cause| {
        error!(topic = %at.topic, partition = %at.partition, error = %cause, "timestamps unreadable");
        ErrorCode::KafkaStorageError
    };
    match asked.timestamp {
        LATEST => Ok(Some((end, -1))),
        EARLIEST | EARLIEST_LOCAL => Ok(Some((offsets.log_start, -1))),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(None),
        MAX_TIMESTAMP => largest(agent, at, offsets.log_start, end).await.map_err(unreadable),
        timestamp if timestamp >= 0 => first_reaching(agent, at, offsets.log_start, end, timestamp)
            .await
            .map_err(unreadable),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// The first record at or above `from` whose timestamp is at least `timestamp`.
async fn first_reaching(
    agent: &Arc<Agent>,
    at: TopicPartition,
    mut from: Offset,
    end: Offset,
    timestamp: i64,
) -> Result<Option<Found>, read::ReadError> {
    // A batch may hold its largest timestamp only below `from`, or in no record that is left; then the search goes on.
    while from < end {
        let unmerged = agent.view.unmerged_start(at).unwrap_or(end);
        let merged = if from < unmerged {
            agent.merged.locate_timestamp(at, from, Timestamp(timestamp)).await?
        } else {
            None
        };
        let place = match merged {
            Some(place) => place.into(),
            None => match agent
                .view
                .locate_timestamp(at, from.max(unmerged), Timestamp(timestamp))
            {
                Some(place) => place,
                None => return Ok(None),
            },
        };
        let found = search(agent, &place, |offset, found| offset >= from && found >= timestamp).await?;
        if let Some(found) = found {
            return Ok(Some(found).filter(|(offset, _)| *offset < end));
        }
        from = place.end();
    }
    Ok(None)
}

/// The first record with the largest timestamp.
async fn largest(
    agent: &Arc<Agent>,
    at: TopicPartition,
    start: Offset,
    end: Offset,
) -> Result<Option<Found>, read::ReadError> {
    let merged: Option<(Place, Timestamp)> = agent
        .merged
        .locate_max_timestamp(at, start, end)
        .await?
        .map(|place| (place.into(), place.max_timestamp));
    let best = match (merged, agent.view.locate_max_timestamp(at, start, end)) {
        (Some(merged), Some(fresh)) => Some(if fresh.1 > merged.1 { fresh } else { merged }),
        (merged, fresh) => merged.or(fresh),
    };
    let whole = match &best {
        Some((place, timestamp)) => search(agent, place, |_, found| found >= timestamp.0).await?,
        None => None,
    };
    // The batch that the log start cuts: the largest of what is left in it comes first if it is as large.
    match cut_by(agent, at, start, end).await? {
        Some(cut) if whole.is_none_or(|whole| cut.1 >= whole.1) => Ok(Some(cut)),
        _ => Ok(whole),
    }
}

/// The first record with the largest timestamp at or above the log start, in the batch that begins below it.
async fn cut_by(
    agent: &Arc<Agent>,
    at: TopicPartition,
    start: Offset,
    end: Offset,
) -> Result<Option<Found>, read::ReadError> {
    let Some(located) = agent.view.locate(at, start, Isolation::ReadUncommitted, 1) else {
        return Ok(None);
    };
    let place = if located.below_unmerged {
        let merged = agent.merged.locate(at, start, end, 1).await?;
        merged.into_iter().find(|place| !place.control).map(Place::from)
    } else {
        located.places.into_iter().next()
    };
    let Some(place) = place.filter(|place| place.base < start && matches!(place.source, PlaceSource::Object { .. }))
    else {
        return Ok(None);
    };
    let mut best: Option<Found> = None;
    search(agent, &place, |offset, timestamp| {
        let larger = best.is_none_or(|(_, largest)| timestamp > largest);
        if (start..end).contains(&offset) && larger {
            best = Some((offset, timestamp));
        }
        false
    })
    .await?;
    Ok(best)
}

/// The first record of a batch that a test accepts.
async fn search(
    agent: &Arc<Agent>,
    place: &Place,
    mut accept: impl FnMut(Offset, i64) -> bool,
) -> Result<Option<Found>, read::ReadError> {
    let batch = read::batch(agent, place).await?;
    let damaged = |cause| read::ReadError::Undecodable {
        offset: place.base,
        cause,
    };
    let header = *batch.header();
    let mut reader = RecordReader::new(&batch, agent.decompressed_bytes_max()).map_err(damaged)?;
    while let Some(record) = reader.next_record().map_err(damaged)? {
        let timestamp = if header.timestamp_type() == TimestampType::LogAppend {
            header.max_timestamp
        } else {
            record.timestamp
        };
        let offset = Offset(place.base.0 + record.offset - header.base_offset);
        if accept(offset, timestamp) {
            return Ok(Some((offset, timestamp)));
        }
    }
    Ok(None)
}
