//! A reverse proxy in front of an S3 server in which things go wrong on request, for tests and chaos.
//!
//! Owns: forwarding, faults, an admin port that switches them, counts of what was asked.
//! Does not own: any knowledge of Esker. It never looks into objects, and it signs nothing: the client's signature, `Host` header included, goes
//! through unchanged.
//!
//! Invariants: a request's body has arrived whole before anything is decided, so that "after effect" and "late" can be kept even if the
//! client goes away; bodies are at most 256 MiB.

mod admin;
pub mod faults;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::faults::{Plan, Rule};

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests by verb.
    pub requests: BTreeMap<String, u64>,
    /// Requests to which a fault happened, by fault.
    pub faults: BTreeMap<String, u64>,
}

/// What all connections share.
struct Shared {
    /// `HOST:PORT` of the server.
    upstream: String,
    plan: Mutex<Plan>,
    counts: Mutex<Counts>,
    /// Paths that were written, for `RefuseOverwrite`.
    written: Mutex<BTreeSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running proxy; it ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl Proxy {
    /// Listens, and forwards to the server at `upstream` (`HOST:PORT`, without TLS).
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(listen: SocketAddr, upstream: &str, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            plan: Mutex::new(Plan::new(seed)),
            counts: Mutex::default(),
            written: Mutex::default(),
        });
        let serving = tokio::spawn(serve::run(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            tasks: vec![serving.abort_handle()],
        })
    }

    /// Listens for orders: `GET`, `PUT` and `DELETE /faults`, `GET /counts`. Returns where.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start_admin(&mut self, listen: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(admin::run(listener, Arc::clone(&self.shared)));
        self.tasks.push(serving.abort_handle());
        Ok(address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these faults and no others.
    pub fn set(&self, rules: Vec<Rule>) {
        locked(&self.shared.plan).set(rules);
    }

    /// From now on no faults. What is late still comes late.
    pub fn heal(&self) {
        self.set(Vec::new());
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        locked(&self.shared.counts).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
