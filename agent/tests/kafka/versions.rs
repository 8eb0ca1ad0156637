//! Which APIs and versions are offered, and that what is offered is answered.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bytes::Bytes;
use esker_kafka::messages::Request;
use esker_kafka::messages::alter_client_quotas_request::AlterClientQuotasRequest;
use esker_kafka::messages::alter_configs_request::AlterConfigsRequest;
use esker_kafka::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;
use esker_kafka::messages::alter_user_scram_credentials_request::AlterUserScramCredentialsRequest;
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::api_versions_response::ApiVersionsResponse;
use esker_kafka::messages::create_partitions_request::CreatePartitionsRequest;
use esker_kafka::messages::create_topics_request::CreateTopicsRequest;
use esker_kafka::messages::delete_groups_request::DeleteGroupsRequest;
use esker_kafka::messages::delete_records_request::DeleteRecordsRequest;
use esker_kafka::messages::delete_topics_request::DeleteTopicsRequest;
use esker_kafka::messages::describe_client_quotas_request::DescribeClientQuotasRequest;
use esker_kafka::messages::describe_cluster_request::DescribeClusterRequest;
use esker_kafka::messages::describe_configs_request::DescribeConfigsRequest;
use esker_kafka::messages::describe_groups_request::DescribeGroupsRequest;
use esker_kafka::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use esker_kafka::messages::describe_producers_request::DescribeProducersRequest;
use esker_kafka::messages::describe_quorum_request::DescribeQuorumRequest;
use esker_kafka::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use esker_kafka::messages::describe_transactions_request::DescribeTransactionsRequest;
use esker_kafka::messages::describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest;
use esker_kafka::messages::elect_leaders_request::ElectLeadersRequest;
use esker_kafka::messages::fetch_request::FetchRequest;
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use esker_kafka::messages::join_group_request::JoinGroupRequest;
use esker_kafka::messages::leave_group_request::LeaveGroupRequest;
use esker_kafka::messages::list_config_resources_request::ListConfigResourcesRequest;
use esker_kafka::messages::list_groups_request::ListGroupsRequest;
use esker_kafka::messages::list_offsets_request::ListOffsetsRequest;
use esker_kafka::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use esker_kafka::messages::list_transactions_request::ListTransactionsRequest;
use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka::messages::offset_commit_request::OffsetCommitRequest;
use esker_kafka::messages::offset_delete_request::OffsetDeleteRequest;
use esker_kafka::messages::offset_fetch_request::OffsetFetchRequest;
use esker_kafka::messages::offset_for_leader_epoch_request::OffsetForLeaderEpochRequest;
use esker_kafka::messages::sync_group_request::SyncGroupRequest;
use esker_kafka::messages::update_features_request::UpdateFeaturesRequest;
use esker_kafka::{ApiKey, ErrorCode, Reader, Str, Writer};

use crate::batches::batch;
use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{code, init_producer_id, only_produced, produce};

/// What is served, as Kafka 4.3 advertises it: key, first version, last version.
const SERVED: [(i16, i16, i16); 41] = [
    (0, 0, 13),
    (1, 4, 18),
    (2, 1, 11),
    (3, 0, 13),
    (8, 2, 10),
    (9, 1, 10),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (32, 1, 4),
    (33, 0, 2),
    (35, 1, 5),
    (37, 0, 3),
    (42, 0, 2),
    (43, 0, 2),
    (44, 0, 1),
    (45, 0, 1),
    (46, 0, 0),
    (47, 0, 0),
    (48, 0, 1),
    (49, 0, 1),
    (50, 0, 0),
    (51, 0, 0),
    (55, 0, 2),
    (57, 0, 2),
    (60, 0, 2),
    (61, 0, 0),
    (65, 0, 0),
    (66, 0, 2),
    (74, 0, 1),
    (75, 0, 0),
];

fn ask() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: Str::from_static("esker-test"),
        client_software_version: Str::from_static("1.0"),
    }
}

async fn advertised(client: &mut Client, version: i16) -> ApiVersionsResponse {
    let response = client.call(version, &ask()).await;
    assert_eq!(code(response.error_code), ErrorCode::None);
    response
}

fn range_of(response: &ApiVersionsResponse, key: ApiKey) -> (i16, i16) {
    let found = response.api_keys.iter().find(|api| api.api_key == key.code()).unwrap();
    (found.min_version, found.max_version)
}

/// A request header with nothing behind it.
fn bare(key: i16, version: i16) -> Bytes {
    let mut writer = Writer::framed();
    writer.i16(key);
    writer.i16(version);
    writer.i32(77);
    writer.i16(-1);
    writer.into_bytes().unwrap()
}

#[tokio::test]
async fn trap_01_produce_is_advertised_from_v0() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 0..=4 {
        let response = advertised(&mut client, version).await;
        assert_eq!(range_of(&response, ApiKey::Produce), (0, 13));
    }
    for version in 0..=2 {
        let mut client = broker.connect().await;
        client.send_raw(&bare(ApiKey::Produce.code(), version)).await;
        client.is_closed().await;
    }
}

#[tokio::test]
async fn trap_02_join_group_is_advertised_from_v0() {
    let broker = Broker::start().await;
    let response = advertised(&mut broker.connect().await, 4).await;
    assert_eq!(range_of(&response, ApiKey::JoinGroup), (0, 9));
}

#[tokio::test]
async fn trap_03_unknown_api_versions_version_gets_a_v0_body_with_one_key() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in [5, 99, i16::MAX, -1, i16::MIN] {
        let mut writer = Writer::framed();
        writer.i16(ApiKey::ApiVersions.code());
        writer.i16(version);
        writer.i32(i32::from(version));
        writer.i16(-1);
        writer.raw(b"\xff\xff\xff\xff what a later version may have here");
        client.send_raw(&writer.into_bytes().unwrap()).await;

        let mut reader = Reader::new(client.receive_raw().await.unwrap());
        assert_eq!(reader.i32().unwrap(), i32::from(version), "header version 0");
        let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
        reader.finish().unwrap();
        assert_eq!(code(response.error_code), ErrorCode::UnsupportedVersion);
        assert_eq!(response.api_keys.len(), 1);
        assert_eq!(range_of(&response, ApiKey::ApiVersions), (0, 4));
    }
    // The client tries again on the same connection.
    advertised(&mut client, 4).await;
}

#[tokio::test]
async fn trap_04_exactly_the_stable_versions_are_advertised() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let response = advertised(&mut client, 4).await;
    let mut found: Vec<_> = response
        .api_keys
        .iter()
        .map(|api| (api.api_key, api.min_version, api.max_version))
        .collect();
    found.sort_unstable();
    assert_eq!(found, SERVED);
    // InitProducerId 6 can be read and written, but is not final.
    client.send(6, &init_producer_id()).await;
    client.is_closed().await;
}

#[tokio::test]
async fn trap_05_no_feature_is_finalised() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 3..=4 {
        let response = advertised(&mut client, version).await;
        assert_eq!(
            (response.supported_features, response.finalized_features),
            (vec![], vec![])
        );
    }
}

#[tokio::test]
async fn client_software_must_have_a_name_and_a_version() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for (name, version) in [
        ("", "1"),
        ("esker", ""),
        ("-x", "1"),
        ("esker", ".1"),
        ("a_b", "1"),
        ("a b", "1"),
        ("esker", "1-"),
    ] {
        let request = ApiVersionsRequest {
            client_software_name: Str::from(name),
            client_software_version: Str::from(version),
        };
        let response = client.call(3, &request).await;
        assert_eq!(
            code(response.error_code),
            ErrorCode::InvalidRequest,
            "{name:?} {version:?}"
        );
    }
}

#[tokio::test]
async fn unknown_apis_and_versions_close_their_own_connection_only() {
    let broker = Broker::start().await;
    let mut bystander = broker.connect().await;
    let fetch = ApiKey::Fetch.code();
    let describe_acls = ApiKey::DescribeAcls.code();
    for (key, version) in [
        (999, 0),
        (-1, 0),
        (describe_acls, 3),
        (4, 0),
        (fetch, 3),
        (fetch, 19),
        (fetch, -1),
    ] {
        let mut client = broker.connect().await;
        client.send_raw(&bare(key, version)).await;
        client.is_closed().await;
    }
    advertised(&mut bystander, 4).await;
}

thread_local! {
    /// The APIs that `answered_at_all` was called with.
    static ASKED: RefCell<BTreeSet<i16>> = RefCell::default();
}

/// Sends a request in every version that is advertised for it.
async fn answered_at_all<R: Request>(client: &mut Client, request: R) {
    ASKED.with_borrow_mut(|asked| asked.insert(R::KEY.code()));
    let versions = R::KEY.stable_versions();
    for version in versions.first..=versions.last {
        client.call(version, &request).await;
    }
}

async fn administrators_are_answered(c: &mut Client) {
    answered_at_all(c, CreatePartitionsRequest::default()).await;
    answered_at_all(c, DescribeClusterRequest::default()).await;
    answered_at_all(c, DescribeTopicPartitionsRequest::default()).await;
    answered_at_all(c, DescribeLogDirsRequest::default()).await;
    answered_at_all(c, ElectLeadersRequest::default()).await;
    answered_at_all(c, AlterPartitionReassignmentsRequest::default()).await;
    answered_at_all(c, ListPartitionReassignmentsRequest::default()).await;
    answered_at_all(c, DescribeQuorumRequest::default()).await;
    answered_at_all(c, UpdateFeaturesRequest::default()).await;
    answered_at_all(c, DescribeProducersRequest::default()).await;
    answered_at_all(c, DescribeTransactionsRequest::default()).await;
    answered_at_all(c, ListTransactionsRequest::default()).await;
    answered_at_all(c, DescribeClientQuotasRequest::default()).await;
    answered_at_all(c, AlterClientQuotasRequest::default()).await;
    answered_at_all(c, DescribeUserScramCredentialsRequest::default()).await;
    answered_at_all(c, AlterUserScramCredentialsRequest::default()).await;
}

#[tokio::test]
async fn trap_12_every_version_is_answered_and_leaves_the_broker_working() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let c = &mut client;
    answered_at_all(c, ask()).await;
    answered_at_all(c, FetchRequest::default()).await;
    answered_at_all(c, ListOffsetsRequest::default()).await;
    answered_at_all(
        c,
        MetadataRequest {
            topics: Some(Vec::new()),
            ..Default::default()
        },
    )
    .await;
    answered_at_all(c, OffsetCommitRequest::default()).await;
    answered_at_all(c, OffsetFetchRequest::default()).await;
    answered_at_all(c, FindCoordinatorRequest::default()).await;
    answered_at_all(c, JoinGroupRequest::default()).await;
    answered_at_all(c, HeartbeatRequest::default()).await;
    answered_at_all(c, LeaveGroupRequest::default()).await;
    answered_at_all(c, SyncGroupRequest::default()).await;
    answered_at_all(c, DescribeGroupsRequest::default()).await;
    answered_at_all(c, ListGroupsRequest::default()).await;
    answered_at_all(c, CreateTopicsRequest::default()).await;
    answered_at_all(c, DeleteTopicsRequest::default()).await;
    answered_at_all(c, DeleteRecordsRequest::default()).await;
    answered_at_all(c, init_producer_id()).await;
    answered_at_all(c, OffsetForLeaderEpochRequest::default()).await;
    answered_at_all(c, DeleteGroupsRequest::default()).await;
    answered_at_all(c, OffsetDeleteRequest::default()).await;
    answered_at_all(c, DescribeConfigsRequest::default()).await;
    answered_at_all(c, AlterConfigsRequest::default()).await;
    answered_at_all(c, IncrementalAlterConfigsRequest::default()).await;
    answered_at_all(c, ListConfigResourcesRequest::default()).await;
    administrators_are_answered(c).await;
    let topic = client.create("t", 1, &[]).await;
    // Versions 0 to 2 of Produce are trap 1.
    for (stored, version) in (0..).zip(3..=13) {
        let request = produce(&topic, 0, &batch(&["still here"]));
        let produced = only_produced(client.call(version, &request).await);
        assert_eq!(
            (produced.error_code, produced.base_offset),
            (0, stored),
            "version {version}"
        );
    }
    let served = SERVED.iter().map(|(key, ..)| *key);
    let missed: Vec<i16> = ASKED.with_borrow(|asked| served.filter(|key| !asked.contains(key)).collect());
    assert_eq!(
        missed,
        [ApiKey::Produce.code()],
        "every API that is served was asked here"
    );
}

#[tokio::test]
async fn producer_ids_are_granted_in_every_version_and_never_twice() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let mut ids = std::collections::BTreeSet::new();
    for version in 0..=5 {
        let granted = client.call(version, &init_producer_id()).await;
        assert_eq!((granted.error_code, granted.producer_epoch), (0, 0));
        assert!(granted.producer_id >= 0);
        ids.insert(granted.producer_id);
    }
    // More than one block.
    for _ in 0..1_010 {
        ids.insert(client.producer_id().await);
    }
    assert_eq!(ids.len(), 1_016);
}

#[tokio::test]
async fn transactional_ids_are_refused_because_there_are_no_transactions() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 0..=5 {
        let mut request = init_producer_id();
        request.transactional_id = Some(Str::from_static("payments"));
        request.transaction_timeout_ms = 60_000;
        let refused = client.call(version, &request).await;
        assert_eq!(code(refused.error_code), ErrorCode::UnsupportedVersion);
        assert_eq!((refused.producer_id, refused.producer_epoch), (-1, -1));
    }
}
