//! Connections to agents: one that all single calls share, and one for each stream.
//!
//! Owns: addresses, which of them is tried next, what a connection is told about time.
//! Does not own: what is sent over it, what is tried again (`retry`).
//!
//! A stream has a connection of its own: what its reader leaves unread takes room of its connection, and would hold up others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, Unreachable, innermost};

/// What a stream may have sent that nobody has read here yet.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) keep_alive_timeout: Duration,
}

/// The agents that this client knows.
pub(crate) struct Connections {
    agents: Vec<Agent>,
    /// The one that is tried first.
    turn: AtomicUsize,
    shared: Mutex<Option<Connection>>,
}

struct Agent {
    address: String,
    endpoint: Endpoint,
}

/// An open connection.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    /// The agent, by its place among the addresses.
    at: usize,
    /// As the user wrote it.
    pub(crate) address: String,
}

impl Connections {
    pub(crate) fn new(addresses: &[String], timing: &Timing) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::invalid("there is no address; name at least one agent"));
        }
        let agents: Result<Vec<Agent>, Error> = addresses.iter().map(|address| agent(address, timing)).collect();
        let agents = agents?;
        Ok(Self {
            // Many clients with the same list are to spread over it.
            turn: AtomicUsize::new(fastrand::usize(..agents.len())),
            agents,
            shared: Mutex::new(None),
        })
    }

    /// The connection for single calls.
    pub(crate) async fn shared(&self) -> Result<Connection, Error> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        let connection = self.connect().await?;
        *shared = Some(connection.clone());
        Ok(connection)
    }

    /// A connection for one stream: each address is tried once.
    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        let first = self.turn.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        for nth in 0..self.agents.len() {
            let at = (first + nth) % self.agents.len();
            let Agent { address, endpoint } = &self.agents[at];
            match endpoint.connect().await {
                Ok(channel) => {
                    return Ok(Connection {
                        channel,
                        at,
                        address: address.clone(),
                    });
                }
                Err(error) => tried.push((address.clone(), innermost(&error))),
            }
        }
        Err(Error::Unreachable(Unreachable::new(tried)))
    }

    /// A shared connection did not do: others are tried first from now on.
    pub(crate) async fn failed(&self, connection: &Connection) {
        self.turn_from(connection);
        self.shared.lock().await.take_if(|shared| shared.at == connection.at);
    }

    /// The connection of a stream did not do: others are tried first from now on.
    pub(crate) fn turn_from(&self, connection: &Connection) {
        let next = (connection.at + 1) % self.agents.len();
        self.turn.store(next, Ordering::Relaxed);
    }
}

fn agent(address: &str, timing: &Timing) -> Result<Agent, Error> {
    let wrong = |why: &str| Error::invalid(format!("the address {address:?} {why}; write it as http://HOST:PORT"));
    if address.starts_with("https://") {
        return Err(wrong("wants TLS, which agents do not serve yet"));
    }
    if !address.starts_with("http://") {
        return Err(wrong("has no scheme"));
    }
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(&format!("is none ({error})")))?;
    if endpoint.uri().port().is_none() {
        return Err(wrong("has no port"));
    }
    let endpoint = endpoint
        .connect_timeout(timing.connect_timeout)
        .http2_keep_alive_interval(timing.keep_alive_interval)
        .keep_alive_timeout(timing.keep_alive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .tcp_nodelay(true);
    Ok(Agent {
        address: address.to_owned(),
        endpoint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_one_says_how_to_write_it() {
        let timing = Timing {
            connect_timeout: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(1),
            keep_alive_timeout: Duration::from_secs(1),
        };
        for wrong in [
            "",
            "localhost:9095",
            "https://a:1",
            "http://a",
            "http://a b:1",
            "http://",
        ] {
            let error = Connections::new(&[wrong.to_owned()], &timing).err();
            let error = error.unwrap_or_else(|| panic!("{wrong:?} is an address")).to_string();
            assert!(error.contains("write it as http://HOST:PORT"), "{error}");
        }
        assert!(Connections::new(&[], &timing).is_err());
        assert!(Connections::new(&["http://[::1]:9095".to_owned()], &timing).is_ok());
    }
}
