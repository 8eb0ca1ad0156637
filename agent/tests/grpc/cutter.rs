//! A proxy that cuts connections in the middle, at any byte.
//!
//! Owns: when it cuts: after as many bytes in either direction as a seed says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Cuts every connection, until it is dropped.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// In front of `target`; connections live for at most `most` bytes.
    pub(crate) async fn start(target: SocketAddr, seed: u64, most: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            let mut random = seed;
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // Knuth's linear congruential generator; its high bits are the good ones.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let bytes = 1 + (random >> 33) % most;
                let server = TcpStream::connect(target).await.unwrap();
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    carry(client, server, bytes).await;
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, cuts, task }
    }

    /// Connections that are no more.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries so many bytes, of both directions together; then both ends see the connection end at once.
async fn carry(client: TcpStream, server: TcpStream, bytes: u64) {
    let left = AtomicUsize::new(usize::try_from(bytes).unwrap());
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        biased;
        () = one_way(from_client, to_server, &left) => {}
        () = one_way(from_server, to_client, &left) => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &AtomicUsize) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let before = left.load(Ordering::Relaxed);
        let carried = read.min(before);
        left.store(before - carried, Ordering::Relaxed);
        if to.write_all(&buffer[..carried]).await.is_err() || carried == before {
            return;
        }
    }
}
