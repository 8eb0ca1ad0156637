//! What the services share: the agent, and the limits that hold for all calls.
//!
//! Owns: who calls (the context that Kafka handlers want), sizes of messages.
//! Does not own: the calls themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use esker_kafka::Str;
use tokio_util::task::TaskTracker;
use tonic::Request;

use super::calls::Caller;
use super::contents::Contents;
use super::incoming::Peer;
use super::limits::Received;
use super::readers::{Readers, Share};
use crate::agent::Agent;
use crate::kafka::budget::ByteBudget;
use crate::kafka::connection::ConnectionContext;

/// Largest message that a client may send: records, and everything else.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
pub(super) const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Metadata by which a client says what it calls itself; agents read its zone from it (`zone=…`), as they do for Kafka clients.
const CLIENT_ID: &str = "client-id";
/// What a client is called that does not say.
const CLIENT_ID_DEFAULT: Str = Str::from_static("grpc");

/// What the services share. Clones share it.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) agent: Arc<Agent>,
    budget: ByteBudget,
    calls: Arc<AtomicU64>,
    /// Members of groups, who outlive their streams until they have left.
    pub(super) tasks: TaskTracker,
    /// Of batches of `ProduceStream`.
    pub(super) contents: Contents,
    /// Reads that are open.
    readers: Readers,
    /// Turns with each call whose records have no key.
    turn: Arc<AtomicU32>,
}

impl Served {
    pub(super) fn new(agent: Arc<Agent>, budget: ByteBudget) -> Self {
        Self {
            agent,
            budget,
            calls: Arc::default(),
            tasks: TaskTracker::new(),
            contents: Contents::default(),
            readers: Readers::default(),
            turn: Arc::default(),
        }
    }

    /// Calls Kafka handlers on behalf of who sent this request.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Caller {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (peer, local) = match request.extensions().get::<Peer>() {
            Some(peer) => (peer.address, peer.local),
            None => (unknown, unknown),
        };
        let client_id = request.metadata().get(CLIENT_ID).and_then(|id| id.to_str().ok());
        Caller {
            agent: Arc::clone(&self.agent),
            budget: self.budget.clone(),
            received: request.extensions().get::<Received>().cloned().unwrap_or_default(),
            client_id: client_id.map_or(CLIENT_ID_DEFAULT, Str::from),
            connection: ConnectionContext {
                id: self.calls.fetch_add(1, Ordering::Relaxed),
                peer,
                local,
            },
        }
    }

    /// Counts the call as one that reads, until its answer has been taken; says what it may hold.
    pub(super) fn reader(&self, caller: &Caller) -> Share {
        let (reader, share) = self.readers.open();
        caller.received.keep(reader);
        share
    }

    /// Another number with each call.
    pub(super) fn turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}
