//! The bound on what waits to be merged: producers wait at it and go on below it. No compactor runs here.

use std::time::Duration;

use esker_kafka::ErrorCode;
use tokio::time::Instant;

use crate::batches::batch;
use crate::broker::Broker;
use crate::requests::{PRODUCE, code, only_produced, produce};

#[tokio::test]
async fn producers_wait_at_the_bound_and_go_on_below_it() {
    let broker = Broker::with(&[("esker.unmerged.batches.max", "20")]).await;
    let (mut client, mut other) = (broker.connect().await, broker.connect().await);
    let topic = client.create("t", 1, &[]).await;
    for stored in 0..20 {
        assert_eq!(client.store(&topic, 0, &batch(&["a"])).await, stored);
    }
    // At the bound: not failed before its own time-out, and then with an error after which clients try again.
    let mut request = produce(&topic, 0, &batch(&["b"]));
    request.timeout_ms = 300;
    let asked = Instant::now();
    let refused = only_produced(client.call(PRODUCE, &request).await);
    assert_eq!(code(refused.error_code), ErrorCode::RequestTimedOut);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(client.latest(&topic, 0).await, 20, "nothing of it is stored");
    // Everything else works, and a request that waits is let in as soon as there is room.
    request.timeout_ms = 20_000;
    client.send(PRODUCE, &request).await;
    assert_eq!(other.fetch(&topic, 0, 0).await.high_watermark, 20);
    other.delete_records(&topic, 0, 15).await;
    let (_, answer) = client
        .receive::<esker_kafka::messages::produce_request::ProduceRequest>(PRODUCE)
        .await;
    let stored = only_produced(answer);
    assert_eq!((code(stored.error_code), stored.base_offset), (ErrorCode::None, 20));
}

#[tokio::test]
async fn producers_slow_down_before_the_bound() {
    let broker = Broker::with(&[("esker.unmerged.batches.max", "100")]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let mut took = Vec::new();
    for _ in 0..99 {
        let asked = Instant::now();
        client.store(&topic, 0, &batch(&["a"])).await;
        took.push(asked.elapsed());
    }
    let whole: Duration = took[90..].iter().sum();
    assert!(whole >= Duration::from_millis(9 * 150), "{whole:?} for the last nine");
}
