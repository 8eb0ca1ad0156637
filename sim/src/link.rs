//! A client's connection: Kafka frames over an in-memory stream, answers in the order of requests.
//!
//! Owns: headers, correlation ids, time-outs.
//! Does not own: what is asked.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::response_header::ResponseHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{Reader, Str, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::fleet::Fleet;

/// The connection is gone, or not worth keeping: nobody knows what became of unanswered requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// How long a client waits for an answer before it takes another connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub(crate) struct Link {
    stream: DuplexStream,
    sent: i32,
    unanswered: VecDeque<i32>,
}

impl Link {
    /// Connects as soon as there is a node to connect to.
    pub(crate) async fn open(fleet: &Fleet) -> Self {
        Self {
            stream: fleet.connect().await,
            sent: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// Sends a request.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), Gone> {
        self.sent += 1;
        let header = RequestHeader {
            request_api_key: R::KEY.code(),
            request_api_version: version,
            correlation_id: self.sent,
            client_id: Some(Str::from_static("sim")),
        };
        let mut writer = Writer::framed();
        let encoded = header
            .encode(&mut writer, R::KEY.request_header_version(version))
            .and_then(|()| request.encode(&mut writer, version));
        encoded.expect("the simulated client asks in versions that can say it");
        let chunks = writer.finish().expect("requests are small");
        self.unanswered.push_back(self.sent);
        for chunk in chunks {
            self.stream.write_all(&chunk).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Takes the answer to the oldest request that has none.
    ///
    /// # Panics
    /// When what comes is not the answer to that request: no client could go on.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response, Gone> {
        let frame = tokio::time::timeout(PATIENCE, self.frame()).await.map_err(|_| Gone)??;
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version));
        let header = header.expect("answers have a header");
        assert_eq!(
            Some(header.correlation_id),
            self.unanswered.pop_front(),
            "answers come in order"
        );
        Ok(R::Response::decode(&mut reader, version).expect("answers can be read"))
    }

    /// Asks and waits.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Gone> {
        self.send(version, request).await?;
        self.receive::<R>(version).await
    }

    async fn frame(&mut self) -> Result<Bytes, Gone> {
        let length = self.stream.read_u32().await.map_err(|_| Gone)?;
        let mut frame = vec![0; usize::try_from(length).expect("32 bits fit")];
        self.stream.read_exact(&mut frame).await.map_err(|_| Gone)?;
        Ok(Bytes::from(frame))
    }
}
