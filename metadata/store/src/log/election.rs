//! Who does what one process should do: `leader/<duty>`, claimed under a session and lost with it.
//!
//! Owns: claiming a duty, the compare that fences what its holder publishes, giving it up.
//! Does not own: what the duties are for (compaction), when somebody stands (whoever has work to do: an idle cluster has no
//! elections).
//!
//! Invariants: for liveness alone one holder would be enough said; for safety a publication compares the key's
//! `create_revision`, so who has lost a duty publishes nothing any more, whatever it believes.

use esker_segment::id::SessionId;

use super::backoff::{Backoff, definite};
use super::bootstrap::Cluster;
use crate::checkpoint::LiveSession;
use crate::keys::leader::{self, Duty};
use crate::store::{Compare, KeyValue, MetadataError, Op, OpResult, Revision, Txn};

/// Attempts of one transaction.
const ATTEMPTS: u32 = 5;

/// A duty that a session holds, as far as it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    duty: Duty,
    session: SessionId,
    created: Revision,
}

/// What came of standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elected {
    /// The session holds the duty.
    Leads(Leadership),
    /// Another session does, or our own is lost.
    Follows,
}

impl Leadership {
    /// Which duty.
    #[must_use]
    pub const fn duty(&self) -> Duty {
        self.duty
    }

    /// The session that holds it. When that is lost, so is the duty.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Holds as long as the duty is held.
    #[must_use]
    pub fn compare(&self) -> Compare {
        Compare::CreateRevision(leader::key(self.duty), self.created)
    }
}

/// Claims a duty for a session if nobody holds it.
///
/// # Errors
/// The store. Standing again is always safe.
pub async fn stand(cluster: &Cluster, duty: Duty, session: &LiveSession) -> Result<Elected, MetadataError> {
    let key = leader::key(duty);
    let put = Op::Put {
        key: key.clone(),
        value: leader::encode(session.id),
        lease: session.lease,
    };
    let txn = Txn {
        compares: vec![
            Compare::Absent(key.clone()),
            session.compare.clone(),
            cluster.unchanged(),
        ],
        then: vec![put],
        otherwise: vec![Op::Get(key), Op::Get(session.compare.key().clone())],
    };
    let outcome = definite(&*cluster.store, &txn, ATTEMPTS, Backoff::new(session.id.0)).await?;
    let leads = |created| {
        Elected::Leads(Leadership {
            duty,
            session: session.id,
            created,
        })
    };
    if outcome.succeeded {
        return Ok(leads(outcome.revision));
    }
    let mut results = outcome.results.into_iter().map(OpResult::into_get);
    let (held, alive) = (results.next().flatten(), results.next().flatten());
    // An attempt whose answer was lost, or an earlier life of this task: session ids are never used again.
    let ours = |kv: &KeyValue| leader::decode(&kv.value) == Ok(session.id);
    Ok(match held.filter(ours) {
        Some(kv) if session.compare.holds(alive.as_ref()) => leads(kv.create_revision),
        _ => Elected::Follows,
    })
}

/// Gives a duty up, so that another process need not wait for the lease; one that is lost already is fine.
///
/// # Errors
/// The store; the lease then ends it.
pub async fn resign(cluster: &Cluster, held: &Leadership) -> Result<(), MetadataError> {
    let txn = Txn {
        compares: vec![held.compare()],
        then: vec![Op::Delete(leader::key(held.duty))],
        otherwise: Vec::new(),
    };
    definite(&*cluster.store, &txn, ATTEMPTS, Backoff::new(held.session.0)).await?;
    Ok(())
}
