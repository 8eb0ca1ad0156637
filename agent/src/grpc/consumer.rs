//! Reading: from positions to records.
//!
//! Owns: what a position means, sizes of answers.
//! Does not own: everything that happens to a fetch (`fetch`), what a reader is shown of a batch (`records`), streams (`subscribe`).
//!
//! Invariants: LOG-6, TXN-1, MEM-1.

use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest as KafkaFetch, FetchTopic};
use esker_kafka::messages::fetch_response::PartitionData;
use esker_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_kafka::{ErrorCode, Str};
use esker_proto::v1::consumer_server::Consumer;
use esker_proto::v1::position::At;
use esker_proto::v1::{
    CommitRequest, Edge, FetchRequest, FetchResponse, OffsetResults, Position, SubscribeEvent, SubscribeRequest,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::calls::Caller;
use super::errors::{check, check_name, error_code, internal, invalid, outside};
use super::records::{Most, Shown, shown};
use super::served::Served;
use super::{group_admin, measured, subscribe};
use crate::fetch;

/// The last version of a fetch that names topics.
const FETCH: i16 = 12;
const LIST_OFFSETS: i16 = 10;
/// No session of fetches.
const NO_SESSION: i32 = -1;
/// Timestamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Bytes of an answer, unless the client says otherwise.
const BYTES_DEFAULT: u32 = 1024 * 1024;
/// What a client's library takes by default is 4 MiB; some of it is not records.
const BYTES_MAX: u32 = 3 * 1024 * 1024;
/// Longest wait that a client may ask for.
const WAIT_MAX_MS: u32 = 300_000;

/// A partition of a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: Str,
    pub(super) partition: i32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} of {:?}", self.partition, self.topic)
    }
}

/// One read of one partition.
#[derive(Clone, Copy, Debug)]
struct Read {
    from: i64,
    most: Most,
    wait_ms: i32,
    committed: bool,
}

#[tonic::async_trait]
impl Consumer for Served {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let caller = self.caller(&request);
        let share = self.reader(&caller);
        let request = request.into_inner();
        check_name(&request.topic)?;
        let place = Place {
            topic: Str::from(request.topic),
            partition: request.partition,
        };
        let committed = request.read_committed;
        let from = offset_of(&caller, &place, request.from, committed).await?;
        let records = usize::try_from(request.max_records).unwrap_or(usize::MAX);
        let read = Read {
            from,
            most: Most {
                records: if records == 0 { usize::MAX } else { records },
                bytes: bytes_of(request.max_bytes).min(share.bytes()),
                decompressed_bytes: self.agent.decompressed_bytes_max(),
            },
            wait_ms: i32::try_from(request.max_wait_ms.min(WAIT_MAX_MS)).expect("limited"),
            committed,
        };
        let (data, shown) = read_at(&caller, &place, read).await?;
        measured::records_read(shown.records.len());
        Ok(Response::new(FetchResponse {
            records: shown.records,
            next_offset: shown.next_offset,
            high_watermark: data.high_watermark,
            log_start_offset: data.log_start_offset,
        }))
    }

    type SubscribeStream = BoxStream<'static, Result<SubscribeEvent, Status>>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = self.caller(&request);
        let share = self.reader(&caller);
        let events = subscribe::events(caller, request.into_inner(), &self.tasks, share)?;
        Ok(Response::new(Box::pin(events)))
    }

    async fn commit(&self, request: Request<CommitRequest>) -> Result<Response<OffsetResults>, Status> {
        let caller = self.caller(&request);
        let request = request.into_inner();
        let (group, member) = (request.group_id, request.member);
        let committed = group_admin::commit(&caller, &group, member.as_ref(), request.offsets).await?;
        Ok(Response::new(committed))
    }
}

/// The bytes of an answer that a client asks for.
pub(super) fn bytes_of(asked: u32) -> usize {
    let bytes = match asked {
        0 => BYTES_DEFAULT,
        bytes => bytes.min(BYTES_MAX),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Reads a partition; waits for a record if there is none.
async fn read_at(caller: &Caller, place: &Place, read: Read) -> Result<(PartitionData, Shown), Status> {
    let places = [(place.clone(), read.from)];
    let answer = fetch_places(caller, &places, read.most.bytes, read.wait_ms, read.committed).await?;
    let found = answer.into_iter().next();
    let (_, data) = found.ok_or_else(|| internal("Fetch", &"no answer"))?;
    let what = format!("offset {} in {place}", read.from);
    if error_code(data.error_code) == ErrorCode::OffsetOutOfRange {
        return Err(outside(&what, &data));
    }
    check(data.error_code, &what, None)?;
    let shown = shown(&data, read.from, read.most)?;
    Ok((data, shown))
}

/// Reads partitions from these offsets on; waits for a record if there is none.
pub(super) async fn fetch_places(
    caller: &Caller,
    places: &[(Place, i64)],
    bytes: usize,
    wait_ms: i32,
    committed: bool,
) -> Result<Vec<(Place, PartitionData)>, Status> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let topics = places.iter().map(|(place, from)| FetchTopic {
        topic: place.topic.clone(),
        partitions: vec![FetchPartition {
            partition: place.partition,
            fetch_offset: *from,
            partition_max_bytes: bytes,
            ..FetchPartition::default()
        }],
        ..FetchTopic::default()
    });
    let request = KafkaFetch {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: bytes,
        isolation_level: i8::from(committed),
        session_epoch: NO_SESSION,
        topics: topics.collect(),
        ..KafkaFetch::default()
    };
    let answer = fetch::answer(&caller.agent, &caller.context(FETCH), request).await;
    check(answer.error_code, "fetch", None)?;
    let found = answer.responses.into_iter().flat_map(|topic| {
        let name = topic.topic;
        topic.partitions.into_iter().map(move |data| {
            let place = Place {
                topic: name.clone(),
                partition: data.partition_index,
            };
            (place, data)
        })
    });
    Ok(found.collect())
}

/// The offset of a position.
pub(super) async fn offset_of(
    caller: &Caller,
    place: &Place,
    position: Option<Position>,
    committed: bool,
) -> Result<i64, Status> {
    let none = || invalid("there is no position to start from; name an offset, a timestamp or an edge");
    match position.and_then(|position| position.at).ok_or_else(none)? {
        At::Offset(offset) if offset >= 0 => Ok(offset),
        At::Offset(_) => Err(invalid("offsets are not negative; use an edge for the ends of the log")),
        At::TimestampMs(timestamp) if timestamp >= 0 => {
            match list_offset(caller, place, timestamp, committed).await? {
                // Nothing is that new.
                -1 => list_offset(caller, place, LATEST, committed).await,
                found => Ok(found),
            }
        }
        At::TimestampMs(_) => Err(invalid(
            "timestamps are not negative; use an edge for the ends of the log",
        )),
        At::Edge(edge) => match Edge::try_from(edge) {
            Ok(Edge::Earliest) => list_offset(caller, place, EARLIEST, committed).await,
            Ok(Edge::Latest) => list_offset(caller, place, LATEST, committed).await,
            Ok(Edge::Unspecified) | Err(_) => Err(none()),
        },
    }
}

/// The offset of a timestamp; -1 if there is none.
async fn list_offset(caller: &Caller, place: &Place, timestamp: i64, committed: bool) -> Result<i64, Status> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(committed),
        topics: vec![ListOffsetsTopic {
            name: place.topic.clone(),
            partitions: vec![ListOffsetsPartition {
                partition_index: place.partition,
                current_leader_epoch: -1,
                timestamp,
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = caller.call(LIST_OFFSETS, &request).await?;
    let found = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let found = found.ok_or_else(|| internal("ListOffsets", &"no answer"))?;
    if found.error_code == ErrorCode::None.code() {
        return Ok(found.offset);
    }
    check(found.error_code, &place.to_string(), None).map(|()| found.offset)
}
