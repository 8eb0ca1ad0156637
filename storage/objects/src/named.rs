//! The objects of one cluster by name instead of by key.
//!
//! Owns: the one place where a name, a cluster id and a bucket come together.
//! Does not own: names (`esker_segment::name`), what is in an object.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use esker_segment::name::{ClusterId, ObjectName};

use crate::store::{ObjectKey, ObjectStore, StoreError};

/// The objects of a cluster. Clones share the bucket.
#[derive(Clone)]
pub struct NamedObjects {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// What every key begins with.
    pub cluster: ClusterId,
}

impl fmt::Debug for NamedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedObjects")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl NamedObjects {
    /// The objects of a cluster in a bucket.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, cluster: ClusterId) -> Self {
        Self { store, cluster }
    }

    /// The key of an object.
    #[must_use]
    pub fn key(&self, name: &ObjectName) -> ObjectKey {
        ObjectKey::of(&self.cluster, name)
    }

    /// Reads a range of an object.
    ///
    /// # Errors
    /// As [`ObjectStore::read`].
    pub async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.read(&self.key(name), range).await
    }

    /// Reads an object of known length as a whole.
    ///
    /// # Errors
    /// As [`ObjectStore::read`].
    pub async fn read_whole(&self, name: &ObjectName, length_bytes: u64) -> Result<Bytes, StoreError> {
        self.read(name, 0..length_bytes).await
    }

    /// Writes an object.
    ///
    /// # Errors
    /// As [`ObjectStore::create`]: the name is used up.
    pub async fn create(&self, name: &ObjectName, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.store.create(&self.key(name), chunks).await
    }

    /// Deletes an object; an absent one is fine.
    ///
    /// # Errors
    /// As [`ObjectStore::delete`].
    pub async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.store.delete(&self.key(name)).await
    }
}
