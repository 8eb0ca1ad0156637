//! Keeping leases alive, over a connection and streams of their own.
//!
//! Owns: one stream a lease, taken up again when it breaks.
//!
//! Invariants: a stream that failed or was left in the middle of an answer is never used again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Error, LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::timeout;

use super::connection::{Connections, Generation};
use super::fault::Fault;
use super::translate;
use crate::store::{LeaseId, MetadataError};

/// Streams that are kept open. A process has one lease, or two while it changes its session.
const STREAMS_MAX: usize = 8;

struct Stream {
    generation: Generation,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// The streams.
pub(super) struct KeepAlives {
    connections: Connections,
    streams: Mutex<BTreeMap<LeaseId, Stream>>,
}

impl std::fmt::Debug for KeepAlives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeepAlives").finish_non_exhaustive()
    }
}

impl KeepAlives {
    pub(super) const fn new(connections: Connections) -> Self {
        Self {
            connections,
            streams: Mutex::new(BTreeMap::new()),
        }
    }

    /// Keeps a lease alive; at most at two endpoints, for leases are short.
    pub(super) async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        let mut attempts = self.connections.settings().endpoints.len().min(2);
        loop {
            attempts -= 1;
            match self.attempt(lease).await {
                Ok(ttl) => return Ok(ttl),
                Err(fault) if fault.blames_endpoint && attempts > 0 => {}
                Err(fault) => return Err(fault.into_error()),
            }
        }
    }

    /// Lets go of a lease's stream.
    pub(super) fn forget(&self, lease: LeaseId) {
        self.with(|streams| streams.remove(&lease));
    }

    async fn attempt(&self, lease: LeaseId) -> Result<Option<Duration>, Fault> {
        let connection = self.connections.get().await?;
        let generation = connection.generation;
        // Taken out while it is in use: whoever drops this future drops it as well.
        let open = self.with(|streams| streams.remove(&lease));
        let open = open.filter(|stream| stream.generation == generation);
        let patience = self.connections.settings().keep_alive_timeout;
        let asked = timeout(patience, ask(&connection.client, generation, open, lease)).await;
        match asked.unwrap_or_else(|_elapsed| Err(Fault::timed_out("keep-alive"))) {
            Ok(None) => Ok(None),
            Ok(Some((stream, ttl))) => {
                self.with(|streams| {
                    if streams.len() >= STREAMS_MAX {
                        streams.pop_first();
                    }
                    streams.insert(lease, stream);
                });
                Ok(Some(ttl))
            }
            Err(fault) => {
                self.connections.give_up(generation, &fault);
                Err(fault)
            }
        }
    }

    fn with<T>(&self, with: impl FnOnce(&mut BTreeMap<LeaseId, Stream>) -> T) -> T {
        with(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One keep-alive over a stream. The answer to the one that opens a stream does not reach us whole, so there is another.
async fn ask(
    client: &Client,
    generation: Generation,
    open: Option<Stream>,
    lease: LeaseId,
) -> Result<Option<(Stream, Duration)>, Fault> {
    let fault = |error: Error| Fault::of("keep-alive", &error);
    let mut stream = match open {
        Some(stream) => stream,
        None => match client.lease_client().keep_alive(lease.0).await {
            Ok((keeper, answers)) => Stream {
                generation,
                keeper,
                answers,
            },
            // How the crate says that the TTL was 0.
            Err(Error::LeaseKeepAliveError(why)) if why == "lease not found" => return Ok(None),
            Err(error) => return Err(fault(error)),
        },
    };
    stream.keeper.keep_alive().await.map_err(fault)?;
    let answer = stream.answers.message().await.map_err(fault)?;
    let answer = answer.ok_or_else(|| Fault::nonsense("keep-alive stream ended"))?;
    Ok(translate::ttl(answer.ttl()).map(|ttl| (stream, ttl)))
}
