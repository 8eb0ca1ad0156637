//! Which requests are answered, in which order, and when a connection is closed instead.

use esker_kafka::ErrorCode;
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka::messages::produce_request::ProduceRequest;

use crate::batches::{batch, values_of};
use crate::broker::Broker;
use crate::requests::{FETCH, PRODUCE, Topic, code, fetch, only_fetched, only_produced, produce};

/// A request that wants so many acknowledgements.
fn produce_with(acks: i16, topic: &Topic, value: &str) -> ProduceRequest {
    ProduceRequest {
        acks,
        ..produce(topic, 0, &batch(&[value]))
    }
}

#[tokio::test]
async fn acks_0_gets_no_response() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for version in [3, 8, 13] {
        client.send(version, &produce_with(0, &topic, "unanswered")).await;
    }
    // The next frame is the answer to the next request.
    client.call(0, &ApiVersionsRequest::default()).await;
    let mut request = fetch(&topic, 0, 0);
    (request.max_wait_ms, request.min_bytes) = (10_000, 3 * 75);
    let data = only_fetched(client.call(FETCH, &request).await);
    assert_eq!(values_of(&data).len(), 3);
}

#[tokio::test]
async fn acks_0_that_fails_closes_the_connection() {
    let broker = Broker::start().await;
    let mut other = broker.connect().await;
    let topic = other.create("t", 1, &[("max.message.bytes", "100")]).await;
    for request in [
        produce_with(0, &Topic::missing(), "a"),
        produce_with(0, &topic, &"too large".repeat(20)),
    ] {
        let mut client = broker.connect().await;
        client.send(PRODUCE, &request).await;
        client.is_closed().await;
    }
    assert_eq!(other.latest(&topic, 0).await, 0);
}

#[tokio::test]
async fn answers_owed_leave_before_a_failure_closes_the_connection() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let first = client.send(PRODUCE, &produce_with(-1, &topic, "a")).await;
    client.send(PRODUCE, &produce_with(0, &Topic::missing(), "b")).await;
    let (answered, response) = client.receive::<ProduceRequest>(PRODUCE).await;
    assert_eq!((answered, only_produced(response).base_offset), (first, 0));
    client.is_closed().await;
}

#[tokio::test]
async fn acks_of_1_and_all_are_both_answered_when_stored() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for (base, acks) in [(0, 1), (1, -1)] {
        let answer = only_produced(client.call(PRODUCE, &produce_with(acks, &topic, "a")).await);
        assert_eq!((answer.error_code, answer.base_offset), (0, base));
        // What is acknowledged can be read.
        assert_eq!(client.latest(&topic, 0).await, base + 1);
    }
}

#[tokio::test]
async fn other_acks_are_refused() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for acks in [2, -2, i16::MAX, i16::MIN] {
        let answer = only_produced(client.call(PRODUCE, &produce_with(acks, &topic, "a")).await);
        assert_eq!(code(answer.error_code), ErrorCode::InvalidRequiredAcks, "{acks}");
    }
    assert_eq!(client.latest(&topic, 0).await, 0);
}

#[tokio::test]
async fn answers_leave_in_request_order() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let mut sent = Vec::new();
    for nth in 0..30 {
        sent.push(client.send(PRODUCE, &produce_with(-1, &topic, &nth.to_string())).await);
        if nth == 14 {
            // Answered at once, were it not for the produce requests before it.
            sent.push(client.send(1, &MetadataRequest::default()).await);
        }
    }
    let mut answered = Vec::new();
    let mut bases = Vec::new();
    for nth in 0..31 {
        if nth == 15 {
            answered.push(client.receive::<MetadataRequest>(1).await.0);
            continue;
        }
        let (id, response) = client.receive::<ProduceRequest>(PRODUCE).await;
        answered.push(id);
        bases.push(only_produced(response).base_offset);
    }
    assert_eq!(answered, sent);
    assert_eq!(bases, (0..30).collect::<Vec<_>>());
    let values = values_of(&client.fetch(&topic, 0, 0).await);
    let wanted: Vec<_> = (0..30).map(|nth| (nth, nth.to_string())).collect();
    assert_eq!(values, wanted);
}

#[tokio::test]
async fn fetch_behind_a_produce_sees_it() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.send(PRODUCE, &produce_with(1, &topic, "a")).await;
    client.send(FETCH, &fetch(&topic, 0, 0)).await;
    client.receive::<ProduceRequest>(PRODUCE).await;
    let (_, response) = client
        .receive::<esker_kafka::messages::fetch_request::FetchRequest>(FETCH)
        .await;
    assert_eq!(values_of(&only_fetched(response)), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn time_out_counts_for_acks_of_all_only_and_loses_nothing() {
    // After the first flush the next one takes a while.
    let settings = [("esker.flush.age", "1s"), ("esker.flush.min.interval", "1s")];
    let broker = Broker::with(&settings).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let produce_by = |acks, timeout_ms| ProduceRequest {
        timeout_ms,
        ..produce_with(acks, &topic, "a")
    };
    let first = only_produced(client.call(PRODUCE, &produce_by(1, 0)).await);
    assert_eq!((first.error_code, first.base_offset), (0, 0));
    let impatient = only_produced(client.call(PRODUCE, &produce_by(-1, 1)).await);
    assert_eq!(code(impatient.error_code), ErrorCode::RequestTimedOut);
    for (base, timeout_ms) in [(2, 0), (3, -1)] {
        let answer = only_produced(client.call(PRODUCE, &produce_by(1, timeout_ms)).await);
        assert_eq!((code(answer.error_code), answer.base_offset), (ErrorCode::None, base));
    }
}
