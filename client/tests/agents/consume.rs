//! Subscriptions: positions, slow readers, what ends them.

use std::time::Duration;

use esker_client::{Error, Fetch, Position, Record};
use futures::{FutureExt, StreamExt};

use crate::broker::Broker;
use crate::proxy::Proxy;
use crate::stored::{client_of, quick};

#[tokio::test]
async fn partitions_are_read_from_their_positions_on() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 4, &[]).await;
    let client = client_of(&broker).await;
    for partition in 0..4 {
        let records = (0..3).map(|nth| {
            Record::new(format!("{nth}"))
                .partition(partition)
                .timestamp_ms(1_000 + nth)
        });
        client.produce("t", records).await.unwrap();
    }
    let positions = [
        Position::Earliest,
        Position::Latest,
        Position::Offset(1),
        Position::Timestamp(1_002),
    ];
    let wanted = (0..)
        .zip(positions)
        .map(|(partition, position)| (("t", partition), position));
    let mut subscription = client.consumer().subscribe(wanted).await.unwrap();
    let mut found: Vec<(i32, i64)> = Vec::new();
    // As a stream.
    while found.len() < 6 {
        let record = StreamExt::next(&mut subscription).await.unwrap().unwrap();
        assert_eq!(&*record.topic, "t");
        found.push((record.partition, record.offset));
    }
    found.sort_unstable();
    assert_eq!(found, [(0, 0), (0, 1), (0, 2), (2, 1), (2, 2), (3, 2)]);
    client.produce("t", [Record::new("new").partition(1)]).await.unwrap();
    let batch = subscription.next_batch().await.unwrap().unwrap();
    assert_eq!(
        (batch.place.partition, batch.next_offset, batch.high_watermark),
        (1, 4, 4)
    );
    assert_eq!(batch.records.len(), 1);
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let client = client_of(&broker).await;
    let unknown = client
        .consumer()
        .subscribe([(("t", 7), Position::Earliest)])
        .await
        .unwrap_err();
    assert!(unknown.is_kafka("UNKNOWN_TOPIC_OR_PARTITION"), "{unknown}");
    let nothing: [((&str, i32), Position); 0] = [];
    assert!(matches!(
        client.consumer().subscribe(nothing).await,
        Err(Error::Invalid(_))
    ));
    let outside = client
        .consumer()
        .fetch(Fetch::new(("t", 0), Position::Offset(9)))
        .await
        .unwrap_err();
    assert!(
        outside.is_kafka("OFFSET_OUT_OF_RANGE") && !outside.is_retriable(),
        "{outside}"
    );
    let mut outside = client
        .consumer()
        .subscribe([(("t", 0), Position::Offset(9))])
        .await
        .unwrap();
    let error = outside.next().await.unwrap().unwrap_err();
    assert!(error.is_kafka("OFFSET_OUT_OF_RANGE"), "{error}");
    assert_eq!(error.refusal().unwrap().log, Some(0..0));
    assert!(outside.next().await.is_none(), "it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_reads_is_not_sent() {
    const RECORDS: i64 = 320;
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let proxy = Proxy::start(broker.grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    for _ in 0..RECORDS {
        drop(producer.send(Record::new(vec![7; 100_000])).await.unwrap());
    }
    producer.close().await.unwrap();
    let before = proxy.answered_bytes();
    let mut subscription = client
        .consumer()
        .subscribe([(("t", 0), Position::Earliest)])
        .await
        .unwrap();
    let first = subscription.next().await.unwrap().unwrap();
    assert_eq!(first.offset, 0);
    // Until nothing more comes for a while.
    let mut sent = 0;
    while proxy.answered_bytes() - before > sent {
        sent = proxy.answered_bytes() - before;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(sent < 10_000_000, "{sent} of 32,000,000 bytes");
    // Other calls do not wait for the slow reader.
    client.admin().list_topics().await.unwrap();
    for offset in 1..RECORDS {
        assert_eq!(subscription.next().await.unwrap().unwrap().offset, offset);
    }
}

#[tokio::test]
async fn a_fetch_waits_for_a_record() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let client = client_of(&broker).await;
    let none = client
        .consumer()
        .fetch(Fetch::new(("t", 0), Position::Earliest))
        .await
        .unwrap();
    assert!(none.records.is_empty() && none.next_offset == 0);
    let waits = Fetch::new(("t", 0), Position::Earliest).max_wait(Duration::from_secs(30));
    let consumer = client.consumer();
    let (fetched, produced) = tokio::join!(consumer.fetch(waits), client.produce("t", [Record::new("x")]));
    produced.unwrap();
    assert_eq!(fetched.unwrap().records.len(), 1);
}
