//! Connections of gRPC clients, taken in within limits.
//!
//! Owns: how many there may be, in total and per address; how long a new one may stay silent.
//! Does not own: what happens on one (HTTP/2 is tonic's).
//!
//! Invariants: MEM-1. A connection that does not begin HTTP/2 in time is closed; later, pings find the dead ones.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use metrics::gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::warn;

use crate::agent::Agent;
use crate::kafka::connection::ConnectionLimits;
use crate::kafka::listener::{Admission, ListenerLimits, Place};

/// Connections of all clients together: each may have many calls.
const CONNECTIONS_MAX: usize = 512;
/// How long to wait after the system refused a connection (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// HTTP/2 must have begun by then.
const PREFACE_DEADLINE: Duration = Duration::from_secs(10);
/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// Connections until `stop`.
pub(super) fn connections(
    agent: &Agent,
    listener: TcpListener,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let network = &agent.settings.network;
    let count = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let admission = Arc::new(Admission::new(ListenerLimits {
        connections_max: count(network.connections_max).min(CONNECTIONS_MAX),
        connections_per_address_max: count(network.connections_per_ip_max),
        // Of Kafka's frames; there are none here.
        connection: ConnectionLimits {
            request_bytes_max: 0,
            idle_max: network.connection_idle_max,
        },
    }));
    stream::unfold((listener, admission, stop), |(listener, admission, stop)| async move {
        let connection = stop.run_until_cancelled(next(&listener, &admission)).await?;
        Some((Ok(connection), (listener, admission, stop)))
    })
}

async fn next(listener: &TcpListener, admission: &Arc<Admission>) -> Connection {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Some(place) = Admission::enter(admission, peer.ip())
            && let Ok(local) = stream.local_addr()
            && stream.set_nodelay(true).is_ok()
        {
            gauge!("esker_grpc_connections").increment(1);
            return Connection {
                stream,
                peer: Peer {
                    address: peer,
                    local,
                    calls: Arc::default(),
                },
                preface: Some((0, Box::pin(tokio::time::sleep(PREFACE_DEADLINE)))),
                _place: place,
            };
        }
    }
}

/// Who is at the other end of a connection. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Where it has connected to.
    pub(super) local: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Peer {
    /// How many calls the connection has open.
    pub(super) fn calls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.calls)
    }
}

/// A connection that gives its place back when it ends.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    /// Bytes that have come and how long it may take, until HTTP/2 has begun.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    _place: Place,
}

impl Drop for Connection {
    fn drop(&mut self) {
        gauge!("esker_grpc_connections").decrement(1);
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((come, deadline)) = &mut self.preface else {
            return read;
        };
        if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *come += buf.filled().len() - before;
        if *come >= PREFACE_BYTES {
            self.preface = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
