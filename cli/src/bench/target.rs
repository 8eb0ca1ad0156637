//! The topic that takes a load, and connections to who leads its partitions.
//!
//! Owns: a topic that is made for a load, and goes with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use esker_kafka::ErrorCode;
use esker_kafka::messages::create_topics_request::CreatableTopic;
use esker_kafka_client::{At, Client, Connection, Error, Topic};

use crate::stores;

/// Let the cluster decide.
const REPLICATION_DEFAULT: i16 = -1;

/// A topic.
pub(super) struct Target {
    client: Client,
    pub(super) topic: Arc<Topic>,
    /// It goes with the load.
    temporary: bool,
}

/// One connection, and partitions that the broker there leads.
pub(super) struct Lane {
    pub(super) connection: Connection,
    pub(super) partitions: Vec<i32>,
}

impl Target {
    /// The named topic, created if it does not exist; without a name, a new one.
    pub(super) async fn prepare(client: Client, name: Option<&str>, partitions: i32) -> anyhow::Result<Self> {
        let temporary = name.is_none();
        let name = name.map_or_else(
            || format!("esker-bench-{:08x}", stores::random() & 0xffff_ffff),
            str::to_owned,
        );
        let wanted = CreatableTopic {
            name: name.as_str().into(),
            num_partitions: partitions,
            replication_factor: REPLICATION_DEFAULT,
            ..CreatableTopic::default()
        };
        match client.create_topic(wanted).await {
            Ok(_) => {}
            Err(error) if error.is(ErrorCode::TopicAlreadyExists) => {}
            Err(error) => return Err(anyhow::Error::from(error).context(format!("cannot create topic {name}"))),
        }
        // Brokers learn of a new topic one after the other, so it may be asked for again.
        let topic = client.topic(&name, true).await?;
        let target = Self {
            client,
            topic,
            temporary,
        };
        // Leaders are known before they lead; they answer this once they do.
        target.offsets(At::Latest).await?;
        Ok(target)
    }

    /// An offset of each partition.
    pub(super) async fn offsets(&self, at: At) -> Result<BTreeMap<i32, i64>, Error> {
        let topic = &self.topic;
        let all: Vec<_> = topic
            .partitions
            .iter()
            .map(|one| (topic.name.clone(), one.index))
            .collect();
        let found = self.client.offsets(&all, at).await?;
        let found = found.into_iter();
        Ok(found
            .map(|((_, partition), found)| (partition, found.offset.unwrap_or(0)))
            .collect())
    }

    /// A topic that exists.
    pub(super) async fn existing(client: Client, name: &str) -> anyhow::Result<Self> {
        let topic = client.topic(name, false).await?;
        Ok(Self {
            client,
            topic,
            temporary: false,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// `connections` to each broker that leads partitions; they divide these among them, or each has all if there are more
    /// connections than partitions.
    pub(super) async fn lanes(&self, connections: usize) -> anyhow::Result<Vec<Lane>> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in &self.topic.partitions {
            let leader = partition
                .leader
                .with_context(|| format!("nobody leads partition {}", partition.index))?;
            by_leader.entry(leader).or_default().push(partition.index);
        }
        let nodes = self.client.nodes().await?;
        let mut lanes = Vec::new();
        for (leader, partitions) in by_leader {
            let node = nodes.iter().find(|node| node.id == leader);
            let node = node.with_context(|| format!("the cluster does not say where node {leader} is"))?;
            for nth in 0..connections {
                let share: Vec<i32> = partitions.iter().copied().skip(nth).step_by(connections).collect();
                lanes.push(Lane {
                    connection: Connection::open(&node.address, self.client.settings()).await?,
                    partitions: if share.is_empty() { partitions.clone() } else { share },
                });
            }
        }
        Ok(lanes)
    }

    /// Deletes what was made for the load.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        if self.temporary {
            let deleted = self.client.delete_topic(&self.topic.name).await;
            deleted.with_context(|| format!("cannot delete topic {}", self.topic.name))?;
        }
        Ok(())
    }
}
