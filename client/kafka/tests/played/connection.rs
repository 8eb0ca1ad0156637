//! A connection against a peer that does what it should not: it ends, it says so, and it neither waits for ever nor takes a number for a
//! size.

use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::heartbeat_response::HeartbeatResponse;
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::{ApiKey, ErrorCode, Records};
use esker_kafka_client::{Connection, Error};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::stage::{PATIENCE, agree, answer, heard, settings, stage, versions};

/// A broker that has agreed on versions, and the connection to it.
async fn connected() -> (TcpStream, Connection) {
    let (listener, address) = stage().await;
    let settings = settings(&address);
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        agree(&mut stream).await;
        stream
    };
    let (stream, connection) = tokio::join!(broker, Connection::open(&address, &settings));
    (stream, connection.unwrap())
}

fn beat(throttle_time_ms: i32) -> HeartbeatResponse {
    HeartbeatResponse {
        throttle_time_ms,
        ..HeartbeatResponse::default()
    }
}

#[tokio::test]
async fn many_requests_are_in_flight_and_each_gets_its_answer() {
    let (mut stream, connection) = connected().await;
    let mut replies = Vec::new();
    for _ in 0..500 {
        replies.push(connection.send(&HeartbeatRequest::default()).await.unwrap());
    }
    // Nothing was answered so far.
    for nth in 0..500 {
        let header = heard(&mut stream).await;
        assert_eq!(header.request_api_version, 4);
        answer::<HeartbeatRequest>(&mut stream, header.correlation_id, 4, &beat(nth)).await;
    }
    for (nth, reply) in (0..).zip(replies) {
        assert_eq!(reply.within(PATIENCE).await.unwrap().throttle_time_ms, nth);
    }
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_not_asked_again_on_this_connection() {
    let (mut stream, connection) = connected().await;
    let hasty = connection.send(&HeartbeatRequest::default()).await.unwrap();
    let patient = connection.send(&HeartbeatRequest::default()).await.unwrap();
    let error = hasty.within(Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Late {
                api: ApiKey::Heartbeat,
                ..
            }
        ),
        "{error}"
    );
    assert!(!connection.is_open());
    let error = patient.within(PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    // It was not by the broker's doing.
    heard(&mut stream).await;
}

#[tokio::test]
async fn what_has_no_answer_is_sent_when_the_socket_has_taken_it() {
    let (mut stream, connection) = connected().await;
    // More than sockets hold: it cannot be sent while nobody reads.
    let request = ProduceRequest {
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Records::from(Bytes::from(vec![0; 64 << 20]))),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let posted = connection.post(&request).await.unwrap();
    let mut flushed = Box::pin(posted.within(PATIENCE));
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut flushed)
            .await
            .is_err()
    );
    let (header, flushed) = tokio::join!(heard(&mut stream), flushed);
    flushed.unwrap();
    assert_eq!(header.request_api_key, ApiKey::Produce.code());

    let posted = connection.post(&request).await.unwrap();
    drop(stream);
    assert!(matches!(posted.within(PATIENCE).await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_connection_for_all_who_wait() {
    let (mut stream, connection) = connected().await;
    let first = connection.send(&HeartbeatRequest::default()).await.unwrap();
    let second = connection.send(&HeartbeatRequest::default()).await.unwrap();
    heard(&mut stream).await;
    let header = heard(&mut stream).await;
    answer::<HeartbeatRequest>(&mut stream, header.correlation_id, 4, &beat(0)).await;
    for reply in [first, second] {
        let error = reply.within(PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("came instead of"), "{error}");
    }
    assert!(!connection.is_open());
    let error = connection.send(&HeartbeatRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_length_is_no_reason_to_wait_or_to_take_memory() {
    for announced in [i32::MAX, -1] {
        let (mut stream, connection) = connected().await;
        let reply = connection.send(&HeartbeatRequest::default()).await.unwrap();
        stream.write_i32(announced).await.unwrap();
        let error = reply.within(PATIENCE).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("announces an answer of {announced} bytes")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_with_the_request() {
    let (mut stream, connection) = connected().await;
    let reply = connection.send(&HeartbeatRequest::default()).await.unwrap();
    let header = heard(&mut stream).await;
    stream.write_i32(5).await.unwrap();
    stream.write_i32(header.correlation_id).await.unwrap();
    stream.write_u8(0).await.unwrap();
    let error = reply.within(PATIENCE).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Garbled {
                api: ApiKey::Heartbeat,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_api_without_a_version_in_common_is_not_sent() {
    let (_stream, connection) = connected().await;
    let error = connection.version(ApiKey::Fetch).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("does not know Fetch in versions 4 to 12, but in 13 to 18"),
        "{error}"
    );
    let error = connection.version(ApiKey::ListGroups).unwrap_err();
    assert!(matches!(error, Error::Unsupported { theirs: None, .. }), "{error}");
}

#[tokio::test]
async fn a_broker_older_than_the_question_is_understood() {
    let (listener, address) = stage().await;
    let settings = settings(&address);
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let header = heard(&mut stream).await;
        let refusal = versions(ErrorCode::UnsupportedVersion as i16);
        answer::<ApiVersionsRequest>(&mut stream, header.correlation_id, 0, &refusal).await;
        stream
    };
    let (_stream, connection) = tokio::join!(broker, Connection::open(&address, &settings));
    assert_eq!(connection.unwrap().version(ApiKey::Heartbeat).unwrap(), 4);
}
