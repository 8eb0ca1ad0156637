//! What is repeated, how often, and what is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{RetrySettings, Retrying};
use crate::random::{PerMillion, Random};
use crate::simulated::{Call, Fault, Faults, SimulatedStore};
use crate::store::{ObjectKey, ObjectStore, StoreError};

fn key() -> ObjectKey {
    ObjectKey("a".to_owned())
}

fn stack(settings: RetrySettings) -> (SimulatedStore, Retrying) {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    (store.clone(), Retrying::new(Arc::new(store), settings, Random::new(2)))
}

async fn put(store: &dyn ObjectStore) -> Result<(), StoreError> {
    store.create(&key(), vec![Bytes::from_static(b"x")]).await
}

fn calls(store: &SimulatedStore, call: &str) -> usize {
    store
        .trace()
        .iter()
        .filter(|event| event.what.starts_with(call))
        .count()
}

#[tokio::test(start_paused = true)]
async fn reads_lists_and_deletes_are_tried_again() {
    let (store, retrying) = stack(RetrySettings::default());
    put(&retrying).await.unwrap();
    for fault in [Fault::FailBefore, Fault::FailAfter, Fault::LostAnswer] {
        for call in [Call::Read, Call::List] {
            store.inject(call, fault);
        }
        assert_eq!(retrying.read(&key(), 0..1).await.unwrap(), "x");
        assert_eq!(retrying.list("", None, 1).await.unwrap().len(), 1);
    }
    store.inject(Call::Delete, Fault::Vanish);
    retrying.delete(&key()).await.unwrap();
    assert_eq!(store.keys(), []);
}

#[tokio::test(start_paused = true)]
async fn a_create_is_never_repeated() {
    let (store, retrying) = stack(RetrySettings::default());
    store.inject(Call::Create, Fault::FailBefore);
    assert!(matches!(put(&retrying).await, Err(StoreError::Failed { .. })));
    store.inject(Call::Create, Fault::LostAnswer);
    let began = Instant::now();
    assert!(matches!(put(&retrying).await, Err(StoreError::Unknown { .. })));
    assert_eq!(began.elapsed(), RetrySettings::default().attempt_timeout);
    assert_eq!(calls(&store, "Create"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_asked_for_once() {
    let (store, retrying) = stack(RetrySettings::default());
    assert!(matches!(
        retrying.read(&key(), 0..1).await,
        Err(StoreError::NotFound(_))
    ));
    assert_eq!(calls(&store, "Read"), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_and_pauses_grow() {
    let (store, retrying) = stack(RetrySettings::default());
    put(&retrying).await.unwrap();
    store.set_faults(Faults {
        fail_before: PerMillion(1_000_000),
        ..Faults::NONE
    });
    let began = Instant::now();
    assert!(matches!(
        retrying.read(&key(), 0..1).await,
        Err(StoreError::Failed { .. })
    ));
    assert_eq!(calls(&store, "Read"), 5);
    // 50, 100, 200 and 400 ms, each between half and whole
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(375)..Duration::from_millis(750)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_store_gets_few_retries_and_a_good_one_earns_them_back() {
    let settings = RetrySettings {
        budget_retries: 10,
        ..RetrySettings::default()
    };
    let (store, retrying) = stack(settings);
    put(&retrying).await.unwrap();
    let broken = Faults {
        fail_before: PerMillion(1_000_000),
        ..Faults::NONE
    };
    store.set_faults(broken.clone());
    for _ in 0..100 {
        retrying.read(&key(), 0..1).await.unwrap_err();
    }
    assert_eq!(calls(&store, "Read"), 100 + 10);
    store.set_faults(Faults::NONE);
    for _ in 0..25 {
        retrying.read(&key(), 0..1).await.unwrap();
    }
    store.set_faults(broken);
    let before = calls(&store, "Read");
    retrying.read(&key(), 0..1).await.unwrap_err();
    assert_eq!(
        calls(&store, "Read") - before,
        1 + 2,
        "twenty-five successes pay two retries"
    );
}
