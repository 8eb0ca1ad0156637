//! Writes lines of stdin as records: `produce TOPIC ADDRESS…`. What stands before a tab is the key.
#![allow(clippy::print_stdout, reason = "an example")]

use std::io::BufRead;

use esker_client::{Client, Error, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let topic = args.next().ok_or("produce TOPIC ADDRESS…")?;
    let client = args.fold(Client::builder(), |builder, address| builder.address(address));
    let producer = client.connect().await?.producer(topic).open().await?;
    let mut deliveries = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let record = match line.split_once('\t') {
            Some((key, value)) => Record::new(value.to_owned()).key(key.to_owned()),
            None => Record::new(line),
        };
        // Waits when the producer holds as much as it may.
        deliveries.push(producer.send(record).await?);
    }
    producer.close().await?;
    for delivery in deliveries {
        match delivery.await {
            Ok(stored) => println!("{}/{}", stored.partition, stored.offset),
            Err(Error::Unknown(unknown)) => println!("unknown: {unknown}"),
            Err(error) => println!("not stored: {error}"),
        }
    }
    Ok(())
}
