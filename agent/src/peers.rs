//! Whether the other agents still answer.
//!
//! Owns: the peer listener, which says back what it hears; one connection to each other agent, over which that is tried.
//! Does not own: what follows from it (`membership`): an agent that does not answer leads nothing, for those who noticed. Its
//! session, and with it its groups, lives until its lease ends.
//!
//! A killed process closes its connections at once, so its partitions have other leaders within milliseconds instead of a TTL.
//!
//! Invariants: only liveness hangs on this. MEM-1: connections and bytes of a peer are bounded.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use esker_segment::id::SessionId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::agent::Endpoint;
use crate::membership::Membership;

/// Peers that may be connected.
const CONNECTIONS_MAX: usize = 1_024;
/// How often a peer is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How long its answer may take.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// Pause after a connection that did not come about.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// How long to wait after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers other agents until `stop`.
pub async fn listen(listener: TcpListener, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match (accepted, Arc::clone(&permits).try_acquire_owned()) {
            (Ok((stream, _)), Ok(permit)) => {
                connections.spawn(async move {
                    let _closed = answer(stream).await;
                    drop(permit);
                });
            }
            (Ok(_), Err(_)) => debug!("peer refused: too many"),
            (Err(error), _) => {
                debug!(%error, "peer not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
    }
}

/// Asks all other agents, again and again, until `stop`.
pub async fn watch(members: Arc<Membership>, stop: CancellationToken) {
    let mut changes = members.changes();
    let mut asking = JoinSet::new();
    let mut asked: BTreeMap<SessionId, (Endpoint, AbortHandle)> = BTreeMap::new();
    loop {
        let view = members.view();
        let own = members.identity().node();
        let others = view.members.iter().filter(|member| member.node != own);
        let wanted: BTreeMap<SessionId, Endpoint> = others
            .filter_map(|member| Some((member.session?, member.peer.clone()?)))
            .collect();
        asked.retain(|session, (endpoint, task)| {
            let keep = wanted.get(session) == Some(endpoint);
            if !keep {
                task.abort();
            }
            keep
        });
        for (session, endpoint) in wanted {
            asked.entry(session).or_insert_with(|| {
                let task = asking.spawn(ask(Arc::clone(&members), session, endpoint.clone()));
                (endpoint, task)
            });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_ended) = asking.join_next(), if !asking.is_empty() => {}
            _ = changes.changed() => {}
        }
    }
}

/// Keeps a connection to one agent, and notes when there is none.
async fn ask(members: Arc<Membership>, session: SessionId, endpoint: Endpoint) {
    let mut silent = false;
    loop {
        let address = (endpoint.host.as_str(), endpoint.port);
        if let Ok(Ok(stream)) = timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            let why = converse(stream, || {
                if std::mem::take(&mut silent) {
                    info!(%session, %endpoint, "agent answers again");
                    members.set_silent(session, false);
                }
            })
            .await;
            debug!(%session, %endpoint, %why, "connection to an agent is over");
            // Perhaps only the connection broke.
            if let Ok(Ok(_stream)) = timeout(CONNECT_MAX, TcpStream::connect(address)).await {
                continue;
            }
        }
        if !silent {
            info!(%session, %endpoint, "agent does not answer");
            silent = true;
            members.set_silent(session, true);
        }
        sleep(CONNECT_PAUSE).await;
    }
}

/// Asks until there is no answer.
async fn converse(mut stream: TcpStream, mut answered: impl FnMut()) -> io::Error {
    let mut byte = [0];
    loop {
        let asked = async {
            stream.write_all(&byte).await?;
            stream.read_exact(&mut byte).await
        };
        match timeout(ANSWER_MAX, asked).await {
            Ok(Ok(_)) => answered(),
            Ok(Err(error)) => return error,
            Err(_elapsed) => return io::ErrorKind::TimedOut.into(),
        }
        // Nothing comes unasked, so this ends early only when the other side closes.
        if let Ok(ended) = timeout(ASK_INTERVAL, stream.read(&mut byte)).await {
            return ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_answers_until_it_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listening = tokio::spawn(listen(listener, stop.clone()));
        let stream = TcpStream::connect(address).await.unwrap();
        let mut answers = 0;
        let conversation = converse(stream, || {
            answers += 1;
            stop.cancel();
        });
        let ended = timeout(Duration::from_secs(10), conversation).await.unwrap();
        listening.await.unwrap();
        assert!(answers >= 1, "{ended}");
    }
}
