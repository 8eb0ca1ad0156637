//! Connections that are cut and agents that are lost: nothing is missing, nothing is there twice, all is in order.

use std::collections::BTreeMap;

use esker_client::{Position, Producer, Record, Stored};

use crate::broker::{Broker, World};
use crate::client::Client as KafkaClient;
use crate::proxy::Proxy;
use crate::requests::Topic;
use crate::stored::{KEYS, quick, stored};

const PARTITIONS: i32 = 3;

/// Sends values `from..to`, with keys and without, in small batches; where each of them is.
async fn send_all(producer: &Producer, values: std::ops::Range<usize>) -> BTreeMap<usize, Stored> {
    let mut deliveries = Vec::new();
    for nth in values {
        let record = Record::new(format!("{nth:060}"));
        let record = match KEYS.get(nth % (KEYS.len() + 1)) {
            Some((key, _)) => record.key(*key),
            None => record,
        };
        deliveries.push((nth, producer.send(record).await.unwrap()));
    }
    let mut places = BTreeMap::new();
    for (nth, delivery) in deliveries {
        places.insert(nth, delivery.await.unwrap());
    }
    places
}

/// Each record is where it was said to be, once, in order, in the partition of its key.
async fn assert_stored(kafka: &mut KafkaClient, topic: &Topic, places: &BTreeMap<usize, Stored>) {
    let mut found = 0;
    for partition in 0..PARTITIONS {
        let records = stored(kafka, topic, partition).await;
        let numbers: Vec<usize> = records.iter().map(|(_, value)| value.parse().unwrap()).collect();
        assert!(
            numbers.is_sorted_by(|one, next| one < next),
            "partition {partition}: {numbers:?}"
        );
        for ((offset, _), nth) in records.into_iter().zip(numbers) {
            let place = places[&nth];
            assert_eq!((place.partition, place.offset), (partition, offset), "{nth}");
            if let Some((_, hash)) = KEYS.get(nth % (KEYS.len() + 1)) {
                assert_eq!(hash % PARTITIONS.cast_unsigned(), partition.cast_unsigned(), "{nth}");
            }
            found += 1;
        }
    }
    assert_eq!(found, places.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_cut_again_and_again_loses_nothing_and_doubles_nothing() {
    for seed in [1, 2, 3] {
        let world = World::new();
        let agents = [world.start(&[]).await, world.start(&[]).await];
        let mut kafka = agents[0].connect().await;
        let topic = kafka.create("t", PARTITIONS, &[]).await;
        let proxies = [Proxy::start(agents[0].grpc).await, Proxy::start(agents[1].grpc).await];
        let client = quick()
            .address(&proxies[0].address)
            .address(&proxies[1].address)
            .build()
            .unwrap();
        let producer = client.producer("t").batch_bytes(1_500).open().await.unwrap();
        for (nth, proxy) in (0..).zip(&proxies) {
            proxy.cut_after(seed * 10 + nth, 1_000..12_000);
            proxy.cut();
        }
        let places = send_all(&producer, 0..2_000).await;
        let connections: u64 = proxies.iter().map(Proxy::connections).sum();
        assert!(connections > 15, "cut only {connections} times");
        assert!(
            proxies.iter().all(|proxy| proxy.connections() > 3),
            "only one agent was used"
        );
        assert_stored(&mut kafka, &topic, &places).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_when_its_agent_is_killed_and_comes_again() {
    let world = World::new();
    let watcher = world.start(&[]).await;
    let mut kafka = watcher.connect().await;
    let topic = kafka.create("t", PARTITIONS, &[]).await;
    let mut agent = world.start(&[]).await;
    let proxy = Proxy::start(agent.grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    let producer = client.producer("t").batch_bytes(1_500).open().await.unwrap();
    let mut places = send_all(&producer, 0..200).await;
    for round in 1..4 {
        let sending = tokio::spawn({
            let producer = producer.clone();
            async move { send_all(&producer, round * 500..round * 500 + 500).await }
        });
        while kafka.latest(&topic, 0).await < i64::try_from(places.len() / 4).unwrap() {
            tokio::task::yield_now().await;
        }
        drop(agent);
        agent = world.start(&[]).await;
        proxy.lead_to(agent.grpc);
        places.extend(sending.await.unwrap());
    }
    assert_stored(&mut kafka, &topic, &places).await;
}

#[tokio::test]
async fn a_producer_goes_on_when_its_agent_is_drained() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    let mut kafka = agents[1].connect().await;
    let topic = kafka.create("t", PARTITIONS, &[]).await;
    let proxy = Proxy::start(agents[0].grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    let mut places = send_all(&producer, 0..100).await;
    let [first, second] = agents;
    proxy.lead_to(second.grpc);
    let (stopped, later) = tokio::join!(first.stop(), send_all(&producer, 100..200));
    stopped.unwrap();
    places.extend(later);
    assert_stored(&mut kafka, &topic, &places).await;
}

/// The values of so many records, by partition, with their offsets.
async fn read(subscription: &mut esker_client::Subscription, count: usize) -> BTreeMap<i32, Vec<(i64, usize)>> {
    let mut found: BTreeMap<i32, Vec<(i64, usize)>> = BTreeMap::new();
    for _ in 0..count {
        let record = subscription.next().await.unwrap().unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        let of_partition = found.entry(record.partition).or_default();
        of_partition.push((record.offset, value.parse().unwrap()));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_cut_again_and_again_misses_nothing_and_repeats_nothing() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    agents[0].connect().await.create("t", PARTITIONS, &[]).await;
    let direct = quick()
        .address(format!("http://{}", agents[0].grpc))
        .connect()
        .await
        .unwrap();
    let producer = direct.producer("t").batch_bytes(1_500).open().await.unwrap();
    let proxies = [Proxy::start(agents[0].grpc).await, Proxy::start(agents[1].grpc).await];
    let client = quick()
        .address(&proxies[0].address)
        .address(&proxies[1].address)
        .connect()
        .await
        .unwrap();
    for (nth, proxy) in (0..).zip(&proxies) {
        proxy.cut_after(70 + nth, 2_000..30_000);
    }
    let consumer = client.consumer().max_bytes(2_000);
    let places = send_all(&producer, 0..1_000).await;
    let mut subscription = consumer.subscribe_topic("t", Position::Earliest).await.unwrap();
    let (found, more) = tokio::join!(read(&mut subscription, 2_000), send_all(&producer, 1_000..2_000));
    let places: BTreeMap<usize, Stored> = places.into_iter().chain(more).collect();
    let mut count = 0;
    for (partition, records) in found {
        assert!(
            records
                .iter()
                .map(|(offset, _)| *offset)
                .eq(0..i64::try_from(records.len()).unwrap())
        );
        for (offset, nth) in records {
            assert_eq!((places[&nth].partition, places[&nth].offset), (partition, offset));
            count += 1;
        }
    }
    assert_eq!(count, 2_000);
    let connections: u64 = proxies.iter().map(Proxy::connections).sum();
    assert!(connections > 15, "cut only {connections} times");
}

#[tokio::test]
async fn what_comes_while_a_subscription_to_the_end_is_cut_is_not_missed() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let proxy = Proxy::start(broker.grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    client.produce("t", [Record::new("0")]).await.unwrap();
    let mut subscription = client
        .consumer()
        .subscribe([(("t", 0), Position::Latest)])
        .await
        .unwrap();
    let direct = quick()
        .address(format!("http://{}", broker.grpc))
        .connect()
        .await
        .unwrap();
    for nth in 1..5 {
        // Cut before anything was read.
        proxy.cut();
        direct.produce("t", [Record::new(nth.to_string())]).await.unwrap();
        let found = read(&mut subscription, 1).await;
        assert_eq!(found[&0], [(i64::try_from(nth).unwrap(), nth)]);
    }
    assert!(proxy.connections() >= 5);
}
