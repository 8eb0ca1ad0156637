//! Against slow requests: a second one beside the first when it takes longer than most, and an end to it when it takes
//! far too long.
//!
//! Owns: when a second request is worth it, the budget for that, time-outs that follow what the store usually takes,
//! `esker_store_hedges_total{op,outcome}`.
//! Does not own: names. A second PUT goes under a key of its own, which whoever names objects supplies ([`Hedger::create`]); reads
//! are hedged by a layer ([`Hedged`]). Retries after errors (`retrying`, the uploader).
//!
//! Invariants: extra requests stay within the budget in every long run. The loser of a race is dropped; its object may appear
//! all the same, under a name of the same session and number as the winner's, so that garbage collection knows it.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use metrics::counter;
use tokio::time::{Instant, sleep, timeout};

use self::latency::Latencies;
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

mod latency;
#[cfg(test)]
mod tests;

/// When a second request is sent and when the first is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeSettings {
    /// Second requests for every hundred first ones, in the long run; 0 for none.
    pub budget_percent: u32,
    /// Second requests that may be sent in a row after a quiet time.
    pub burst: u32,
    /// No second request before.
    pub delay_min: Duration,
    /// A request is given up after ten times what 99 of a hundred take, but not before this …
    pub timeout_min: Duration,
    /// … and at the latest after this; also while not enough is known.
    pub timeout_max: Duration,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        Self {
            budget_percent: 8,
            burst: 8,
            delay_min: Duration::from_millis(10),
            timeout_min: Duration::from_secs(2),
            timeout_max: Duration::from_secs(20),
        }
    }
}

impl HedgeSettings {
    /// With this budget. Without any, there is one time-out too: the time that a store takes which is our own disk says nothing.
    #[must_use]
    pub fn with_budget(percent: u32) -> Self {
        let usual = Self::default();
        let timeout_min = if percent == 0 {
            usual.timeout_max
        } else {
            usual.timeout_min
        };
        Self {
            budget_percent: percent,
            timeout_min,
            ..usual
        }
    }
}

/// A time-out is so many times what 99 of a hundred requests take.
const TIMEOUT_FACTOR: u32 = 10;
/// A second request is sent at the latest after so many times what half of the requests take: with many slow requests the
/// 95th of a hundred is slow itself.
const MEDIAN_FACTOR: u32 = 4;
/// What a second request costs, in units of what a first one earns for each percent.
const COST: u32 = 100;
const NO_ANSWER: &str = "no answer in time";

/// Races requests of one kind (one verb) against a second one.
pub struct Hedger {
    op: &'static str,
    settings: HedgeSettings,
    state: Mutex<State>,
}

struct State {
    latencies: Latencies,
    /// In hundredths of a second request.
    budget: u32,
}

struct Plan {
    /// When a second request is worth it; `None` for never.
    delay: Option<Duration>,
    timeout: Duration,
}

impl Hedger {
    /// For uploads.
    #[must_use]
    pub fn puts(settings: HedgeSettings) -> Self {
        Self::new("put", settings)
    }

    /// For reads.
    #[must_use]
    pub fn gets(settings: HedgeSettings) -> Self {
        Self::new("get", settings)
    }

    fn new(op: &'static str, settings: HedgeSettings) -> Self {
        Self {
            op,
            settings,
            state: Mutex::new(State {
                latencies: Latencies::default(),
                budget: settings.burst.saturating_mul(COST),
            }),
        }
    }

    /// Uploads under the first name that `next` gives, and, if that takes long, under the second beside it. The name that holds
    /// the object for certain is returned; the other may appear later.
    ///
    /// # Errors
    /// As [`ObjectStore::create`]: of one of the names. All names that were taken are used up.
    pub async fn create<N>(
        &self,
        store: &dyn ObjectStore,
        chunks: &[Bytes],
        mut next: impl FnMut() -> (N, ObjectKey),
    ) -> Result<N, StoreError> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let bytes = u64::try_from(bytes).expect("a length fits 64 bits");
        self.race(bytes, |limit| {
            let (name, key) = next();
            let chunks = chunks.to_vec();
            async move {
                let put = timeout(limit, store.create(&key, chunks)).await;
                put.unwrap_or_else(|_| Err(StoreError::unknown(&key, NO_ANSWER)))?;
                Ok(name)
            }
        })
        .await
    }

    /// One request, or two.
    async fn race<T, A>(&self, bytes: u64, mut attempt: impl FnMut(Duration) -> A) -> Result<T, StoreError>
    where
        A: Future<Output = Result<T, StoreError>>,
    {
        let plan = self.plan(bytes);
        let began = Instant::now();
        let mut first = pin!(attempt(plan.timeout));
        // If all of this is dropped, how long it took is not known, and nothing is noted.
        let Some(delay) = plan.delay else {
            let outcome = first.await;
            let took = began.elapsed();
            self.note(bytes, took, outcome.is_ok() || took >= plan.timeout);
            return outcome;
        };
        if let Either::Left((outcome, _)) = select(first.as_mut(), pin!(sleep(delay))).await {
            self.note(bytes, began.elapsed(), outcome.is_ok());
            return outcome;
        }
        if !self.spend() {
            self.count("over_budget");
            let outcome = first.await;
            self.note(bytes, began.elapsed(), true);
            return outcome;
        }
        let second = pin!(attempt(plan.timeout));
        let (outcome, second_answered) = match select(first, second).await {
            Either::Left((outcome, second)) => or(outcome, second).await,
            Either::Right((outcome, first)) => {
                let (outcome, first_answered) = or(outcome, first).await;
                (outcome, !first_answered)
            }
        };
        self.note(bytes, began.elapsed(), true);
        self.count(match (&outcome, second_answered) {
            (Err(StoreError::Failed { .. } | StoreError::Unknown { .. }), _) => "failed",
            (Ok(_) | Err(StoreError::NotFound(_)), true) => "won",
            (Ok(_) | Err(StoreError::NotFound(_)), false) => "lost",
        });
        outcome
    }

    fn plan(&self, bytes: u64) -> Plan {
        let settings = &self.settings;
        let mut state = self.state();
        let most = settings.burst.saturating_mul(COST);
        state.budget = state.budget.saturating_add(settings.budget_percent).min(most);
        let Some(usual) = state.latencies.quantiles(bytes) else {
            return Plan {
                delay: None,
                timeout: settings.timeout_max,
            };
        };
        let delay = usual.p95.min(usual.p50 * MEDIAN_FACTOR).max(settings.delay_min);
        Plan {
            delay: (settings.budget_percent > 0).then_some(delay),
            timeout: (usual.p99 * TIMEOUT_FACTOR).clamp(settings.timeout_min, settings.timeout_max),
        }
    }

    /// Takes one second request out of the budget.
    fn spend(&self) -> bool {
        let mut state = self.state();
        let left = state.budget.checked_sub(COST);
        state.budget = left.unwrap_or(state.budget);
        left.is_some()
    }

    /// A request that failed at once says nothing about how long requests take; one that went on says that it was at least
    /// so long.
    fn note(&self, bytes: u64, took: Duration, says_something: bool) {
        if says_something {
            self.state().latencies.record(bytes, took);
        }
    }

    fn count(&self, outcome: &'static str) {
        counter!("esker_store_hedges_total", "op" => self.op, "outcome" => outcome).increment(1);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This answer, or the other request's if this one is none; and whether it was the other's.
async fn or<T>(
    outcome: Result<T, StoreError>,
    other: impl Future<Output = Result<T, StoreError>>,
) -> (Result<T, StoreError>, bool) {
    match outcome {
        Ok(_) | Err(StoreError::NotFound(_)) => (outcome, false),
        Err(StoreError::Failed { .. } | StoreError::Unknown { .. }) => match other.await {
            answer @ (Ok(_) | Err(StoreError::NotFound(_))) => (answer, true),
            Err(StoreError::Failed { .. } | StoreError::Unknown { .. }) => (outcome, false),
        },
    }
}

/// A store whose slow reads are asked for twice. Belongs above the metrics (both requests cost money) and below retries.
pub struct Hedged {
    inner: Arc<dyn ObjectStore>,
    gets: Hedger,
}

impl Hedged {
    /// Puts hedged reads in front of a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, settings: HedgeSettings) -> Self {
        Self {
            inner,
            gets: Hedger::gets(settings),
        }
    }
}

#[async_trait]
impl ObjectStore for Hedged {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.inner.create(key, chunks).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = range.end.saturating_sub(range.start);
        let read = |limit| {
            let read = timeout(limit, self.inner.read(key, range.clone()));
            async move { read.await.unwrap_or_else(|_| Err(StoreError::failed(key, NO_ANSWER))) }
        };
        self.gets.race(bytes, read).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}
