//! Whether the bucket can be reached, seen from the requests that are made anyway.
//!
//! Owns: since when no request has worked.
//! Does not own: asking on purpose: an idle agent costs no request, so an idle agent does not notice.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_storage::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};
use tokio::time::Instant;

/// A request that was given up after so long has failed.
const GIVEN_UP: Duration = Duration::from_secs(2);
/// The bucket is called unreachable when nothing has worked for so long.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// What is known of the bucket. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StoreHealth {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    failing: Option<Failing>,
    /// When a request worked last.
    worked: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    last: String,
}

/// A store whose requests are watched.
pub struct WatchedStore {
    inner: Arc<dyn ObjectStore>,
    health: StoreHealth,
}

impl StoreHealth {
    /// Why the bucket is thought to be out of reach, if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let failing = self.lock().failing.clone()?;
        (failing.since.elapsed() >= UNREACHABLE_AFTER).then_some(failing.last)
    }

    fn worked(&self) {
        *self.lock() = Known {
            failing: None,
            worked: Some(Instant::now()),
        };
    }

    fn failed(&self, since: Instant, last: String) {
        let mut known = self.lock();
        let since = known.failing.as_ref().map_or(since, |before| before.since);
        known.failing = Some(Failing { since, last });
    }

    /// A request was given up. One that another overtook, which began later or was sent for the same thing and worked, says
    /// nothing about the bucket.
    fn given_up(&self, began: Instant) {
        if self.lock().worked.is_none_or(|worked| worked < began) {
            self.failed(began, "no answer in time".to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchedStore {
    /// Watches the requests to a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, health: StoreHealth) -> Self {
        Self { inner, health }
    }

    async fn watched<T>(&self, request: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let mut pending = Pending {
            health: &self.health,
            began: Instant::now(),
            answered: false,
        };
        let result = request.await;
        pending.answered = true;
        match &result {
            Ok(_) | Err(StoreError::NotFound(_)) => self.health.worked(),
            Err(error) => self.health.failed(pending.began, error.to_string()),
        }
        result
    }
}

/// A request under way; given up when it is dropped without an answer.
struct Pending<'a> {
    health: &'a StoreHealth,
    began: Instant,
    answered: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // The slower one of two that were sent for the same thing is dropped as well, but earlier.
        if !self.answered && self.began.elapsed() >= GIVEN_UP {
            self.health.given_up(self.began);
        }
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.watched(self.inner.create(key, chunks)).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.watched(self.inner.read(key, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.watched(self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.watched(self.inner.delete(key)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_store_that_keeps_failing_is_out_of_reach() {
        let health = StoreHealth::default();
        let key = ObjectKey("k".to_owned());
        let fail = || health.failed(Instant::now(), StoreError::failed(&key, "down").to_string());
        fail();
        assert_eq!(health.trouble(), None);
        tokio::time::advance(UNREACHABLE_AFTER).await;
        fail();
        assert!(health.trouble().is_some_and(|why| why.contains("down")));
        health.worked();
        assert_eq!(health.trouble(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_an_answer_count_when_they_are_given_up() {
        let health = StoreHealth::default();
        let store = WatchedStore::new(Arc::new(esker_storage::bucket::Bucket::memory()), health.clone());
        let never = store.watched(std::future::pending::<Result<(), StoreError>>());
        drop(tokio::time::timeout(GIVEN_UP * 2, never).await);
        assert!(health.trouble().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_slower_one_of_two_requests_says_nothing_when_the_other_worked() {
        let health = StoreHealth::default();
        let store = WatchedStore::new(Arc::new(esker_storage::bucket::Bucket::memory()), health.clone());
        let slow = store.watched(std::future::pending::<Result<(), StoreError>>());
        let hedge = async {
            tokio::time::sleep(GIVEN_UP * 2).await;
            store.watched(async { Ok(()) }).await
        };
        tokio::select! {
            biased;
            _ = slow => panic!("it never answers"),
            worked = hedge => worked.unwrap(),
        }
        tokio::time::advance(UNREACHABLE_AFTER * 2).await;
        assert_eq!(health.trouble(), None);
        // One that began after that counts.
        let never = store.watched(std::future::pending::<Result<(), StoreError>>());
        drop(tokio::time::timeout(UNREACHABLE_AFTER, never).await);
        assert!(health.trouble().is_some());
    }
}
