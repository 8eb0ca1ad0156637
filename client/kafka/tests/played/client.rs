//! A client of a cluster that misbehaves.

use std::time::Duration;

use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_kafka::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::heartbeat_response::HeartbeatResponse;
use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka::messages::offset_fetch_request::OffsetFetchRequest;
use esker_kafka::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use esker_kafka::{ApiKey, ErrorCode};
use esker_kafka_client::{Client, Error, HostPort, Repeat, Settings, To};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{agree, answer, heard, listed, next, settings, stage};

#[tokio::test]
async fn nobody_there_is_told_at_once_with_every_address() {
    let (listener, address) = stage().await;
    drop(listener);
    let error = Client::new(settings(&address)).connection(To::Any).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { tried } if tried.len() == 1 && tried[0].0 == address),
        "{error}"
    );
}

/// Short, and with all the time to try again.
fn hasty(bootstrap: Vec<HostPort>) -> Settings {
    Settings {
        bootstrap,
        connect_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(300),
        ..settings(&HostPort::parse("127.0.0.1:1").unwrap())
    }
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left_for_another() {
    let (first, first_at) = stage().await;
    let (second, second_at) = stage().await;
    let client = Client::new(hasty(vec![first_at.clone(), second_at.clone()]));
    // As a stopped process does: it agrees once, and nothing comes from it any more; the system still takes connections.
    let silent = async {
        let (mut stream, _) = first.accept().await.unwrap();
        agree(&mut stream).await;
        stream
    };
    let (_stream, connection) = tokio::join!(silent, client.connection(To::Any));
    assert_eq!(*connection.unwrap().address(), first_at);
    let alive = async {
        let (mut stream, _) = second.accept().await.unwrap();
        agree(&mut stream).await;
        let header = heard(&mut stream).await;
        assert_eq!(header.request_api_key, ApiKey::Metadata.code());
        let told = listed(&[(1, &second_at)], 1);
        answer::<MetadataRequest>(&mut stream, header.correlation_id, header.request_api_version, &told).await;
        stream
    };
    let (_stream, nodes) = tokio::join!(alive, client.nodes());
    assert_eq!(nodes.unwrap()[0].address, second_at);
}

/// Plays a cluster of one node, 1, until the client hangs up; returns what was asked. The first answers to `Metadata` say that node 2
/// leads, which nobody knows; coordinators answer for an open transaction at first.
async fn play(listener: TcpListener, at: HostPort) -> Vec<ApiKey> {
    let (mut stream, _) = listener.accept().await.unwrap();
    agree(&mut stream).await;
    let mut asked: Vec<ApiKey> = Vec::new();
    while let Some((header, mut body)) = next(&mut stream).await {
        let api = ApiKey::try_from(header.request_api_key).unwrap();
        asked.push(api);
        let times = asked.iter().filter(|one| **one == api).count();
        let (id, version) = (header.correlation_id, header.request_api_version);
        match api {
            ApiKey::Metadata => {
                let told = listed(&[(1, &at)], if times <= 2 { 2 } else { 1 });
                answer::<MetadataRequest>(&mut stream, id, version, &told).await;
            }
            ApiKey::Heartbeat => {
                answer::<HeartbeatRequest>(&mut stream, id, version, &HeartbeatResponse::default()).await;
            }
            ApiKey::CreateTopics => {
                let told = CreateTopicsResponse {
                    topics: vec![CreatableTopicResult {
                        name: "new".into(),
                        error_code: ErrorCode::RequestTimedOut as i16,
                        ..CreatableTopicResult::default()
                    }],
                    ..CreateTopicsResponse::default()
                };
                answer::<CreateTopicsRequest>(&mut stream, id, version, &told).await;
            }
            ApiKey::FindCoordinator => {
                let told = FindCoordinatorResponse {
                    coordinators: vec![Coordinator {
                        key: "g".into(),
                        node_id: 1,
                        host: at.host.as_str().into(),
                        port: at.port.into(),
                        ..Coordinator::default()
                    }],
                    ..FindCoordinatorResponse::default()
                };
                answer::<FindCoordinatorRequest>(&mut stream, id, version, &told).await;
            }
            ApiKey::OffsetFetch => {
                let request = OffsetFetchRequest::decode(&mut body, version).unwrap();
                assert!(request.require_stable);
                on_offset_fetch(&mut stream, id, version, times == 1).await;
            }
            other => panic!("{other} was not to be asked"),
        }
    }
    asked
}

async fn on_offset_fetch(stream: &mut TcpStream, id: i32, version: i16, unstable: bool) {
    let unstable_code = ErrorCode::UnstableOffsetCommit as i16;
    let partition = OffsetFetchResponsePartitions {
        partition_index: 0,
        committed_offset: if unstable { -1 } else { 5 },
        error_code: if unstable { unstable_code } else { 0 },
        ..OffsetFetchResponsePartitions::default()
    };
    let told = OffsetFetchResponse {
        groups: vec![OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: vec![OffsetFetchResponseTopics {
                name: "t".into(),
                partitions: vec![partition],
                ..OffsetFetchResponseTopics::default()
            }],
            ..OffsetFetchResponseGroup::default()
        }],
        ..OffsetFetchResponse::default()
    };
    answer::<OffsetFetchRequest>(stream, id, version, &told).await;
}

#[tokio::test]
async fn a_leader_that_nobody_knows_is_asked_for_again() {
    let (listener, at) = stage().await;
    let client = Client::new(settings(&at));
    let playing = tokio::spawn(play(listener, at));
    let (to, request) = (To::Leader("t", 0), HeartbeatRequest::default());
    let answered = client.call(to, Repeat::Harmful, &request, |_| Ok(()));
    answered.await.unwrap();
    drop(client);
    assert_eq!(playing.await.unwrap().last(), Some(&ApiKey::Heartbeat));
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let (listener, at) = stage().await;
    let client = Client::new(settings(&at));
    let playing = tokio::spawn(play(listener, at));
    let topic = CreatableTopic {
        name: "new".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let error = client.create_topic(topic).await.unwrap_err();
    assert!(error.is(ErrorCode::RequestTimedOut), "{error}");
    drop(client);
    let asked = playing.await.unwrap();
    assert_eq!(
        asked.iter().filter(|api| **api == ApiKey::CreateTopics).count(),
        1,
        "{asked:?}"
    );
}

#[tokio::test]
async fn an_offset_of_an_open_transaction_is_waited_for() {
    let (listener, at) = stage().await;
    let client = Client::new(settings(&at));
    let playing = tokio::spawn(play(listener, at));
    let committed = client.stable_committed("g").await.unwrap();
    assert_eq!(committed[&("t".to_owned(), 0)].offset, 5);
    drop(client);
    let asked = playing.await.unwrap();
    assert_eq!(
        asked.iter().filter(|api| **api == ApiKey::OffsetFetch).count(),
        2,
        "{asked:?}"
    );
}
