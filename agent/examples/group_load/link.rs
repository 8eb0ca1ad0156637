//! One connection to a broker: a request, then its answer.
//!
//! Owns: framing, correlation ids, patience.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::response_header::ResponseHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{Reader, Str, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take. Joining waits for other members.
const PATIENCE: Duration = Duration::from_secs(120);
/// What it calls itself.
const NAME: &str = "group-load";
const LENGTH_BYTES: usize = 4;

/// A connection.
pub(crate) struct Link {
    stream: TcpStream,
    sent: i32,
    got: BytesMut,
}

impl Link {
    pub(crate) async fn open(address: &str) -> Self {
        let opening = timeout(PATIENCE, TcpStream::connect(address));
        let stream = opening.await.expect("the broker accepts").unwrap();
        stream.set_nodelay(true).unwrap();
        let mut link = Self {
            stream,
            sent: 0,
            got: BytesMut::new(),
        };
        // Brokers do not keep connections for long on which nothing was ever said.
        let hello = ApiVersionsRequest {
            client_software_name: Str::from(NAME),
            client_software_version: Str::from("1"),
        };
        assert_eq!(link.call(3, &hello).await.error_code, 0);
        link
    }

    /// Sends a request and awaits its answer.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.sent += 1;
        let header = RequestHeader {
            request_api_key: R::KEY.code(),
            request_api_version: version,
            correlation_id: self.sent,
            client_id: Some(Str::from(NAME)),
        };
        let mut writer = Writer::framed();
        header
            .encode(&mut writer, R::KEY.request_header_version(version))
            .unwrap();
        request.encode(&mut writer, version).unwrap();
        for chunk in writer.finish().unwrap() {
            self.stream.write_all(&chunk).await.unwrap();
        }
        let answer = timeout(PATIENCE, self.frame());
        let frame = answer
            .await
            .unwrap_or_else(|_| panic!("{} is not answered", R::KEY.name()));
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.sent, "answers come in order");
        <R::Response as Message>::decode(&mut reader, version).unwrap()
    }

    async fn frame(&mut self) -> bytes::Bytes {
        while self.got.len() < LENGTH_BYTES {
            self.read().await;
        }
        let length = usize::try_from(self.got.get_i32()).unwrap();
        while self.got.len() < length {
            self.read().await;
        }
        self.got.split_to(length).freeze()
    }

    async fn read(&mut self) {
        let count = self.stream.read_buf(&mut self.got).await.unwrap();
        assert!(count > 0, "the broker closed the connection");
    }
}
