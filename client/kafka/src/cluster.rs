//! What is known of a cluster: nodes, topics, coordinators, and connections to them.
//!
//! Owns: the cache, what is forgotten when.
//! Does not own: asking (`client`).

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_kafka::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use esker_kafka::{Str, Uuid};
use tokio::sync::OnceCell;

use crate::address::HostPort;
use crate::connection::Connection;

/// A broker as the cluster tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: i32,
    /// Where it is.
    pub address: HostPort,
    /// Its zone, if it has one.
    pub rack: Option<String>,
}

/// A topic as it was when it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero if the broker knows none.
    pub id: Uuid,
    /// True if it is the cluster's own.
    pub internal: bool,
    /// In order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition, and who leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// The node that takes its records, if there is one.
    pub leader: Option<i32>,
    /// Which leadership this is; -1 if the broker does not say.
    pub leader_epoch: i32,
    /// The nodes that hold it.
    pub replicas: Vec<i32>,
}

impl Topic {
    pub(crate) fn of(told: &MetadataResponseTopic) -> Self {
        let mut partitions: Vec<Partition> = told
            .partitions
            .iter()
            .map(|one| Partition {
                index: one.partition_index,
                leader: (one.leader_id >= 0).then_some(one.leader_id),
                leader_epoch: one.leader_epoch,
                replicas: one.replica_nodes.clone(),
            })
            .collect();
        partitions.sort_by_key(|one| one.index);
        Self {
            name: told.name.clone().unwrap_or_default().into(),
            id: told.topic_id,
            internal: told.is_internal,
            partitions,
        }
    }

    /// The node that leads a partition, if it exists and has one.
    #[must_use]
    pub fn leader(&self, partition: i32) -> Option<i32> {
        let found = self.partitions.binary_search_by_key(&partition, |one| one.index).ok()?;
        self.partitions[found].leader
    }
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) id: Option<String>,
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) controller: Option<i32>,
    pub(crate) topics: BTreeMap<String, Arc<Topic>>,
    /// Coordinators of groups.
    pub(crate) coordinators: BTreeMap<String, i32>,
    pub(crate) connections: BTreeMap<HostPort, Arc<OnceCell<Connection>>>,
}

impl Cluster {
    /// Takes over what a broker told.
    pub(crate) fn learn(&mut self, told: &MetadataResponse) {
        self.id = told.cluster_id.clone().map(String::from);
        self.controller = (told.controller_id >= 0).then_some(told.controller_id);
        let nodes = told.brokers.iter().filter_map(|broker| {
            let node = Node {
                id: broker.node_id,
                address: address(&broker.host, broker.port)?,
                rack: broker.rack.clone().map(String::from),
            };
            Some((node.id, node))
        });
        self.nodes = nodes.collect();
        for topic in told.topics.iter().filter(|topic| topic.error_code == 0) {
            let topic = Arc::new(Topic::of(topic));
            self.topics.insert(topic.name.clone(), topic);
        }
    }

    /// Where to ask when anybody will do: who is connected, who is known, who was named at first.
    pub(crate) fn anybody(&self, bootstrap: &[HostPort]) -> Vec<HostPort> {
        let connected = self
            .connections
            .iter()
            .filter(|(_, cell)| cell.get().is_some_and(Connection::is_open));
        let mut all: Vec<HostPort> = connected.map(|(address, _)| address.clone()).collect();
        let known = self.nodes.values().map(|node| &node.address);
        for address in known.chain(bootstrap) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }
}

/// An address that a broker told; none if nobody could connect to it.
pub(crate) fn address(host: &Str, port: i32) -> Option<HostPort> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    Some(HostPort {
        host: host.clone().into(),
        port,
    })
}
