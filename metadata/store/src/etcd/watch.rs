//! One watch over one stream.
//!
//! Owns: opening it, putting fragments together, noticing what etcd should never do.
//! Does not own: taking it up again; after any error its consumer reads a snapshot and watches anew.
//!
//! Invariants: revisions rise, and the events of one come together.

use etcd_client::{Client, GetOptions, WatchOptions, WatchResponse, WatchStream};

use async_trait::async_trait;

use super::calls::{ANSWER_BYTES_MAX, Call, Calls, get_over};
use super::connection::{Connection, Generation};
use super::fault::Fault;
use super::translate::{Namespace, from_etcd, to_etcd};
use crate::signal;
use crate::store::{MetadataError, Revision, Watch, WatchEvent};

const WATCH: Call = Call {
    name: "watch",
    reads: true,
};

/// Events of an unfinished revision that are held; the most that a transaction or the end of a lease can have, and more.
const HELD_MAX: usize = 1 << 16;

/// A watch that works.
pub(super) struct EtcdWatch {
    stream: WatchStream,
    namespace: Namespace,
    /// Everything before this revision was delivered.
    next: Revision,
    /// Fragments of an answer that is not whole.
    held: Vec<WatchEvent>,
    generation: Generation,
    alive: signal::Receiver<Generation>,
}

/// Opens a watch on all keys that begin with `prefix`.
pub(super) async fn open(
    calls: &Calls,
    namespace: &Namespace,
    prefix: &[u8],
    from: Revision,
) -> Result<EtcdWatch, MetadataError> {
    let send = |connection: Connection| {
        let range = namespace.range(prefix);
        async move {
            let generation = connection.generation;
            let stream = create(&connection.client, range, from).await?;
            Ok((generation, stream))
        }
    };
    let (generation, stream) = calls.call(WATCH, send).await.map_err(Fault::into_failed)?;
    Ok(EtcdWatch {
        stream: stream?,
        namespace: namespace.clone(),
        next: from,
        held: Vec::new(),
        generation,
        alive: calls.connections().alive(),
    })
}

async fn create(
    client: &Client,
    (begin, end): (Vec<u8>, Vec<u8>),
    from: Revision,
) -> Result<Result<WatchStream, MetadataError>, Fault> {
    let options = WatchOptions::new()
        .with_range(end)
        .with_start_revision(to_etcd(from).max(1))
        .with_progress_notify()
        .with_fragment();
    let mut watches = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut stream = watches
        .watch(begin.clone(), Some(options))
        .await
        .map_err(|error| Fault::of(WATCH.name, &error))?;
    let created = message(&mut stream).await?;
    if let Some(over) = cancelled(&created) {
        return Ok(Err(over));
    }
    if !created.created() {
        return Err(Fault::nonsense("a watch was not created first"));
    }
    let now = created
        .header()
        .map_or(Revision(0), |header| from_etcd(header.revision()));
    if from <= now && is_compacted(client, begin, from).await? {
        // etcd says so a little later.
        let over = loop {
            if let Some(over) = cancelled(&message(&mut stream).await?) {
                break over;
            }
        };
        return Ok(Err(over));
    }
    Ok(Ok(stream))
}

/// Whether the history at a revision is gone, as the member knows that we are connected to.
async fn is_compacted(client: &Client, key: Vec<u8>, revision: Revision) -> Result<bool, Fault> {
    let options = GetOptions::new()
        .with_revision(to_etcd(revision).max(1))
        .with_serializable()
        .with_count_only();
    match get_over(client, key, options).await {
        Ok(_) => Ok(false),
        Err(fault) if fault.compacted => Ok(true),
        Err(fault) => Err(fault),
    }
}

async fn message(stream: &mut WatchStream) -> Result<WatchResponse, Fault> {
    match stream.message().await {
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err(Fault::nonsense("watch stream ended")),
        Err(error) => Err(Fault::of(WATCH.name, &error)),
    }
}

fn cancelled(response: &WatchResponse) -> Option<MetadataError> {
    if response.compact_revision() > 0 {
        let oldest = from_etcd(response.compact_revision());
        return Some(MetadataError::Compacted { oldest });
    }
    response
        .canceled()
        .then(|| MetadataError::Failed(format!("etcd: watch cancelled: {}", response.cancel_reason())))
}

impl EtcdWatch {
    /// Takes in an answer; the events that are whole now.
    fn on_response(&mut self, response: &WatchResponse) -> Result<Vec<WatchEvent>, MetadataError> {
        if let Some(over) = cancelled(response) {
            return Err(over);
        }
        for event in response.events() {
            let event = self
                .namespace
                .event(event)
                .ok_or_else(|| failed("an event of another key"))?;
            let floor = self.held.last().map_or(self.next, WatchEvent::revision);
            if event.revision() < floor {
                return Err(failed("a watch went back to an older revision"));
            }
            self.held.push(event);
        }
        if response.0.fragment {
            if self.held.len() > HELD_MAX {
                return Err(failed("a watch does not finish a revision"));
            }
            return Ok(Vec::new());
        }
        if let Some(last) = self.held.last() {
            self.next = Revision(last.revision().0 + 1);
        }
        Ok(std::mem::take(&mut self.held))
    }
}

fn failed(why: &str) -> MetadataError {
    MetadataError::Failed(format!("etcd: {why}"))
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Vec<WatchEvent>, MetadataError> {
        loop {
            let generation = self.generation;
            let response = tokio::select! {
                biased;
                response = message(&mut self.stream) => response.map_err(Fault::into_failed)?,
                _given_up = self.alive.wait_for(|alive| alive > generation) => {
                    return Err(failed("the connection of the watch was given up"));
                }
            };
            let events = self.on_response(&response)?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
