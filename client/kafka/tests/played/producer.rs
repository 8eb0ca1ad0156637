//! A producer whose brokers go away.

use std::time::Duration;

use bytes::Bytes;
use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka::records::Record;
use esker_kafka_client::{Client, Failure, Outgoing, Producer, ProducerSettings, Progress};
use tokio::sync::mpsc;

use crate::stage::{agree, answer, heard, listed, settings, stage};

#[tokio::test]
async fn every_record_is_accounted_for_when_all_brokers_are_gone() {
    let (listener, address) = stage().await;
    let client = Client::new(settings(&address));
    let broker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        agree(&mut stream).await;
        let header = heard(&mut stream).await;
        let told = listed(&[(1, &address)], 1);
        answer::<MetadataRequest>(&mut stream, header.correlation_id, header.request_api_version, &told).await;
    };
    let rules = ProducerSettings {
        idempotent: false,
        linger: Duration::ZERO,
        delivery_timeout: Duration::from_millis(200),
        ..ProducerSettings::default()
    };
    let ((), producer) = tokio::join!(broker, Producer::new(client, "t", rules));
    drop(listener);
    let records = (1..=30).map(|tag| Outgoing {
        tag,
        partition: i32::try_from(tag % 3).ok(),
        record: Record {
            value: Some(Bytes::from_static(b"x")),
            ..Record::default()
        },
    });
    let (input, records_to_write) = mpsc::channel(1);
    input.send(records.collect()).await.unwrap();
    drop(input);
    let outcome = producer.unwrap().run(records_to_write, &Progress::default()).await;
    assert!(
        matches!(outcome.failure, Some((Failure::Late { .. }, _))),
        "{outcome:?}"
    );
    assert_eq!(outcome.records(), 0);
    let mut accounted = [outcome.unknown, outcome.unwritten].concat();
    accounted.sort_unstable();
    assert_eq!(accounted, (1..=30).collect::<Vec<u64>>());
}
