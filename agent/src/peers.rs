//! Whether the other agents still answer.
//!
//! Owns: the peer listener, which says back what it hears while this agent can work, and keeps silent while it cannot; one
//! connection to each other agent, over which that is tried.
//! Does not own: what follows from it (`membership`): an agent that does not answer leads nothing, for those who noticed. Its
//! session, and with it its groups, lives until its lease ends, or until it gives its groups up itself (`shards`).
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
pub async fn listen(listener: TcpListener, members: Arc<Membership>, stop: CancellationToken) {
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
                let members = Arc::clone(&members);
                connections.spawn(async move {
                    let _closed = answer(stream, &members).await;
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

async fn answer(mut stream: TcpStream, members: &Membership) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut byte, mut unasked) = ([0], [0]);
    let mut changes = members.changes();
    loop {
        stream.read_exact(&mut byte).await?;
        loop {
            changes.see();
            if members.view().works {
                break;
            }
            tokio::select! {
                biased;
                // Who asks waits for the answer; all it can do meanwhile is go.
                _gone = stream.read(&mut unasked) => return Ok(()),
                _ = changes.changed() => {}
            }
        }
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
            let mut answered = false;
            let why = converse(stream, || {
                answered = true;
                if std::mem::take(&mut silent) {
                    info!(%session, %endpoint, "agent answers again");
                    members.set_silent(session, false);
                }
            })
            .await;
            debug!(%session, %endpoint, %why, "connection to an agent is over");
            // Perhaps only the connection broke. A process that hangs is still connected to, by its system.
            let broke = answered && why.kind() != io::ErrorKind::TimedOut;
            if broke && let Ok(Ok(_stream)) = timeout(CONNECT_MAX, TcpStream::connect(address)).await {
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
    use esker_metadata::keys::session::{Endpoint as NamedEndpoint, SessionInfo};

    use super::*;
    use crate::membership::KAFKA_LISTENER;
    use crate::membership::identity::{Announcement, Identity};

    fn members() -> Arc<Membership> {
        let kafka = Endpoint {
            host: "here".to_owned(),
            port: 1,
        };
        let members = Membership::new(Identity::new(Announcement {
            node: Some(1),
            zone: String::new(),
            kafka,
            http: None,
            peer: None,
            process: 1,
        }));
        members.identity().pretend_session(SessionId(1));
        members.on_identity();
        members
    }

    #[tokio::test]
    async fn a_peer_answers_until_it_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listening = tokio::spawn(listen(listener, members(), stop.clone()));
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

    #[tokio::test]
    async fn a_peer_that_cannot_work_keeps_silent_until_it_can() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, answering) = (CancellationToken::new(), members());
        answering.set_no_bucket(true);
        let listening = tokio::spawn(listen(listener, Arc::clone(&answering), stop.clone()));
        let silent = TcpStream::connect(address).await.unwrap();
        let ended = converse(silent, || panic!("it answers")).await;
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[7]).await.unwrap();
        answering.set_no_bucket(false);
        let mut byte = [0];
        let answer = timeout(Duration::from_secs(10), stream.read_exact(&mut byte)).await;
        answer.unwrap().unwrap();
        assert_eq!(byte, [7]);
        stop.cancel();
        listening.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_noticed_although_its_system_takes_connections() {
        // Nobody accepts: connections are made by the system alone.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let asking = members();
        let info = SessionInfo {
            node_id: 2,
            endpoints: vec![NamedEndpoint {
                listener: KAFKA_LISTENER.to_owned(),
                host: "there".to_owned(),
                port: 2,
            }],
            ..SessionInfo::default()
        };
        asking.on_session(SessionId(2), Some(&info));
        let mut changes = asking.changes();
        let asked = tokio::spawn(ask(Arc::clone(&asking), SessionId(2), endpoint));
        let noticed = async {
            while !asking.is_silent(SessionId(2)) {
                changes.changed().await.unwrap();
            }
        };
        timeout(Duration::from_secs(10), noticed).await.unwrap();
        asked.abort();
    }
}
