//! Streams through a proxy that cuts them in the middle, and are resumed: nothing is lost, nothing comes twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use esker_proto::v1::consumer_client::ConsumerClient;
use esker_proto::v1::position::At;
use esker_proto::v1::producer_client::ProducerClient;
use esker_proto::v1::subscribe_event::Event;
use esker_proto::v1::subscribe_request::{Assign, What};
use esker_proto::v1::{PartitionPosition, Position, SubscribeEvent, SubscribeRequest};
use tonic::Status;
use tonic::transport::{Channel, Error};

use crate::batches::batch;
use crate::broker::{Broker, World, keyed, to};
use crate::cutter::Cutter;
use crate::produce_stream::{Opened, Resuming, stored};

const BATCHES: usize = 300;

/// A connection through the proxy, if it lives that long.
async fn channel(address: SocketAddr) -> Result<Channel, Error> {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
}

/// Goes on with the session until the connection is cut or all is acknowledged.
async fn produce(client: &mut Resuming, at: SocketAddr, sent: &mut usize) -> Result<(), Status> {
    let connected = channel(at).await.map_err(|cut| Status::unavailable(cut.to_string()))?;
    let mut stream = Opened::over(ProducerClient::new(connected), client.first()).await?;
    client.resume(&mut stream).await?;
    while *sent < BATCHES || !client.unacked.is_empty() {
        while *sent < BATCHES && client.unacked.len() < 5 {
            let of = |what: &str| format!("{what}{sent}");
            let records = vec![keyed(&of("key"), &of("k")), to(0, &of("a")), to(0, &of("b"))];
            client.send(&stream, records);
            *sent += 1;
        }
        client.try_ack(&mut stream).await?;
    }
    Ok(())
}

#[tokio::test]
async fn batches_of_streams_that_a_proxy_cuts_are_there_once_and_in_order() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    let mut kafka = agents[0].connect().await;
    let topic = kafka.create("t", 2, &[]).await;
    let cutters = [
        Cutter::start(agents[0].grpc, 7, 2_000).await,
        Cutter::start(agents[1].grpc, 11, 2_000).await,
    ];
    let (mut client, mut sent, mut turn) = (Resuming::new(), 0, 0);
    while let Err(cut) = produce(&mut client, cutters[turn % 2].address, &mut sent).await {
        assert!(turn < 2_000, "no progress: {cut}");
        turn += 1;
    }
    let cuts = cutters[0].cuts() + cutters[1].cuts();
    assert!(cuts >= 30, "cut only {cuts} times");
    let mut found = BTreeMap::new();
    for partition in 0..2 {
        let records = stored(&mut kafka, &topic, partition).await;
        let numbers: Vec<usize> = records.iter().map(|(_, value)| value[1..].parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "partition {partition}: {numbers:?}");
        for (offset, value) in records {
            let before = found.insert(value.clone(), (partition, offset));
            assert!(before.is_none(), "{value} is there twice");
        }
    }
    assert_eq!(found.len(), BATCHES * 3);
    assert_eq!(found, client.acked, "acks say where each record is");
}

/// Reads on from `next` until the connection is cut or everything was read.
async fn read(at: SocketAddr, next: &mut [i64; 2], found: &mut [Vec<i64>; 2], all: i64) -> Result<(), Status> {
    let connected = channel(at).await.map_err(|cut| Status::unavailable(cut.to_string()))?;
    let partitions = (0..).zip(next.iter()).map(|(partition, from)| PartitionPosition {
        topic: "t".to_owned(),
        partition,
        at: Some(Position {
            at: Some(At::Offset(*from)),
        }),
    });
    let request = SubscribeRequest {
        what: Some(What::Assign(Assign {
            partitions: partitions.collect(),
        })),
        max_bytes: 20_000,
        ..SubscribeRequest::default()
    };
    let mut stream = ConsumerClient::new(connected).subscribe(request).await?.into_inner();
    while next.iter().any(|next| *next < all) {
        let event = stream.message().await?;
        let Some(SubscribeEvent {
            event: Some(Event::Records(records)),
        }) = event
        else {
            panic!("{event:?}");
        };
        let partition = usize::try_from(records.partition).unwrap();
        found[partition].extend(records.records.iter().map(|record| record.offset));
        next[partition] = records.next_offset;
    }
    Ok(())
}

#[tokio::test]
async fn a_subscription_that_a_proxy_cuts_goes_on_after_what_was_seen() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 2, &[]).await;
    let value = "x".repeat(1_000);
    for nth in 0..100 {
        kafka.store(&topic, nth % 2, &batch(&[value.as_str(); 10])).await;
    }
    let cutter = Cutter::start(broker.grpc, 3, 60_000).await;
    let (mut next, mut found) = ([0; 2], [Vec::new(), Vec::new()]);
    let mut turn = 0;
    while let Err(cut) = read(cutter.address, &mut next, &mut found, 500).await {
        assert!(turn < 2_000, "no progress: {cut}");
        turn += 1;
    }
    assert!(cutter.cuts() >= 20, "cut only {} times", cutter.cuts());
    let expected: Vec<i64> = (0..500).collect();
    assert_eq!(found, [expected.clone(), expected]);
}
