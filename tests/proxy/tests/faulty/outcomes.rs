//! One fault at a time: what a caller is told, and what is true.

use std::time::Duration;

use bytes::Bytes;
use esker_proxy::faults::{Fault, Rule};
use esker_storage::store::{ObjectStore, StoreError};
use tokio::time::{Instant, sleep};

use super::{behind, direct, impatient, key, pattern};

async fn is_there(store: &dyn ObjectStore, name: &str) -> bool {
    match store.read(&key(name), 0..3).await {
        Ok(bytes) => bytes == "abc",
        Err(StoreError::NotFound(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_called_unknown_whether_or_not_the_object_is_there() {
    let behind = behind(1, impatient()).await;
    let truth = direct().await;
    let cases = [
        ("lost", Fault::LostAnswer, true),
        ("after-500", Fault::ErrorAfter { status: 500 }, true),
        ("after-503", Fault::ErrorAfter { status: 503 }, true),
        ("before-500", Fault::ErrorBefore { status: 500 }, false),
        ("slow-down", Fault::ErrorBefore { status: 503 }, false),
        ("reset", Fault::Reset, false),
    ];
    for (name, fault, there) in cases {
        behind.set(vec![Rule::of(fault, &["PUT"])]);
        for store in [&behind.bare, &behind.stack] {
            let outcome = store.create(&key(name), vec![Bytes::from_static(b"abc")]).await;
            assert!(
                matches!(outcome, Err(StoreError::Unknown { .. })),
                "{name}: {outcome:?}"
            );
        }
        assert_eq!(is_there(&*truth, name).await, there, "{name}");
    }
    let requests = behind.counts().requests["PUT"];
    assert_eq!(requests, 12, "a key is never written twice");
}

#[tokio::test]
async fn a_certain_refusal_is_called_failed() {
    let behind = behind(1, impatient()).await;
    for status in [403, 404] {
        behind.set(vec![Rule::of(Fault::ErrorBefore { status }, &["PUT"])]);
        let outcome = behind.stack.create(&key("x"), vec![]).await;
        assert!(
            matches!(outcome, Err(StoreError::Failed { .. })),
            "{status}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_put_that_lands_after_everybody_gave_up_was_called_unknown() {
    let behind = behind(1, impatient()).await;
    let truth = direct().await;
    behind.set(vec![Rule::of(Fault::Late { millis: 400 }, &["PUT"])]);
    let outcome = behind
        .stack
        .create(&key("late"), vec![Bytes::from_static(b"abc")])
        .await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    assert!(!is_there(&*truth, "late").await, "not yet");
    let began = Instant::now();
    while !is_there(&*truth, "late").await {
        assert!(began.elapsed() < Duration::from_secs(10), "it never came");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_put_that_hangs_is_given_up_and_unknown() {
    let behind = behind(1, impatient()).await;
    behind.set(vec![Rule::of(Fault::Hang, &[])]);
    let began = Instant::now();
    let outcome = behind
        .stack
        .create(&key("hangs"), vec![Bytes::from_static(b"abc")])
        .await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_read_is_whole_or_an_error() {
    let behind = behind(1, impatient()).await;
    let whole = pattern(1, 300_000);
    behind.stack.create(&key("whole"), vec![whole.clone()]).await.unwrap();
    behind.set(vec![Rule::of(Fault::Truncate, &["GET"])]);
    let outcome = behind.stack.read(&key("whole"), 0..300_000).await;
    assert!(
        matches!(outcome, Err(StoreError::Failed { .. })),
        "never a short answer: {outcome:?}"
    );
    behind.set(vec![Rule::of(Fault::Truncate, &["GET"]).times(2)]);
    assert_eq!(behind.stack.read(&key("whole"), 0..300_000).await.unwrap(), whole);
}

#[tokio::test]
async fn a_listing_is_whole_or_an_error() {
    let behind = behind(1, impatient()).await;
    for nth in 0..20 {
        behind.stack.create(&key(format!("l/{nth:02}")), vec![]).await.unwrap();
    }
    behind.set(vec![Rule::of(Fault::Truncate, &["LIST"])]);
    let outcome = behind.stack.list("l/", None, 100).await;
    assert!(matches!(outcome, Err(StoreError::Failed { .. })), "{outcome:?}");
    behind.set(vec![Rule::of(Fault::Truncate, &["LIST"]).times(1)]);
    assert_eq!(behind.stack.list("l/", None, 100).await.unwrap().len(), 20);
}
