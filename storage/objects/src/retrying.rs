//! Retries in front of a store, for the calls that may be repeated: read, list and delete.
//!
//! Owns: attempts, time-outs of attempts, back-off with jitter, and a budget that all calls share.
//! Does not own: uploads. A `create` whose outcome is not known must not reuse its key: whoever names objects takes a new
//! one. It gets a time-out here and nothing else.
//!
//! Invariants: a definite answer (`NotFound` is one) is never asked for again; in the steady state of a broken store there is
//! at most one retry for every ten calls that succeed.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::random::Random;
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

#[cfg(test)]
mod tests;

/// How patient the retries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Most attempts of one call, the first included.
    pub attempts_max: u32,
    /// An attempt that takes longer counts as failed (a write's outcome as unknown).
    pub attempt_timeout: Duration,
    /// A large object has more time: as long as it takes at this pace.
    pub bytes_per_second_min: u64,
    /// Pause before the second attempt; each further one is twice as long. Half of it is random.
    pub backoff_first: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// Retries that may be spent at once. A call that succeeds at its first attempt earns back a tenth of one.
    pub budget_retries: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            attempt_timeout: Duration::from_secs(10),
            bytes_per_second_min: 1 << 20,
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            budget_retries: 100,
        }
    }
}

/// What a retry costs, in units of what a success earns.
const RETRY_COST: u32 = 10;

/// A store with retries.
pub struct Retrying {
    inner: Arc<dyn ObjectStore>,
    settings: RetrySettings,
    shared: Mutex<Shared>,
}

struct Shared {
    random: Random,
    /// In units of what a success earns.
    budget: u32,
}

impl Retrying {
    /// Puts retries in front of a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, settings: RetrySettings, random: Random) -> Self {
        let budget = settings.budget_retries.saturating_mul(RETRY_COST);
        Self {
            inner,
            settings,
            shared: Mutex::new(Shared { random, budget }),
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn earn(&self) {
        let most = self.settings.budget_retries.saturating_mul(RETRY_COST);
        let mut shared = self.shared();
        shared.budget = shared.budget.saturating_add(1).min(most);
    }

    /// How long to wait before the attempt after this one; `None` when there shall be none.
    fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.settings.attempts_max {
            return None;
        }
        let mut shared = self.shared();
        shared.budget = shared.budget.checked_sub(RETRY_COST)?;
        let doubled = self.settings.backoff_first.saturating_mul(1 << (attempt - 1).min(20));
        let longest = doubled.min(self.settings.backoff_max);
        Some(shared.random.duration(&(longest / 2..longest)))
    }

    /// How long an attempt may take that moves so many bytes.
    fn limit(&self, bytes: u64) -> Duration {
        let paced = Duration::from_secs(bytes / self.settings.bytes_per_second_min.max(1));
        self.settings.attempt_timeout + paced.min(PACED_MAX)
    }

    async fn repeat<T, F>(
        &self,
        limit: Duration,
        timed_out: impl Fn() -> StoreError,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut nth = 1;
        loop {
            let outcome = tokio::time::timeout(limit, attempt()).await;
            match outcome.unwrap_or_else(|_| Err(timed_out())) {
                Ok(answer) => {
                    if nth == 1 {
                        self.earn();
                    }
                    return Ok(answer);
                }
                Err(error @ StoreError::NotFound(_)) => return Err(error),
                Err(error @ (StoreError::Failed { .. } | StoreError::Unknown { .. })) => {
                    let Some(pause) = self.pause_after(nth) else {
                        return Err(error);
                    };
                    tracing::debug!(%error, attempt = nth, "object store call failed, trying again");
                    tokio::time::sleep(pause).await;
                    nth += 1;
                }
            }
        }
    }
}

/// Most time that an object has for its size.
const PACED_MAX: Duration = Duration::from_secs(240);
const TIMED_OUT: &str = "no answer in time";

#[async_trait]
impl ObjectStore for Retrying {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let limit = self.limit(u64::try_from(bytes).expect("a length fits 64 bits"));
        let outcome = tokio::time::timeout(limit, self.inner.create(key, chunks)).await;
        outcome.unwrap_or_else(|_| Err(StoreError::unknown(key, TIMED_OUT)))
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let timed_out = || StoreError::failed(key, TIMED_OUT);
        let limit = self.limit(range.end.saturating_sub(range.start));
        self.repeat(limit, timed_out, || self.inner.read(key, range.clone()))
            .await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let timed_out = || StoreError::failed(&ObjectKey(prefix.to_owned()), TIMED_OUT);
        self.repeat(self.limit(0), timed_out, || self.inner.list(prefix, after, limit))
            .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let timed_out = || StoreError::unknown(key, TIMED_OUT);
        self.repeat(self.limit(0), timed_out, || self.inner.delete(key)).await
    }
}
