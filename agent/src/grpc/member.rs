//! A member of a consumer group on behalf of a stream, in the same groups as Kafka clients.
//!
//! Owns: joining, assigning when it leads, heartbeats, leaving when the stream has ended.
//! Does not own: the group (`crate::groups`, perhaps of another agent), what is read (`subscribe`).
//!
//! Invariants: GRP-1. Whoever reads is told that partitions are no longer its before the member joins again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use esker_kafka::assignor::{ASSIGNORS, Subscriber, assign, encode, subscription, wanted};
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::join_group_response::JoinGroupResponse;
use esker_kafka::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ErrorCode, Str, TopicRef};
use esker_proto::v1::{Member, TopicPartitions};
use esker_segment::id::TopicId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use super::calls::Caller;
use super::coordinators::{PATIENCE, ask};
use super::errors::{error_code, internal, refusal};
use super::group_admin::assignment;

const JOIN_GROUP: i16 = 9;
const SYNC_GROUP: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE_GROUP: i16 = 5;
const CONSUMER: Str = Str::from_static("consumer");
/// Between attempts to reach the coordinator.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(2);
const HEARTBEAT_MAX: Duration = Duration::from_secs(3);

/// What a stream wants of a group.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) group: String,
    pub(super) topics: Vec<Str>,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) instance_id: Option<Str>,
}

/// How the member stands.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Nothing is its, for now.
    Joining,
    /// These partitions are its.
    Assigned {
        /// Another one with each assignment.
        nth: u64,
        member: Member,
        partitions: Vec<TopicPartitions>,
    },
    /// It cannot be a member any more.
    Ended(Status),
}

/// The member of one stream; it leaves when this is dropped.
pub(super) struct Membership {
    pub(super) standing: watch::Receiver<Standing>,
    _leave: DropGuard,
}

/// Joins, and stays until the answer is dropped.
pub(super) fn join(caller: Caller, wish: Wish, tasks: &TaskTracker) -> Membership {
    let (told, standing) = watch::channel(Standing::Joining);
    let leave = CancellationToken::new();
    let mut membership = Joining {
        caller,
        wish: Arc::new(wish),
        member: Str::new(),
        told,
        assignments: 0,
    };
    let left = leave.clone();
    tasks.spawn(async move {
        if let Some(ended) = left.run_until_cancelled(membership.stay()).await {
            membership.told.send_replace(Standing::Ended(ended));
            left.cancelled().await;
        }
        drop(tokio::time::timeout(LEAVE_MAX, membership.leave()).await);
    });
    Membership {
        standing,
        _leave: leave.drop_guard(),
    }
}

struct Joining {
    caller: Caller,
    wish: Arc<Wish>,
    /// Empty until the coordinator has given one.
    member: Str,
    told: watch::Sender<Standing>,
    assignments: u64,
}

/// A generation of the group that this member belongs to.
struct Generation {
    number: i32,
    /// What to look after, if this member leads.
    led: Option<Led>,
}

/// What somebody of the group wants, and what of it there was when this member assigned it or another leader had done so before it.
struct Led {
    wanted: BTreeSet<Str>,
    found: Topics,
}

/// Topics that exist: which ones (a name may be given to another one later), and how many partitions they have.
type Topics = BTreeMap<Str, (TopicId, i32)>;

/// What to do after a refusal.
enum Next {
    /// Ask again in a moment.
    Again,
    /// Join again.
    Join,
    /// Join again as somebody new: the group does not know this member any more.
    JoinAnew,
    /// Give up.
    End(Status),
}

impl Joining {
    /// Is a member until that is not possible any more.
    async fn stay(&mut self) -> Status {
        loop {
            let generation = match self.enter().await {
                Ok(generation) => generation,
                Err(Next::End(status)) => return status,
                Err(Next::Again) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(Next::Join) => continue,
                Err(Next::JoinAnew) => {
                    self.member = Str::new();
                    continue;
                }
            };
            let next = self.beat(&generation).await;
            self.told.send_replace(Standing::Joining);
            match next {
                Next::End(status) => return status,
                Next::JoinAnew => self.member = Str::new(),
                Next::Again | Next::Join => {}
            }
        }
    }

    /// Joins and gets an assignment.
    async fn enter(&mut self) -> Result<Generation, Next> {
        let joined = self.ask_to_join().await?;
        let mut led = None;
        let mut assignments = Vec::new();
        if joined.leader == joined.member_id {
            let subscribers: Vec<Subscriber> = joined.members.iter().map(Subscriber::of).collect();
            let leads = self.lead(wanted(&subscribers)).await;
            if !joined.skip_assignment {
                assignments = assigned(&joined, subscribers, &leads.found)?;
            }
            led = Some(leads);
        }
        let request = SyncGroupRequest {
            group_id: Str::from(&self.wish.group),
            generation_id: joined.generation_id,
            member_id: self.member.clone(),
            group_instance_id: self.wish.instance_id.clone(),
            protocol_type: Some(CONSUMER),
            protocol_name: joined.protocol_name.clone(),
            assignments,
        };
        let patience = PATIENCE + self.rebalance_timeout();
        let synced = ask(&self.caller, &self.wish.group, SYNC_GROUP, &request, patience).await;
        let synced = synced.map_err(|status| lost(&status))?;
        self.check(synced.error_code)?;
        self.assignments += 1;
        let member = Member {
            member_id: self.member.clone().into(),
            generation: joined.generation_id,
            instance_id: self.wish.instance_id.clone().map(String::from),
        };
        self.told.send_replace(Standing::Assigned {
            nth: self.assignments,
            member,
            partitions: assignment(&synced.assignment),
        });
        Ok(Generation {
            number: joined.generation_id,
            led,
        })
    }

    async fn ask_to_join(&mut self) -> Result<JoinGroupResponse, Next> {
        let metadata = subscription(&self.wish.topics).map_err(|error| Next::End(internal("subscription", &error)))?;
        let protocols = ASSIGNORS.iter().map(|name| JoinGroupRequestProtocol {
            name: Str::from_static(name),
            metadata: metadata.clone(),
        });
        let request = JoinGroupRequest {
            group_id: Str::from(&self.wish.group),
            session_timeout_ms: self.wish.session_timeout_ms,
            rebalance_timeout_ms: self.wish.rebalance_timeout_ms,
            member_id: self.member.clone(),
            group_instance_id: self.wish.instance_id.clone(),
            protocol_type: CONSUMER,
            protocols: protocols.collect(),
            reason: None,
        };
        // Others get as long to come back; a session may have to end first.
        let patience = PATIENCE + self.rebalance_timeout() + self.session_timeout();
        let joined = ask(&self.caller, &self.wish.group, JOIN_GROUP, &request, patience).await;
        let joined = joined.map_err(|status| lost(&status))?;
        if error_code(joined.error_code) == ErrorCode::MemberIdRequired {
            self.member = joined.member_id.detached();
            return Err(Next::Join);
        }
        self.check(joined.error_code)?;
        self.member = joined.member_id.detached();
        Ok(joined)
    }

    /// Says that it is there until the group assigns anew.
    async fn beat(&mut self, generation: &Generation) -> Next {
        let interval = (self.session_timeout() / 3).min(HEARTBEAT_MAX);
        let mut heard = Instant::now();
        loop {
            tokio::time::sleep(interval).await;
            if let Some(led) = &generation.led
                && self.known(&led.wanted) != led.found
            {
                return Next::Join;
            }
            let request = HeartbeatRequest {
                group_id: Str::from(&self.wish.group),
                generation_id: generation.number,
                member_id: self.member.clone(),
                group_instance_id: self.wish.instance_id.clone(),
            };
            let answer = ask(&self.caller, &self.wish.group, HEARTBEAT, &request, interval).await;
            let verdict = match answer {
                Ok(answer) => self.check(answer.error_code),
                Err(status) => Err(lost(&status)),
            };
            match verdict {
                Ok(()) => heard = Instant::now(),
                // The coordinator does not answer; by now it may have given the partitions to others.
                Err(Next::Again) if heard.elapsed() > self.session_timeout() => return Next::Join,
                Err(Next::Again) => {}
                Err(next) => return next,
            }
        }
    }

    async fn leave(&self) {
        // Static members come back, or their session ends.
        if self.member.is_empty() || self.wish.instance_id.is_some() {
            return;
        }
        let request = LeaveGroupRequest {
            group_id: Str::from(&self.wish.group),
            members: vec![MemberIdentity {
                member_id: self.member.clone(),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        if let Err(status) = ask(&self.caller, &self.wish.group, LEAVE_GROUP, &request, LEAVE_MAX).await {
            tracing::debug!(group = self.wish.group, %status, "a subscriber could not leave; its session will end");
        }
    }

    /// What an answer of the coordinator means for this member.
    fn check(&self, code: i16) -> Result<(), Next> {
        verdict(error_code(code), &self.wish.group)
    }

    /// Looks at the topics that this member is to assign.
    async fn lead(&self, wanted: BTreeSet<Str>) -> Led {
        let mut found = self.known(&wanted);
        if found.len() < wanted.len() {
            // Some may have been created just now, at another agent.
            drop(self.caller.agent.barrier().await);
            found = self.known(&wanted);
        }
        Led { wanted, found }
    }

    /// What this agent knows of these topics.
    fn known(&self, wanted: &BTreeSet<Str>) -> Topics {
        let known = wanted.iter().filter_map(|name| {
            let found = self.caller.agent.known_topic(&TopicRef::Name(name.clone()))?;
            let partitions = i32::try_from(found.partitions).unwrap_or(i32::MAX);
            Some((name.clone(), (found.id, partitions)))
        });
        known.collect()
    }

    fn session_timeout(&self) -> Duration {
        millis(self.wish.session_timeout_ms)
    }

    fn rebalance_timeout(&self) -> Duration {
        millis(self.wish.rebalance_timeout_ms)
    }
}

/// What the leader tells each member.
fn assigned(
    joined: &JoinGroupResponse,
    subscribers: Vec<Subscriber>,
    found: &Topics,
) -> Result<Vec<SyncGroupRequestAssignment>, Next> {
    let sizes = found.iter().map(|(name, (_, partitions))| (name.clone(), *partitions));
    let assignor = joined.protocol_name.clone().unwrap_or_default();
    let all = assign(&assignor, subscribers, &sizes.collect());
    let told = joined.members.iter().map(|other| {
        let encoded = encode(all.get(&other.member_id));
        Ok(SyncGroupRequestAssignment {
            member_id: other.member_id.clone(),
            assignment: encoded.map_err(|error| Next::End(internal("assignment", &error)))?,
        })
    });
    told.collect()
}

/// What an answer of a group's coordinator means for a member.
fn verdict(code: ErrorCode, group: &str) -> Result<(), Next> {
    match code {
        ErrorCode::None => Ok(()),
        // The group has gone on, and the member with it: under another id it would have to wait for its own session to end.
        ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => Err(Next::Join),
        ErrorCode::UnknownMemberId => Err(Next::JoinAnew),
        code if code.is_retriable() => Err(Next::Again),
        code => Err(Next::End(refusal(code, &format!("group {group:?}"), None))),
    }
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

/// A request that did not get an answer, or not a Kafka one.
fn lost(status: &Status) -> Next {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => Next::Again,
        _ => Next::End(status.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_itself_until_the_group_has_forgotten_it() {
        let verdict = |code| verdict(code, "g");
        for code in [ErrorCode::RebalanceInProgress, ErrorCode::IllegalGeneration] {
            assert!(matches!(verdict(code), Err(Next::Join)), "{code}");
        }
        assert!(matches!(verdict(ErrorCode::UnknownMemberId), Err(Next::JoinAnew)));
        assert!(matches!(verdict(ErrorCode::FencedInstanceId), Err(Next::End(_))));
        assert!(matches!(verdict(ErrorCode::NotCoordinator), Err(Next::Again)));
    }
}
