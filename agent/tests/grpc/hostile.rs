//! Peers that want the agent's memory: many calls, large headers, lengths that are lies, answers that nobody reads.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use esker_proto::v1::position::At;
use esker_proto::v1::subscribe_request::{Assign, What};
use esker_proto::v1::{
    Edge, FetchRequest, PartitionPosition, Position, ProduceRequest, Record, SubscribeEvent, SubscribeRequest,
};
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tonic::codegen::http;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status, Streaming};

use crate::batches::batch;
use crate::broker::{Broker, record};

/// Calls that one connection may have open.
const STREAMS_MAX: usize = 100;
/// Calls that all connections together may have open.
const CALLS_MAX: usize = 1_024;

fn everything_from() -> Option<Position> {
    let at = Some(At::Edge(Edge::Earliest.into()));
    Some(Position { at })
}

fn everything() -> SubscribeRequest {
    let partition = PartitionPosition {
        topic: "t".to_owned(),
        partition: 0,
        at: everything_from(),
    };
    SubscribeRequest {
        what: Some(What::Assign(Assign {
            partitions: vec![partition],
        })),
        ..SubscribeRequest::default()
    }
}

/// Memory that this process has, in bytes.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A connection without a library that keeps to limits by itself.
async fn raw(broker: &Broker) -> SendRequest<Bytes> {
    raw_with(broker, 65_535).await
}

/// The same, with room for so many bytes of each answer.
async fn raw_with(broker: &Broker, window: u32) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(broker.grpc).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

/// A message as it goes over the wire.
fn message(message: &impl prost::Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    framed.freeze()
}

fn call(path: &str) -> http::Request<()> {
    let request = http::Request::post(format!("http://esker{path}"));
    let request = request
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(()).unwrap()
}

/// The status of a call that was refused before it began.
fn status(answer: &http::Response<h2::RecvStream>) -> Option<i32> {
    answer.headers().get("grpc-status")?.to_str().unwrap().parse().ok()
}

pub(crate) async fn still_serves(broker: &Broker) {
    let request = ProduceRequest {
        topic: "alive".to_owned(),
        records: vec![record("x")],
    };
    broker.producer().await.produce(request).await.unwrap();
}

#[tokio::test]
async fn calls_are_bounded_and_those_that_end_make_room() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let mut open: Vec<Streaming<SubscribeEvent>> = Vec::new();
    let mut refused = Vec::new();
    while refused.len() < 3 {
        let mut consumer = broker.consumer().await;
        for _ in 0..STREAMS_MAX {
            match consumer.subscribe(everything()).await {
                Ok(stream) => open.push(stream.into_inner()),
                Err(status) => {
                    refused.push(status);
                    break;
                }
            }
        }
    }
    assert!(
        (CALLS_MAX - STREAMS_MAX..CALLS_MAX).contains(&open.len()),
        "{}",
        open.len()
    );
    let exhausted = |status: &Status| status.code() == Code::ResourceExhausted;
    assert!(refused.iter().all(exhausted), "{refused:?}");
    // Whoever comes next finds some.
    still_serves(&broker).await;
    // Kafka clients do not notice, and the other calls go on.
    kafka.store(&topic, 0, &batch(&["x"])).await;
    let event = tokio::time::timeout(Duration::from_secs(30), open[7].message())
        .await
        .unwrap();
    assert!(event.unwrap().is_some());
    open.clear();
    let fetch = FetchRequest {
        topic: "t".to_owned(),
        from: Some(Position {
            at: Some(At::Offset(0)),
        }),
        ..FetchRequest::default()
    };
    let mut consumer = broker.consumer().await;
    consumer.fetch(fetch).await.unwrap();
}

#[tokio::test]
async fn a_connection_has_at_most_so_many_calls() {
    let broker = Broker::start().await;
    let mut send = raw(&broker).await;
    // With its first answer at the latest, the agent has said what it takes.
    let (answer, _) = send.send_request(call("/esker.v1.Consumer/Fetch"), true).unwrap();
    answer.await.unwrap();
    assert_eq!(send.current_max_send_streams(), STREAMS_MAX);
}

#[tokio::test]
async fn answers_that_nobody_reads_are_not_fetched() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let value = "x".repeat(500_000);
    for _ in 0..80 {
        kafka.store(&topic, 0, &batch(&[&value])).await;
    }
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..30 {
        // A connection each, so that it is not the connection's window that holds them back.
        let mut stream = broker
            .consumer()
            .await
            .subscribe(everything())
            .await
            .unwrap()
            .into_inner();
        let first = stream.message().await.unwrap();
        assert!(first.is_some());
        open.push(stream);
    }
    // Whoever reads goes on; by the time it has everything, the others have had as long.
    let mut reading = broker
        .consumer()
        .await
        .subscribe(everything())
        .await
        .unwrap()
        .into_inner();
    let mut next = 0;
    while next < 80 {
        let event = reading.message().await.unwrap().unwrap().event.unwrap();
        let esker_proto::v1::subscribe_event::Event::Records(records) = event else {
            panic!("{event:?}");
        };
        next = records.next_offset;
    }
    let more = resident().saturating_sub(before);
    // All of it for everybody would be 1.2 GB; other tests of this process have memory as well.
    assert!(more < 600 << 20, "{} MiB for 30 clients that do not read", more >> 20);
    drop(open);
}

/// A client gives HTTP/2 room for one byte of each answer, which takes the rest of it all the same if it is offered.
#[tokio::test]
async fn calls_whose_answers_nobody_takes_stay_open() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let value = "x".repeat(900_000);
    kafka.store(&topic, 0, &batch(&[&value])).await;
    let fetch = FetchRequest {
        topic: "t".to_owned(),
        from: everything_from(),
        ..FetchRequest::default()
    };
    let fetch = message(&fetch);
    let before = resident();
    let (mut connections, mut held, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..12 {
        let mut send = raw_with(&broker, 1).await;
        for _ in 0..STREAMS_MAX {
            let (answer, mut body) = send.send_request(call("/esker.v1.Consumer/Fetch"), false).unwrap();
            body.send_data(fetch.clone(), true).unwrap();
            held.push(answer);
        }
        connections.push(send);
    }
    let mut answers = Vec::new();
    for answer in held {
        let answer = answer.await.unwrap();
        refused += usize::from(status(&answer) == Some(Code::ResourceExhausted as i32));
        answers.push(answer);
    }
    assert!(
        answers.len() - refused < CALLS_MAX,
        "{refused} of {} refused",
        answers.len()
    );
    let more = resident().saturating_sub(before);
    // All of them would be more than a gigabyte, and each record once in the agent's hands and once in the answer.
    assert!(more < 900 << 20, "{} MiB", more >> 20);
    still_serves(&broker).await;
}

#[tokio::test]
async fn large_headers_are_refused() {
    let broker = Broker::start().await;
    let mut request = Request::new(FetchRequest::default());
    let long = "x".repeat(100_000);
    request
        .metadata_mut()
        .insert("client-id", AsciiMetadataValue::try_from(long).unwrap());
    let refused = broker.consumer().await.fetch(request).await.unwrap_err();
    assert_ne!(
        refused.code(),
        Code::InvalidArgument,
        "the handler has seen it: {refused}"
    );
    still_serves(&broker).await;
}

#[tokio::test]
async fn lengths_are_not_believed() {
    let broker = Broker::start().await;
    let before = resident();
    let mut connections = Vec::new();
    let mut held = Vec::new();
    for length in [u32::MAX, (16 << 20) + 1] {
        let mut send = raw(&broker).await;
        let (answer, mut body) = send.send_request(call("/esker.v1.Producer/Produce"), false).unwrap();
        let mut prefix = BytesMut::new();
        prefix.put_u8(0);
        prefix.put_u32(length);
        body.send_data(prefix.freeze(), false).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), answer)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status(&answer), Some(Code::ResourceExhausted as i32), "{length}");
    }
    for _ in 0..4 {
        let mut send = raw(&broker).await;
        for _ in 0..STREAMS_MAX {
            let (answer, mut body) = send.send_request(call("/esker.v1.Producer/Produce"), false).unwrap();
            let mut prefix = BytesMut::new();
            prefix.put_u8(0);
            prefix.put_u32(16 << 20);
            prefix.put_bytes(0, 100);
            body.send_data(prefix.freeze(), false).unwrap();
            held.push((answer, body));
        }
        connections.push(send);
    }
    still_serves(&broker).await;
    let more = resident().saturating_sub(before);
    assert!(more < 300 << 20, "{} MiB for 400 prefixes", more >> 20);
    drop(held);
}

#[tokio::test]
async fn a_message_of_nothing_but_records_is_refused() {
    let broker = Broker::start().await;
    for (records, headers) in [(70_000, 0), (1, 70_000), (200_000, 0)] {
        let mut all = vec![Record::default(); records];
        all[0].headers = vec![esker_proto::v1::Header::default(); headers];
        let request = ProduceRequest {
            topic: "t".to_owned(),
            records: all,
        };
        let refused = broker.producer().await.produce(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("in one message"), "{refused}");
    }
    still_serves(&broker).await;
}

#[tokio::test]
async fn requests_that_name_too_many_things_are_refused() {
    let broker = Broker::start().await;
    let request = esker_proto::v1::DeleteTopicsRequest {
        topics: vec![String::new(); 10_001],
    };
    let mut admin = esker_proto::v1::admin_client::AdminClient::new(broker.channel().await);
    let refused = admin.delete_topics(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("things in one message"), "{refused}");
    let long = "x".repeat(100_000);
    let request = esker_proto::v1::DescribeGroupsRequest {
        group_ids: vec![long.clone()],
    };
    let described = admin.describe_groups(request).await.unwrap().into_inner().groups;
    let failure = described[0].failure.as_ref().unwrap();
    assert!(failure.message.len() < 1_000, "{}", failure.message.len());
    let refused = admin
        .describe_topics(esker_proto::v1::DescribeTopicsRequest { topics: vec![long; 11] })
        .await;
    assert_eq!(
        refused.unwrap_err().code(),
        Code::ResourceExhausted,
        "more than a mebibyte"
    );
}

#[tokio::test]
async fn calls_that_are_cancelled_at_once_cost_nothing_that_stays() {
    let broker = Broker::start().await;
    let mut send = raw(&broker).await;
    for _ in 0..2_000 {
        let Ok(mut ready) = send.ready().await else {
            // The agent has had enough (CVE-2023-44487).
            break;
        };
        let Ok((_, mut body)) = ready.send_request(call("/esker.v1.Consumer/Fetch"), false) else {
            break;
        };
        body.send_reset(h2::Reason::CANCEL);
        send = ready;
    }
    still_serves(&broker).await;
}
