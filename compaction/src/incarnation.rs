//! Whether bucket and coordination store belong to the same life of the cluster.
//!
//! A cluster cloned from a copy of its coordination store must not eat the original's data: an object in the bucket says which
//! random id an incarnation has, and who acts on the bucket compares it.
//!
//! Owns: writing that object once, comparing it.
//! Does not own: what an incarnation is (`esker_metadata::keys::incarnation`).

use esker_metadata::keys::incarnation::Incarnation;
use esker_segment::id::{IncarnationId, IncarnationNumber};
use esker_segment::journal;
use esker_segment::wire::FormatError;
use esker_storage::named::NamedObjects;
use esker_storage::store::{ObjectKey, StoreError};

/// Why bucket and coordination store must not be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncarnationError {
    /// The bucket has no object for this incarnation: nobody may act on it yet.
    #[error("the bucket does not know this incarnation")]
    Unclaimed,
    /// The bucket belongs to another cluster with the same name: one of the two is a clone.
    #[error("the bucket belongs to incarnation {bucket}, the coordination store is {store}")]
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
}

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

/// As [`verify`]; when the bucket does not know this incarnation, claims it. Every process does so before it uses a bucket.
/// Two clones that do so at the same moment are told apart when the later write is there: both verify again, always.
///
/// # Errors
/// As [`verify`], but for `Unclaimed`.
pub async fn claim(objects: &NamedObjects, incarnation: &Incarnation) -> Result<(), IncarnationError> {
    match verify(objects, incarnation).await {
        Err(IncarnationError::Unclaimed) => {}
        other => return other,
    }
    let key = ObjectKey(objects.cluster.incarnation_key(incarnation.number));
    objects.store.create(&key, object(incarnation).encode().chunks).await?;
    verify(objects, incarnation).await
}

fn object(incarnation: &Incarnation) -> journal::Incarnation {
    journal::Incarnation {
        number: incarnation.number,
        id: IncarnationId(incarnation.id),
    }
}
