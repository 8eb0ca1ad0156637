//! What there is: agents, topics, groups and how far they have come: `admin ADDRESS…`.
#![allow(clippy::print_stdout, reason = "an example")]

use esker_client::{Client, Position};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addresses = std::env::args().skip(1);
    let builder = addresses.fold(Client::builder(), |builder, address| builder.address(address));
    let admin = builder.connect().await?.admin();
    let cluster = admin.describe_cluster().await?;
    println!("cluster {}", cluster.id);
    for node in cluster.nodes {
        println!("  node {} at {}:{}", node.node, node.host, node.port);
    }
    for topic in admin.list_topics().await? {
        println!("topic {}", topic.name);
        let places = (0..topic.partitions).map(|partition| ((topic.name.as_str(), partition), Position::Latest));
        for (place, end) in admin.offsets(places).await? {
            println!("  {place} ends at {}", end?);
        }
    }
    for group in admin.list_groups().await?.groups {
        println!("group {} is {}", group.group, group.state);
        for committed in admin.group_offsets(group.group).await? {
            println!("  {} at {}", committed.place, committed.offset);
        }
    }
    Ok(())
}
