//! The seam to a bucket: five calls, errors that say whether the effect certainly failed.
//!
//! Owns: the contract. Every implementation (S3, local directory, memory, simulated) passes the same conformance suite.
//! Does not own: key layout (`esker_segment`), retries and metrics (the stack around it).

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use esker_segment::name::{ClusterId, ObjectName};

/// Key of an object: `/`-separated, written once, never reused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(pub String);

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ObjectKey {
    /// The key of an object of a cluster.
    #[must_use]
    pub fn of(cluster: &ClusterId, name: &ObjectName) -> Self {
        Self(name.key(cluster))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When the store says it was last written.
    pub modified: SystemTime,
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("object {0} does not exist")]
    NotFound(ObjectKey),
    /// The store certainly did nothing, and a later call may succeed.
    #[error("object store refused {key}: {reason}")]
    Failed {
        /// The object.
        key: ObjectKey,
        /// What the store said.
        reason: String,
    },
    /// Whether the call took effect, or will, is not known. A PUT may still land: never reuse its key.
    #[error("outcome unknown for {key}: {reason}")]
    Unknown {
        /// The object.
        key: ObjectKey,
        /// What the store said.
        reason: String,
    },
}

impl StoreError {
    /// `Failed`, for this reason.
    pub fn failed(key: &ObjectKey, reason: impl fmt::Display) -> Self {
        Self::Failed {
            key: key.clone(),
            reason: reason.to_string(),
        }
    }

    /// `Unknown`, for this reason.
    pub fn unknown(key: &ObjectKey, reason: impl fmt::Display) -> Self {
        Self::Unknown {
            key: key.clone(),
            reason: reason.to_string(),
        }
    }
}

/// A bucket.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Writes an object. When this returns `Ok` the object is durable and readable by everybody.
    ///
    /// # Errors
    /// `Failed` or `Unknown`. The caller takes a new key for the next attempt.
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError>;

    /// Reads a range of bytes; a range that ends beyond the object is an error, never a short answer.
    ///
    /// # Errors
    /// `NotFound`, or `Failed`: a read has no effect.
    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// At most `limit` objects whose keys begin with `prefix` and are greater than `after`, in key order.
    ///
    /// # Errors
    /// `Failed`.
    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Deletes an object; an absent one is fine.
    ///
    /// # Errors
    /// `Failed` or `Unknown`.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;
}
