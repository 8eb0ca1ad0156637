//! Checkpoints: the fold's state and the unmerged index as immutable objects, and the root that names them.
//!
//! Owns: what a checkpoint consists of (`write`, [`AdminKeys`]), reading one back ([`load`]), names of the objects that are not segments
//! and the publication that makes them count (`publication`).
//! Does not own: formats (`esker-segment`, `esker-model`), when there is a checkpoint (compaction), truncation (`log`).
//!
//! Invariants: a checkpoint is that of one log index, and everything at or below it is in the objects that the root names:
//! loading it and applying what follows gives the fold of somebody who never restarted (LOG-5). Objects come before the root
//! that names them, and the root before truncation (LOG-3).

use esker_model::Fold;
use esker_segment::checkpoint::IndexObject;
use esker_segment::wire::FormatError;
use esker_storage::named::NamedObjects;
use esker_storage::store::{ObjectKey, StoreError};

use crate::keys::root::{ObjectRef, Root};

mod admin_keys;
mod publication;
mod write;

pub use admin_keys::AdminKeys;
pub use publication::{LiveSession, ObjectWriter, PublishError};
pub use write::{CheckpointError, WrittenCheckpoint, rebase, with_admin_keys, write};

/// Why a checkpoint cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// An object that the root names is gone: a newer root has taken its place. Read the root again.
    #[error("{key} is gone: read the root again")]
    Superseded {
        /// Which one.
        key: ObjectKey,
    },
    /// The bucket.
    #[error(transparent)]
    Store(StoreError),
    /// An object is not what was written.
    #[error("{key} is damaged: {why}")]
    Damaged {
        /// Which one.
        key: ObjectKey,
        /// What is wrong.
        why: FormatError,
    },
    /// The state is not that of the root.
    #[error("the state in {key} is not the one that the root names")]
    OtherState {
        /// The state object.
        key: ObjectKey,
    },
}

/// The fold that a root names: its state, and where everything lies that is not merged.
///
/// # Errors
/// See [`LoadError`].
pub async fn load(root: &Root, objects: &NamedObjects) -> Result<Fold, LoadError> {
    let damaged = |object: &ObjectRef, why| LoadError::Damaged {
        key: objects.key(&object.name),
        why,
    };
    let state = read(objects, &root.state).await?;
    let mut fold = Fold::decode_state(&state).map_err(|why| damaged(&root.state, why))?;
    if fold.index() != root.index || u128::from(fold.digest().0) != root.digest {
        return Err(LoadError::OtherState {
            key: objects.key(&root.state.name),
        });
    }
    // One at a time: together they can be many times the state.
    for index in &root.indexes {
        let bytes = read(objects, &index.object).await?;
        let decoded = IndexObject::decode(&bytes).map_err(|why| damaged(&index.object, why))?;
        fold.import_index(&decoded, root.merged_through);
    }
    Ok(fold)
}

/// Reads an object whose digest is the one that the root names. That it fits the content is checked when it is decoded.
async fn read(objects: &NamedObjects, object: &ObjectRef) -> Result<bytes::Bytes, LoadError> {
    match objects.read_whole(&object.name, object.length_bytes).await {
        Ok(bytes) if ends_with(&bytes, object.digest) => Ok(bytes),
        Ok(_) => Err(LoadError::Damaged {
            key: objects.key(&object.name),
            why: FormatError::Hash {
                what: "object of a checkpoint",
            },
        }),
        Err(StoreError::NotFound(key)) => Err(LoadError::Superseded { key }),
        Err(error) => Err(LoadError::Store(error)),
    }
}

/// Whether a container ends with this digest: it stands before the magic.
fn ends_with(container: &[u8], digest: u128) -> bool {
    let before_magic = container.len().checked_sub(8).map(|at| &container[..at]);
    before_magic.is_some_and(|bytes| bytes.ends_with(&digest.to_le_bytes()))
}
