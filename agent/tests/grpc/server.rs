//! The listener itself: health, reflection, who may connect, how it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

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

/// What tools ask first of all, in the words of a version of reflection.
macro_rules! services_by_reflection {
    ($version:ident, $broker:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

        let mut reflection = ServerReflectionClient::new($broker.channel().await);
        let request = |asked| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(asked),
        };
        let symbol = MessageRequest::FileContainingSymbol("esker.v1.Producer".to_owned());
        let asked = [request(MessageRequest::ListServices(String::new())), request(symbol)];
        let answers = reflection.server_reflection_info(futures::stream::iter(asked)).await;
        let mut answers = answers.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("{answer:?}");
        };
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{answer:?}");
        };
        // As grpcurl does, to find out what a call wants.
        let described = files.file_descriptor_proto.concat();
        assert!(described.windows(13).any(|name| name == b"ProduceStream"));
        list.service
            .into_iter()
            .map(|service| service.name)
            .collect::<Vec<String>>()
    }};
}

#[tokio::test]
async fn reflection_names_every_service_to_new_and_old_tools() {
    let broker = Broker::start().await;
    for names in [
        services_by_reflection!(v1, broker),
        services_by_reflection!(v1alpha, broker),
    ] {
        let named = |service: &&str| names.iter().any(|name| name == service);
        assert!(SERVICES.iter().all(named), "{names:?}");
    }
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
