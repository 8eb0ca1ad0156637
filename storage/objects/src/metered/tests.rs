//! Every call is counted once, with its outcome.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::Metered;
use crate::random::Random;
use crate::simulated::{Call, Fault, Faults, SimulatedStore};
use crate::store::{ObjectKey, ObjectStore};

/// Keeps counters, and how often each histogram was given a value.
#[derive(Default)]
struct Kept {
    values: Mutex<BTreeMap<String, Arc<Value>>>,
}

#[derive(Default)]
struct Value(AtomicU64);

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl HistogramFn for Value {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Kept {
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.values.lock().unwrap().entry(name).or_default())
    }

    fn of(&self, name: &str) -> u64 {
        self.values
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |value| value.0.load(Ordering::Relaxed))
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}

async fn every_kind_of_call() {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let metered = Metered::new(Arc::new(store.clone()));
    let key = ObjectKey("a".to_owned());
    let put = || metered.create(&key, vec![Bytes::from_static(b"12345"), Bytes::from_static(b"678")]);
    put().await.unwrap();
    store.inject(Call::Create, Fault::FailAfter);
    put().await.unwrap_err();
    store.inject(Call::Create, Fault::LostAnswer);
    tokio::time::timeout(Duration::from_secs(1), put()).await.unwrap_err();
    metered.read(&key, 0..3).await.unwrap();
    metered.read(&key, 0..30).await.unwrap_err();
    metered.list("", None, 9).await.unwrap();
    metered.delete(&key).await.unwrap();
    metered.read(&key, 0..3).await.unwrap_err();
}

#[test]
fn every_call_is_counted_once_with_its_outcome() {
    let kept = Kept::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&kept, || runtime.block_on(every_kind_of_call()));
    let requests = |op, outcome| kept.of(&format!("esker_store_requests_total{{op={op},outcome={outcome}}}"));
    assert_eq!(
        [
            requests("put", "ok"),
            requests("put", "unknown"),
            requests("put", "cancelled")
        ],
        [1, 1, 1]
    );
    assert_eq!(
        [
            requests("get", "ok"),
            requests("get", "failed"),
            requests("get", "not_found")
        ],
        [1, 1, 1]
    );
    assert_eq!([requests("list", "ok"), requests("delete", "ok")], [1, 1]);
    assert_eq!(kept.of("esker_store_bytes_total{op=put}"), 8);
    assert_eq!(kept.of("esker_store_bytes_total{op=get}"), 3);
    assert_eq!(kept.of("esker_store_seconds{op=put}"), 3);
}
