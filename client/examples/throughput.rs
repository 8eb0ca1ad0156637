//! How much a producer writes and a consumer reads: `throughput ADDRESS [RECORDS] [BYTES] [PARTITIONS]`, into a topic of its own that
//! it deletes afterwards.
#![allow(clippy::print_stdout, reason = "a measurement")]

use std::time::Duration;

use bytes::Bytes;
use esker_client::admin::NewTopic;
use esker_client::{Client, Position, Record};
use tokio::time::Instant;

const TOPIC: &str = "esker-client-throughput";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("throughput ADDRESS [RECORDS] [BYTES] [PARTITIONS]")?;
    let mut number = |default: &str| args.next().unwrap_or(default.to_owned()).parse::<u32>();
    let (records, bytes, partitions) = (number("500000")?, number("1024")?, number("3")?);
    let client = Client::connect(address).await?;
    let topic = NewTopic::new(TOPIC).partitions(i32::try_from(partitions)?);
    client.admin().create_topic(topic).await?;

    let producer = client.producer(TOPIC).open().await?;
    let value = Bytes::from(vec![b'x'; usize::try_from(bytes)?]);
    let began = Instant::now();
    for _ in 0..records {
        drop(producer.send(Record::new(value.clone())).await?);
    }
    producer.close().await?;
    told("written", records, bytes, began.elapsed());

    let mut subscription = client.consumer().subscribe_topic(TOPIC, Position::Earliest).await?;
    let began = Instant::now();
    for _ in 0..records {
        subscription.next().await.ok_or("the subscription has ended")??;
    }
    told("read", records, bytes, began.elapsed());
    client.admin().delete_topic(TOPIC).await?;
    Ok(())
}

fn told(what: &str, records: u32, bytes: u32, took: Duration) {
    let each_second = f64::from(records) / took.as_secs_f64();
    let megabytes = each_second * f64::from(bytes) / 1e6;
    println!(
        "{what} {records} records of {bytes} bytes in {took:.2?}: {each_second:.0} records/s, {megabytes:.1} MB/s"
    );
}
