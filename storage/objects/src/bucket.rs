//! The `object_store` crate behind our seam: memory today, every remote store it knows.
//!
//! Owns: the only place that names that crate; which of its errors are certain failures.
//! Does not own: the local directory (`directory`; docs/decisions says why), retries, metrics.
//!
//! Invariants: puts are plain overwrites, never conditional ones: with the first of several attempts applied and its answer
//! lost, a conditional put says "exists", and several servers have had non-atomic ones.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutPayload};

use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

/// A store of the `object_store` crate.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<dyn object_store::ObjectStore>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.inner)
    }
}

impl Bucket {
    /// A bucket in memory, gone with the process.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            inner: Arc::new(object_store::memory::InMemory::new()),
        }
    }
}

/// Our keys are already what the crate calls a path; one that is not is refused before anything is sent.
fn path(key: &ObjectKey) -> Result<Path, StoreError> {
    Path::parse(&key.0).map_err(|error| StoreError::failed(key, error))
}

/// Whether the store certainly did nothing.
fn certainly_failed(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::UnknownConfigurationKey { .. }
    )
}

fn write_error(key: &ObjectKey, error: &Error) -> StoreError {
    if certainly_failed(error) {
        StoreError::failed(key, error)
    } else {
        StoreError::unknown(key, error)
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let payload: PutPayload = chunks.into_iter().collect();
        match self.inner.put(&path(key)?, payload).await {
            Ok(_) => Ok(()),
            Err(error) => Err(write_error(key, &error)),
        }
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            // Some stores refuse an empty range; what there is to know is whether the object is there and long enough.
            let found = self
                .inner
                .head(&path(key)?)
                .await
                .map_err(|error| read_error(key, &error))?;
            return if range.start <= found.size {
                Ok(Bytes::new())
            } else {
                Err(beyond_end(key, &range))
            };
        }
        let bytes = self
            .inner
            .get_range(&path(key)?, range.clone())
            .await
            .map_err(|error| read_error(key, &error))?;
        if u64::try_from(bytes.len()) == Ok(wanted) {
            Ok(bytes)
        } else {
            Err(beyond_end(key, &range))
        }
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let asked = ObjectKey(prefix.to_owned());
        let failed = |error: Error| StoreError::failed(&asked, error);
        // The crate's prefixes are whole directories; the rest of ours is compared here.
        let directory = match prefix.rsplit_once('/') {
            Some((directory, _)) => Some(path(&ObjectKey(directory.to_owned()))?),
            None => None,
        };
        let mut stream = match after {
            Some(after) => self.inner.list_with_offset(directory.as_ref(), &path(after)?),
            None => self.inner.list(directory.as_ref()),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(meta) = stream.next().await else { break };
            let meta = meta.map_err(failed)?;
            let key = ObjectKey(meta.location.to_string());
            if key.0.starts_with(prefix) {
                found.push(ObjectMeta {
                    key,
                    size_bytes: meta.size,
                    modified: meta.last_modified.into(),
                });
            } else if key.0.as_str() > prefix {
                break;
            }
        }
        Ok(found)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self.inner.delete(&path(key)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(write_error(key, &error)),
        }
    }
}

fn read_error(key: &ObjectKey, error: &Error) -> StoreError {
    if matches!(error, Error::NotFound { .. }) {
        StoreError::NotFound(key.clone())
    } else {
        StoreError::failed(key, error)
    }
}

/// What a read says whose range does not lie within the object.
pub(crate) fn beyond_end(key: &ObjectKey, range: &Range<u64>) -> StoreError {
    StoreError::failed(
        key,
        format_args!("range {} to {} ends beyond the object", range.start, range.end),
    )
}
