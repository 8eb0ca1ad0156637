//! A member of a consumer group, in the protocol that all clients know: join, be told what to read, stay, leave.
//!
//! Owns: the member's id and generation, heartbeats, dividing partitions if it is the leader, and again when there are others.
//! Does not own: how they are divided (`esker_kafka::assignor`), reading, what has been read.
//!
//! Invariants: an offset is committed for the generation in which it was read, or not at all; so what a member had not committed when
//! it lost a partition is read again by who gets it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::assignor::{self, Subscriber};
use esker_kafka::messages::Request;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::join_group_response::JoinGroupResponse;
use esker_kafka::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ApiKey, EncodeError, ErrorCode, Str};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::client::{Client, Repeat, To};
use crate::error::{Error, Refusal};
use crate::fetcher::TopicPartition;

/// A member that is silent for so long is out.
const SESSION: Duration = Duration::from_secs(30);
/// How long others wait for this member to join again.
const REBALANCE: Duration = Duration::from_secs(30);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// Heartbeats after which a leader looks whether there are other partitions to be divided: 30 s.
const BEATS_PER_LOOK: u32 = 10;
/// Others may be slow, too: five minutes are what Kafka's own consumers have.
const JOIN_PATIENCE: Duration = Duration::from_secs(310);
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
const PROTOCOL_TYPE: &str = "consumer";

/// A member of one group.
#[derive(Debug)]
pub struct Member {
    client: Client,
    group: Str,
    topics: Vec<Str>,
    /// Empty until the coordinator gave one.
    id: Str,
    generation: i32,
    /// What it has divided, if it is the leader.
    divided: Option<Sizes>,
    heart: Option<Heart>,
}

/// How many partitions each topic has. Topics that somebody wants and that do not exist have none.
type Sizes = BTreeMap<Str, i32>;

/// The task that says that the member is there.
#[derive(Debug)]
struct Heart {
    task: AbortHandle,
    told: watch::Receiver<Told>,
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the coordinator said to the last heartbeat.
#[derive(Clone, Debug)]
enum Told {
    Stay,
    JoinAgain,
    /// It does not know the member any more.
    Out,
    Failed(Error),
}

impl Member {
    /// Not joined yet.
    #[must_use]
    pub fn new(client: Client, group: &str, topics: &[String]) -> Self {
        Self {
            client,
            group: group.into(),
            topics: topics.iter().map(Str::from).collect(),
            id: Str::new(),
            generation: -1,
            divided: None,
            heart: None,
        }
    }

    /// Joins, or joins again, and waits until the group has divided the partitions; returns those to read. Given up, it can be begun
    /// again.
    ///
    /// # Errors
    /// If the group cannot be joined: `INCONSISTENT_GROUP_PROTOCOL`, if its members are no consumers that know the same assignors.
    pub async fn join(&mut self) -> Result<Vec<TopicPartition>, Error> {
        self.heart = None;
        loop {
            let joined = self.ask_to_join().await?;
            self.id = joined.member_id.detached();
            match Refusal::check(ApiKey::JoinGroup, joined.error_code, None) {
                Ok(()) => {}
                Err(refusal) if refusal.is(ErrorCode::MemberIdRequired) => continue,
                Err(refusal) if refusal.is(ErrorCode::UnknownMemberId) => {
                    self.id = Str::new();
                    continue;
                }
                Err(refusal) => return Err(refusal.into()),
            }
            self.generation = joined.generation_id;
            let told = match self.sync(&joined).await {
                Ok(told) => told,
                Err(error) if error.is(ErrorCode::UnknownMemberId) => {
                    self.id = Str::new();
                    continue;
                }
                // Somebody came or went meanwhile.
                Err(error) if error.is(ErrorCode::RebalanceInProgress) || error.is(ErrorCode::IllegalGeneration) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let assigned = assignor::decode(&told).map_err(|cause| Error::Garbled {
                address: self.client.settings().bootstrap[0].clone(),
                api: ApiKey::SyncGroup,
                cause,
            })?;
            self.heart = Some(self.begin_to_beat());
            return Ok(partitions(assigned));
        }
    }

    async fn ask_to_join(&self) -> Result<JoinGroupResponse, Error> {
        let metadata = assignor::subscription(&self.topics).map_err(|cause| unwritable(ApiKey::JoinGroup, cause))?;
        let protocols = assignor::ASSIGNORS.iter().map(|name| JoinGroupRequestProtocol {
            name: Str::from_static(name),
            metadata: metadata.clone(),
        });
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: milliseconds(SESSION),
            rebalance_timeout_ms: milliseconds(REBALANCE),
            member_id: self.id.clone(),
            protocol_type: Str::from_static(PROTOCOL_TYPE),
            protocols: protocols.collect(),
            ..JoinGroupRequest::default()
        };
        let final_codes = [ErrorCode::MemberIdRequired as i16, ErrorCode::UnknownMemberId as i16];
        self.ask(&request, JOIN_PATIENCE, |response| {
            let code = response.error_code;
            if final_codes.contains(&code) { 0 } else { code }
        })
        .await
    }

    /// Asks for the assignment; the leader brings it along.
    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Bytes, Error> {
        self.divided = None;
        let assignments = if joined.leader == joined.member_id && !joined.skip_assignment {
            self.divide(joined).await?
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(Str::from_static(PROTOCOL_TYPE)),
            protocol_name: joined.protocol_name.clone(),
            assignments,
            ..SyncGroupRequest::default()
        };
        let answer = self.ask(&request, JOIN_PATIENCE, |response| response.error_code);
        Ok(answer.await?.assignment)
    }

    /// Divides the partitions of all topics that somebody wants.
    async fn divide(&mut self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let subscribers: Vec<_> = joined.members.iter().map(Subscriber::of).collect();
        let wanted = assignor::wanted(&subscribers);
        let sizes = sizes(&self.client, wanted.iter()).await?;
        let by = joined.protocol_name.clone().unwrap_or_default();
        let divided = assignor::assign(&by, subscribers, &sizes);
        self.divided = Some(sizes);
        let told = joined.members.iter().map(|member| {
            let assignment = assignor::encode(divided.get(&member.member_id));
            Ok(SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: assignment.map_err(|cause| unwritable(ApiKey::SyncGroup, cause))?,
            })
        });
        told.collect()
    }

    /// Waits until the member is to join again; for ever, if it has not joined. Nothing is lost when it is given up.
    ///
    /// # Errors
    /// If it can be a member no longer.
    pub async fn until_rebalance(&mut self) -> Result<(), Error> {
        let Some(heart) = &mut self.heart else {
            return std::future::pending().await;
        };
        let told = heart.told.wait_for(|told| !matches!(told, Told::Stay)).await;
        match told.as_deref() {
            Ok(Told::Stay | Told::JoinAgain) | Err(_) => Ok(()),
            Ok(Told::Out) => {
                self.id = Str::new();
                Ok(())
            }
            Ok(Told::Failed(error)) => Err(error.clone()),
        }
    }

    fn begin_to_beat(&self) -> Heart {
        let (tell, told) = watch::channel(Told::Stay);
        let client = self.client.clone();
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        let divided = self.divided.clone();
        let task = tokio::spawn(async move {
            for beat in 1_u32.. {
                tokio::time::sleep(HEARTBEAT_EVERY).await;
                if let Some(divided) = divided.as_ref().filter(|_| beat.is_multiple_of(BEATS_PER_LOOK))
                    && are_others(&client, divided).await
                {
                    tell.send_replace(Told::JoinAgain);
                    return;
                }
                let answer = client.call(To::Group(&request.group_id), Repeat::Harmless, &request, |response| {
                    Refusal::check(ApiKey::Heartbeat, response.error_code, None)
                });
                let said = match answer.await {
                    Ok(_) => continue,
                    Err(error) if error.is(ErrorCode::UnknownMemberId) => Told::Out,
                    Err(error)
                        if error.is(ErrorCode::RebalanceInProgress) || error.is(ErrorCode::IllegalGeneration) =>
                    {
                        Told::JoinAgain
                    }
                    Err(error) => Told::Failed(error),
                };
                tell.send_replace(said);
                return;
            }
        });
        Heart {
            task: task.abort_handle(),
            told,
        }
    }

    /// Commits where reading goes on; false if the group is dividing partitions anew, so that they are not the member's to commit.
    ///
    /// # Errors
    /// If it cannot be committed for another reason.
    pub async fn commit(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<bool, Error> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (of, offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: of.partition,
                committed_offset: *offset,
                committed_metadata: Some(Str::new()),
                ..OffsetCommitRequestPartition::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.name == of.topic => topic.partitions.push(partition),
                _ => topics.push(OffsetCommitRequestTopic {
                    name: of.topic.clone(),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let patience = self.client.settings().request_timeout;
        let answer = self.ask(&request, patience, |response| {
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .find(|one| one.error_code != 0)
                .map_or(0, |one| one.error_code)
        });
        let moved = [
            ErrorCode::RebalanceInProgress,
            ErrorCode::IllegalGeneration,
            ErrorCode::UnknownMemberId,
        ];
        match answer.await {
            Ok(_) => Ok(true),
            Err(error) if moved.iter().any(|code| error.is(*code)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Leaves, so that others need not wait until it is missed. Whether that is heard does not matter.
    pub async fn leave(mut self) {
        self.heart = None;
        if self.id.is_empty() {
            return;
        }
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            members: vec![MemberIdentity {
                member_id: self.id.clone(),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        if let Ok(connection) = self.client.connection(To::Group(&self.group)).await {
            let _ = connection.call(&request, LEAVE_PATIENCE).await;
        }
    }

    /// Asks the coordinator, with a patience of its own; again, if there is another now.
    async fn ask<R: Request>(
        &self,
        request: &R,
        patience: Duration,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Error> {
        let mut backoff = self.client.backoff();
        loop {
            let answer = match self.client.connection(To::Group(&self.group)).await {
                Ok(connection) => connection.call(request, patience).await,
                Err(error) => Err(error),
            };
            let error = match answer {
                Ok(answer) => match Refusal::check(R::KEY, code(&answer), None) {
                    Ok(()) => return Ok(answer),
                    Err(refusal) => Error::from(refusal),
                },
                Err(error) => error,
            };
            if !self.client.may_pass(&error, Repeat::Harmless) || !backoff.pause().await {
                return Err(error);
            }
            self.client.forget(To::Group(&self.group));
        }
    }
}

/// How many partitions these topics have.
async fn sizes(client: &Client, names: impl Iterator<Item = &Str>) -> Result<Sizes, Error> {
    let mut sizes: Sizes = names.map(|name| (name.clone(), 0)).collect();
    let names: Vec<&str> = sizes.keys().map(Str::as_str).collect();
    let known = client.refresh(Some(&names), false).await?;
    for topic in known.topics.iter().filter(|topic| topic.error_code == 0) {
        let size = topic.name.as_ref().and_then(|name| sizes.get_mut(name));
        if let (Some(size), Ok(now)) = (size, i32::try_from(topic.partitions.len())) {
            *size = now;
        }
    }
    Ok(sizes)
}

/// True if there is something else to be divided now. Heartbeats do not wait for who does not know.
async fn are_others(client: &Client, divided: &Sizes) -> bool {
    let now = tokio::time::timeout(HEARTBEAT_EVERY, sizes(client, divided.keys())).await;
    matches!(now, Ok(Ok(now)) if now != *divided)
}

fn partitions(assigned: BTreeMap<Str, Vec<i32>>) -> Vec<TopicPartition> {
    let each = assigned.into_iter().flat_map(|(topic, partitions)| {
        partitions.into_iter().map(move |partition| TopicPartition {
            topic: topic.detached(),
            partition,
        })
    });
    each.collect()
}

fn unwritable(api: ApiKey, cause: EncodeError) -> Error {
    Error::Unwritable { api, cause }
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).expect("these are seconds")
}
