//! Connections: one endpoint at a time, and another one when it does not do.
//!
//! Owns: which endpoint is in use, connecting, authenticating, giving up.
//! Does not own: judging whether an endpoint does (`fault`), sending again (`calls`).
//!
//! Invariants: whoever gives up a connection says which one, so that many failures at once cost one step.

use std::sync::{Arc, Mutex, PoisonError};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::timeout;

use super::fault::Fault;
use super::settings::EtcdSettings;
use crate::signal::{self, signal};

/// Counts connections; each has its own number.
pub(super) type Generation = u64;

/// A connection to one endpoint.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) generation: Generation,
}

/// The connections of one purpose, one at a time.
pub(super) struct Connections {
    settings: Arc<EtcdSettings>,
    state: Mutex<State>,
    /// One at a time connects; the others take what it gets.
    connecting: tokio::sync::Mutex<()>,
    /// The first generation that is not given up.
    alive: signal::Sender<Generation>,
}

struct State {
    at: usize,
    dice: u64,
    generation: Generation,
    client: Option<Client>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("endpoints", &self.settings.endpoints)
            .field("generation", &self.alive.get())
            .finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(settings: Arc<EtcdSettings>) -> Self {
        let mut dice = settings.seed ^ 0x9e37_79b9_7f4a_7c15;
        let at = pick(&mut dice, settings.endpoints.len());
        let (alive, _) = signal(0);
        Self {
            settings,
            state: Mutex::new(State {
                at,
                dice,
                generation: 0,
                client: None,
            }),
            connecting: tokio::sync::Mutex::default(),
            alive,
        }
    }

    pub(super) fn settings(&self) -> &EtcdSettings {
        &self.settings
    }

    /// Tells when connections are given up.
    pub(super) fn alive(&self) -> signal::Receiver<Generation> {
        self.alive.subscribe()
    }

    /// The connection in use, or a new one; when that cannot be had, the next endpoint's turn has come.
    pub(super) async fn get(&self) -> Result<Connection, Fault> {
        let (_, generation, in_use) = self.current();
        if let Some(client) = in_use {
            return Ok(Connection { client, generation });
        }
        // Nothing is sent yet, unless there is a user to authenticate. Many may wait for the one who does.
        let patience = self.settings.connect_timeout + self.settings.call_timeout;
        let connected = timeout(patience, self.connect()).await;
        let (generation, fault) = match connected {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(failed)) => failed,
            Err(_elapsed) => (generation, Fault::connecting("any endpoint", &"timed out")),
        };
        self.give_up(generation, &fault);
        Err(fault)
    }

    async fn connect(&self) -> Result<Connection, (Generation, Fault)> {
        let _turn = self.connecting.lock().await;
        let (at, generation, in_use) = self.current();
        if let Some(client) = in_use {
            return Ok(Connection { client, generation });
        }
        let endpoint = &self.settings.endpoints[at];
        let connected = Client::connect([endpoint], Some(options(&self.settings))).await;
        let client = connected.map_err(|error| (generation, Fault::connecting(endpoint, &error)))?;
        self.with(|state| {
            if state.generation == generation {
                state.client = Some(client.clone());
            }
        });
        Ok(Connection { client, generation })
    }

    fn current(&self) -> (usize, Generation, Option<Client>) {
        self.with(|state| (state.at, state.generation, state.client.clone()))
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another endpoint from now on, unless somebody else has seen to that.
    pub(super) fn give_up(&self, generation: Generation, why: &Fault) {
        let endpoints = &self.settings.endpoints;
        let moved = self.with(|state| {
            if state.generation != generation {
                return None;
            }
            let from = state.at;
            if endpoints.len() > 1 {
                // Any but this one.
                state.at = (from + 1 + pick(&mut state.dice, endpoints.len() - 1)) % endpoints.len();
            }
            state.generation += 1;
            state.client = None;
            self.alive.set(state.generation);
            Some((from, state.at))
        });
        if let Some((from, to)) = moved {
            metrics::counter!("esker_metadata_reconnects_total").increment(1);
            tracing::debug!(from = endpoints[from], to = endpoints[to], %why, "etcd connection given up");
        }
    }
}

/// A number below `len`, which is not 0.
fn pick(dice: &mut u64, len: usize) -> usize {
    *dice |= 1;
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    let len = u64::try_from(len).expect("a length fits");
    usize::try_from((*dice >> 11) % len).expect("less than a length")
}

pub(super) fn options(settings: &EtcdSettings) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(settings.connect_timeout)
        .with_keep_alive(settings.ping_interval, settings.ping_timeout)
        // etcd hangs up on whoever pings without need.
        .with_keep_alive_while_idle(false)
        .with_require_leader(true);
    if let Some(user) = &settings.user {
        options = options
            .with_user(user.name.as_str(), user.password.expose())
            .with_auto_token_refresh(true);
    }
    if let Some(tls) = &settings.tls {
        let mut to = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.authorities));
        if let Some((certificate, key)) = &tls.identity {
            to = to.identity(Identity::from_pem(certificate, key.expose()));
        }
        if let Some(name) = &tls.server_name {
            to = to.domain_name(name);
        }
        options = options.with_tls(to);
    }
    options
}
