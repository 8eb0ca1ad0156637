//! One Kafka connection: frames in, replies out, in order.
//!
//! Owns: framing, the order of replies, how far requests are read ahead, deadlines of a connection.
//! Does not own: what a request means (`dispatch`), how many connections there may be (`listener`).
//!
//! Two loops share a connection. The *reader* takes frames and turns each into a [`Reply`] future; produce requests enter
//! the write-ahead buffer right there, in the order in which they arrived, so that the next one is read while the first is
//! still uploading. The *writer* awaits the replies one after the other, so replies leave in request order and a request
//! that is not a produce starts only when everything before it is answered, as in Kafka.
//!
//! Invariants: MEM-1 (a frame is held only under the byte budget; nothing is allocated on a peer's word).

use std::io;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::budget::{BudgetShare, ByteBudget, NoBudget, Purpose};

/// Requests of one connection that may be read before their replies have left.
const READ_AHEAD_REQUESTS: usize = 16;
/// How much of a frame is allocated before its bytes arrive.
const FRAME_ALLOCATION_FIRST: usize = 16 * 1024;
/// How much is allocated before a frame begins: what every connection holds that waits for one. Most requests fit, but produce.
const IDLE_ALLOCATION: usize = 2 * 1024;
/// Chunks handed to one vectored write.
const WRITE_CHUNKS_MAX: usize = 256;
/// How the frame of a produce request begins.
const PRODUCE_KEY: [u8; 2] = [0, 0];
/// A frame that has begun must be complete by then, plus one second per [`BODY_RATE_MIN`] bytes.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// Least rate at which a frame's body must arrive, bytes per second.
const BODY_RATE_MIN: usize = 64 * 1024;
/// The first byte of a connection must arrive by then.
const FIRST_BYTE_DEADLINE: Duration = Duration::from_secs(10);

/// A finished reply: chunks ready for the socket, length prefix included. `None` when the request gets no answer
/// (`acks=0`).
pub type ReplyChunks = Option<Vec<Bytes>>;

/// What becomes of a request. Unless that is pipelined, polled only when all earlier replies of the connection have left.
pub type Reply = BoxFuture<'static, Result<ReplyChunks, CloseConnection>>;

/// The connection must be closed, for this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CloseConnection(pub String);

/// A request as it came off the wire, with its share of the byte budget.
#[derive(Debug)]
pub struct Frame {
    /// The frame without its length prefix.
    pub bytes: Bytes,
    /// Given back when the request no longer holds the frame's bytes.
    pub budget: Option<Arc<BudgetShare>>,
}

/// Turns requests into replies.
#[async_trait::async_trait]
pub trait Service: Send + Sync + 'static {
    /// Takes a request in. A produce request enters the write-ahead buffer before this returns; any other does its work
    /// in the returned future.
    ///
    /// # Errors
    /// When the connection cannot go on: the frame is not a request.
    async fn accept(&self, connection: &ConnectionContext, frame: Frame) -> Result<Accepted, CloseConnection>;
}

/// A request that was taken in.
pub struct Accepted {
    /// The reply.
    pub reply: Reply,
    /// Whether the following request may be taken in before this one is answered.
    pub pipelined: bool,
}

/// What a request may need to know of its connection.
#[derive(Clone, Debug)]
pub struct ConnectionContext {
    /// Distinguishes connections of this process.
    pub id: u64,
    /// The peer.
    pub peer: SocketAddr,
    /// Where the peer connected to.
    pub local: SocketAddr,
}

/// Limits of a connection; plain data.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_max: Duration,
}

/// Serves one connection until the peer goes, breaks the protocol, or is idle for too long.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    context: ConnectionContext,
    service: Arc<dyn Service>,
    budget: ByteBudget,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let (read, write) = tokio::io::split(stream);
    let (replies, queue) = mpsc::channel(READ_AHEAD_REQUESTS);
    let barrier = Barrier::default();
    let reading = read_loop(read, &context, &*service, budget, limits, replies, &barrier);
    // A drained connection reads no further request, and answers those that it has.
    let reader = async { stop.run_until_cancelled(reading).await.unwrap_or(Ok(())) };
    let writer = write_loop(write, queue, &barrier);
    tokio::pin!(reader, writer);
    let closed = tokio::select! {
        biased;
        closed = &mut writer => closed,
        // The peer may have half-closed: what it asked for is still answered.
        ended = &mut reader => match ended {
            Ok(()) => writer.await,
            // What was asked before the peer broke the protocol was asked well.
            Err(reason) => writer.await.and(Err(reason)),
        },
    };
    if let Err(reason) = closed {
        debug!(peer = %context.peer, %reason, "connection closed");
    }
}

/// Counts the requests taken in that must be answered before another one starts.
#[derive(Default)]
struct Barrier {
    exclusive: AtomicUsize,
    answered: Notify,
}

impl Barrier {
    async fn wait(&self) {
        loop {
            let answered = self.answered.notified();
            if self.exclusive.load(Ordering::Acquire) == 0 {
                return;
            }
            answered.await;
        }
    }
}

async fn read_loop<R: AsyncRead + Unpin>(
    mut read: R,
    context: &ConnectionContext,
    service: &dyn Service,
    budget: ByteBudget,
    limits: ConnectionLimits,
    replies: mpsc::Sender<(Reply, bool)>,
    barrier: &Barrier,
) -> Result<(), CloseConnection> {
    let mut buffer = BytesMut::new();
    let mut first = true;
    loop {
        let patience = if first { FIRST_BYTE_DEADLINE } else { limits.idle_max };
        first = false;
        let Some(frame) = read_frame(&mut read, &mut buffer, &budget, limits, patience).await? else {
            return Ok(());
        };
        // Nothing overtakes a request that is not pipelined.
        barrier.wait().await;
        let Accepted { reply, pipelined } = service.accept(context, frame).await?;
        if !pipelined {
            barrier.exclusive.fetch_add(1, Ordering::AcqRel);
        }
        if replies.send((reply, pipelined)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write_loop<W: AsyncWrite + Unpin>(
    mut write: W,
    mut queue: mpsc::Receiver<(Reply, bool)>,
    barrier: &Barrier,
) -> Result<(), CloseConnection> {
    let mut next = None;
    loop {
        let (reply, pipelined) = match next.take() {
            Some(next) => next,
            None => match queue.recv().await {
                Some(next) => next,
                None => return Ok(()),
            },
        };
        let mut chunks = reply.await?.unwrap_or_default();
        let gathered = if pipelined {
            gather(&mut queue, &mut next, &mut chunks)
        } else {
            Ok(())
        };
        write_chunks(&mut write, chunks)
            .await
            .map_err(|error| CloseConnection(format!("write: {error}")))?;
        gathered?;
        if !pipelined {
            barrier.exclusive.fetch_sub(1, Ordering::AcqRel);
            barrier.answered.notify_waiters();
        }
    }
}

/// Adds the replies to pipelined requests that are there already: requests that shared a flush are answered at one moment, with one
/// write. `next` is what comes after them.
fn gather(
    queue: &mut mpsc::Receiver<(Reply, bool)>,
    next: &mut Option<(Reply, bool)>,
    chunks: &mut Vec<Bytes>,
) -> Result<(), CloseConnection> {
    while chunks.len() < WRITE_CHUNKS_MAX
        && let Ok((mut reply, pipelined)) = queue.try_recv()
    {
        let ready = if pipelined { (&mut reply).now_or_never() } else { None };
        let Some(ready) = ready else {
            *next = Some((reply, pipelined));
            break;
        };
        chunks.extend(ready?.unwrap_or_default());
    }
    Ok(())
}

/// Reads one frame; `None` when the peer has closed between two frames.
async fn read_frame<R: AsyncRead + Unpin>(
    read: &mut R,
    buffer: &mut BytesMut,
    budget: &ByteBudget,
    limits: ConnectionLimits,
    patience: Duration,
) -> Result<Option<Frame>, CloseConnection> {
    let idle_until = Instant::now() + patience;
    while buffer.len() < 4 {
        if buffer.capacity() - buffer.len() < 4 {
            buffer.reserve(IDLE_ALLOCATION);
        }
        if read_some(read, buffer, idle_until).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(CloseConnection("closed inside a frame".into()))
            };
        }
    }
    let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= limits.request_bytes_max)
        .ok_or_else(|| CloseConnection(format!("frame of {length} bytes refused")))?;
    buffer.advance(4);
    let seconds = u64::try_from(length / BODY_RATE_MIN).unwrap_or(u64::MAX);
    let body_until = Instant::now() + BODY_DEADLINE + Duration::from_secs(seconds);
    let purpose = purpose_of(read, buffer, length, body_until).await?;
    // Budget and memory follow the bytes that have come: at most four times as much. A length alone costs its sender's
    // connection, nobody else.
    let mut granted = length.min(FRAME_ALLOCATION_FIRST);
    let mut share = budget.take(purpose, length, granted).await.map_err(no_budget)?;
    while buffer.len() < length {
        // More may have come than was granted, where the buffer of an earlier frame is used again.
        while buffer.len() >= granted {
            let more = (length - granted).min(granted.saturating_mul(3));
            share.merge(budget.take(purpose, length, more).await.map_err(no_budget)?);
            granted += more;
        }
        buffer.reserve(granted - buffer.len());
        if read_some(read, buffer, body_until).await? == 0 {
            return Err(CloseConnection("closed inside a frame".into()));
        }
    }
    if granted < length {
        share.merge(
            budget
                .take(purpose, length, length - granted)
                .await
                .map_err(no_budget)?,
        );
    }
    let bytes = buffer.split_to(length).freeze();
    Ok(Some(Frame {
        bytes,
        budget: Some(Arc::new(share)),
    }))
}

/// What a frame is for, as its first two bytes say: the API key. They are read without a budget, as its length was.
async fn purpose_of<R: AsyncRead + Unpin>(
    read: &mut R,
    buffer: &mut BytesMut,
    length: usize,
    until: Instant,
) -> Result<Purpose, CloseConnection> {
    if length < size_of_val(&PRODUCE_KEY) {
        return Ok(Purpose::Other);
    }
    while buffer.len() < size_of_val(&PRODUCE_KEY) {
        if buffer.capacity() == buffer.len() {
            buffer.reserve(IDLE_ALLOCATION);
        }
        if read_some(read, buffer, until).await? == 0 {
            return Err(CloseConnection("closed inside a frame".into()));
        }
    }
    Ok(if buffer.starts_with(&PRODUCE_KEY) {
        Purpose::Produce
    } else {
        Purpose::Other
    })
}

fn no_budget(cause: NoBudget) -> CloseConnection {
    CloseConnection(cause.to_string())
}

async fn read_some<R: AsyncRead + Unpin>(
    read: &mut R,
    buffer: &mut BytesMut,
    until: Instant,
) -> Result<usize, CloseConnection> {
    match timeout_at(until, read.read_buf(buffer)).await {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(error)) => Err(CloseConnection(format!("read: {error}"))),
        Err(_) => Err(CloseConnection("too slow or idle".into())),
    }
}

async fn write_chunks<W: AsyncWrite + Unpin>(write: &mut W, mut chunks: Vec<Bytes>) -> io::Result<()> {
    let mut next = 0;
    while next < chunks.len() {
        if chunks[next].is_empty() {
            next += 1;
            continue;
        }
        let end = chunks.len().min(next + WRITE_CHUNKS_MAX);
        let mut written = {
            let slices: Vec<IoSlice<'_>> = chunks[next..end].iter().map(|chunk| IoSlice::new(chunk)).collect();
            write.write_vectored(&slices).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let taken = written.min(chunks[next].len());
            chunks[next].advance(taken);
            written -= taken;
            if chunks[next].is_empty() {
                // Let go of the bytes at once.
                chunks[next] = Bytes::new();
                next += 1;
            }
        }
    }
    write.flush().await
}

#[cfg(test)]
mod tests;
