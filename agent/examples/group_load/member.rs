//! One member of a group, and what its group knows of its rebalances.
//!
//! Owns: the client's side of the classic group protocol, as Kafka's consumer does it: join with the id that one is given, the leader
//! assigns, a heartbeat says that one must join again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::Message;
use esker_kafka::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use esker_kafka::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::join_group_response::JoinGroupResponse;
use esker_kafka::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ErrorCode, Str, Writer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::TOPIC;
use super::link::Link;

const SESSION_MS: i32 = 120_000;
/// How often a member asks whether it must join again while its group is not stable yet.
const ASK: Duration = Duration::from_millis(500);
/// How long a member waits after an answer that asks it to come back, and how often.
const COME_BACK_MAX: usize = 600;
const PAUSE: Duration = Duration::from_millis(50);
const PROTOCOL: &str = "range";
const PROTOCOL_TYPE: &str = "consumer";

/// A group as its members see it.
pub(crate) struct Group {
    pub(crate) name: Str,
    progress: Mutex<Progress>,
    /// When the group was stable.
    stable: watch::Sender<Option<Instant>>,
    /// The member that leaves has left.
    left: watch::Sender<bool>,
}

struct Progress {
    began: Instant,
    /// So many members make the group complete.
    expected: usize,
    generation: i32,
    /// Members that have an assignment of that generation.
    settled: usize,
}

impl Group {
    pub(crate) fn new(number: usize) -> Self {
        let progress = Progress {
            began: Instant::now(),
            expected: 0,
            generation: 0,
            settled: 0,
        };
        Self {
            name: Str::from(format!("group-load-{number}").as_str()),
            progress: Mutex::new(progress),
            stable: watch::channel(None).0,
            left: watch::channel(false).0,
        }
    }

    /// A rebalance begins now; it is over when so many members have their assignments of one generation.
    pub(crate) fn begin(&self, expected: usize) {
        let mut progress = self.progress.lock().unwrap();
        (progress.began, progress.expected, progress.settled) = (Instant::now(), expected, 0);
        self.stable.send_replace(None);
    }

    /// How long the last rebalance took.
    pub(crate) fn took(&self) -> Duration {
        let stable = self.stable.borrow().expect("the phase waited for it");
        stable - self.progress.lock().unwrap().began
    }

    fn on_settled(&self, generation: i32) {
        let mut progress = self.progress.lock().unwrap();
        if generation > progress.generation {
            (progress.generation, progress.settled) = (generation, 0);
        }
        if generation == progress.generation {
            progress.settled += 1;
        }
        if progress.settled == progress.expected {
            self.stable.send_replace(Some(Instant::now()));
        }
    }
}

/// A member.
pub(crate) struct Member {
    group: Arc<Group>,
    number: usize,
    link: Link,
    id: Str,
    generation: i32,
    commit: OffsetCommitRequest,
    /// How often it was asked to come back.
    came_back: usize,
}

impl Member {
    pub(crate) fn new(group: Arc<Group>, number: usize, partitions: usize, link: Link) -> Self {
        let own = number * partitions..(number + 1) * partitions;
        let own = own.map(|partition| OffsetCommitRequestPartition {
            partition_index: i32::try_from(partition).unwrap(),
            committed_metadata: Some(Str::new()),
            ..OffsetCommitRequestPartition::default()
        });
        let topic = OffsetCommitRequestTopic {
            name: Str::from(TOPIC),
            partitions: own.collect(),
            ..OffsetCommitRequestTopic::default()
        };
        let commit = OffsetCommitRequest {
            group_id: group.name.clone(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        Self {
            group,
            number,
            link,
            id: Str::new(),
            generation: -1,
            commit,
            came_back: 0,
        }
    }

    /// Joins, until the group is stable.
    pub(crate) async fn join(mut self) -> Self {
        self.settle().await;
        self.until_stable(ASK).await;
        self
    }

    /// Member 0 leaves; the others ask as soon as it has, join again, and wait until the group is stable without it.
    pub(crate) async fn go_on_without_the_last(mut self) -> Self {
        if self.number == 0 {
            self = self.leave().await;
            self.group.left.send_replace(true);
            return self;
        }
        let mut left = self.group.left.subscribe();
        left.wait_for(|left| *left).await.unwrap();
        self.until_stable(Duration::ZERO).await;
        self
    }

    /// Asks whether it must join again, the first time after `pause`, until the group is stable.
    async fn until_stable(&mut self, mut pause: Duration) {
        let mut stable = self.group.stable.subscribe();
        loop {
            tokio::select! {
                biased;
                known = stable.wait_for(Option::is_some) => return drop(known.unwrap()),
                () = sleep(pause) => {}
            }
            pause = ASK;
            match self.heartbeat().await {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress => self.settle().await,
                other => panic!("heartbeat: {other:?}"),
            }
        }
    }

    /// Joins and gets an assignment.
    async fn settle(&mut self) {
        loop {
            let joined = self.join_once().await;
            match code(joined.error_code) {
                ErrorCode::None => {}
                ErrorCode::MemberIdRequired => {
                    self.id = joined.member_id;
                    continue;
                }
                other => {
                    self.come_back(other).await;
                    continue;
                }
            }
            (self.id, self.generation) = (joined.member_id.detached(), joined.generation_id);
            let synced = self.link.call(5, &self.sync_request(&joined)).await;
            match code(synced.error_code) {
                ErrorCode::None => {
                    assert!(!synced.assignment.is_empty(), "every member has an assignment");
                    return self.group.on_settled(self.generation);
                }
                ErrorCode::RebalanceInProgress => {}
                other => self.come_back(other).await,
            }
        }
    }

    async fn join_once(&mut self) -> JoinGroupResponse {
        let subscription = ConsumerProtocolSubscription {
            topics: vec![Str::from(TOPIC)],
            ..ConsumerProtocolSubscription::default()
        };
        let request = JoinGroupRequest {
            group_id: self.group.name.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: self.id.clone(),
            protocol_type: Str::from(PROTOCOL_TYPE),
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::from(PROTOCOL),
                metadata: versioned(&subscription),
            }],
            ..JoinGroupRequest::default()
        };
        self.link.call(9, &request).await
    }

    /// The leader gives everybody as many partitions.
    fn sync_request(&self, joined: &JoinGroupResponse) -> SyncGroupRequest {
        let each = self.commit.topics[0].partitions.len();
        let assign = |(number, member): (usize, &Str)| {
            let own = number * each..(number + 1) * each;
            let assigned = TopicPartition {
                topic: Str::from(TOPIC),
                partitions: own.map(|partition| i32::try_from(partition).unwrap()).collect(),
            };
            let assignment = ConsumerProtocolAssignment {
                assigned_partitions: vec![assigned],
                ..ConsumerProtocolAssignment::default()
            };
            SyncGroupRequestAssignment {
                member_id: member.clone(),
                assignment: versioned(&assignment),
            }
        };
        let members = joined.members.iter().map(|seen| &seen.member_id);
        SyncGroupRequest {
            group_id: self.group.name.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(Str::from(PROTOCOL_TYPE)),
            protocol_name: Some(Str::from(PROTOCOL)),
            assignments: members.enumerate().map(assign).collect(),
            ..SyncGroupRequest::default()
        }
    }

    pub(crate) async fn heartbeat(&mut self) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: self.group.name.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        code(self.link.call(4, &request).await.error_code)
    }

    /// Commits the next offset of all its partitions; `None` if it is told to try again.
    pub(crate) async fn commit(&mut self) -> Option<()> {
        (self.commit.member_id, self.commit.generation_id_or_member_epoch) = (self.id.clone(), self.generation);
        for partition in &mut self.commit.topics[0].partitions {
            partition.committed_offset += 1;
        }
        let answer = self.link.call(9, &self.commit).await;
        let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
        match codes.find(|partition| partition.error_code != 0) {
            None => Some(()),
            Some(refused) => {
                let refused = code(refused.error_code);
                self.come_back(refused).await;
                None
            }
        }
    }

    pub(crate) async fn leave(mut self) -> Self {
        let identity = MemberIdentity {
            member_id: std::mem::take(&mut self.id),
            ..MemberIdentity::default()
        };
        if identity.member_id.is_empty() {
            return self;
        }
        let request = LeaveGroupRequest {
            group_id: self.group.name.clone(),
            members: vec![identity],
            ..LeaveGroupRequest::default()
        };
        let answer = self.link.call(5, &request).await;
        assert_eq!(
            (answer.error_code, answer.members[0].error_code),
            (0, 0),
            "members may leave"
        );
        self
    }

    /// Waits after an answer that asks a client to try again; any other ends the run, and so does one that comes too often. A
    /// coordinator that moves is none that could be measured.
    async fn come_back(&mut self, code: ErrorCode) {
        let again = matches!(
            code,
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable
        );
        self.came_back += 1;
        assert!(again && self.came_back <= COME_BACK_MAX, "refused: {code:?}");
        sleep(PAUSE).await;
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::try_from(code).unwrap()
}

/// A message of the consumer protocol, behind its version.
fn versioned<M: Message>(message: &M) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(1);
    message.encode(&mut writer, 1).unwrap();
    writer.into_bytes().unwrap()
}
