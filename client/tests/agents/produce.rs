//! Producers: what is written is what is read, in order; what does not fit waits.

use std::time::Duration;

use esker_client::{ConsumedRecord, Error, Fetch, Position, Record};
use futures::FutureExt;

use crate::broker::{Broker, EPOCH_MS};
use crate::proxy::Proxy;
use crate::stored::{KEYS, client_of, quick, stored};

/// Records with everything that can be null, empty or repeated.
fn peculiar() -> Vec<Record> {
    vec![
        Record::new("value").key("key").timestamp_ms(7),
        Record::null().key("gone").timestamp_ms(8),
        Record::new("").timestamp_ms(9),
        Record::new("headers")
            .key("")
            .timestamp_ms(10)
            .header("twice", "1")
            .header("other", "")
            .null_header("twice"),
        Record::null(),
    ]
}

fn assert_peculiar(found: &[ConsumedRecord]) {
    let bytes = |bytes: &'static str| Some(bytes::Bytes::from_static(bytes.as_bytes()));
    let [plain, tombstone, empty, headers, nothing] = found else {
        panic!("{found:?}");
    };
    assert_eq!(
        (&plain.key, &plain.value, plain.timestamp_ms),
        (&bytes("key"), &bytes("value"), 7)
    );
    assert_eq!((&tombstone.key, &tombstone.value), (&bytes("gone"), &None));
    assert_eq!((&empty.key, &empty.value), (&None, &bytes("")));
    assert_eq!(headers.key, bytes(""));
    let named: Vec<_> = headers
        .headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.clone()))
        .collect();
    assert_eq!(named, [("twice", bytes("1")), ("other", bytes("")), ("twice", None)]);
    assert_eq!(
        (&nothing.key, &nothing.value, nothing.timestamp_ms),
        (&None, &None, EPOCH_MS)
    );
    assert!(
        found
            .iter()
            .map(|record| record.offset)
            .eq(found[0].offset..found[0].offset + 5)
    );
}

#[tokio::test]
async fn what_is_written_is_read() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let client = client_of(&broker).await;
    let producer = client.producer("t").open().await.unwrap();
    let mut deliveries = Vec::new();
    for record in peculiar() {
        deliveries.push(producer.send(record).await.unwrap());
    }
    for (nth, delivery) in (0..).zip(deliveries) {
        let stored = delivery.await.unwrap();
        assert_eq!((stored.partition, stored.offset), (0, nth));
    }
    let stored = client.produce("t", peculiar()).await.unwrap();
    assert!(stored.iter().map(|stored| stored.offset).eq(5..10));

    let mut subscription = client
        .consumer()
        .subscribe([(("t", 0), Position::Earliest)])
        .await
        .unwrap();
    let mut found = Vec::new();
    while found.len() < 10 {
        found.push(subscription.next().await.unwrap().unwrap());
    }
    assert_peculiar(&found[..5]);
    assert_peculiar(&found[5..]);
    let fetch = Fetch::new(("t", 0), Position::Offset(5)).max_records(5);
    let fetched = client.consumer().fetch(fetch).await.unwrap();
    assert_peculiar(&fetched.records);
    assert_eq!(
        (fetched.next_offset, fetched.high_watermark, fetched.log_start_offset),
        (10, 10, 0)
    );
    producer.close().await.unwrap();
}

#[tokio::test]
async fn keys_go_where_kafka_clients_put_them_and_batches_are_shared() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 7, &[]).await;
    let client = client_of(&broker).await;
    // Nothing is sent before the flush, however slow this is.
    let producer = client
        .producer("t")
        .linger(Duration::from_secs(600))
        .open()
        .await
        .unwrap();
    let mut deliveries = Vec::new();
    for nth in 0..400 {
        let (key, hash) = KEYS[nth % KEYS.len()];
        let partition = i32::try_from(hash % 7).unwrap();
        let delivery = producer.send(Record::new(format!("{nth}")).key(key)).await.unwrap();
        deliveries.push((nth, partition, delivery));
    }
    assert!(
        deliveries
            .iter_mut()
            .all(|(.., delivery)| delivery.now_or_never().is_none())
    );
    producer.flush().await.unwrap();
    for (nth, partition, delivery) in deliveries {
        let at = delivery.now_or_never().expect("flushed").unwrap();
        assert_eq!(at.partition, partition);
        let records = stored(&mut kafka, &topic, partition).await;
        assert!(records.contains(&(at.offset, nth.to_string())), "{nth}");
    }
}

#[tokio::test]
async fn a_producer_takes_in_no_more_than_it_may_hold() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let proxy = Proxy::start(broker.grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    for (bytes, records, most) in [(64 * 1024, 1_000_000, 64), (1_000_000, 10, 10)] {
        let producer = client
            .producer("t")
            .buffer_bytes(bytes)
            .buffer_records(records)
            .open()
            .await
            .unwrap();
        proxy.hold_up(true);
        let record = || Record::new(vec![b'x'; 1_000]);
        let mut deliveries = Vec::new();
        while let Some(taken) = producer.send(record()).now_or_never() {
            deliveries.push(taken.unwrap());
            assert!(deliveries.len() <= most, "{}", deliveries.len());
            // The driver gets its turn, and gives nothing back.
            tokio::task::yield_now().await;
        }
        assert!(deliveries.len() > most / 2, "{}", deliveries.len());
        // One more waits, and goes on its way when there is room.
        let waiting = producer.send(record());
        proxy.hold_up(false);
        deliveries.push(waiting.await.unwrap());
        let mut offsets = Vec::new();
        for delivery in deliveries {
            offsets.push(delivery.await.unwrap().offset);
        }
        assert!(offsets.is_sorted_by(|one, next| one + 1 == *next), "{offsets:?}");
        producer.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_sent_is_delivered_after_the_producer_is_dropped_or_closed() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let client = client_of(&broker).await;
    let producer = client
        .producer("t")
        .linger(Duration::from_secs(600))
        .open()
        .await
        .unwrap();
    let delivery = producer.send(Record::new("dropped")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, 0);

    let producer = client
        .producer("t")
        .linger(Duration::from_secs(600))
        .open()
        .await
        .unwrap();
    let clone = producer.clone();
    let delivery = producer.send(Record::new("closed")).await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(delivery.now_or_never().expect("closed").unwrap().offset, 1);
    assert!(matches!(clone.send(Record::new("late")).await, Err(Error::Closed)));
    assert!(matches!(clone.flush().await, Err(Error::Closed)));
}
