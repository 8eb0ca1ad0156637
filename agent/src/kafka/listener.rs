//! The Kafka listener: takes connections in, within limits.
//!
//! Owns: how many connections there may be, in total and per address; their tasks.
//! Does not own: what happens on one (`connection`).
//!
//! Invariants: MEM-1.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::budget::ByteBudget;
use super::connection::{self, ConnectionContext, ConnectionLimits, Service};

/// How long to wait after the system refused a connection (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to get their last answers.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Limits of a listener; plain data.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// `max.connections`.
    pub connections_max: usize,
    /// `max.connections.per.ip`.
    pub connections_per_address_max: usize,
    /// Limits of each connection.
    pub connection: ConnectionLimits,
}

/// Accepts connections until told to stop, then gives them a while to get the answers to what they had sent.
pub async fn run(
    listener: TcpListener,
    service: Arc<dyn Service>,
    budget: ByteBudget,
    limits: ListenerLimits,
    stop: CancellationToken,
) {
    let admission = Arc::new(Admission::new(limits));
    let next_id = AtomicU64::new(1);
    let tracker = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Some(place) = Admission::enter(&admission, peer.ip()) else {
            continue;
        };
        let Some(context) = prepare(&stream, &next_id) else {
            continue;
        };
        let (service, budget, stop) = (Arc::clone(&service), budget.clone(), stop.clone());
        tracker.spawn(async move {
            connection::run(stream, context, service, budget, limits.connection, stop).await;
            drop(place);
        });
    }
    // Who comes now shall go elsewhere.
    drop(listener);
    tracker.close();
    if tokio::time::timeout(DRAIN_MAX, tracker.wait()).await.is_err() {
        info!(
            connections = tracker.len(),
            "closing connections that still wait for an answer"
        );
    }
    info!("kafka listener closed");
}

fn prepare(stream: &TcpStream, next_id: &AtomicU64) -> Option<ConnectionContext> {
    stream.set_nodelay(true).ok()?;
    Some(ConnectionContext {
        id: next_id.fetch_add(1, Ordering::Relaxed),
        peer: stream.peer_addr().ok()?,
        local: stream.local_addr().ok()?,
    })
}

/// Who is connected.
pub(crate) struct Admission {
    limits: ListenerLimits,
    connected: Mutex<Connected>,
}

#[derive(Default)]
struct Connected {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; leaving is dropping it.
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(limits: ListenerLimits) -> Self {
        Self {
            limits,
            connected: Mutex::default(),
        }
    }

    pub(crate) fn enter(admission: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut connected = admission.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let here = connected.by_address.get(&address).copied().unwrap_or(0);
        if connected.total >= admission.limits.connections_max || here >= admission.limits.connections_per_address_max {
            warn!(%address, total = connected.total, here, "connection refused: too many");
            return None;
        }
        connected.total += 1;
        connected.by_address.insert(address, here + 1);
        Some(Place {
            admission: Arc::clone(admission),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connected = self.admission.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.total -= 1;
        if let Some(here) = connected.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                connected.by_address.remove(&self.address);
            }
        }
    }
}
