//! A store with a heavy tail, with and without second requests, in paused time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::{HedgeSettings, Hedged, Hedger};
use crate::random::{PerMillion, Random};
use crate::simulated::{Call, Fault, Faults, Latency, SimulatedStore};
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// 100 to 140 ms, three in a hundred take 1 to 10 s.
fn heavy_tailed(seed: u64) -> SimulatedStore {
    let latency = Latency {
        usual: ms(50)..ms(70),
        tail: PerMillion(15_000),
        tail_takes: ms(1_000)..ms(10_000),
    };
    SimulatedStore::new(
        Random::new(seed),
        Faults {
            latency,
            ..Faults::NONE
        },
    )
}

/// Counts what it is asked.
struct Counted(SimulatedStore, AtomicU64);

#[async_trait]
impl ObjectStore for Counted {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.create(key, chunks).await
    }

    async fn read(&self, key: &ObjectKey, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read(key, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.0.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.0.delete(key).await
    }
}

/// Latencies of uploads, sorted, and how many requests there were. Four at a time, as an agent does.
async fn uploads(settings: HedgeSettings, store: &Counted) -> (Vec<Duration>, u64) {
    let hedger = Hedger::puts(settings);
    let hedger = &hedger;
    let lanes = (0..4).map(|lane| async move {
        let mut took = Vec::new();
        for nth in 0..1000 {
            let mut attempt = 0;
            let began = Instant::now();
            let mut next = || {
                attempt += 1;
                ((), ObjectKey(format!("c/{lane}-{nth}-{attempt}")))
            };
            // One that was given up is tried again, as the uploader does.
            while hedger
                .create(store, &[Bytes::from_static(b"x")], &mut next)
                .await
                .is_err()
            {}
            took.push(began.elapsed());
        }
        took
    });
    let mut took = join_all(lanes).await.concat();
    took.sort_unstable();
    (took, store.1.load(Ordering::Relaxed))
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn a_heavy_tail_is_cut_within_the_budget() {
    for seed in 1..4 {
        let (without, _) = uploads(
            HedgeSettings::with_budget(0),
            &Counted(heavy_tailed(seed), AtomicU64::new(0)),
        )
        .await;
        let (with, asked) = uploads(
            HedgeSettings::default(),
            &Counted(heavy_tailed(seed), AtomicU64::new(0)),
        )
        .await;
        assert!(p99(&without) > ms(1_000), "the store has a tail: {:?}", p99(&without));
        assert!(
            p99(&with) * 100 <= p99(&without) * 35,
            "{:?} of {:?}",
            p99(&with),
            p99(&without)
        );
        assert!(asked <= 4_000 * 109 / 100 + 8, "{asked} requests");
        println!(
            "p99 {:?} without, {:?} with, {asked} requests for 4000",
            p99(&without),
            p99(&with)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_altogether_is_not_asked_twice_as_much() {
    let store = Counted(heavy_tailed(1), AtomicU64::new(0));
    let settings = HedgeSettings::default();
    let hedger = Hedger::puts(settings);
    let put = async |nth: u32| {
        let mut attempt = 0;
        let next = || {
            attempt += 1;
            ((), ObjectKey(format!("c/{nth}-{attempt}")))
        };
        hedger.create(&store, &[Bytes::from_static(b"x")], next).await.unwrap();
    };
    for nth in 0..100 {
        put(nth).await;
    }
    let before = store.1.load(Ordering::Relaxed);
    let slow = Latency {
        usual: ms(900)..ms(1_100),
        tail: PerMillion(0),
        tail_takes: ms(0)..ms(0),
    };
    store.0.set_faults(Faults {
        latency: slow,
        ..Faults::NONE
    });
    for nth in 100..200 {
        put(nth).await;
    }
    let extra = store.1.load(Ordering::Relaxed) - before - 100;
    assert!(extra <= 16, "{extra} extra requests");
}

#[tokio::test(start_paused = true)]
async fn a_second_put_has_another_key_and_the_winner_is_named() {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let hedger = Hedger::puts(HedgeSettings::default());
    let taken = RefCell::new(Vec::new());
    let mut nth = 0;
    let mut next = || {
        nth += 1;
        taken.borrow_mut().push(nth);
        (nth, ObjectKey(format!("c/{nth}")))
    };
    let chunks = [Bytes::from_static(b"x")];
    for _ in 0..40 {
        hedger.create(&store, &chunks, &mut next).await.unwrap();
    }
    // The answer to the 41st is lost: without a second request it would hang until its time-out.
    store.inject(Call::Create, Fault::LostAnswer);
    let winner = hedger.create(&store, &chunks, &mut next).await.unwrap();
    assert_eq!((winner, taken.borrow().len()), (42, 42));
    let distinct: BTreeSet<_> = taken.borrow().iter().copied().collect();
    assert_eq!(distinct.len(), 42, "no name twice");
    // An error of the first does not take the second with it.
    store.inject(Call::Create, Fault::FailBefore);
    let refused = hedger.create(&store, &chunks, &mut next).await;
    assert!(
        matches!(refused, Err(StoreError::Failed { .. })),
        "it failed at once: {refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_is_given_up_after_ten_times_the_usual_and_the_usual_follows() {
    let usual = Latency {
        usual: ms(100)..ms(120),
        tail: PerMillion(0),
        tail_takes: ms(0)..ms(0),
    };
    let store = SimulatedStore::new(
        Random::new(1),
        Faults {
            latency: usual,
            ..Faults::NONE
        },
    );
    let hedger = Hedger::puts(HedgeSettings {
        budget_percent: 0,
        ..HedgeSettings::default()
    });
    let put = async |nth: u32| hedger.create(&store, &[], || ((), ObjectKey(format!("c/{nth}")))).await;
    for nth in 0..100 {
        put(nth).await.unwrap();
    }
    store.inject(Call::Create, Fault::LostAnswer);
    let began = Instant::now();
    assert!(matches!(put(100).await, Err(StoreError::Unknown { .. })));
    let waited = began.elapsed();
    assert!((ms(2_000)..ms(2_500)).contains(&waited), "{waited:?}");
    // Should everything take longer from now on, time-outs grow until requests get through.
    let slow = Latency {
        usual: ms(2_500)..ms(2_550),
        ..Latency::NONE
    };
    store.set_faults(Faults {
        latency: slow,
        ..Faults::NONE
    });
    let mut nth = 101;
    while put(nth).await.is_err() {
        nth += 1;
        assert!(nth < 150, "time-outs never grew");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_reads_are_asked_for_twice_and_what_is_not_there_is_not() {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let key = ObjectKey("c/1".to_owned());
    store.create(&key, vec![Bytes::from_static(b"abc")]).await.unwrap();
    let hedged = Hedged::new(Arc::new(store.clone()), HedgeSettings::default());
    for _ in 0..40 {
        hedged.read(&key, 0..3).await.unwrap();
    }
    store.inject(Call::Read, Fault::LostAnswer);
    let began = Instant::now();
    assert_eq!(hedged.read(&key, 0..3).await.unwrap(), "abc");
    assert!(began.elapsed() < ms(100));
    let missing = ObjectKey("c/2".to_owned());
    assert_eq!(
        hedged.read(&missing, 0..3).await,
        Err(StoreError::NotFound(missing.clone()))
    );
}
