//! Requests as clients send them, in every version: every answer must also be encodable in its version.

mod admin;
mod offsets;

use esker_kafka::messages::Message;
use esker_kafka::messages::delete_groups_request::DeleteGroupsRequest;
use esker_kafka::messages::describe_groups_request::DescribeGroupsRequest;
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::join_group_response::JoinGroupResponse;
use esker_kafka::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use esker_kafka::messages::list_groups_request::ListGroupsRequest;
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::offset_commit_response::OffsetCommitResponse;
use esker_kafka::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use esker_kafka::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use esker_kafka::messages::offset_fetch_response::OffsetFetchResponse;
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ErrorCode, Reader, Str, Uuid, Writer};

use bytes::Bytes;

use super::*;
use crate::groups::fakes::{Bench, LATE, ORDERS, at, subscription};
use crate::groups::seams::OffsetLogError;
use crate::groups::settings::GroupSettings;

fn ctx(version: i16) -> RequestContext<'static> {
    RequestContext {
        version,
        client_id: "app",
        client_host: "/10.0.0.7",
    }
}

fn bench() -> Bench {
    Bench::new(GroupSettings {
        initial_rebalance_delay: std::time::Duration::ZERO,
        ..GroupSettings::default()
    })
}

/// What the client sees: the answer after it went over the wire.
fn wire_trip<M: Message>(message: &M, version: i16) -> M {
    let mut writer = Writer::new();
    message
        .encode(&mut writer, version)
        .expect("an answer that this version can carry");
    let mut reader = Reader::new(writer.into_bytes().expect("short"));
    let back = M::decode(&mut reader, version).expect("what was encoded");
    reader.finish().expect("nothing is left over");
    back
}

fn join_request(member: &Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from("g"),
        session_timeout_ms: 10_000,
        member_id: member.clone(),
        protocol_type: Str::from("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from("range"),
            metadata: subscription(&["orders"]),
        }],
        ..JoinGroupRequest::default()
    }
}

async fn join(bench: &Bench, version: i16) -> JoinGroupResponse {
    let mut member = Str::new();
    loop {
        let response = bench
            .coordinator
            .join_group(&join_request(&member), &ctx(version))
            .await;
        let response = wire_trip(&response, version);
        if response.error_code != ErrorCode::MemberIdRequired.code() {
            return response;
        }
        assert!(version >= 4 && member.is_empty());
        member = response.member_id;
    }
}

/// One member with an assignment.
async fn settled(bench: &Bench) -> JoinGroupResponse {
    let joined = join(bench, 9).await;
    let request = SyncGroupRequest {
        group_id: Str::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"all"),
        }],
        ..SyncGroupRequest::default()
    };
    assert_eq!(bench.coordinator.sync_group(&request, &ctx(4)).await.error_code, 0);
    joined
}

#[tokio::test(start_paused = true)]
async fn member_lives_through_every_version() {
    for version in 0..=9 {
        let bench = bench();
        let joined = join(&bench, version).await;
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert!(joined.member_id.starts_with("app-"));
        assert_eq!(
            (&joined.leader, joined.protocol_name.as_deref()),
            (&joined.member_id, Some("range"))
        );
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, subscription(&["orders"]));
        assert_eq!(joined.protocol_type.is_some(), version >= 7);

        sync_and_beat(&bench, &joined, version).await;
        leave_twice(&bench, &joined, version).await;
    }
}

async fn sync_and_beat(bench: &Bench, joined: &JoinGroupResponse, version: i16) {
    let sync_version = version.min(5);
    let request = SyncGroupRequest {
        protocol_type: (sync_version >= 5).then(|| Str::from("consumer")),
        protocol_name: (sync_version >= 5).then(|| Str::from("range")),
        group_id: Str::from("g"),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"all"),
        }],
        ..SyncGroupRequest::default()
    };
    let synced = wire_trip(
        &bench.coordinator.sync_group(&request, &ctx(sync_version)).await,
        sync_version,
    );
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    assert_eq!(synced.protocol_name.is_some(), sync_version >= 5);
    if sync_version >= 5 {
        let mute = SyncGroupRequest {
            protocol_name: None,
            ..request
        };
        let refused = bench.coordinator.sync_group(&mute, &ctx(sync_version)).await;
        assert_eq!(refused.error_code, ErrorCode::InconsistentGroupProtocol.code());
    }

    let mut request = HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    let beat =
        |request: &HeartbeatRequest| wire_trip(&bench.coordinator.heartbeat_group(request), version.min(4)).error_code;
    assert_eq!(beat(&request), 0);
    request.generation_id = 0;
    assert_eq!(beat(&request), ErrorCode::IllegalGeneration.code());
}

async fn leave_twice(bench: &Bench, joined: &JoinGroupResponse, version: i16) {
    let leave_version = version.min(5);
    let mut request = LeaveGroupRequest {
        group_id: Str::from("g"),
        ..LeaveGroupRequest::default()
    };
    if leave_version < 3 {
        request.member_id = joined.member_id.clone();
    } else {
        request.members = vec![MemberIdentity {
            member_id: joined.member_id.clone(),
            ..MemberIdentity::default()
        }];
    }
    let leave = async || {
        wire_trip(
            &bench.coordinator.leave_group(&request, &ctx(leave_version)).await,
            leave_version,
        )
    };
    assert_eq!(leave().await.error_code, 0);
    let (own, unknown) = (leave().await, ErrorCode::UnknownMemberId.code());
    if leave_version < 3 {
        assert_eq!(own.error_code, unknown);
    } else {
        assert_eq!((own.error_code, own.members[0].error_code), (0, unknown));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_joins_are_encodable_in_every_version() {
    let bench = bench();
    for version in 0..=9 {
        let refused = |request: JoinGroupRequest| {
            let coordinator = Arc::clone(&bench.coordinator);
            async move { wire_trip(&coordinator.join_group(&request, &ctx(version)).await, version) }
        };
        let stranger = Str::from("stranger");
        let response = refused(join_request(&stranger)).await;
        assert_eq!(response.error_code, ErrorCode::UnknownMemberId.code());
        assert_eq!((response.member_id, response.generation_id), (stranger, -1));
        assert_eq!(response.protocol_name.is_none(), version >= 7);
        let hasty = JoinGroupRequest {
            session_timeout_ms: -5,
            ..join_request(&Str::new())
        };
        assert_eq!(refused(hasty).await.error_code, ErrorCode::InvalidSessionTimeout.code());
        let nameless = JoinGroupRequest {
            group_id: Str::new(),
            ..join_request(&Str::new())
        };
        assert_eq!(refused(nameless).await.error_code, ErrorCode::InvalidGroupId.code());
        let mute = JoinGroupRequest {
            protocols: vec![],
            ..join_request(&Str::new())
        };
        assert_eq!(
            refused(mute).await.error_code,
            ErrorCode::InconsistentGroupProtocol.code()
        );
    }
}

#[test]
fn coordinator_is_found_for_every_key() {
    let node = Node {
        id: 7,
        host: Str::from("10.0.0.1"),
        port: 9092,
    };
    for version in 0..=6 {
        let mut request = FindCoordinatorRequest {
            key: Str::from("g"),
            ..FindCoordinatorRequest::default()
        };
        if version >= 4 {
            request.key = Str::new();
            request.coordinator_keys = vec![Str::from("g"), Str::from("h")];
        }
        let found = wire_trip(&find_coordinator(&request, version, |_| Some(node.clone())), version);
        if version < 4 {
            assert_eq!(
                (found.error_code, found.node_id, &*found.host, found.port),
                (0, 7, "10.0.0.1", 9092)
            );
            // Kafka names the code where nothing went wrong.
            let message = found.error_message.as_deref();
            assert_eq!(message, Some(if version == 0 { "" } else { "NONE" }));
            continue;
        }
        let keys: Vec<&str> = found.coordinators.iter().map(|one| &*one.key).collect();
        assert_eq!(keys, ["g", "h"]);
        assert!(
            found
                .coordinators
                .iter()
                .all(|one| (one.error_code, one.node_id, one.port) == (0, 7, 9092))
        );
        let messages = found.coordinators.iter().map(|one| one.error_message.as_deref());
        assert_eq!(messages.collect::<Vec<_>>(), [Some(""); 2]);
    }
    for (version, key_type) in [(1, 9), (4, -1), (6, 2)] {
        let keys = vec![Str::from("g")];
        let request = FindCoordinatorRequest {
            key_type,
            coordinator_keys: keys,
            ..FindCoordinatorRequest::default()
        };
        let found = wire_trip(&find_coordinator(&request, version, |_| Some(node.clone())), version);
        let (code, id) = if version < 4 {
            (found.error_code, found.node_id)
        } else {
            (found.coordinators[0].error_code, found.coordinators[0].node_id)
        };
        assert_eq!((code, id), (ErrorCode::InvalidRequest.code(), -1));
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_can_run_as_tasks() {
    let bench = bench();
    let coordinator = Arc::clone(&bench.coordinator);
    let task = tokio::spawn(async move {
        let joined = coordinator.join_group(&join_request(&Str::new()), &ctx(3)).await;
        let committed = coordinator
            .offset_commit(&offsets::commit_request(9, &[]), &ctx(9))
            .await;
        let fetched = coordinator
            .offset_fetch(&offsets::fetch_request(9, None), &ctx(9))
            .await;
        let deleted = coordinator.offset_delete(&OffsetDeleteRequest::default()).await;
        let gone = coordinator.delete_groups(&DeleteGroupsRequest::default()).await;
        (
            joined.error_code,
            committed.topics.len(),
            fetched.groups.len(),
            deleted.error_code,
            gone.results.len(),
        )
    });
    assert_eq!(task.await.unwrap(), (0, 0, 1, ErrorCode::InvalidGroupId.code(), 0));
}
