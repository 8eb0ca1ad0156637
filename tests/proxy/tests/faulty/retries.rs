//! How often a store that fails is asked again, and that it is used again when it does not.

use std::time::Duration;

use bytes::Bytes;
use esker_proxy::faults::{Fault, Rule};
use esker_storage::retrying::RetrySettings;
use esker_storage::store::StoreError;
use tokio::time::Instant;

use super::{behind, impatient, key};

#[tokio::test]
async fn retries_of_a_store_that_says_slow_down_stay_within_the_budget() {
    let settings = impatient();
    let behind = behind(1, settings).await;
    behind
        .stack
        .create(&key("x"), vec![Bytes::from_static(b"abc")])
        .await
        .unwrap();
    behind.set(vec![Rule::of(Fault::ErrorBefore { status: 503 }, &["GET"])]);
    for _ in 0..100 {
        let refused = behind.stack.read(&key("x"), 0..3).await;
        assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    }
    let asked = behind.counts().requests["GET"];
    assert_eq!(
        asked,
        100 + u64::from(settings.budget_retries),
        "nothing but the budget"
    );
}

#[tokio::test]
async fn a_burst_of_slow_down_is_not_noticed_by_readers() {
    let behind = behind(
        1,
        RetrySettings {
            budget_retries: 100,
            ..impatient()
        },
    )
    .await;
    behind
        .stack
        .create(&key("x"), vec![Bytes::from_static(b"abc")])
        .await
        .unwrap();
    behind.set(vec![
        Rule::of(Fault::ErrorBefore { status: 503 }, &["GET"]).per_million(200_000),
    ]);
    for _ in 0..100 {
        assert_eq!(behind.stack.read(&key("x"), 0..3).await.unwrap(), "abc");
    }
    assert!(behind.counts().faults["ErrorBefore"] > 5);
}

#[tokio::test]
async fn everything_works_at_once_when_an_outage_is_over() {
    let behind = behind(1, impatient()).await;
    behind
        .stack
        .create(&key("before"), vec![Bytes::from_static(b"abc")])
        .await
        .unwrap();
    for outage in [Fault::Reset, Fault::Hang, Fault::ErrorBefore { status: 503 }] {
        behind.set(vec![Rule::of(outage, &[])]);
        for _ in 0..3 {
            assert!(behind.stack.create(&key("during"), vec![]).await.is_err());
            assert!(behind.stack.read(&key("before"), 0..3).await.is_err());
            assert!(behind.stack.list("", None, 1).await.is_err());
        }
        behind.heal();
        let began = Instant::now();
        behind
            .stack
            .create(&key("after"), vec![Bytes::from_static(b"abc")])
            .await
            .unwrap();
        assert_eq!(behind.stack.read(&key("before"), 0..3).await.unwrap(), "abc");
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{outage:?}: {:?}",
            began.elapsed()
        );
    }
}
