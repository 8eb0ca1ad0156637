//! Whether the bucket can be reached, seen from the requests that are made anyway.
//!
//! Owns: since when no request has worked, and since when no upload has: a bucket that is full, or may only be read, answers
//! every read.
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
    uploads: Requests,
    others: Requests,
}

/// What is known of one kind of requests.
#[derive(Clone, Debug, Default)]
struct Requests {
    failing: Option<Failing>,
    /// When one worked last.
    worked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Upload,
    Other,
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

impl Known {
    fn of(&mut self, kind: Kind) -> &mut Requests {
        match kind {
            Kind::Upload => &mut self.uploads,
            Kind::Other => &mut self.others,
        }
    }
}

impl Requests {
    fn trouble(&self) -> Option<String> {
        let failing = self.failing.as_ref()?;
        (failing.since.elapsed() >= UNREACHABLE_AFTER).then(|| failing.last.clone())
    }
}

impl StoreHealth {
    /// Why the bucket is thought to be out of reach, if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let known = self.lock();
        known.uploads.trouble().or_else(|| known.others.trouble())
    }

    /// Whether uploads do not work: only one that does says that they do again.
    #[must_use]
    pub fn refuses_uploads(&self) -> bool {
        self.lock().uploads.trouble().is_some()
    }

    fn worked(&self, kind: Kind) {
        let mut known = self.lock();
        let now = Requests {
            failing: None,
            worked: Some(Instant::now()),
        };
        match kind {
            // Who can write to a bucket reaches it.
            Kind::Upload => (known.uploads, known.others) = (now.clone(), now),
            Kind::Other => known.others = now,
        }
    }

    fn failed(&self, kind: Kind, since: Instant, last: String) {
        let mut known = self.lock();
        let requests = known.of(kind);
        let since = requests.failing.as_ref().map_or(since, |before| before.since);
        requests.failing = Some(Failing { since, last });
    }

    /// A request was given up. One that another overtook, which began later or was sent for the same thing and worked, says
    /// nothing about the bucket.
    fn given_up(&self, kind: Kind, began: Instant) {
        if self.lock().of(kind).worked.is_none_or(|worked| worked < began) {
            self.failed(kind, began, "no answer in time".to_owned());
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

    async fn watched<T>(
        &self,
        kind: Kind,
        request: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut pending = Pending {
            health: &self.health,
            kind,
            began: Instant::now(),
            answered: false,
        };
        let result = request.await;
        pending.answered = true;
        match &result {
            Ok(_) | Err(StoreError::NotFound(_)) => self.health.worked(kind),
            Err(error) => self.health.failed(kind, pending.began, error.to_string()),
        }
        result
    }
}

/// A request under way; given up when it is dropped without an answer.
struct Pending<'a> {
    health: &'a StoreHealth,
    kind: Kind,
    began: Instant,
    answered: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // The slower one of two that were sent for the same thing is dropped as well, but earlier.
        if !self.answered && self.began.elapsed() >= GIVEN_UP {
            self.health.given_up(self.kind, self.began);
        }
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.watched(Kind::Upload, self.inner.create(key, chunks)).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.watched(Kind::Other, self.inner.read(key, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.watched(Kind::Other, self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.watched(Kind::Other, self.inner.delete(key)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_store_that_keeps_failing_is_out_of_reach() {
        let health = StoreHealth::default();
        let key = ObjectKey("k".to_owned());
        let fail = || {
            health.failed(
                Kind::Other,
                Instant::now(),
                StoreError::failed(&key, "down").to_string(),
            )
        };
        fail();
        assert_eq!(health.trouble(), None);
        tokio::time::advance(UNREACHABLE_AFTER).await;
        fail();
        assert!(health.trouble().is_some_and(|why| why.contains("down")));
        health.worked(Kind::Other);
        assert_eq!(health.trouble(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_takes_no_uploads_is_in_trouble_until_it_takes_one() {
        let health = StoreHealth::default();
        let fail = |kind| health.failed(kind, Instant::now(), "full".to_owned());
        fail(Kind::Upload);
        fail(Kind::Other);
        tokio::time::advance(UNREACHABLE_AFTER).await;
        health.worked(Kind::Other);
        assert!(health.refuses_uploads());
        assert_eq!(health.trouble().as_deref(), Some("full"));
        fail(Kind::Other);
        health.worked(Kind::Upload);
        assert!(!health.refuses_uploads());
        tokio::time::advance(UNREACHABLE_AFTER).await;
        assert_eq!(health.trouble(), None);
        // What fails besides is trouble of its own.
        fail(Kind::Other);
        tokio::time::advance(UNREACHABLE_AFTER).await;
        assert!(health.trouble().is_some() && !health.refuses_uploads());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_an_answer_count_when_they_are_given_up() {
        let health = StoreHealth::default();
        let store = WatchedStore::new(Arc::new(esker_storage::bucket::Bucket::memory()), health.clone());
        let never = store.watched(Kind::Other, std::future::pending::<Result<(), StoreError>>());
        drop(tokio::time::timeout(GIVEN_UP * 2, never).await);
        assert!(health.trouble().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_slower_one_of_two_requests_says_nothing_when_the_other_worked() {
        let health = StoreHealth::default();
        let store = WatchedStore::new(Arc::new(esker_storage::bucket::Bucket::memory()), health.clone());
        let slow = store.watched(Kind::Other, std::future::pending::<Result<(), StoreError>>());
        let hedge = async {
            tokio::time::sleep(GIVEN_UP * 2).await;
            store.watched(Kind::Other, async { Ok(()) }).await
        };
        tokio::select! {
            biased;
            _ = slow => panic!("it never answers"),
            worked = hedge => worked.unwrap(),
        }
        tokio::time::advance(UNREACHABLE_AFTER * 2).await;
        assert_eq!(health.trouble(), None);
        // One that began after that counts.
        let never = store.watched(Kind::Other, std::future::pending::<Result<(), StoreError>>());
        drop(tokio::time::timeout(UNREACHABLE_AFTER, never).await);
        assert!(health.trouble().is_some());
    }
}
