//! Reading by gRPC what Kafka clients and gRPC clients wrote.

use std::time::Duration;

use bytes::Bytes;
use esker_kafka::records::{BatchBuilder, Codec, Headers};
use esker_proto::v1::position::At;
use esker_proto::v1::{Edge, FetchRequest, FetchResponse, Position, ProduceRequest};
use tonic::{Code, Status};

use crate::batches::{CODECS, at_times, batch, compressed};
use crate::broker::{Broker, EPOCH_MS, detail, record};
use crate::requests::produce;

fn from(at: At) -> FetchRequest {
    FetchRequest {
        topic: "t".to_owned(),
        from: Some(Position { at: Some(at) }),
        ..FetchRequest::default()
    }
}

async fn fetch(broker: &Broker, request: FetchRequest) -> Result<FetchResponse, Status> {
    broker
        .consumer()
        .await
        .fetch(request)
        .await
        .map(tonic::Response::into_inner)
}

fn values(answer: &FetchResponse) -> Vec<(i64, &str)> {
    let value = |bytes: &Option<Bytes>| std::str::from_utf8(bytes.as_ref().unwrap()).unwrap().to_owned().leak() as &str;
    answer
        .records
        .iter()
        .map(|record| (record.offset, value(&record.value)))
        .collect()
}

#[tokio::test]
async fn grpc_reads_what_kafka_wrote_whatever_the_compression() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    for codec in CODECS {
        kafka
            .store(&topic, 0, &compressed(codec, &[codec.name(), "second"]))
            .await;
    }
    let answer = fetch(&broker, from(At::Edge(Edge::Earliest.into()))).await.unwrap();
    let names = CODECS.map(|codec| [codec.name(), "second"]).concat();
    let expected: Vec<(i64, &str)> = (0..).zip(names).collect();
    assert_eq!(values(&answer), expected);
    assert_eq!(
        (answer.next_offset, answer.high_watermark, answer.log_start_offset),
        (10, 10, 0)
    );
}

#[tokio::test]
async fn nulls_headers_and_timestamps_come_as_they_were_written() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let mut builder = BatchBuilder::new(Codec::default());
    let headers: Headers = [
        (&b"a"[..], None),
        (&b"a"[..], Some(&b""[..])),
        (&[0xff_u8][..], Some(&b"x"[..])),
    ]
    .into_iter()
    .collect();
    builder.append(EPOCH_MS - 5, None, Some(b""), &headers).unwrap();
    builder.append(EPOCH_MS + 5, Some(b"k"), None, &Headers::new()).unwrap();
    kafka.store(&topic, 0, &builder.build().unwrap()).await;

    let answer = fetch(&broker, from(At::Offset(0))).await.unwrap();
    let [first, second] = <[_; 2]>::try_from(answer.records).unwrap();
    assert_eq!(
        (first.key, first.value, first.timestamp_ms),
        (None, Some(Bytes::new()), EPOCH_MS - 5)
    );
    let headers: Vec<_> = first
        .headers
        .into_iter()
        .map(|header| (header.name, header.value))
        .collect();
    assert_eq!(
        headers,
        [
            ("a".to_owned(), None),
            ("a".to_owned(), Some(Bytes::new())),
            ("\u{fffd}".to_owned(), Some(Bytes::from_static(b"x")))
        ]
    );
    assert_eq!((second.key, second.value), (Some(Bytes::from_static(b"k")), None));
    assert_eq!(second.timestamp_ms, EPOCH_MS + 5);
}

#[tokio::test]
async fn positions_are_offsets_times_and_edges() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let base = EPOCH_MS - 1_000;
    let times = [base, base + 10, base + 20];
    kafka.store(&topic, 0, &at_times(CODECS[0], &times)).await;
    let cases = [
        (At::Offset(1), Some(1)),
        (At::Offset(3), None),
        (At::TimestampMs(base + 11), Some(2)),
        (At::TimestampMs(base + 21), None),
        (At::Edge(Edge::Earliest.into()), Some(0)),
        (At::Edge(Edge::Latest.into()), None),
    ];
    for (at, first) in cases {
        let answer = fetch(&broker, from(at)).await.unwrap();
        assert_eq!(answer.records.first().map(|record| record.offset), first, "{at:?}");
        assert_eq!(answer.next_offset, 3, "{at:?}");
    }
    let outside = fetch(&broker, from(At::Offset(4))).await.unwrap_err();
    assert_eq!(
        (outside.code(), detail(&outside).kafka_name.as_str()),
        (Code::OutOfRange, "OFFSET_OUT_OF_RANGE")
    );
    let log = detail(&outside).log.unwrap();
    assert_eq!((log.log_start_offset, log.high_watermark), (0, 3), "{outside}");
    for wrong in [At::Offset(-1), At::TimestampMs(-2), At::Edge(0), At::Edge(77)] {
        let refused = fetch(&broker, from(wrong)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}");
    }
    let nowhere = fetch(
        &broker,
        FetchRequest {
            from: None,
            ..from(At::Offset(0))
        },
    )
    .await;
    assert_eq!(nowhere.unwrap_err().code(), Code::InvalidArgument);
    let unknown = fetch(
        &broker,
        FetchRequest {
            partition: 8,
            ..from(At::Offset(0))
        },
    )
    .await
    .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn answers_are_as_small_as_asked_and_join_without_a_gap() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let long = "x".repeat(300);
    for _ in 0..3 {
        kafka.store(&topic, 0, &batch(&[long.as_str(); 7])).await;
    }
    for limited in [
        FetchRequest {
            max_records: 4,
            ..from(At::Offset(0))
        },
        FetchRequest {
            max_bytes: 1_500,
            ..from(At::Offset(0))
        },
        FetchRequest {
            max_bytes: 1,
            ..from(At::Offset(0))
        },
    ] {
        let (mut next, mut seen) = (0, Vec::new());
        while next < 21 {
            let request = FetchRequest {
                from: Some(Position {
                    at: Some(At::Offset(next)),
                }),
                ..limited.clone()
            };
            let answer = fetch(&broker, request).await.unwrap();
            assert!((1..=4).contains(&answer.records.len()), "{}", answer.records.len());
            seen.extend(answer.records.iter().map(|record| record.offset));
            next = answer.next_offset;
        }
        assert_eq!(seen, (0..21).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_fetch_waits_for_a_record_of_either_protocol() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let request = |offset| FetchRequest {
        max_wait_ms: 60_000,
        ..from(At::Offset(offset))
    };
    let waiting = fetch(&broker, request(0));
    let writing = async {
        tokio::task::yield_now().await;
        kafka.call(13, &produce(&topic, 0, &batch(&["k"]))).await;
    };
    let (answer, ()) = tokio::join!(waiting, writing);
    assert_eq!(values(&answer.unwrap()), [(0, "k")]);
    let waiting = fetch(&broker, request(1));
    let writing = async {
        let records = vec![record("g")];
        let request = ProduceRequest {
            topic: "t".to_owned(),
            records,
        };
        broker.producer().await.produce(request).await.unwrap();
    };
    let (answer, ()) = tokio::join!(waiting, writing);
    assert_eq!(values(&answer.unwrap()), [(1, "g")]);

    let began = tokio::time::Instant::now();
    let nothing = fetch(
        &broker,
        FetchRequest {
            max_wait_ms: 50,
            ..from(At::Offset(2))
        },
    )
    .await
    .unwrap();
    assert!(nothing.records.is_empty() && began.elapsed() >= Duration::from_millis(50));
}
