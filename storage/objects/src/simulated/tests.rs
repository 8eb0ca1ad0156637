//! Each fault does what it says; the same seed gives the same trace.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{Call, Fault, Faults, Latency, SimulatedStore};
use crate::random::{PerMillion, Random};
use crate::store::{ObjectKey, ObjectStore, StoreError};

fn key(text: &str) -> ObjectKey {
    ObjectKey(text.to_owned())
}

fn calm() -> SimulatedStore {
    SimulatedStore::new(Random::new(7), Faults::NONE)
}

async fn put(store: &SimulatedStore, name: &str) -> Result<(), StoreError> {
    store.create(&key(name), vec![Bytes::from_static(b"0123456789")]).await
}

fn is_failed<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Failed { .. }))
}

fn is_unknown<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unknown { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_effect_has_none() {
    let store = calm();
    store.inject(Call::Create, Fault::FailBefore);
    assert!(is_failed(&put(&store, "a").await));
    assert_eq!(store.keys(), []);
    put(&store, "a").await.unwrap();
    store.inject(Call::Delete, Fault::FailBefore);
    assert!(is_failed(&store.delete(&key("a")).await));
    store.inject(Call::Read, Fault::FailBefore);
    assert!(is_failed(&store.read(&key("a"), 0..1).await));
    store.inject(Call::List, Fault::FailBefore);
    assert!(is_failed(&store.list("", None, 1).await));
    assert_eq!(store.keys(), [key("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_effect_is_unknown_and_did_happen() {
    let store = calm();
    store.inject(Call::Create, Fault::FailAfter);
    assert!(is_unknown(&put(&store, "a").await));
    assert_eq!(store.keys(), [key("a")]);
    store.inject(Call::Delete, Fault::FailAfter);
    assert!(is_unknown(&store.delete(&key("a")).await));
    assert_eq!(store.keys(), []);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_vanishes_never_lands() {
    let store = calm();
    store.inject(Call::Create, Fault::Vanish);
    assert!(is_unknown(&put(&store, "a").await));
    sleep(Duration::from_hours(24)).await;
    assert_eq!(store.keys(), []);
}

#[tokio::test(start_paused = true)]
async fn a_late_put_lands_after_its_error_even_when_deleted_meanwhile() {
    let store = calm();
    store.inject(Call::Create, Fault::Late(Duration::from_secs(60)));
    assert!(is_unknown(&put(&store, "a").await));
    sleep(Duration::from_secs(59)).await;
    assert!(matches!(
        store.read(&key("a"), 0..1).await,
        Err(StoreError::NotFound(_))
    ));
    store.delete(&key("a")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.read(&key("a"), 0..10).await.unwrap(), "0123456789");
    let modified = store.list("", None, 1).await.unwrap()[0].modified;
    assert_eq!(
        modified.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap(),
        Duration::from_secs(60)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_hangs_though_the_effect_took_place() {
    let store = calm();
    store.inject(Call::Create, Fault::LostAnswer);
    let began = Instant::now();
    let impatient = tokio::time::timeout(Duration::from_secs(5), put(&store, "a")).await;
    assert!(impatient.is_err());
    assert_eq!(store.keys(), [key("a")]);
    store.inject(Call::Create, Fault::LostAnswer);
    assert!(is_unknown(&put(&store, "b").await), "it gives up some time");
    assert!(began.elapsed() > Duration::from_secs(3600));
    store.inject(Call::Read, Fault::LostAnswer);
    assert!(is_failed(&store.read(&key("a"), 0..1).await));
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_and_a_flipped_bit_are_gone_at_the_next_read() {
    let store = calm();
    put(&store, "a").await.unwrap();
    store.inject(Call::Read, Fault::Missing);
    assert!(matches!(
        store.read(&key("a"), 0..10).await,
        Err(StoreError::NotFound(_))
    ));
    store.inject(Call::Read, Fault::BitFlip);
    let flipped = store.read(&key("a"), 0..10).await.unwrap();
    let differing: u32 = flipped
        .iter()
        .zip(b"0123456789")
        .map(|(one, other)| (one ^ other).count_ones())
        .sum();
    assert_eq!(differing, 1);
    assert_eq!(store.read(&key("a"), 0..10).await.unwrap(), "0123456789");
}

#[tokio::test(start_paused = true)]
async fn lasting_damage_lasts() {
    let store = calm();
    put(&store, "a").await.unwrap();
    assert!(store.corrupt(&key("a"), 0));
    assert_eq!(store.read(&key("a"), 0..2).await.unwrap(), "11");
    assert!(!store.corrupt(&key("a"), 80), "ten bytes have eighty bits");
    assert!(store.lose(&key("a")));
    assert!(!store.lose(&key("a")));
    assert!(matches!(
        store.read(&key("a"), 0..1).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_stale_listing_learns_late_of_creates_and_deletes_but_reads_do_not() {
    let ten_seconds = Duration::from_secs(10)..Duration::from_secs(10);
    let stale = Faults {
        stale_list: PerMillion(1_000_000),
        stale_by: ten_seconds,
        ..Faults::NONE
    };
    let store = SimulatedStore::new(Random::new(7), stale);
    let listed = async || store.list("", None, 9).await.unwrap().len();
    put(&store, "a").await.unwrap();
    assert_eq!(store.read(&key("a"), 0..1).await.unwrap(), "0");
    assert_eq!(listed().await, 0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(listed().await, 1);
    store.delete(&key("a")).await.unwrap();
    assert_eq!(listed().await, 1);
    assert!(store.read(&key("a"), 0..1).await.is_err());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(listed().await, 0);
}

#[tokio::test(start_paused = true)]
async fn latency_is_drawn_from_its_distribution() {
    let millis = |from, to| Duration::from_millis(from)..Duration::from_millis(to);
    let latency = Latency {
        usual: millis(10, 20),
        tail: PerMillion(100_000),
        tail_takes: millis(1000, 2000),
    };
    let store = SimulatedStore::new(
        Random::new(7),
        Faults {
            latency,
            ..Faults::NONE
        },
    );
    let mut slow = 0;
    for nth in 0..200 {
        let began = Instant::now();
        put(&store, &nth.to_string()).await.unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(20), "there and back");
        slow += usize::from(took >= Duration::from_secs(1));
    }
    assert!(
        (20..60).contains(&slow),
        "{slow} of 200 met a tail of one in ten, twice each"
    );
}

async fn stormy_run(seed: u64) -> (u128, String) {
    let faults = Faults {
        lost_answer: PerMillion(20_000),
        ..Faults::STORMY
    };
    let store = SimulatedStore::new(Random::new(seed), faults);
    let mut outcomes = String::new();
    for nth in 0..200 {
        let name = format!("c/{}", nth % 40);
        let created = tokio::time::timeout(Duration::from_secs(20), put(&store, &name)).await;
        let read = store.read(&key(&name), 0..10).await;
        let listed = store.list("c/", None, 100).await.map(|found| found.len());
        let deleted = if nth % 3 == 0 {
            Some(store.delete(&key(&name)).await)
        } else {
            None
        };
        outcomes += &format!("{created:?} {read:?} {listed:?} {deleted:?}\n");
    }
    (store.trace_digest(), outcomes)
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let first = stormy_run(1).await;
    assert_eq!(stormy_run(1).await, first);
    assert_ne!(stormy_run(2).await.0, first.0);
    for met in ["Unknown", "Failed", "NotFound", "Elapsed"] {
        assert!(first.1.contains(met), "a storm has {met}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_trace_names_every_call_and_its_fault() {
    let store = calm();
    store.inject(Call::Create, Fault::FailBefore);
    assert!(put(&store, "a").await.is_err());
    put(&store, "a").await.unwrap();
    let lines: Vec<String> = store.trace().iter().map(|event| event.what.clone()).collect();
    assert_eq!(
        lines,
        ["Create a Some(FailBefore)", "Create a None", "landed a 10 bytes"]
    );
}
