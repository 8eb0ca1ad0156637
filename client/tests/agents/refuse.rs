//! Records that are refused, and what becomes of those beside them.

use std::time::Duration;

use esker_client::admin::NewTopic;
use esker_client::{Error, Record};

use crate::broker::Broker;
use crate::stored::{client_of, stored};

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
        let broker = Broker::start().await;
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
    assert!(matches!(producer.send(huge).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_or_is_deleted_is_told() {
    let broker = crate::broker::World::new()
        .start(&[("auto.create.topics.enable", "false")])
        .await;
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
