//! How much one fetch returns, and how long it waits for it.

use std::time::Duration;

use esker_kafka::messages::fetch_request::FetchRequest;
use esker_kafka::messages::fetch_response::FetchResponse;
use tokio::time::Instant;

use crate::batches::{batch, fetched};
use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{FETCH, Topic, fetch, fetch_all, only_fetched};

/// Bytes of each batch of these tests.
const BATCH_BYTES: usize = 1_000;

/// Four batches of one record, each of `BATCH_BYTES`, in each of two partitions.
async fn filled(client: &mut Client) -> Topic {
    let topic = client.create("t", 2, &[]).await;
    let overhead = batch(&[&"x".repeat(500)]).bytes().len() - 500;
    let batch = batch(&[&"x".repeat(BATCH_BYTES - overhead)]);
    assert_eq!(batch.bytes().len(), BATCH_BYTES);
    for partition in 0..2 {
        for _ in 0..4 {
            client.store(&topic, partition, &batch).await;
        }
    }
    topic
}

/// Batches of each partition of an answer.
fn counts(response: &FetchResponse) -> Vec<usize> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| fetched(data).len()).collect()
}

#[tokio::test]
async fn partition_max_bytes_limits_each_partition() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    for (most, wanted) in [(1_000, 1), (1_999, 1), (2_000, 2), (3_500, 3), (4_000, 4), (1 << 20, 4)] {
        let mut request = fetch_all(&topic, &[(0, 0), (1, 0)]);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = most;
        }
        assert_eq!(counts(&client.call(FETCH, &request).await), [wanted, wanted], "{most}");
    }
}

#[tokio::test]
async fn max_bytes_limits_the_answer() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    for (most, wanted) in [
        (1_000, [1, 0]),
        (4_000, [4, 0]),
        (4_999, [4, 0]),
        (5_000, [4, 1]),
        (7_000, [4, 3]),
    ] {
        let mut request = fetch_all(&topic, &[(0, 0), (1, 0)]);
        request.max_bytes = most;
        assert_eq!(counts(&client.call(FETCH, &request).await), wanted, "{most}");
    }
    // The order of the request counts.
    let mut request = fetch_all(&topic, &[(1, 2), (0, 0)]);
    request.max_bytes = 3_000;
    assert_eq!(counts(&client.call(FETCH, &request).await), [2, 1]);
}

#[tokio::test]
async fn first_batch_goes_even_above_every_limit() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    for (max_bytes, partition_max_bytes) in [(1, 1 << 20), (50 << 20, 1), (1, 1), (0, 0), (50 << 20, 0), (-1, -1)] {
        // The first partition has nothing left to read, so the first batch is the second one's.
        let mut request = fetch_all(&topic, &[(0, 4), (1, 0), (0, 0)]);
        request.max_bytes = max_bytes;
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max_bytes;
        }
        let found = counts(&client.call(FETCH, &request).await);
        assert_eq!(found[..2], [0, 1], "{max_bytes} {partition_max_bytes}");
        if max_bytes <= 1 || partition_max_bytes <= 1 {
            assert_eq!(found[2], 0, "{max_bytes} {partition_max_bytes}");
        }
    }
}

#[tokio::test]
async fn fetch_max_bytes_of_the_broker_caps_the_clients() {
    let broker = Broker::with(&[("fetch.max.bytes", "2500")]).await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    let request = fetch_all(&topic, &[(0, 0), (1, 0)]);
    assert_eq!(counts(&client.call(FETCH, &request).await), [2, 0]);
}

async fn timed(client: &mut Client, request: &FetchRequest) -> (usize, Duration) {
    let began = Instant::now();
    let data = only_fetched(client.call(FETCH, request).await);
    (fetched(&data).len(), began.elapsed())
}

#[tokio::test]
async fn too_few_bytes_are_sent_when_the_wait_is_over() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    let mut request = fetch(&topic, 0, 2);
    (request.min_bytes, request.max_wait_ms) = (2_001, 200);
    let (found, waited) = timed(&mut client, &request).await;
    assert_eq!(found, 2);
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
}

#[tokio::test]
async fn enough_bytes_are_sent_at_once() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    for min_bytes in [2_000, 1, 0, -1] {
        let mut request = fetch(&topic, 0, 2);
        (request.min_bytes, request.max_wait_ms) = (min_bytes, 60_000);
        assert_eq!(timed(&mut client, &request).await.0, 2, "{min_bytes}");
    }
    // Nothing wanted, nothing there: no wait.
    let mut request = fetch(&topic, 0, 4);
    (request.min_bytes, request.max_wait_ms) = (0, 60_000);
    assert_eq!(timed(&mut client, &request).await.0, 0);
}

#[tokio::test]
async fn more_wanted_than_allowed_is_not_waited_for() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    for max_bytes in [500, 2_500, 4_000] {
        let mut request = fetch(&topic, 0, 0);
        (request.min_bytes, request.max_bytes, request.max_wait_ms) = (1_000_000, max_bytes, 60_000);
        let (found, _) = timed(&mut client, &request).await;
        assert_eq!(
            found,
            usize::try_from(max_bytes).unwrap() / BATCH_BYTES + usize::from(max_bytes < 1_000)
        );
    }
}

#[tokio::test]
async fn several_partitions_count_together() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = filled(&mut client).await;
    let mut request = fetch_all(&topic, &[(0, 2), (1, 1)]);
    (request.min_bytes, request.max_wait_ms) = (5_000, 60_000);
    assert_eq!(counts(&client.call(FETCH, &request).await), [2, 3]);
}
