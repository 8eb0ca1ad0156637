//! Members of groups do not notice that their coordinator was replaced, and a coordinator that was replaced changes nothing.

use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::delete_groups_request::DeleteGroupsRequest;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::join_group_response::JoinGroupResponse;
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ErrorCode, Str};
use tokio::time::Instant;

use crate::client::Client;
use crate::nodes::{Running, World};
use crate::requests::code;

const GROUP: &str = "g";
const ASSIGNED: &[u8] = b"everything";

async fn join(client: &mut Client, member: Str) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_id: Str::from_static(GROUP),
        session_timeout_ms: 20_000,
        rebalance_timeout_ms: 20_000,
        member_id: member,
        protocol_type: Str::from_static("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from_static("range"),
            metadata: Bytes::from_static(b"m"),
        }],
        ..Default::default()
    };
    client.call(9, &request).await
}

async fn sync(client: &mut Client, member: &Str, generation: i32) -> Result<Bytes, ErrorCode> {
    let request = SyncGroupRequest {
        group_id: Str::from_static(GROUP),
        generation_id: generation,
        member_id: member.clone(),
        protocol_type: Some(Str::from_static("consumer")),
        protocol_name: Some(Str::from_static("range")),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: Bytes::from_static(ASSIGNED),
        }],
        ..Default::default()
    };
    let response = client.call(5, &request).await;
    match code(response.error_code) {
        ErrorCode::None => Ok(response.assignment),
        refused => Err(refused),
    }
}

/// A member that was told its generation and has no assignment yet.
async fn joined(client: &mut Client) -> (Str, i32) {
    let began = Instant::now();
    let mut member = Str::new();
    loop {
        let joined = join(client, member.clone()).await;
        member = joined.member_id.clone();
        match code(joined.error_code) {
            ErrorCode::None => return (member, joined.generation_id),
            ErrorCode::MemberIdRequired => {}
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            refused => panic!("join: {refused:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "not let in");
    }
}

/// What a heartbeat is answered, once the agent coordinates the group.
async fn beat(client: &mut Client, member: &Str, generation: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: Str::from_static(GROUP),
        generation_id: generation,
        member_id: member.clone(),
        ..Default::default()
    };
    let began = Instant::now();
    let nobody = Str::from_static("nobody");
    loop {
        // A heartbeat does not tell whether the group is still being taken over.
        match sync(client, &nobody, generation).await {
            Err(ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress) => {}
            _ => return code(client.call(4, &request).await.error_code),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody coordinates");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn killed(world: &World, agent: Running) {
    let lease = agent.agent.log.session().unwrap().lease;
    agent.kill().await;
    world.store.end_lease(lease);
}

#[tokio::test]
async fn generation_outlives_coordinators_that_are_killed_and_drained() {
    let world = World::new();
    let first = world.start("").await;
    let mut client = first.connect().await;
    let (member, generation) = joined(&mut client).await;
    assert_eq!(sync(&mut client, &member, generation).await.unwrap(), ASSIGNED);
    killed(&world, first).await;

    let second = world.start("").await;
    let mut client = second.connect().await;
    assert_eq!(beat(&mut client, &member, generation).await, ErrorCode::None);
    let delete = DeleteGroupsRequest {
        groups_names: vec![Str::from_static(GROUP)],
    };
    let refused = client.call(2, &delete).await.results[0].error_code;
    assert_eq!(code(refused), ErrorCode::NonEmptyGroup);
    second.stop().await.unwrap();

    let third = world.start("").await;
    let mut client = third.connect().await;
    assert_eq!(beat(&mut client, &member, generation).await, ErrorCode::None);
    assert_eq!(sync(&mut client, &member, generation).await.unwrap(), ASSIGNED);
    assert_eq!(
        beat(&mut client, &member, generation + 1).await,
        ErrorCode::IllegalGeneration
    );
}

#[tokio::test]
async fn group_whose_coordinator_dies_between_join_and_sync_goes_on_there() {
    let world = World::new();
    let first = world.start("").await;
    let mut client = first.connect().await;
    let (member, generation) = joined(&mut client).await;
    killed(&world, first).await;
    let second = world.start("").await;
    let mut client = second.connect().await;
    assert_eq!(beat(&mut client, &member, generation).await, ErrorCode::None);
    assert_eq!(sync(&mut client, &member, generation).await.unwrap(), ASSIGNED);
}

/// GRP-2: the compare of the claim decides, not what the agent believes.
#[tokio::test]
async fn coordinator_that_lost_its_shard_hands_out_no_assignment_and_no_generation() {
    let world = World::new();
    let zombie = world.start("").await;
    let mut client = zombie.connect().await;
    let (member, generation) = joined(&mut client).await;
    // The claim is gone, and the agent does not hear of it: its watch is slow.
    let held = zombie.agent.shards.held(GROUP).unwrap();
    let stale = zombie.agent.members.owner(held.shard);
    world.store.end_lease(zombie.agent.log.session().unwrap().lease);
    zombie.agent.members.on_owner(held.shard, stale);
    let refused = sync(&mut client, &member, generation).await.unwrap_err();
    assert!(
        matches!(
            refused,
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress
        ),
        "{refused:?}"
    );
    // The same agent comes back with another session and finds what was stored, which is the generation without an assignment.
    assert_eq!(beat(&mut client, &member, generation).await, ErrorCode::None);
    assert_eq!(sync(&mut client, &member, generation).await.unwrap(), ASSIGNED);
}
