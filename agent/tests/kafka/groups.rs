//! Groups as a client sees them on the wire. The state machine has its own tests in `esker_agent::groups`.

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::join_group_response::JoinGroupResponse;
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::offset_commit_response::OffsetCommitResponse;
use esker_kafka::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use esker_kafka::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ErrorCode, Str};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{Topic, code};

/// Asks for one partition of a group's offsets; in the form of version 8 and above whatever the version.
async fn committed(client: &mut Client, version: i16, topic: &Topic, partition: i32) -> OffsetFetchResponsePartitions {
    let group = Str::from_static("g");
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        request.group_id = group;
        request.topics = Some(vec![OffsetFetchRequestTopic {
            name: topic.name.clone(),
            partition_indexes: vec![partition],
        }]);
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0);
        let found = &response.topics[0].partitions[0];
        return OffsetFetchResponsePartitions {
            partition_index: found.partition_index,
            committed_offset: found.committed_offset,
            committed_leader_epoch: found.committed_leader_epoch,
            metadata: found.metadata.clone(),
            error_code: found.error_code,
        };
    }
    request.groups = vec![OffsetFetchRequestGroup {
        group_id: group,
        topics: Some(vec![OffsetFetchRequestTopics {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_indexes: vec![partition],
        }]),
        ..Default::default()
    }];
    let response = client.call(version, &request).await;
    assert_eq!((response.groups.len(), response.groups[0].error_code), (1, 0));
    response.groups[0].topics[0].partitions[0].clone()
}

fn commit(topic: &Topic, offset: i64, metadata: Option<&str>) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: Str::from_static("g"),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: metadata.map(Str::from),
            }],
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn trap_21_offsets_of_what_does_not_exist_are_minus_one_without_error() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 1..=9 {
        // A group that is not there, a topic that is not there, a partition that is not there.
        for (topic, partition) in [(&topic, 0), (&Topic::missing(), 0), (&topic, 9)] {
            let found = committed(&mut client, version, topic, partition).await;
            let answer = (code(found.error_code), found.committed_offset, found.partition_index);
            assert_eq!(answer, (ErrorCode::None, -1, partition), "version {version}");
            assert_eq!(found.metadata.as_deref(), Some(""));
        }
    }
}

#[tokio::test]
async fn trap_22_metadata_and_leader_epoch_of_a_commit_come_back() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 2..=10 {
        let offset = i64::from(version);
        let metadata = format!("stream time of v{version} \u{1f552}");
        let mut request = commit(&topic, offset, Some(&metadata));
        let epoch = if version >= 6 { 1 } else { -1 };
        request.topics[0].partitions[0].committed_leader_epoch = epoch;
        let response = client.call(version, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0, "version {version}");
        for read in 1..=10 {
            let found = committed(&mut client, read, &topic, 0).await;
            assert_eq!(
                (found.committed_offset, found.metadata.as_deref()),
                (offset, Some(&*metadata))
            );
            assert_eq!(found.committed_leader_epoch, if read >= 5 { epoch } else { -1 });
        }
    }
}

/// A commit of partitions of a topic, each with the longest metadata that is allowed.
fn long_commit(topic: &Topic, partitions: impl Iterator<Item = i32>) -> OffsetCommitRequest {
    let metadata = Str::from("m".repeat(4_096));
    let mut request = commit(topic, 0, None);
    request.topics[0].partitions = partitions
        .zip(1..)
        .map(|(partition_index, committed_offset)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(metadata.clone()),
        })
        .collect();
    request
}

#[tokio::test]
async fn commits_that_no_record_can_hold_are_refused_and_the_last_duplicate_counts() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 300, &[]).await;
    let codes = |response: OffsetCommitResponse| -> BTreeSet<i16> {
        let partitions = response.topics[0].partitions.iter();
        partitions.map(|partition| partition.error_code).collect()
    };
    let too_large = client.call(9, &long_commit(&topic, 0..300)).await;
    assert_eq!(codes(too_large), [ErrorCode::InvalidCommitOffsetSize.code()].into());
    assert_eq!(committed(&mut client, 9, &topic, 299).await.committed_offset, -1);
    let duplicates = client.call(9, &long_commit(&topic, std::iter::repeat_n(0, 300))).await;
    assert_eq!(duplicates.topics[0].partitions.len(), 300);
    assert_eq!(codes(duplicates), [0].into());
    assert_eq!(committed(&mut client, 9, &topic, 0).await.committed_offset, 300);
    // Both at once, so that they may meet in one commit.
    let (mut first, mut second) = (broker.connect().await, broker.connect().await);
    let (low, high) = (long_commit(&topic, 0..200), long_commit(&topic, 100..300));
    let (low, high) = tokio::join!(first.call(9, &low), second.call(9, &high));
    assert_eq!((codes(low), codes(high)), ([0].into(), [0].into()));
    assert_eq!(committed(&mut client, 9, &topic, 299).await.committed_offset, 200);
}

fn join(member_id: Str, metadata: &'static str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from_static("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id,
        protocol_type: Str::from_static("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from_static("range"),
            metadata: Bytes::from_static(metadata.as_bytes()),
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn trap_02_single_member_joins_in_every_version() {
    let broker = Broker::start().await;
    for version in 0..=9 {
        let mut client = broker.connect().await;
        let mut request = join(Str::new(), "m");
        request.group_id = Str::from(format!("g{version}"));
        let mut joined = client.call(version, &request).await;
        if version >= 4 {
            assert_eq!(code(joined.error_code), ErrorCode::MemberIdRequired);
            request.member_id = joined.member_id.clone();
            joined = client.call(version, &request).await;
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    }
}

/// What the leader of these tests gives a member; long, so that a truncated one would show.
fn assignment(member: &Str, members: usize) -> Bytes {
    Bytes::from(format!("{member} is one of {members}, ").repeat(100))
}

/// Joins in this version, syncs and beats as clients do until the group has so many members. Returns generation and member id.
async fn settle(mut client: Client, members: usize, version: i16) -> (i32, Str) {
    let mut member = Str::new();
    loop {
        let joined = client.call(version, &join(member.clone(), "m")).await;
        member = joined.member_id.clone();
        match code(joined.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress => continue,
            refused => panic!("join: {refused:?}"),
        }
        let synced = client.call(version.min(5), &sync(&joined)).await;
        match code(synced.error_code) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => continue,
            refused => panic!("sync: {refused:?}"),
        }
        if synced.assignment == assignment(&member, members) {
            return (joined.generation_id, member);
        }
        let fewer = (1..members).any(|fewer| synced.assignment == assignment(&member, fewer));
        assert!(fewer, "{:?}", synced.assignment);
        let beat = HeartbeatRequest {
            group_id: Str::from_static("g"),
            generation_id: joined.generation_id,
            member_id: member.clone(),
            ..Default::default()
        };
        loop {
            match code(client.call(version.min(4), &beat).await.error_code) {
                ErrorCode::None => tokio::task::yield_now().await,
                ErrorCode::RebalanceInProgress => break,
                refused => panic!("heartbeat: {refused:?}"),
            }
        }
    }
}

/// The sync of a member; the leader assigns.
fn sync(joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|other| SyncGroupRequestAssignment {
        member_id: other.member_id.clone(),
        assignment: assignment(&other.member_id, joined.members.len()),
    });
    SyncGroupRequest {
        group_id: Str::from_static("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some(Str::from_static("consumer")),
        protocol_name: Some(Str::from_static("range")),
        assignments: assignments.collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn trap_26_members_that_join_at_once_all_get_their_whole_assignment() {
    let broker = Broker::start().await;
    let mut members = JoinSet::new();
    for _ in 0..8 {
        members.spawn(settle(broker.connect().await, 8, 9));
    }
    are_in_one_generation(&members.join_all().await, 8);
}

fn are_in_one_generation(settled: &[(i32, Str)], members: usize) {
    let ids: BTreeSet<_> = settled.iter().map(|(_, id)| id.as_str().to_owned()).collect();
    assert_eq!(ids.len(), members);
    assert!(settled.iter().all(|(generation, _)| *generation == settled[0].0));
}

/// Old clients rebalance as new ones do, also with them.
#[tokio::test]
async fn trap_02_members_of_every_version_share_a_group() {
    let broker = Broker::start().await;
    let mut members = JoinSet::new();
    for version in 0..=9 {
        members.spawn(settle(broker.connect().await, 10, version));
    }
    are_in_one_generation(&members.join_all().await, 10);
}
