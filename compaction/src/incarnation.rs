//! Whether bucket and coordination store belong to the same life of the cluster.
//!
//! A cluster cloned from a copy of its coordination store must not eat the original's data: an object in the bucket says which
//! random id an incarnation has, and who acts on the bucket compares it. Nor must a wrong word on a command line: where one of the
//! two knows a cluster and the other does not, nobody founds one.
//!
//! Owns: writing that object once, comparing it, whether a cluster may be founded.
//! Does not own: what an incarnation is (`esker_metadata::keys::incarnation`).

use std::collections::BTreeSet;

use esker_metadata::keys::incarnation::{self, Incarnation};
use esker_metadata::keys::{counter, root};
use esker_metadata::log::Cluster;
use esker_metadata::store::{KeyRange, MetadataError, MetadataStore};
use esker_segment::id::{IncarnationId, IncarnationNumber};
use esker_segment::journal;
use esker_segment::name::ClusterId;
use esker_segment::wire::FormatError;
use esker_storage::named::NamedObjects;
use esker_storage::store::{ObjectKey, ObjectStore, StoreError};

use crate::recover;

/// Why bucket and coordination store must not be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncarnationError {
    /// The bucket has no object for this incarnation: nobody may act on it yet.
    #[error("the bucket does not know this incarnation")]
    Unclaimed,
    /// The coordination store knows no cluster, the bucket does.
    #[error(
        "the coordination store knows no cluster, but the bucket holds {}; if that is what is meant to run here, the \
         coordination store is the wrong one or has lost it, else the bucket is the wrong one", list(.held)
    )]
    Lost {
        /// What the bucket holds.
        held: BTreeSet<ClusterId>,
    },
    /// The coordination store knows a cluster that has worked, and this bucket has never been its.
    #[error(
        "the coordination store knows cluster {cluster}, incarnation {number}, which is not in the bucket; the bucket holds {}",
        list(.held)
    )]
    Elsewhere {
        /// What the coordination store knows.
        cluster: ClusterId,
        /// Its life.
        number: IncarnationNumber,
        /// What the bucket holds.
        held: BTreeSet<ClusterId>,
    },
    /// The bucket belongs to another cluster with the same name: one of the two is a clone. Or recovery is at work.
    #[error(
        "the bucket belongs to incarnation {bucket}, the coordination store is {store}: one of them is of a clone, or a \
         recovery has not come to its end and is to be run again"
    )]
    Different {
        /// As the bucket has it.
        bucket: IncarnationId,
        /// As the coordination store has it.
        store: IncarnationId,
    },
    /// The coordination store has begun another incarnation.
    #[error("the cluster has another incarnation now")]
    Moved,
    /// The bucket holds the beginning of a later life: what this one does not refer to may be that one's.
    #[error("the bucket has heard of incarnation {next}: nothing is deleted for one that recovery may have ended")]
    Succeeded {
        /// The later one.
        next: IncarnationNumber,
    },
    /// The object cannot be read.
    #[error("incarnation object is damaged: {0}")]
    Damaged(FormatError),
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl IncarnationError {
    /// Whether it may pass by itself: somebody did not answer.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Store(_) | Self::Metadata(_) => true,
            Self::Unclaimed
            | Self::Lost { .. }
            | Self::Elsewhere { .. }
            | Self::Different { .. }
            | Self::Moved
            | Self::Succeeded { .. }
            | Self::Damaged(_) => false,
        }
    }
}

/// At most a few of them, by name.
fn list(held: &BTreeSet<ClusterId>) -> String {
    let some: Vec<&str> = held.iter().take(HELD_SHOWN).map(ClusterId::as_str).collect();
    match (some.len(), held.len()) {
        (0, _) => "none".to_owned(),
        (1, 1) => format!("cluster {}", some[0]),
        (shown, all) if shown < all => format!("clusters {} and {} more", some.join(", "), all - shown),
        _ => format!("clusters {}", some.join(", ")),
    }
}

/// Clusters named in an error.
const HELD_SHOWN: usize = 5;

/// Compares the bucket's incarnation with the coordination store's.
///
/// # Errors
/// `Unclaimed`, `Different`, or the bucket's.
pub async fn verify(objects: &NamedObjects, incarnation: &Incarnation) -> Result<(), IncarnationError> {
    let ours = object(incarnation);
    let encoded = ours.encode();
    let key = ObjectKey(objects.cluster.incarnation_key(incarnation.number));
    let bytes = match objects.store.read(&key, 0..encoded.length_bytes).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound(_)) => return Err(IncarnationError::Unclaimed),
        Err(error) => return Err(error.into()),
    };
    let found = journal::Incarnation::decode(&bytes).map_err(IncarnationError::Damaged)?;
    if found == ours {
        Ok(())
    } else {
        Err(IncarnationError::Different {
            bucket: found.id,
            store: ours.id,
        })
    }
}

/// Whether recovery has begun, or has begun to begin, a later life, perhaps on another coordination store. An old life may live
/// on where nobody told it; it must not delete what the new one goes on reading.
///
/// # Errors
/// `Succeeded`, or the bucket's.
pub async fn verify_last(objects: &NamedObjects, incarnation: &Incarnation) -> Result<(), IncarnationError> {
    let next = IncarnationNumber(incarnation.number.0.saturating_add(1));
    let length = object(incarnation).encode().length_bytes;
    let key = ObjectKey(objects.cluster.incarnation_key(next));
    match objects.store.read(&key, 0..length).await {
        Ok(_) => Err(IncarnationError::Succeeded { next }),
        Err(StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a cluster may be founded, or is there already: a coordination store that knows none must not begin one on a bucket
/// that belongs to one. To be asked before anything is written to either.
///
/// # Errors
/// `Lost`, or one of the two does not answer.
pub async fn verify_founding(objects: &dyn ObjectStore, store: &dyn MetadataStore) -> Result<(), IncarnationError> {
    if knows(store, &[incarnation::KEY]).await? {
        return Ok(());
    }
    let held = recover::clusters(objects).await?;
    // Somebody may have founded it meanwhile.
    if held.is_empty() || knows(store, &[incarnation::KEY]).await? {
        return Ok(());
    }
    Err(IncarnationError::Lost { held })
}

/// As [`verify`]; when the bucket does not know this incarnation, claims it, if the cluster has not worked yet and the bucket
/// belongs to nobody. Every process does so before it uses a bucket and before it opens a session.
/// Two clones that do so at the same moment are told apart when the later write is there: both verify again, always.
///
/// # Errors
/// As [`verify`], but for `Unclaimed`; `Elsewhere`.
pub async fn claim(objects: &NamedObjects, cluster: &Cluster) -> Result<(), IncarnationError> {
    let incarnation = &cluster.incarnation;
    match verify(objects, incarnation).await {
        Err(IncarnationError::Unclaimed) => {}
        other => return other,
    }
    let worked = knows(&*cluster.store, &[counter::KEY, root::KEY]).await?;
    let mut held = recover::clusters(&*objects.store).await?;
    held.remove(&objects.cluster);
    if worked || !held.is_empty() {
        // Somebody may have claimed it meanwhile, and begun to work.
        return match verify(objects, incarnation).await {
            Err(IncarnationError::Unclaimed) => Err(IncarnationError::Elsewhere {
                cluster: objects.cluster.clone(),
                number: incarnation.number,
                held,
            }),
            other => other,
        };
    }
    let key = ObjectKey(objects.cluster.incarnation_key(incarnation.number));
    objects.store.create(&key, object(incarnation).encode().chunks).await?;
    verify(objects, incarnation).await
}

/// Whether the coordination store has one of these keys.
async fn knows(store: &dyn MetadataStore, keys: &[bytes::Bytes]) -> Result<bool, MetadataError> {
    let found = store
        .snapshot(keys.iter().cloned().map(KeyRange::Key).collect())
        .await?;
    Ok(found.ranges.into_iter().any(|range| !range.is_empty()))
}

fn object(incarnation: &Incarnation) -> journal::Incarnation {
    journal::Incarnation {
        number: incarnation.number,
        id: IncarnationId(incarnation.id),
    }
}
