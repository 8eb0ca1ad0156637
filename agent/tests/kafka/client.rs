//! A client that sends any request at any version, and bytes that are no request at all.
//!
//! Owns: framing, correlation ids, patience: no test waits for ever.

use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::response_header::ResponseHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{Reader, Str, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    sent: i32,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, sent: 0 }
    }

    /// Sends a request; returns its correlation id.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.sent += 1;
        let frame = framed(version, self.sent, request);
        self.send_raw(&frame).await;
        self.sent
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame without its length; `None` when the broker has closed the connection.
    pub(crate) async fn receive_raw(&mut self) -> Option<Bytes> {
        let read = async {
            let length = self.stream.read_i32().await.ok()?;
            let mut body = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Bytes::from(body))
        };
        timeout(PATIENCE, read).await.expect("the broker does not answer")
    }

    /// The next answer, which must be one to `R`, with its correlation id. Nothing may follow it in its frame.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.receive_raw().await;
        let frame = frame.unwrap_or_else(|| panic!("{} version {version}: connection closed", R::NAME));
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).unwrap();
        let response = <R::Response as Message>::decode(&mut reader, version)
            .unwrap_or_else(|cause| panic!("answer to {} version {version}: {cause}", R::NAME));
        reader.finish().unwrap();
        (header.correlation_id, response)
    }

    /// Sends a request and awaits its answer.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (answered, response) = self.receive::<R>(version).await;
        assert_eq!(answered, sent, "{} version {version}", R::NAME);
        response
    }

    /// Asserts that the broker closes the connection without another word.
    pub(crate) async fn is_closed(&mut self) {
        if let Some(frame) = self.receive_raw().await {
            panic!("{} bytes instead of the end of the connection", frame.len());
        }
    }
}

/// A request as it goes over the wire, length first.
pub(crate) fn framed<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let mut writer = Writer::framed();
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: Some(Str::from_static("test")),
    };
    header
        .encode(&mut writer, R::KEY.request_header_version(version))
        .unwrap();
    request
        .encode(&mut writer, version)
        .unwrap_or_else(|cause| panic!("{} version {version}: {cause}", R::NAME));
    writer.into_bytes().unwrap()
}
