//! A node over stores in memory, on the runtime of the caller alone, which is handed frames without a socket.
//!
//! Owns: putting a node together. Does not own: frames (`requests`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use esker_agent::agent::{Agent, Endpoint};
use esker_agent::clock::Clock;
use esker_agent::kafka::connection::{ConnectionContext, Frame, Service as _};
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeParts};
use esker_agent::settings::{Assignment, Origin, Profile, Settings};
use esker_metadata::embedded::EmbeddedStore;
use esker_metadata::keyspace::Limits;
use esker_metadata::log::bootstrap;
use esker_storage::bucket::Bucket;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What its clock says, always.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }
}

/// A running node; it ends when this is dropped.
pub(crate) struct Broker<'a> {
    runtime: &'a Runtime,
    agent: Arc<Agent>,
    connection: ConnectionContext,
    _stop: DropGuard,
}

impl<'a> Broker<'a> {
    /// A node with the settings of `esker dev`, which flushes at once.
    pub(crate) fn start(runtime: &'a Runtime) -> Result<Self> {
        let set = |name: &str, value: &str| Assignment {
            name: name.to_owned(),
            value: value.to_owned(),
            origin: Origin::Default,
        };
        let at_once = [set("esker.flush.age", "0ms"), set("esker.flush.min.interval", "0ms")];
        let settings = Settings::resolve(Profile::Dev, at_once)?;
        let counter = AtomicU64::new(1);
        let random = move || (u128::from(counter.fetch_add(1, Ordering::SeqCst)) << 64) | 1;
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
        let stop = CancellationToken::new();
        let agent = runtime.block_on(async {
            let store = Arc::new(EmbeddedStore::in_memory(Limits::default()));
            let node = Node::start(NodeParts {
                metadata: bootstrap(store, random()).await?,
                cluster: "AAAAAAAAAAAAAAAAAAAAAQ".parse().ok().context("a cluster id")?,
                objects: Arc::new(Bucket::memory()),
                clock: Arc::new(Stopped),
                random: Arc::new(random),
                settings: Arc::new(settings),
                announcement: Announcement {
                    node: Some(1),
                    zone: String::new(),
                    kafka: Endpoint {
                        host: here.ip().to_string(),
                        port: here.port(),
                    },
                    http: None,
                    peer: None,
                    process: 1,
                },
            })
            .await?;
            let agent = node.agent();
            tokio::spawn(node.run(stop.clone()));
            anyhow::Ok(agent)
        })?;
        let connection = ConnectionContext {
            id: 1,
            peer: here,
            local: here,
        };
        Ok(Self {
            runtime,
            agent,
            connection,
            _stop: stop.drop_guard(),
        })
    }

    /// The chunks of the answer to a request, as they would go to the socket.
    pub(crate) fn answer(&self, frame: &Bytes) -> Vec<Bytes> {
        let frame = Frame {
            bytes: frame.clone(),
            budget: None,
        };
        let answered = self.runtime.block_on(async {
            let accepted = self.agent.accept(&self.connection, frame).await?;
            accepted.reply.await
        });
        answered.expect("the requests are right").expect("they want an answer")
    }
}
