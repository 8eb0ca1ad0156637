//! Reads a topic as a member of a group, until Ctrl-C: `consume_group GROUP TOPIC ADDRESS…`. Start it twice, and the partitions
//! are shared.
#![allow(clippy::print_stdout, reason = "an example")]

use esker_client::{Client, GroupEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (group, topic) = args
        .next()
        .zip(args.next())
        .ok_or("consume_group GROUP TOPIC ADDRESS…")?;
    let builder = args.fold(Client::builder(), |builder, address| builder.address(address));
    let client = builder.client_id("consume-group").connect().await?;
    let mut member = client.consumer().group(group, [topic]).join().await?;
    loop {
        let event = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            event = member.next() => event,
        };
        match event.transpose()? {
            None => break,
            Some(GroupEvent::Assigned(partitions)) => println!("assigned {partitions:?}"),
            Some(GroupEvent::Revoked(partitions)) => println!("revoked {partitions:?}"),
            Some(GroupEvent::Records(records)) => {
                for record in &records.records {
                    let value = record.value.as_deref().map(String::from_utf8_lossy);
                    println!("{}/{} {}", record.partition, record.offset, value.unwrap_or_default());
                }
                member.commit(&records).await?;
            }
        }
    }
    member.close().await?;
    Ok(())
}
