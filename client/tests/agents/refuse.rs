//! Records that are refused, and what becomes of those beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_client::admin::NewTopic;
use esker_client::{Error, Record};

use crate::broker::{Broker, World};
use crate::proxy::Proxy;
use crate::stored::{client_of, quick, stored};

#[tokio::test]
async fn a_record_that_is_refused_does_not_take_others_along() {
    let cases = [
        (
            ("max.message.bytes", "2000"),
            Record::new("x".repeat(5_000)).key("k"),
            "MESSAGE_TOO_LARGE",
        ),
        (("cleanup.policy", "compact"), Record::new("no key"), "INVALID_RECORD"),
    ];
    for (config, bad, name) in cases {
        // What is sent behind a batch that is refused waits for its sequence to come up, which it never does.
        let broker = World::new().start(&[("esker.produce.order.wait", "20ms")]).await;
        let mut kafka = broker.connect().await;
        let topic = kafka.create("t", 2, &[config]).await;
        let client = client_of(&broker).await;
        // All in one batch, and then many.
        for (round, batch_bytes) in [(0, 1_000_000), (1, 300)] {
            let producer = client
                .producer("t")
                .linger(Duration::from_secs(600))
                .batch_bytes(batch_bytes)
                .open()
                .await
                .unwrap();
            let mut good = Vec::new();
            let mut refused = Vec::new();
            for nth in 0..30 {
                let value = format!("{}", round * 100 + nth);
                good.push(
                    producer
                        .send(Record::new(value).key("k").partition(nth % 2))
                        .await
                        .unwrap(),
                );
                if nth % 10 == 4 {
                    refused.push(producer.send(bad.clone().partition(0)).await.unwrap());
                }
            }
            let failure = producer.flush().await.unwrap_err();
            assert!(failure.is_kafka(name), "{failure}");
            for delivery in refused {
                let error = delivery.await.unwrap_err();
                assert!(error.is_kafka(name) && !error.is_retriable(), "{error}");
                assert!(matches!(error, Error::Refused(_)), "{error:?}");
            }
            for delivery in good {
                delivery.await.unwrap();
            }
            producer.flush().await.expect("told already");
        }
        for partition in 0..2 {
            let found = stored(&mut kafka, &topic, partition).await;
            let found: Vec<i32> = found.iter().map(|(_, value)| value.parse().unwrap()).collect();
            let all = (0..30).chain(100..130);
            let expected: Vec<i32> = all.filter(|nth| nth % 2 == partition).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_refused_while_connections_are_cut_are_told_truly() {
    for seed in [1, 2, 3] {
        let world = World::new();
        let settings = [("esker.produce.order.wait", "20ms")];
        let agents = [world.start(&settings).await, world.start(&settings).await];
        let mut kafka = agents[0].connect().await;
        let topic = kafka.create("t", 2, &[("max.message.bytes", "3000")]).await;
        let proxies = [Proxy::start(agents[0].grpc).await, Proxy::start(agents[1].grpc).await];
        let client = quick().address(&proxies[0].address).address(&proxies[1].address);
        let producer = client
            .build()
            .unwrap()
            .producer("t")
            .batch_bytes(1_000)
            .open()
            .await
            .unwrap();
        for (nth, proxy) in (0..).zip(&proxies) {
            proxy.cut_after(seed * 10 + nth, 4_000..20_000);
            proxy.cut();
        }
        let mut deliveries = Vec::new();
        for nth in 0..600 {
            let (is_bad, partition) = (nth % 97 == 50, nth % 2);
            let value = format!("{nth:0>width$}", width = if is_bad { 5_000 } else { 30 });
            let delivery = producer.send(Record::new(value).partition(partition)).await.unwrap();
            deliveries.push((nth, is_bad, delivery));
        }
        let (mut told, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        for (nth, is_bad, delivery) in deliveries {
            match delivery.await {
                Ok(stored) => drop(told.insert(nth, (stored.partition, stored.offset))),
                Err(Error::Unknown(_)) => drop(unknown.insert(nth)),
                Err(error) => assert!(is_bad && error.is_kafka("MESSAGE_TOO_LARGE"), "{nth}: {error}"),
            }
        }
        let mut found = BTreeMap::new();
        for partition in 0..2 {
            let records = stored(&mut kafka, &topic, partition).await;
            let numbers: Vec<i32> = records.iter().map(|(_, value)| value.parse().unwrap()).collect();
            assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
            let places = records.into_iter().map(|(offset, _)| (partition, offset));
            found.extend(numbers.into_iter().zip(places));
        }
        // Each refusal makes at most the five batches unknown that an earlier connection had taken along: how many have is a matter of timing.
        assert!(told.len() > 300, "{} told, {} unknown", told.len(), unknown.len());
        found.retain(|nth, _| !unknown.contains(nth));
        assert_eq!(found, told);
        let connections: u64 = proxies.iter().map(Proxy::connections).sum();
        assert!(connections > 8, "cut only {connections} times");
    }
}

#[tokio::test]
async fn partitions_that_come_later_are_found_and_others_refused() {
    let broker = Broker::start().await;
    let client = client_of(&broker).await;
    client
        .admin()
        .create_topic(NewTopic::new("t").partitions(1))
        .await
        .unwrap();
    let producer = client.producer("t").open().await.unwrap();
    producer.send(Record::new("0")).await.unwrap().await.unwrap();
    client.admin().create_partitions("t", 3).await.unwrap();
    let (new, none, old) = (
        Record::new("1").partition(2),
        Record::new("2").partition(7),
        Record::new("3").partition(0),
    );
    let (new, none, old) = (
        producer.send(new).await.unwrap(),
        producer.send(none).await.unwrap(),
        producer.send(old).await.unwrap(),
    );
    assert_eq!(new.await.unwrap().partition, 2);
    let refused = none.await.unwrap_err();
    assert!(
        refused.is_kafka("UNKNOWN_TOPIC_OR_PARTITION") && !refused.is_retriable(),
        "{refused}"
    );
    assert_eq!(old.await.unwrap().offset, 1);
    assert!(matches!(
        producer.send(Record::new("4").partition(-1)).await,
        Err(Error::Invalid(_))
    ));
    let huge = Record::new(vec![0; 16 * 1024 * 1024]);
    assert!(matches!(
        client.produce("t", [huge.clone()]).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(producer.send(huge).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_or_is_deleted_is_told() {
    let broker = World::new().start(&[("auto.create.topics.enable", "false")]).await;
    let client = client_of(&broker).await;
    let missing = client.producer("none").open().await.unwrap_err();
    assert!(missing.is_kafka("UNKNOWN_TOPIC_OR_PARTITION"), "{missing}");
    let invalid = client.producer("no topic").open().await.unwrap_err();
    assert!(!invalid.is_retriable() && invalid.refusal().is_some(), "{invalid}");
    client.admin().create_topic(NewTopic::new("t")).await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    producer.send(Record::new("0")).await.unwrap().await.unwrap();
    client.admin().delete_topic("t").await.unwrap();
    let refused = producer.send(Record::new("1")).await.unwrap().await.unwrap_err();
    assert!(refused.is_kafka("UNKNOWN_TOPIC_OR_PARTITION"), "{refused}");
    // The producer is not lost with it.
    client.admin().create_topic(NewTopic::new("t")).await.unwrap();
    assert_eq!(producer.send(Record::new("2")).await.unwrap().await.unwrap().offset, 0);
}
