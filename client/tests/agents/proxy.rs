//! A network between client and agent: it can be cut, held up, and led elsewhere.
//!
//! Owns: forwarding bytes, counting them, cutting connections after a number of bytes that a seed decides.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Proxy {
    pub(crate) address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// After how many bytes a connection is cut, in either direction.
    cuts: Mutex<Option<(Rng, Range<u64>)>>,
    connections: AtomicU64,
    /// From agents to clients.
    answered_bytes: AtomicU64,
    /// Connections of an earlier generation are cut.
    generation: watch::Sender<u64>,
    held_up: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            cuts: Mutex::new(None),
            connections: AtomicU64::new(0),
            answered_bytes: AtomicU64::new(0),
            generation: watch::Sender::new(0),
            held_up: watch::Sender::new(false),
        });
        Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            task: tokio::spawn(accept(listener, Arc::clone(&shared))),
            shared,
        }
    }

    /// Cuts each new connection after a number of bytes out of this range.
    pub(crate) fn cut_after(&self, seed: u64, bytes: Range<u64>) {
        *self.shared.cuts.lock().unwrap() = Some((Rng::with_seed(seed), bytes));
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Forwards nothing, or everything again.
    pub(crate) fn hold_up(&self, held_up: bool) {
        self.shared.held_up.send_replace(held_up);
    }

    /// Leads new connections elsewhere.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// How many there were.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn answered_bytes(&self) -> u64 {
        self.shared.answered_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(forward(client, Arc::clone(&shared)));
    }
}

async fn forward(client: TcpStream, shared: Arc<Shared>) {
    let mut generation = shared.generation.subscribe();
    let target = *shared.target.lock().unwrap();
    let Ok(agent) = TcpStream::connect(target).await else {
        return;
    };
    let most = {
        let mut cuts = shared.cuts.lock().unwrap();
        cuts.as_mut().map_or(u64::MAX, |(rng, bytes)| rng.u64(bytes.clone()))
    };
    client.set_nodelay(true).unwrap();
    agent.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_agent, to_agent) = agent.into_split();
    let nobody = AtomicU64::new(0);
    tokio::select! {
        biased;
        _ = generation.changed() => {}
        () = pump(from_client, to_agent, most, &shared, &nobody) => {}
        () = pump(from_agent, to_client, most, &shared, &shared.answered_bytes) => {}
    }
}

/// Forwards so many bytes at most.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut most: u64, shared: &Shared, counter: &AtomicU64) {
    let mut held_up = shared.held_up.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    while most > 0 {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if held_up.wait_for(|held_up| !held_up).await.is_err() {
            return;
        }
        let taken = read.min(usize::try_from(most).unwrap_or(usize::MAX));
        if to.write_all(&buffer[..taken]).await.is_err() {
            return;
        }
        counter.fetch_add(u64::try_from(taken).unwrap(), Ordering::SeqCst);
        most -= u64::try_from(taken).unwrap();
    }
}
