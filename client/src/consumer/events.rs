//! The stream of a subscription: opened again when it is cut.
//!
//! Owns: one connection, when to give up.
//! Does not own: what to ask for then (`subscription`, `group`).

use esker_proto::v1::subscribe_event::Event;
use esker_proto::v1::{SubscribeEvent, SubscribeRequest};
use tokio::time::Instant;
use tonic::Streaming;

use crate::client::Client;
use crate::connections::Connection;
use crate::error::Error;
use crate::retry::Outage;

pub(super) struct Events {
    client: Client,
    stream: Option<Open>,
    /// Since the last event, something has failed.
    outage: Option<Outage>,
    /// No stream is opened before.
    retry_at: Option<Instant>,
}

struct Open {
    events: Streaming<SubscribeEvent>,
    connection: Connection,
    since: Instant,
}

/// What comes of a stream.
pub(super) enum Heard {
    Event(Event),
    /// It is no more; the next one is opened when somebody listens again.
    Cut,
}

impl Events {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            stream: None,
            outage: None,
            retry_at: None,
        }
    }

    /// Has a stream open.
    pub(super) async fn open(&mut self, request: &SubscribeRequest) -> Result<(), Error> {
        while self.stream.is_none() {
            if let Some(at) = self.retry_at {
                tokio::time::sleep_until(at).await;
                self.retry_at = None;
            }
            match self.try_open(request.clone()).await {
                Ok(open) => self.stream = Some(open),
                Err(error) => self.failed(error)?,
            }
        }
        Ok(())
    }

    /// What comes next. May be dropped before.
    pub(super) async fn next(&mut self, request: impl FnOnce() -> SubscribeRequest) -> Result<Heard, Error> {
        if self.stream.is_none() {
            self.open(&request()).await?;
        }
        let Some(open) = &mut self.stream else {
            return Ok(Heard::Cut);
        };
        let address = &open.connection.address;
        let error = match open.events.message().await {
            Ok(Some(SubscribeEvent { event: Some(event) })) => {
                self.outage = None;
                return Ok(Heard::Event(event));
            }
            Ok(Some(SubscribeEvent { event: None })) => Error::lost(address, "that is no event of this version"),
            Ok(None) => Error::lost(address, "it has ended the stream"),
            Err(status) => Error::of_status(&status, address),
        };
        self.client.shared.connections.turn_from(&open.connection);
        if open.since.elapsed() > self.client.shared.retry.longest_pause {
            self.outage = None;
        }
        self.stream = None;
        self.failed(error)?;
        Ok(Heard::Cut)
    }

    async fn try_open(&self, request: SubscribeRequest) -> Result<Open, Error> {
        let connections = &self.client.shared.connections;
        let connection = connections.connect().await?;
        let mut consumer = self.client.consumer_of(&connection);
        let timeout = self.client.shared.request_timeout;
        let opened = tokio::time::timeout(timeout, consumer.subscribe(self.client.request(request))).await;
        let error = match opened {
            Ok(Ok(events)) => {
                return Ok(Open {
                    events: events.into_inner(),
                    connection,
                    since: Instant::now(),
                });
            }
            Ok(Err(status)) => Error::of_status(&status, &connection.address),
            Err(_) => Error::lost(&connection.address, format!("no answer within {timeout:?}")),
        };
        connections.turn_from(&connection);
        Err(error)
    }

    /// There is to be another attempt after a pause, or none.
    fn failed(&mut self, error: Error) -> Result<(), Error> {
        if !error.passes() {
            return Err(error);
        }
        tracing::debug!(%error, "a subscription was cut");
        let policy = &self.client.shared.retry;
        let outage = self.outage.get_or_insert_with(|| Outage::new(policy));
        self.retry_at = Some(Instant::now() + outage.failed(policy, error)?);
        Ok(())
    }
}
