//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::Str;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::heartbeat_response::HeartbeatResponse;
use esker_kafka::messages::join_group_request::JoinGroupRequest;
use esker_kafka::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use esker_kafka::messages::leave_group_request::LeaveGroupRequest;
use esker_kafka::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use esker_kafka::messages::sync_group_request::SyncGroupRequest;
use esker_kafka::messages::sync_group_response::SyncGroupResponse;

use super::{RequestContext, code, group_id, instance_id, member_id, wire};
use crate::groups::coordinator::Coordinator;
use crate::groups::error::GroupError;
use crate::groups::group::{Client, JoinCommand, Joined, Leaver, Protocol, SyncCommand, Timeouts};
use crate::groups::ids::{Generation, ProtocolName, ReplyTo};

/// First version whose clients come back with the id they are given (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// First version with `skip_assignment` (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;
/// First version of JoinGroup in which the protocol may be null.
const NULL_PROTOCOL_SINCE: i16 = 7;
/// First version of SyncGroup whose clients must say which protocol they believe in (KIP-559).
const PROTOCOL_NAMED_SINCE: i16 = 5;
/// First version of LeaveGroup for several members.
const LEAVE_MANY_SINCE: i16 = 3;

/// Milliseconds of a request; negative ones are no time at all.
fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

impl Coordinator {
    /// Answers JoinGroup 0 to 9.
    pub async fn join_group(
        self: &Arc<Self>,
        request: &JoinGroupRequest,
        ctx: &RequestContext<'_>,
    ) -> JoinGroupResponse {
        let command = self.join_command(request, ctx);
        match self.join(&group_id(&request.group_id), command).await {
            Ok(joined) => joined_response(&joined),
            Err(error) => refused_join(&error, &request.member_id, ctx.version),
        }
    }

    fn join_command(&self, request: &JoinGroupRequest, ctx: &RequestContext<'_>) -> JoinCommand {
        let session = millis(request.session_timeout_ms);
        // Version 0 has no rebalance time-out: there the session time-out stands for both.
        let rebalance = if request.rebalance_timeout_ms < 0 {
            session
        } else {
            millis(request.rebalance_timeout_ms)
        };
        let instance = instance_id(request.group_instance_id.as_ref());
        let protocols = request.protocols.iter().map(|protocol| Protocol {
            name: ProtocolName::from(protocol.name.as_str()),
            // A copy of its own: a slice would keep the whole request in memory as long as the member lives.
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        });
        let protocols = protocols.collect();
        let fresh_id = match &instance {
            Some(instance) => self.fresh_id(instance.as_str()),
            None => self.fresh_id(ctx.client_id),
        };
        JoinCommand {
            member: member_id(&request.member_id),
            instance,
            client: Client {
                id: Arc::from(ctx.client_id),
                host: Arc::from(ctx.client_host),
            },
            timeouts: Timeouts { session, rebalance },
            protocol_type: ProtocolName::from(request.protocol_type.as_str()),
            protocols,
            knows_member_id_required: ctx.version >= MEMBER_ID_REQUIRED_SINCE,
            knows_skip_assignment: ctx.version >= SKIP_ASSIGNMENT_SINCE,
            fresh_id,
            reply_to: ReplyTo(0),
        }
    }

    /// Answers SyncGroup 0 to 5.
    pub async fn sync_group(
        self: &Arc<Self>,
        request: &SyncGroupRequest,
        ctx: &RequestContext<'_>,
    ) -> SyncGroupResponse {
        let names_missing = request.protocol_type.is_none() || request.protocol_name.is_none();
        if ctx.version >= PROTOCOL_NAMED_SINCE && names_missing {
            return refused_sync(&GroupError::InconsistentProtocol);
        }
        let name = |text: &Option<Str>| text.as_ref().map(|text| ProtocolName::from(text.as_str()));
        let assignments = request.assignments.iter();
        let command = SyncCommand {
            member: member_id(&request.member_id),
            instance: instance_id(request.group_instance_id.as_ref()),
            generation: Generation(request.generation_id),
            protocol_type: name(&request.protocol_type),
            protocol: name(&request.protocol_name),
            assignments: assignments
                .map(|one| (member_id(&one.member_id), Bytes::copy_from_slice(&one.assignment)))
                .collect(),
            reply_to: ReplyTo(0),
        };
        match self.sync(&group_id(&request.group_id), command).await {
            Ok(synced) => SyncGroupResponse {
                protocol_type: wire(synced.protocol_type.as_ref()),
                protocol_name: wire(synced.protocol.as_ref()),
                assignment: synced.assignment,
                ..SyncGroupResponse::default()
            },
            Err(error) => refused_sync(&error),
        }
    }

    /// Answers Heartbeat 0 to 4.
    pub fn heartbeat_group(self: &Arc<Self>, request: &HeartbeatRequest) -> HeartbeatResponse {
        let instance = instance_id(request.group_instance_id.as_ref());
        let generation = Generation(request.generation_id);
        let group = group_id(&request.group_id);
        let result = self.heartbeat(&group, &member_id(&request.member_id), instance.as_ref(), generation);
        HeartbeatResponse {
            error_code: code(&result),
            ..HeartbeatResponse::default()
        }
    }

    /// Answers LeaveGroup 0 to 5.
    pub async fn leave_group(
        self: &Arc<Self>,
        request: &LeaveGroupRequest,
        ctx: &RequestContext<'_>,
    ) -> LeaveGroupResponse {
        let group = group_id(&request.group_id);
        if ctx.version < LEAVE_MANY_SINCE {
            let leaver = Leaver {
                member: member_id(&request.member_id),
                instance: None,
            };
            let verdict = self
                .leave(&group, &[leaver])
                .await
                .and_then(|verdicts| verdicts.into_iter().collect::<Result<(), _>>());
            return LeaveGroupResponse {
                error_code: code(&verdict),
                ..LeaveGroupResponse::default()
            };
        }
        let leavers = request.members.iter().map(|one| Leaver {
            member: member_id(&one.member_id),
            instance: instance_id(one.group_instance_id.as_ref()),
        });
        let leavers: Vec<Leaver> = leavers.collect();
        match self.leave(&group, &leavers).await {
            Ok(verdicts) => {
                let members = request
                    .members
                    .iter()
                    .zip(&verdicts)
                    .map(|(one, verdict)| MemberResponse {
                        member_id: one.member_id.clone(),
                        group_instance_id: one.group_instance_id.clone(),
                        error_code: code(verdict),
                    });
                LeaveGroupResponse {
                    members: members.collect(),
                    ..LeaveGroupResponse::default()
                }
            }
            Err(error) => LeaveGroupResponse {
                error_code: error.code().code(),
                ..LeaveGroupResponse::default()
            },
        }
    }
}

fn refused_sync(error: &GroupError) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: error.code().code(),
        ..SyncGroupResponse::default()
    }
}

fn joined_response(joined: &Joined) -> JoinGroupResponse {
    let members = joined.members.iter().map(|seen| JoinGroupResponseMember {
        member_id: Str::from(seen.member.as_str()),
        group_instance_id: seen.instance.as_ref().map(|instance| Str::from(instance.as_str())),
        metadata: seen.metadata.clone(),
    });
    JoinGroupResponse {
        generation_id: joined.generation.0,
        protocol_type: wire(joined.protocol_type.as_ref()),
        // Only from version 7 on may it be null.
        protocol_name: Some(wire(joined.protocol.as_ref()).unwrap_or_default()),
        leader: joined
            .leader
            .as_ref()
            .map(|leader| Str::from(leader.as_str()))
            .unwrap_or_default(),
        skip_assignment: joined.skip_assignment,
        member_id: Str::from(joined.member.as_str()),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

fn refused_join(error: &GroupError, asked_as: &Str, version: i16) -> JoinGroupResponse {
    let member_id = match error {
        GroupError::MemberIdRequired { assigned } => Str::from(assigned.as_str()),
        GroupError::GroupFull { .. } => Str::new(),
        _ => asked_as.clone(),
    };
    JoinGroupResponse {
        error_code: error.code().code(),
        member_id,
        protocol_name: if version >= NULL_PROTOCOL_SINCE {
            None
        } else {
            Some(Str::new())
        },
        ..JoinGroupResponse::default()
    }
}
