//! A session: this process as the cluster sees it, for as long as its lease lives.
//!
//! Owns: the session id, the lease and its keep-alive, the notice that it is lost.
//! Does not own: safety. A lost session is refused by the compares of its commits, not by this notice, which may be late.
//!
//! Invariants: session ids are never used twice within an incarnation.

use std::sync::Arc;
use std::time::Duration;

use esker_segment::id::{LogIndex, SessionId};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backoff::{Backoff, definite};
use super::bootstrap::Cluster;
use crate::keys::commit::Progress;
use crate::keys::head::Head;
use crate::keys::session::SessionInfo;
use crate::keys::{commit, counter, head, session};
use crate::signal::{self, signal};
use crate::store::{Compare, KeyValue, Lease, LeaseId, MetadataError, MetadataStore, Op, OpResult, Revision, Txn};

/// Attempts of one transaction before opening gives up.
const ATTEMPTS: u32 = 8;
/// How many ids another process may take before us while we try.
const CLAIMS_MAX: u32 = 64;

/// Why a session could not be opened or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The store. Trying again is safe: what an unknown attempt left behind ends with its lease.
    #[error("session: {0}")]
    Store(#[from] MetadataError),
    /// The session is gone.
    #[error("session {0} is lost")]
    Lost(SessionId),
    /// A key cannot be read.
    #[error("key {key} cannot be read: {why}")]
    Damaged {
        /// Which one.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// The cluster has begun another life: this process must stop.
    #[error("the cluster has another incarnation now")]
    OtherIncarnation,
    /// Other processes always came first.
    #[error("no session id could be claimed in {CLAIMS_MAX} attempts")]
    Contended,
}

/// A claimed session. Dropping it stops the keep-alive; the lease then runs out by itself.
#[derive(Debug)]
pub struct Session {
    facts: SessionFacts,
    cluster: Cluster,
    lost: signal::Receiver<bool>,
    keep_alive: JoinHandle<()>,
}

/// What does not change during a session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionFacts {
    pub(super) id: SessionId,
    pub(super) created: Revision,
    pub(super) lease: Lease,
    /// A log index that had been reached before the session began.
    pub(super) floor: LogIndex,
}

impl Session {
    /// Claims a session id and puts the session, under a lease of about `ttl`. `info` is told the id.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn open(
        cluster: &Cluster,
        info: impl Fn(SessionId) -> SessionInfo + Send,
        ttl: Duration,
    ) -> Result<Self, SessionError> {
        let asked = Instant::now();
        let lease = cluster.store.grant_lease(ttl).await?;
        let facts = claim(cluster, &info, lease).await?;
        let (tell, lost) = signal(false);
        let keeper = Keeper {
            store: Arc::clone(&cluster.store),
            lease,
            session: facts.id,
            alive_since: asked,
        };
        let keep_alive = tokio::spawn(async move {
            keeper.run().await;
            tell.set(true);
        });
        Ok(Self {
            facts,
            cluster: cluster.clone(),
            lost,
            keep_alive,
        })
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.facts.id
    }

    /// The create revision of `session/<sid>`.
    #[must_use]
    pub const fn created(&self) -> Revision {
        self.facts.created
    }

    /// The lease, for other keys that shall go with the session; at most 1,000.
    #[must_use]
    pub const fn lease(&self) -> LeaseId {
        self.facts.lease.id
    }

    /// The TTL that the store granted.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.facts.lease.ttl
    }

    /// The cluster it belongs to.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The compare that holds as long as the session lives.
    #[must_use]
    pub fn compare(&self) -> Compare {
        Compare::CreateRevision(session::key(self.id()), self.created())
    }

    /// Whether the session is known to be lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Waits until the session is lost. The future does not borrow the session.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let lost = self.lost.clone();
        async move {
            // An error means that the keep-alive is gone, which ends the session as well.
            let _ended = lost.wait_for(|lost| lost).await;
        }
    }

    /// Says something new of this process.
    ///
    /// # Errors
    /// `Lost` when the session is gone.
    pub async fn update(&self, info: &SessionInfo) -> Result<(), SessionError> {
        let put = Op::Put {
            key: session::key(self.id()),
            value: info.encode(),
            lease: self.lease(),
        };
        let txn = Txn {
            compares: vec![self.compare()],
            then: vec![put],
            otherwise: Vec::new(),
        };
        let outcome = definite(&*self.cluster.store, &txn, ATTEMPTS, Backoff::new(self.id().0)).await?;
        if outcome.succeeded {
            Ok(())
        } else {
            Err(SessionError::Lost(self.id()))
        }
    }

    /// Ends the session at once, so that others need not wait for its lease.
    ///
    /// # Errors
    /// The store; the lease then runs out by itself.
    pub async fn close(self) -> Result<(), MetadataError> {
        self.keep_alive.abort();
        self.cluster.store.revoke_lease(self.lease()).await
    }

    pub(super) const fn facts(&self) -> SessionFacts {
        self.facts
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keep_alive.abort();
    }
}

/// Takes the next free id.
async fn claim(
    cluster: &Cluster,
    info: &(impl Fn(SessionId) -> SessionInfo + Send),
    lease: Lease,
) -> Result<SessionFacts, SessionError> {
    let mut last: Option<KeyValue> = None;
    for _ in 0..CLAIMS_MAX {
        let used = last.as_ref().map_or(Ok(SessionId(0)), |kv| counter::decode(&kv.value));
        let id = SessionId(used.map_err(|error| damaged("counter/session", &error))?.0 + 1);
        let txn = claim_txn(cluster, id, last.as_ref(), lease.id, info(id).encode());
        let outcome = definite(&*cluster.store, &txn, ATTEMPTS, Backoff::new(id.0)).await?;
        let mut results = outcome.results.into_iter();
        if outcome.succeeded {
            let floor = head_index(cluster, results.next_back().and_then(OpResult::into_get))?;
            return Ok(SessionFacts {
                id,
                created: outcome.revision,
                lease,
                floor,
            });
        }
        let mut next = || results.next().and_then(OpResult::into_get);
        let (counter, ours) = (next(), next());
        // An attempt whose answer was lost has claimed it already: no one else has this lease.
        if let Some(ours) = ours.filter(|kv| kv.lease == lease.id) {
            // Reading the head now would come after the claim.
            let floor = cluster.incarnation.base;
            return Ok(SessionFacts {
                id,
                created: ours.create_revision,
                lease,
                floor,
            });
        }
        if counter == last {
            return Err(SessionError::OtherIncarnation);
        }
        last = counter;
    }
    Err(SessionError::Contended)
}

fn claim_txn(cluster: &Cluster, id: SessionId, last: Option<&KeyValue>, lease: LeaseId, info: bytes::Bytes) -> Txn {
    let unmoved = match last {
        None => Compare::Absent(counter::KEY),
        Some(kv) => Compare::ModRevision(counter::KEY, kv.mod_revision),
    };
    Txn {
        compares: vec![unmoved],
        then: vec![
            Op::put(counter::KEY, counter::encode(id)),
            Op::Put {
                key: session::key(id),
                value: info,
                lease,
            },
            Op::Put {
                key: commit::key(id),
                value: Progress::default().encode(),
                lease,
            },
            Op::Get(head::KEY),
        ],
        otherwise: vec![Op::Get(counter::KEY), Op::Get(session::key(id))],
    }
    .also_compare(cluster.unchanged())
}

/// The log index that a read of `log/head` shows.
pub(super) fn head_index(cluster: &Cluster, found: Option<KeyValue>) -> Result<LogIndex, SessionError> {
    match found {
        None => Ok(cluster.incarnation.base),
        Some(kv) => Head::index(&kv).map_err(|error| damaged("log/head", &error)),
    }
}

fn damaged(key: &'static str, error: &dyn std::fmt::Display) -> SessionError {
    SessionError::Damaged {
        key,
        why: error.to_string(),
    }
}

/// Keeps a lease alive until it is gone.
struct Keeper {
    store: Arc<dyn MetadataStore>,
    lease: Lease,
    session: SessionId,
    /// When the request was sent that last put the deadline off: the store counts from then or later.
    alive_since: Instant,
}

impl Keeper {
    /// Returns when the lease has run out, as far as this process can know.
    async fn run(mut self) {
        let period = self.lease.ttl / 3;
        let mut next = self.alive_since + period;
        let mut backoff = Backoff::new(self.session.0);
        loop {
            let deadline = self.alive_since + self.lease.ttl;
            if Instant::now() >= deadline {
                tracing::warn!(session = %self.session, "session lost: lease could not be kept alive in time");
                return;
            }
            tokio::time::sleep_until(next.min(deadline)).await;
            let sent = Instant::now();
            match tokio::time::timeout_at(deadline, self.store.keep_alive(self.lease.id)).await {
                Ok(Ok(Some(_))) => {
                    self.alive_since = sent;
                    next = sent + period;
                    backoff.reset();
                }
                Ok(Ok(None)) => {
                    tracing::warn!(session = %self.session, "session lost: lease has run out");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::debug!(session = %self.session, %error, "keep-alive failed");
                    next = Instant::now() + backoff.next_delay();
                }
                Err(_elapsed) => {}
            }
        }
    }
}
