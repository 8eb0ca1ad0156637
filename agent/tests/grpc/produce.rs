//! Writing by gRPC, and what Kafka clients then read.

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_proto::v1::{Header, ProduceRequest, Record};
use tonic::Code;

use crate::batches::{fetched, records_of, values_of};
use crate::broker::{Broker, EPOCH_MS, detail, keyed, record, to};

fn request(topic: &str, records: Vec<Record>) -> ProduceRequest {
    ProduceRequest {
        topic: topic.to_owned(),
        records,
    }
}

#[tokio::test]
async fn kafka_reads_what_grpc_wrote() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let full = Record {
        partition: None,
        key: Some(Bytes::new()),
        value: Some(Bytes::from_static(b"v")),
        headers: vec![
            Header {
                name: "h".to_owned(),
                value: None,
            },
            Header {
                name: "h".to_owned(),
                value: Some(Bytes::from_static(&[0, 255])),
            },
        ],
        timestamp_ms: Some(12_345),
    };
    let answer = broker
        .producer()
        .await
        .produce(request("t", vec![full, Record::default()]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.partitions, answer.offsets), (vec![0, 0], vec![0, 1]));
    assert_eq!(answer.log_append_time_ms, None);

    let batches = fetched(&kafka.fetch(&topic, 0, 0).await);
    let records = records_of(&batches[0]);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].key, Some(Bytes::new()));
    assert_eq!(records[0].value, Some(Bytes::from_static(b"v")));
    assert_eq!(records[0].timestamp, 12_345);
    let headers: Vec<_> = records[0].headers.iter().map(|h| (h.key, h.value)).collect();
    assert_eq!(
        headers,
        [
            (Bytes::from_static(b"h"), None),
            (Bytes::from_static(b"h"), Some(Bytes::from_static(&[0, 255])))
        ]
    );
    assert_eq!((&records[1].key, &records[1].value), (&None, &None));
    assert_eq!(records[1].timestamp, EPOCH_MS);
}

#[tokio::test]
async fn keys_go_where_the_java_client_sends_them() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 7, &[]).await;
    let records = vec![
        keyed("21", "a"),
        to(4, "b"),
        keyed("foobar", "c"),
        keyed("21", "d"),
        record("e"),
    ];
    let answer = broker
        .producer()
        .await
        .produce(request("t", records))
        .await
        .unwrap()
        .into_inner();
    // toPositive(-973932308) = 1173551340 and toPositive(-790332482) = 1357151166.
    let (first, third) = (1_173_551_340 % 7, 1_357_151_166 % 7);
    assert_eq!(answer.partitions[..4], [first, 4, third, first]);
    assert_eq!(answer.offsets[3], answer.offsets[0] + 1);
    for (nth, value) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let found = values_of(&kafka.fetch(&topic, answer.partitions[nth], 0).await);
        assert!(
            found.contains(&(answer.offsets[nth], value.to_owned())),
            "{value}: {found:?}"
        );
    }
}

#[tokio::test]
async fn refusals_say_kafkas_code_and_what_to_do() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    kafka.create("t", 1, &[("max.message.bytes", "1000")]).await;
    let mut producer = broker.producer().await;

    let refused = producer.produce(request("t", vec![to(9, "x")])).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    let told = detail(&refused);
    assert_eq!(told.kafka_code, i32::from(ErrorCode::UnknownTopicOrPartition.code()));
    assert_eq!(told.kafka_name, "UNKNOWN_TOPIC_OR_PARTITION");
    assert!(told.retriable && refused.message().contains(&told.what_to_do));

    let large = record(&"x".repeat(2_000));
    let refused = producer.produce(request("t", vec![large])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(detail(&refused).kafka_name, "MESSAGE_TOO_LARGE");

    for (topic, records) in [("t", vec![]), ("", vec![record("x")]), ("a b", vec![record("x")])] {
        let refused = producer.produce(request(topic, records)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{topic:?}: {refused}");
    }
}

#[tokio::test]
async fn a_call_that_fails_in_part_says_what_was_stored() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let records = vec![to(0, "a"), to(3, "b"), to(0, "c")];
    let refused = broker
        .producer()
        .await
        .produce(request("t", records))
        .await
        .unwrap_err();
    let stored = detail(&refused).stored.unwrap();
    assert_eq!((stored.partitions, stored.offsets), (vec![0, -1, 0], vec![0, -1, 1]));
    assert_eq!(kafka.latest(&topic, 0).await, 2);
}

#[tokio::test]
async fn a_topic_is_created_on_first_use_only_where_that_is_allowed() {
    let broker = Broker::start().await;
    let mut producer = broker.producer().await;
    let answer = producer.produce(request("fresh", vec![record("x")])).await.unwrap();
    assert_eq!(answer.into_inner().offsets, [0]);

    let strict = crate::broker::World::new();
    let strict = strict.start(&[("auto.create.topics.enable", "false")]).await;
    let refused = strict
        .producer()
        .await
        .produce(request("fresh", vec![record("x")]))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_agents_time_is_told_where_the_topic_wants_it() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    kafka
        .create("t", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let answer = broker
        .producer()
        .await
        .produce(request("t", vec![record("x")]))
        .await
        .unwrap();
    assert_eq!(answer.into_inner().log_append_time_ms, Some(EPOCH_MS));
}
