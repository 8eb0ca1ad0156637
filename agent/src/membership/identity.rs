//! This process among the others: its node id, its session, what it says of itself.
//!
//! Owns: claiming a node id (the smallest free one; the same advertised address gets its own back), saying that the process
//! drains.
//! Does not own: the session's life (`esker_metadata::log::Session`), renewing it (`writer`).
//!
//! Invariants: a node id hangs on the session's lease, so two live sessions never have the same one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::node::{self, NodeClaim};
use esker_metadata::keys::session::{self, Endpoint as NamedEndpoint, SessionInfo};
use esker_metadata::log::{Cluster, Session, SessionError};
use esker_metadata::store::{Compare, KeyRange, KeyValue, MetadataError, MetadataStore, Op, Txn};
use esker_segment::id::SessionId;
use tracing::{info, warn};

use super::{HTTP_LISTENER, KAFKA_LISTENER, Member, PEER_LISTENER};
use crate::agent::Endpoint;

/// How long a session outlives its process; the store may grant more.
const SESSION_TTL: Duration = Duration::from_secs(5);
/// How many times others may be faster while a node id is claimed.
const CLAIMS_MAX: u32 = 64;

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The node id, if it is not to be claimed: for a process that is alone by construction.
    pub node: Option<i32>,
    /// Its zone; empty for none.
    pub zone: String,
    /// Where clients reach it.
    pub kafka: Endpoint,
    /// Where probes and collectors reach it.
    pub http: Option<Endpoint>,
    /// Where other agents reach it.
    pub peer: Option<Endpoint>,
    /// A random number, so that the process knows its own claims.
    pub process: u64,
}

/// This process among the others.
pub struct Identity {
    announcement: Announcement,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    node: i32,
    session: Option<LiveSession>,
    draining: bool,
    /// Whether a node id was ever claimed.
    claimed: bool,
}

impl Identity {
    /// Before the first session.
    #[must_use]
    pub fn new(announcement: Announcement) -> Arc<Self> {
        let node = announcement.node.unwrap_or(0);
        let state = State {
            node,
            ..State::default()
        };
        Arc::new(Self {
            announcement,
            state: Mutex::new(state),
        })
    }

    /// Its node id; another one perhaps after its session was lost.
    #[must_use]
    pub fn node(&self) -> i32 {
        self.lock().node
    }

    /// Its zone; empty for none.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.announcement.zone
    }

    /// Where clients reach it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.announcement.kafka
    }

    /// Whether it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Itself as a member.
    #[must_use]
    pub fn member(&self) -> Member {
        let state = self.lock();
        Member {
            session: state.session.as_ref().map(|session| session.id),
            node: state.node,
            zone: Box::from(self.announcement.zone.as_str()),
            endpoint: self.announcement.kafka.clone(),
            peer: self.announcement.peer.clone(),
            draining: state.draining,
        }
    }

    /// The session is gone; another will be opened.
    pub fn on_lost(&self) {
        self.lock().session = None;
    }

    /// As if it had opened this session.
    #[cfg(test)]
    pub(crate) fn pretend_session(&self, id: SessionId) {
        self.lock().session = Some(LiveSession {
            id,
            compare: Compare::Absent(Bytes::from_static(b"nothing")),
            lease: esker_metadata::store::LeaseId(1),
        });
    }

    /// Opens a session and claims a node id under it.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn open_session(&self, cluster: &Cluster) -> Result<Session, SessionError> {
        let fixed = self.announcement.node;
        let session = Session::open(cluster, |_| self.info(fixed.unwrap_or(-1)), SESSION_TTL).await?;
        let node = match fixed {
            Some(node) => node,
            None => self.claim(cluster, &session).await?,
        };
        let live = LiveSession::of(&session);
        info!(session = %session.id(), node, ttl = ?session.ttl(), "session");
        let mut state = self.lock();
        state.node = node;
        state.session = Some(live);
        state.claimed = true;
        Ok(session)
    }

    /// Tells everybody that this process goes away, so that it is given nothing new.
    ///
    /// # Errors
    /// The store. Then others notice later.
    pub async fn drain(&self, store: &dyn MetadataStore) -> Result<(), MetadataError> {
        let (live, node) = {
            let mut state = self.lock();
            state.draining = true;
            (state.session.clone(), state.node)
        };
        let Some(live) = live else { return Ok(()) };
        let txn = Txn {
            compares: vec![live.compare.clone()],
            then: vec![put_session(live.id, &live, self.info(node))],
            otherwise: Vec::new(),
        };
        store.txn(txn).await.map(drop)
    }

    fn info(&self, node_id: i32) -> SessionInfo {
        let of = |listener: &str, endpoint: &Endpoint| NamedEndpoint {
            listener: listener.to_owned(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        };
        let mut endpoints = vec![of(KAFKA_LISTENER, &self.announcement.kafka)];
        endpoints.extend(self.announcement.http.as_ref().map(|http| of(HTTP_LISTENER, http)));
        endpoints.extend(self.announcement.peer.as_ref().map(|peer| of(PEER_LISTENER, peer)));
        SessionInfo {
            node_id,
            zone: self.announcement.zone.clone(),
            endpoints,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            load_permille: 0,
            draining: self.lock().draining,
        }
    }

    async fn claim(&self, cluster: &Cluster, session: &Session) -> Result<i32, SessionError> {
        let address = self.announcement.kafka.to_string();
        let ours = NodeClaim {
            address: address.clone(),
            process: self.announcement.process,
        };
        let may_take_over = !self.lock().claimed;
        for _ in 0..CLAIMS_MAX {
            let ranges = vec![
                KeyRange::Prefix(Bytes::from_static(node::PREFIX.as_bytes())),
                KeyRange::Key(node::address_key(&address)),
            ];
            let mut found = cluster.store.snapshot(ranges).await?.ranges.into_iter();
            let taken = claims(found.next().unwrap_or_default());
            if let Some((node, _)) = taken.iter().find(|(_, (_, kv))| kv.lease == session.lease()) {
                // The answer to an earlier attempt was lost.
                return Ok(*node);
            }
            let of_address = || taken.values().filter(|(claim, _)| claim.address == ours.address);
            let own = of_address().find(|(claim, _)| claim.process == ours.process);
            if let Some((_, kv)) = own.or_else(|| of_address().next()) {
                if own.is_some() || may_take_over {
                    // Whoever had this address is gone: one address has one process. Its session need not be waited for.
                    cluster.store.revoke_lease(kv.lease).await?;
                    continue;
                }
                warn!(%address, "another process advertises the same address");
            }
            let hinted = found
                .next()
                .unwrap_or_default()
                .first()
                .and_then(|kv| node::decode_id(&kv.value).ok())
                .filter(|id| *id > 0 && !taken.contains_key(id));
            let id = hinted.unwrap_or_else(|| smallest_free(&taken));
            let txn = claim_txn(session, id, &ours, self.info(id));
            match cluster.store.txn(txn).await {
                Ok(outcome) if outcome.succeeded => return Ok(id),
                // Somebody was faster, or the answer was lost: look again.
                Ok(_) if session.is_lost() => return Err(SessionError::Lost(session.id())),
                Ok(_) | Err(MetadataError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(SessionError::Contended)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn claims(found: Vec<KeyValue>) -> BTreeMap<i32, (NodeClaim, KeyValue)> {
    found
        .into_iter()
        .filter_map(|kv| Some((node::parse_key(&kv.key)?, (NodeClaim::decode(&kv.value).ok()?, kv))))
        .collect()
}

fn smallest_free(taken: &BTreeMap<i32, (NodeClaim, KeyValue)>) -> i32 {
    (1..=i32::MAX).find(|id| !taken.contains_key(id)).unwrap_or(i32::MAX)
}

fn claim_txn(session: &Session, id: i32, ours: &NodeClaim, info: SessionInfo) -> Txn {
    let live = LiveSession::of(session);
    Txn {
        compares: vec![live.compare.clone(), Compare::Absent(node::key(id))],
        then: vec![
            Op::Put {
                key: node::key(id),
                value: ours.encode(),
                lease: live.lease,
            },
            Op::put(node::address_key(&ours.address), node::encode_id(id)),
            put_session(live.id, &live, info),
        ],
        otherwise: Vec::new(),
    }
}

fn put_session(id: SessionId, live: &LiveSession, info: SessionInfo) -> Op {
    Op::Put {
        key: session::key(id),
        value: info.encode(),
        lease: live.lease,
    }
}
