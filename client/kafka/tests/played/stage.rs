//! A broker that is played: it hears requests and answers what the test has it answer.

use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use esker_kafka::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::response_header::ResponseHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{ApiKey, Reader, Writer};
use esker_kafka_client::{HostPort, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where a broker can be played.
pub(crate) async fn stage() -> (TcpListener, HostPort) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostPort::of(listener.local_addr().unwrap());
    (listener, address)
}

pub(crate) fn settings(address: &HostPort) -> Settings {
    Settings {
        request_timeout: PATIENCE,
        frame_bytes_max: 1 << 20,
        ..Settings::new(vec![address.clone()])
    }
}

/// The next request: its header, and what follows it. None if there is none any more.
pub(crate) async fn next(stream: &mut TcpStream) -> Option<(RequestHeader, Reader)> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut frame).await.ok()?;
    let api = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let mut reader = Reader::new(Bytes::from(frame));
    let header = RequestHeader::decode(&mut reader, api.request_header_version(version)).unwrap();
    Some((header, reader))
}

/// The header of the next request.
pub(crate) async fn heard(stream: &mut TcpStream) -> RequestHeader {
    next(stream).await.unwrap().0
}

pub(crate) async fn answer<R: Request>(
    stream: &mut TcpStream,
    correlation_id: i32,
    version: i16,
    response: &R::Response,
) {
    let mut writer = Writer::framed();
    let header = ResponseHeader { correlation_id };
    header
        .encode(&mut writer, R::KEY.response_header_version(version))
        .unwrap();
    response.encode(&mut writer, version).unwrap();
    stream.write_all(&writer.into_bytes().unwrap()).await.unwrap();
}

pub(crate) fn versions(error_code: i16) -> ApiVersionsResponse {
    let offered = [
        (ApiKey::ApiVersions, 0, 3),
        (ApiKey::Heartbeat, 0, 4),
        (ApiKey::Fetch, 13, 18),
        (ApiKey::Metadata, 0, 12),
        (ApiKey::Produce, 3, 11),
        (ApiKey::FindCoordinator, 4, 6),
        (ApiKey::OffsetFetch, 8, 9),
        (ApiKey::CreateTopics, 2, 7),
    ];
    let keys = offered.map(|(api, min_version, max_version)| ApiVersion {
        api_key: api.code(),
        min_version,
        max_version,
    });
    ApiVersionsResponse {
        error_code,
        api_keys: keys.to_vec(),
        ..ApiVersionsResponse::default()
    }
}

/// Answers what is asked first on every connection.
pub(crate) async fn agree(stream: &mut TcpStream) {
    let header = heard(stream).await;
    let version = header.request_api_version;
    answer::<ApiVersionsRequest>(stream, header.correlation_id, version, &versions(0)).await;
}

/// A cluster of these nodes, with a topic `t` of three partitions that are led by `leader`.
pub(crate) fn listed(nodes: &[(i32, &HostPort)], leader: i32) -> MetadataResponse {
    let brokers = nodes.iter().map(|(node_id, at)| MetadataResponseBroker {
        node_id: *node_id,
        host: at.host.as_str().into(),
        port: at.port.into(),
        ..MetadataResponseBroker::default()
    });
    let partitions = (0..3).map(|partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: leader,
        ..MetadataResponsePartition::default()
    });
    MetadataResponse {
        brokers: brokers.collect(),
        topics: vec![MetadataResponseTopic {
            name: Some("t".into()),
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        }],
        controller_id: nodes[0].0,
        ..MetadataResponse::default()
    }
}
