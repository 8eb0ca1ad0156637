//! The first thing any process does: create the cluster's incarnation, or read the one that is there.

use std::sync::Arc;

use esker_segment::id::{IncarnationNumber, LogIndex};

use super::backoff::{Backoff, definite};
use crate::keys::incarnation::{self, Incarnation};
use crate::store::{Compare, KeyValue, MetadataError, MetadataStore, Op, OpResult, Txn};

/// Attempts before bootstrap gives up; about ten seconds.
const ATTEMPTS: u32 = 16;

/// A store and the incarnation that was found in it.
#[derive(Clone)]
pub struct Cluster {
    /// The store.
    pub store: Arc<dyn MetadataStore>,
    /// The life of the cluster that this process belongs to. When the key changes, the process must stop.
    pub incarnation: Incarnation,
}

impl Cluster {
    /// The compare that holds as long as this is the cluster's incarnation. It is part of whatever would do harm after a
    /// restore from a backup, which brings old sessions back to life.
    #[must_use]
    pub fn unchanged(&self) -> Compare {
        Compare::Value(incarnation::KEY, self.incarnation.encode())
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// Joins the cluster in this store; creates it, with this random id, if there is none.
///
/// # Errors
/// The store cannot be reached, or its incarnation cannot be read.
pub async fn bootstrap(store: Arc<dyn MetadataStore>, random_id: u128) -> Result<Cluster, MetadataError> {
    let ours = Incarnation {
        number: IncarnationNumber(1),
        id: random_id,
        base: LogIndex(0),
    };
    let txn = Txn {
        compares: vec![Compare::Absent(incarnation::KEY)],
        then: vec![Op::put(incarnation::KEY, ours.encode())],
        otherwise: vec![Op::Get(incarnation::KEY)],
    };
    let seed = u64::try_from(random_id & u128::from(u64::MAX)).expect("masked");
    let outcome = definite(&*store, &txn, ATTEMPTS, Backoff::new(seed)).await?;
    if outcome.succeeded {
        return Ok(Cluster {
            store,
            incarnation: ours,
        });
    }
    let found = outcome.results.into_iter().next().and_then(OpResult::into_get);
    let incarnation = found
        .as_ref()
        .map(|KeyValue { value, .. }| Incarnation::decode(value))
        .ok_or_else(|| MetadataError::Failed("incarnation is neither absent nor present".to_owned()))?
        .map_err(|error| MetadataError::Failed(format!("incarnation cannot be read: {error}")))?;
    Ok(Cluster { store, incarnation })
}
