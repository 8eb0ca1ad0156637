//! Metrics in front of a store.
//!
//! Owns: `esker_store_requests_total{op,outcome}`, `esker_store_bytes_total{op}`, `esker_store_seconds{op}`. Put below the
//! retries it counts what the store is really asked; that is what costs money.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use metrics::{counter, histogram};
use tokio::time::Instant;

use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

#[cfg(test)]
mod tests;

/// A store whose calls are counted and timed.
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
}

impl Metered {
    /// Puts metrics in front of a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }
}

/// One call; counts as cancelled when it is dropped before its end.
struct Request {
    op: &'static str,
    began: Instant,
    outcome: &'static str,
}

impl Request {
    fn begin(op: &'static str) -> Self {
        Self {
            op,
            began: Instant::now(),
            outcome: "cancelled",
        }
    }

    fn end<T>(mut self, outcome: &Result<T, StoreError>, bytes: impl FnOnce(&T) -> usize) {
        self.outcome = match outcome {
            Ok(answer) => {
                let bytes = u64::try_from(bytes(answer)).expect("a length fits 64 bits");
                counter!("esker_store_bytes_total", "op" => self.op).increment(bytes);
                "ok"
            }
            Err(StoreError::NotFound(_)) => "not_found",
            Err(StoreError::Failed { .. }) => "failed",
            Err(StoreError::Unknown { .. }) => "unknown",
        };
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        counter!("esker_store_requests_total", "op" => self.op, "outcome" => self.outcome).increment(1);
        histogram!("esker_store_seconds", "op" => self.op).record(self.began.elapsed());
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let request = Request::begin("put");
        let outcome = self.inner.create(key, chunks).await;
        request.end(&outcome, |()| bytes);
        outcome
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let request = Request::begin("get");
        let outcome = self.inner.read(key, range).await;
        request.end(&outcome, Bytes::len);
        outcome
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let request = Request::begin("list");
        let outcome = self.inner.list(prefix, after, limit).await;
        request.end(&outcome, |_| 0);
        outcome
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let request = Request::begin("delete");
        let outcome = self.inner.delete(key).await;
        request.end(&outcome, |()| 0);
        outcome
    }
}
