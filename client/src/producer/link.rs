//! The stream of a session: opening it, and what comes over it.
//!
//! Owns: one connection and what is sent over it.
//! Does not own: what is sent again over the next one (`session`).

use std::pin::Pin;

use esker_proto::v1;
use esker_proto::v1::produce_stream_request::{Open, Step};
use esker_proto::v1::produce_stream_response::{Opened as Begun, Step as Answer, StoredBatch};
use esker_proto::v1::{ProduceStreamRequest, ProduceStreamResponse};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tonic::{Status, Streaming};

use super::session::UNACKED_MAX;
use crate::client::{Client, is_of_the_agent};
use crate::connections::Connection;
use crate::error::Error;

/// Whether there is a stream.
pub(super) enum Link {
    Down,
    /// The last one was lost; the next attempt is at that time.
    Waiting(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<Opened, Error>>),
    Up(Box<Up>),
}

/// What has happened to it.
pub(super) enum Happened {
    Waited,
    Opened(Result<Opened, Error>),
    Answered(Result<Option<ProduceStreamResponse>, Status>),
}

/// A stream that an agent has opened.
pub(super) struct Opened {
    pub(super) up: Box<Up>,
    pub(super) session: v1::Session,
}

pub(super) struct Up {
    requests: mpsc::Sender<ProduceStreamRequest>,
    answers: Streaming<ProduceStreamResponse>,
    pub(super) connection: Connection,
    /// How many of the batches that are not acknowledged were sent over it.
    pub(super) sent: usize,
    /// The agent has refused a batch, and said what is stored.
    pub(super) refused: Option<Vec<StoredBatch>>,
}

impl Link {
    /// Returns when something has happened. May be dropped before.
    pub(super) async fn happened(&mut self) -> Happened {
        match self {
            Self::Down => std::future::pending().await,
            Self::Waiting(sleep) => {
                sleep.await;
                Happened::Waited
            }
            Self::Opening(opening) => Happened::Opened(opening.await),
            Self::Up(up) => Happened::Answered(up.answers.message().await),
        }
    }
}

impl Up {
    /// Sends a batch; whether the stream took it.
    pub(super) fn send(&mut self, step: Step) -> bool {
        let taken = self.requests.try_send(ProduceStreamRequest { step: Some(step) });
        self.sent += usize::from(taken.is_ok());
        taken.is_ok()
    }
}

/// Opens a stream at some agent.
pub(super) async fn open(client: Client, open: Open) -> Result<Opened, Error> {
    let connections = &client.shared.connections;
    let connection = connections.connect().await?;
    let timeout = client.shared.request_timeout;
    let opened = tokio::time::timeout(timeout, open_at(&client, connection.clone(), open)).await;
    let opened = opened.unwrap_or_else(|_| {
        Err(Error::lost(
            &connection.address,
            format!("no stream was opened within {timeout:?}"),
        ))
    });
    if let Err(error) = &opened
        && is_of_the_agent(error)
    {
        connections.turn_from(&connection);
    }
    opened
}

async fn open_at(client: &Client, connection: Connection, open: Open) -> Result<Opened, Error> {
    let failed = |status: Status| Error::of_status(&status, &connection.address);
    // Room for all that may be sent at a time.
    let (requests, mut sent) = mpsc::channel(UNACKED_MAX + 1);
    let first = ProduceStreamRequest {
        step: Some(Step::Open(open)),
    };
    requests
        .try_send(first)
        .expect("there is room, and the other side is here");
    let stream = futures::stream::poll_fn(move |cx| sent.poll_recv(cx));
    let request = client.request(stream);
    let answered = client.producer_of(&connection).produce_stream(request).await;
    let mut answers = answered.map_err(failed)?.into_inner();
    let first = answers.message().await.map_err(failed)?;
    let Some(Answer::Opened(Begun { session: Some(session) })) = first.and_then(|first| first.step) else {
        return Err(Error::lost(&connection.address, "the first answer names no session"));
    };
    Ok(Opened {
        up: Box::new(Up {
            requests,
            answers,
            connection,
            sent: 0,
            refused: None,
        }),
        session,
    })
}
