//! Subscriptions: records as they come, of partitions that the client names or that its group gives it.
//!
//! Owns: positions, what is told of assignments.
//! Does not own: membership of the group (`member`), what a fetch does (`fetch`).
//!
//! The stream is driven by whoever reads it. A client that does not read is not read for: it holds one answer to a fetch, and one
//! event, each of at most its share of what readers may hold (`readers`) or one batch. Its member of the group lives on meanwhile.
//!
//! Invariants: LOG-6, TXN-1, MEM-1.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use esker_kafka::messages::fetch_response::PartitionData;
use esker_kafka::{ErrorCode, Str};
use esker_proto::v1::position::At;
use esker_proto::v1::subscribe_event::{Assigned, Event, Records, Revoked};
use esker_proto::v1::subscribe_request::{Group, Start, What};
use esker_proto::v1::{Edge, GroupOffsetsRequest, Position, SubscribeEvent, SubscribeRequest, TopicPartitions};
use futures::{Stream, stream};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use super::calls::Caller;
use super::consumer::{Place, bytes_of, fetch_places, offset_of};
use super::errors::{check_name, error_code, internal, invalid, outside, refusal};
use super::member::{self, Membership, Standing, Wish};
use super::readers::Share;
use super::records::{Most, shown};
use super::{group_admin, measured};

const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// How long a fetch waits for records.
const WAIT_MS: i32 = 30_000;
/// Before something is asked again that failed for a reason that passes.
const PAUSE: Duration = Duration::from_millis(200);

/// The events of a subscription.
pub(super) fn events(
    caller: Caller,
    request: SubscribeRequest,
    tasks: &TaskTracker,
    share: Share,
) -> Result<impl Stream<Item = Result<SubscribeEvent, Status>> + use<>, Status> {
    let subscription = Subscription::new(caller, request, tasks, share)?;
    Ok(stream::unfold(Some(subscription), |subscription| async move {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(event) => Some((Ok(SubscribeEvent { event: Some(event) }), Some(subscription))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

struct Subscription {
    caller: Caller,
    read_committed: bool,
    /// What the client wants at most in one event.
    bytes: usize,
    share: Share,
    source: Source,
    positions: BTreeMap<Place, i64>,
    /// Which partition is read first: another one each time.
    turn: usize,
    /// Fetched, but not told yet.
    fetched: VecDeque<(Place, PartitionData)>,
}

/// Where partitions come from.
enum Source {
    /// The client; none any more when their positions are known.
    Named(Vec<(Place, Option<Position>)>),
    Group(Box<Grouped>),
}

struct Grouped {
    group: String,
    start: Start,
    membership: Membership,
    /// The assignment that the client knows.
    told: Option<(u64, Vec<TopicPartitions>)>,
}

impl Subscription {
    fn new(caller: Caller, request: SubscribeRequest, tasks: &TaskTracker, share: Share) -> Result<Self, Status> {
        let source = match request.what {
            Some(What::Assign(assign)) if !assign.partitions.is_empty() => {
                for named in &assign.partitions {
                    check_name(&named.topic)?;
                }
                let named = assign.partitions.into_iter().map(|named| {
                    let place = Place {
                        topic: Str::from(named.topic),
                        partition: named.partition,
                    };
                    (place, named.at)
                });
                Source::Named(named.collect())
            }
            Some(What::Group(group)) => Source::Group(Box::new(grouped(&caller, group, tasks)?)),
            Some(What::Assign(_)) | None => {
                return Err(invalid(
                    "nothing is subscribed to; name partitions, or a group and topics",
                ));
            }
        };
        Ok(Self {
            caller,
            read_committed: request.read_committed,
            bytes: bytes_of(request.max_bytes),
            share,
            source,
            positions: BTreeMap::new(),
            turn: 0,
            fetched: VecDeque::new(),
        })
    }

    async fn next(&mut self) -> Result<Event, Status> {
        loop {
            if let Some(event) = self.on_standing().await? {
                return Ok(event);
            }
            if let Some(event) = self.tell()? {
                return Ok(event);
            }
            let places = self.in_turn();
            let (stop, leaving) = (self.caller.agent.stop.clone(), self.caller.agent.leaving.clone());
            let bytes = self.most().bytes;
            let read = fetch_places(&self.caller, &places, bytes, WAIT_MS, self.read_committed);
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(going()),
                () = leaving.cancelled() => return Err(going()),
                () = changed(&mut self.source) => continue,
                answer = read, if !places.is_empty() => answer?,
            };
            self.on_fetched(answer).await?;
        }
    }

    /// Tells what the group has decided, and finds out where to start.
    async fn on_standing(&mut self) -> Result<Option<Event>, Status> {
        let grouped = match &mut self.source {
            Source::Named(named) => {
                for (place, position) in std::mem::take(named) {
                    let offset = offset_of(&self.caller, &place, position, self.read_committed).await?;
                    self.positions.insert(place, offset);
                }
                return Ok(None);
            }
            Source::Group(grouped) => grouped,
        };
        if grouped.membership.standing.has_changed().is_err() {
            return Err(internal("group", &"the member has ended by itself"));
        }
        let standing = grouped.membership.standing.borrow_and_update().clone();
        let current = match &standing {
            Standing::Ended(status) => return Err(status.clone()),
            Standing::Joining => None,
            Standing::Assigned { nth, .. } => Some(*nth),
        };
        let known = grouped.told.as_ref().map(|(nth, _)| *nth);
        if known == current {
            return Ok(None);
        }
        if let Some((_, partitions)) = grouped.told.take() {
            self.positions.clear();
            self.fetched.clear();
            return Ok(Some(Event::Revoked(Revoked { partitions })));
        }
        let Standing::Assigned {
            nth,
            member,
            partitions,
        } = standing
        else {
            return Ok(None);
        };
        self.positions = starts(&self.caller, grouped, &partitions, self.read_committed).await?;
        grouped.told = Some((nth, partitions.clone()));
        Ok(Some(Event::Assigned(Assigned {
            member: Some(member),
            partitions,
        })))
    }

    /// What may be held now.
    fn most(&self) -> Most {
        Most {
            records: usize::MAX,
            bytes: self.bytes.min(self.share.bytes()),
            decompressed_bytes: self.caller.agent.decompressed_bytes_max(),
        }
    }

    /// All partitions, another one first each time.
    fn in_turn(&mut self) -> Vec<(Place, i64)> {
        let mut places: Vec<(Place, i64)> = self
            .positions
            .iter()
            .map(|(place, from)| (place.clone(), *from))
            .collect();
        if !places.is_empty() {
            self.turn = (self.turn + 1) % places.len();
            places.rotate_left(self.turn);
        }
        places
    }

    async fn on_fetched(&mut self, answer: Vec<(Place, PartitionData)>) -> Result<(), Status> {
        let mut pause = false;
        for (place, data) in answer {
            let what = || format!("{place}");
            match error_code(data.error_code) {
                ErrorCode::None => self.fetched.push_back((place, data)),
                ErrorCode::OffsetOutOfRange => {
                    let edge = self.start_edge().ok_or_else(|| {
                        let from = self.positions.get(&place).copied().unwrap_or_default();
                        outside(&format!("offset {from} in {place}"), &data)
                    })?;
                    let from = edge_offset(&self.caller, &place, edge, self.read_committed).await?;
                    self.positions.insert(place, from);
                }
                // Of a group, topics may be deleted at any time, and created again; it will assign without them, or anew.
                ErrorCode::UnknownTopicOrPartition if matches!(self.source, Source::Group(_)) => pause = true,
                code if code.is_retriable() && code != ErrorCode::UnknownTopicOrPartition => pause = true,
                code => return Err(refusal(code, &what(), None)),
            }
        }
        if pause {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The next records of what was fetched.
    fn tell(&mut self) -> Result<Option<Event>, Status> {
        let most = self.most();
        while let Some((place, data)) = self.fetched.pop_front() {
            let Some(position) = self.positions.get_mut(&place) else {
                continue;
            };
            let shown = shown(&data, *position, most)?;
            *position = shown.next_offset;
            if shown.records.is_empty() {
                continue;
            }
            let (name, partition, high_watermark) = (place.topic.clone(), place.partition, data.high_watermark);
            if shown.full {
                self.fetched.push_front((place, data));
            }
            measured::records_read(shown.records.len());
            return Ok(Some(Event::Records(Records {
                topic: name.into(),
                partition,
                records: shown.records,
                next_offset: shown.next_offset,
                high_watermark,
            })));
        }
        Ok(None)
    }

    /// Where to start when there is no offset to start from.
    fn start_edge(&self) -> Option<Edge> {
        match &self.source {
            Source::Named(_) => None,
            Source::Group(grouped) => edge_of(grouped.start),
        }
    }
}

/// Returns when the group has decided something.
async fn changed(source: &mut Source) {
    match source {
        Source::Named(_) => std::future::pending().await,
        // The other side lives as long as this one.
        Source::Group(grouped) => drop(grouped.membership.standing.changed().await),
    }
}

fn going() -> Status {
    Status::unavailable("this agent is going; subscribe again, at another agent if there is one")
}

fn grouped(caller: &Caller, group: Group, tasks: &TaskTracker) -> Result<Grouped, Status> {
    if group.group_id.is_empty() || group.topics.is_empty() {
        return Err(invalid("a group has a name and at least one topic; say both"));
    }
    for topic in &group.topics {
        check_name(topic)?;
    }
    let start = group.start();
    if start == Start::Unspecified {
        return Err(invalid(
            "nothing is said of where to start without a committed offset; say earliest, latest or fail",
        ));
    }
    let timeout = |value: u32, default: i32| match value {
        0 => Ok(default),
        value => i32::try_from(value).map_err(|_| invalid("a time-out is too long; use less")),
    };
    let wish = Wish {
        topics: group.topics.iter().map(Str::from).collect(),
        session_timeout_ms: timeout(group.session_timeout_ms, SESSION_TIMEOUT_MS)?,
        rebalance_timeout_ms: timeout(group.rebalance_timeout_ms, REBALANCE_TIMEOUT_MS)?,
        instance_id: group.instance_id.map(Str::from),
        group: group.group_id.clone(),
    };
    Ok(Grouped {
        group: group.group_id,
        start,
        membership: member::join(caller.clone(), wish, tasks),
        told: None,
    })
}

fn edge_of(start: Start) -> Option<Edge> {
    match start {
        Start::Earliest => Some(Edge::Earliest),
        Start::Latest => Some(Edge::Latest),
        Start::Fail | Start::Unspecified => None,
    }
}

async fn edge_offset(caller: &Caller, place: &Place, edge: Edge, read_committed: bool) -> Result<i64, Status> {
    let at = Some(At::Edge(edge.into()));
    offset_of(caller, place, Some(Position { at }), read_committed).await
}

/// Where to start in each partition: where the group has come to, or else where the client says.
async fn starts(
    caller: &Caller,
    grouped: &Grouped,
    partitions: &[TopicPartitions],
    read_committed: bool,
) -> Result<BTreeMap<Place, i64>, Status> {
    let mut positions = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(positions);
    }
    let request = GroupOffsetsRequest {
        group_id: grouped.group.clone(),
        partitions: partitions.to_vec(),
    };
    let committed = loop {
        match group_admin::stable_offsets(caller, request.clone()).await {
            Ok(committed) => break committed,
            Err(status) if again(caller, grouped, &status).await? => {}
            // The partitions may be somebody else's by now, and that is told next.
            Err(_) => return Ok(positions),
        }
    };
    for offset in committed {
        let place = Place {
            topic: Str::from(offset.topic),
            partition: offset.partition,
        };
        positions.insert(place, offset.offset);
    }
    for topic in partitions {
        for partition in &topic.partitions {
            let place = Place {
                topic: Str::from(&topic.topic),
                partition: *partition,
            };
            if positions.contains_key(&place) {
                continue;
            }
            let Some(edge) = edge_of(grouped.start) else {
                return Err(Status::failed_precondition(format!(
                    "the group has committed no offset of {place}; commit one, or say where to start"
                )));
            };
            loop {
                match edge_offset(caller, &place, edge, read_committed).await {
                    Ok(from) => {
                        positions.insert(place, from);
                        break;
                    }
                    // Deleted by now, or never there: the group's leader says what is assigned. It will assign anew.
                    Err(status) if status.code() == Code::NotFound => break,
                    Err(status) if again(caller, grouped, &status).await? => {}
                    Err(_) => return Ok(positions),
                }
            }
        }
    }
    Ok(positions)
}

/// After a refusal that passes (the coordinator is just moving, a transaction is about to commit offsets, this agent may be behind): whether
/// to ask again. Not if the group has decided something else since.
async fn again(caller: &Caller, grouped: &Grouped, refused: &Status) -> Result<bool, Status> {
    if caller.agent.stop.is_cancelled() || caller.agent.leaving.is_cancelled() {
        return Err(going());
    }
    if refused.code() != Code::Unavailable {
        return Err(refused.clone());
    }
    if grouped.membership.standing.has_changed().is_ok_and(|it| it) {
        return Ok(false);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(true)
}
