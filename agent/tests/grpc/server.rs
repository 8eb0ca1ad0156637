//! The listener itself: health, reflection, who may connect, how it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::broker::Broker;

#[tokio::test]
async fn health_is_told() {
    let broker = Broker::start().await;
    let mut health = HealthClient::new(broker.channel().await);
    for service in ["", "esker.v1.Producer", "esker.v1.Consumer", "esker.v1.Admin"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
}

const SERVICES: [&str; 4] = [
    "esker.v1.Producer",
    "esker.v1.Consumer",
    "esker.v1.Admin",
    "grpc.health.v1.Health",
];

#[tokio::test]
async fn reflection_names_every_service() {
    let broker = Broker::start().await;
    let mut reflection = ServerReflectionClient::new(broker.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection
        .server_reflection_info(futures::stream::iter([request]))
        .await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
}

#[tokio::test]
async fn reflection_is_there_for_older_tools_too() {
    use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;

    let broker = Broker::start().await;
    let mut reflection = ServerReflectionClient::new(broker.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection
        .server_reflection_info(futures::stream::iter([request]))
        .await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
}

#[tokio::test]
async fn who_does_not_speak_http2_is_let_go() {
    let broker = Broker::start().await;
    let mut stream = TcpStream::connect(broker.grpc).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: esker\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let _closed_or_reset = ended.expect("the connection stays");
    broker.channel().await;
}

#[tokio::test]
async fn an_agent_with_connected_clients_ends() {
    let broker = Broker::start().await;
    let _idle = broker.channel().await;
    let _silent = TcpStream::connect(broker.grpc).await.unwrap();
    broker.stop().await.unwrap();
}
