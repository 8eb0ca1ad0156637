//! What records of 1 KiB cost an agent over gRPC, and over the Kafka protocol: CPU-seconds of its process for each GiB.
//!
//! Owns: one producer with five batches of 1 MiB under way, and one reader from the beginning on, in either protocol; one partition.
//! Does not own: starting the agent (`esker dev`).
//!
//! Usage: `grpc_load KAFKA GRPC PID MIB`: addresses, the agent's process, how much to write and read. Linux only.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

#[path = "../tests/kafka/client.rs"]
#[allow(dead_code, reason = "shared with tests, of which one uses all of it")]
mod client;

use bytes::Bytes;
use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::records::{BatchBuilder, BatchIter, Codec, Headers};
use esker_kafka::{Records, Str};
use esker_proto::v1::consumer_client::ConsumerClient;
use esker_proto::v1::position::At;
use esker_proto::v1::produce_stream_request::{Batch, Open, Step};
use esker_proto::v1::produce_stream_response::Step as Answer;
use esker_proto::v1::producer_client::ProducerClient;
use esker_proto::v1::subscribe_event::Event;
use esker_proto::v1::subscribe_request::{Assign, What};
use esker_proto::v1::{PartitionPosition, Position, ProduceStreamRequest, Record, SubscribeRequest};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Channel;

use self::client::Client;

/// Records of a batch, and bytes of a record. With what Kafka writes around it, a batch stays below the default limit.
const RECORDS: usize = 1_000;
const VALUE_BYTES: usize = 1_024;
/// Batches under way.
const UNACKED_MAX: usize = 5;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
/// Clock ticks of `/proc`, a second.
const TICKS: f64 = 100.0;

fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |nth: usize| fields[nth].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// Runs a case over so many batches, and says what it cost.
async fn measure(process: &str, case: &str, batches: usize, run: impl Future<Output = ()>) {
    let (before, began) = (cpu_seconds(process), Instant::now());
    run.await;
    let (used, took) = (cpu_seconds(process) - before, began.elapsed().as_secs_f64());
    let bytes = u32::try_from(batches * RECORDS * VALUE_BYTES / 1_024).unwrap();
    let mebibytes = f64::from(bytes) / 1_024.0;
    println!(
        "{case:<16} {:.2} CPU-s/GiB at {:.0} MiB/s",
        used / mebibytes * 1_024.0,
        mebibytes / took
    );
}

fn value() -> Bytes {
    // Looks random to whoever would compress it.
    let bytes = (0..VALUE_BYTES).map(|nth| u8::try_from(nth * 7919 % 251).unwrap());
    bytes.collect()
}

async fn kafka_produce(address: &str, topic: &str, batches: usize) {
    let mut kafka = Client::new(TcpStream::connect(address).await.unwrap());
    let mut builder = BatchBuilder::new(Codec::default());
    for _ in 0..RECORDS {
        builder.append(1, None, Some(&value()), &Headers::new()).unwrap();
    }
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Records::from(builder.build().unwrap().bytes().clone())),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let frame = client::framed(PRODUCE, 1, &request);
    for nth in 0..batches + UNACKED_MAX {
        if nth >= UNACKED_MAX {
            let (_, answer) = kafka.receive::<ProduceRequest>(PRODUCE).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        }
        if nth < batches {
            kafka.send_raw(&frame).await;
        }
    }
}

async fn kafka_fetch(address: &str, topic: &str, batches: usize) {
    let mut kafka = Client::new(TcpStream::connect(address).await.unwrap());
    let mut next = 0;
    while next < i64::try_from(batches * RECORDS).unwrap() {
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: Str::from(topic),
                partitions: vec![FetchPartition {
                    fetch_offset: next,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let answer = kafka.call(FETCH, &request).await;
        let data = answer.responses[0].partitions[0].records.as_ref().unwrap().to_bytes();
        for batch in BatchIter::new(data) {
            next = batch.unwrap().header().last_offset() + 1;
        }
    }
}

async fn channel(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

async fn grpc_produce(address: &str, topic: &str, batches: usize) {
    let mut producer = ProducerClient::new(channel(address).await);
    let (send, mut receive) = mpsc::unbounded_channel();
    let step = |step| ProduceStreamRequest { step: Some(step) };
    let open = Open {
        topic: topic.to_owned(),
        ..Open::default()
    };
    send.send(step(Step::Open(open))).unwrap();
    let requests = futures::stream::poll_fn(move |cx| receive.poll_recv(cx));
    let mut answers = producer.produce_stream(requests).await.unwrap().into_inner();
    let record = Record {
        partition: Some(0),
        value: Some(value()),
        ..Record::default()
    };
    let records = vec![record; RECORDS];
    let (mut number, mut acked) = (0, 0);
    while acked < batches {
        match answers.message().await.unwrap().unwrap().step.unwrap() {
            Answer::Opened(_) => {}
            Answer::Ack(_) => acked += 1,
            Answer::Refused(refused) => panic!("{refused:?}"),
        }
        while number < batches && number - acked < UNACKED_MAX {
            let batch = Batch {
                number: u64::try_from(number).unwrap(),
                records: records.clone(),
            };
            send.send(step(Step::Batch(batch))).unwrap();
            number += 1;
        }
    }
}

async fn grpc_subscribe(address: &str, topic: &str, batches: usize) {
    let mut consumer = ConsumerClient::new(channel(address).await);
    let from = PartitionPosition {
        topic: topic.to_owned(),
        partition: 0,
        at: Some(Position {
            at: Some(At::Offset(0)),
        }),
    };
    let request = SubscribeRequest {
        what: Some(What::Assign(Assign { partitions: vec![from] })),
        ..SubscribeRequest::default()
    };
    let mut events = consumer.subscribe(request).await.unwrap().into_inner();
    let mut next = 0;
    while next < i64::try_from(batches * RECORDS).unwrap() {
        match events.message().await.unwrap().unwrap().event.unwrap() {
            Event::Records(records) => next = records.next_offset,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kafka, grpc, process, mebibytes] = &arguments[..] else {
        panic!("usage: grpc_load KAFKA GRPC PID MIB");
    };
    let batches = mebibytes.parse::<usize>().unwrap() * 1_024 / RECORDS;
    let mut admin = Client::new(TcpStream::connect(kafka).await.unwrap());
    let topics = ["kafka", "grpc"].map(|name| format!("load-{name}-{}", std::process::id()));
    let topic = |name: &String| CreatableTopic {
        name: Str::from(name),
        num_partitions: 1,
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: topics.iter().map(topic).collect(),
        timeout_ms: 10_000,
        validate_only: false,
    };
    admin.call(7, &create).await;
    let [by_kafka, by_grpc] = &topics;
    let produce = kafka_produce(kafka, by_kafka, batches);
    measure(process, "kafka produce", batches, produce).await;
    measure(process, "grpc produce", batches, grpc_produce(grpc, by_grpc, batches)).await;
    measure(process, "kafka fetch", batches, kafka_fetch(kafka, by_kafka, batches)).await;
    measure(
        process,
        "grpc subscribe",
        batches,
        grpc_subscribe(grpc, by_kafka, batches),
    )
    .await;
}
