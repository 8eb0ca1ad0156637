//! The broker of `esker dev`: an agent over an embedded metadata store and a local directory.
//!
//! Owns: which stores a data directory holds, the cluster's id.
//! Does not own: the agent (`esker_agent::node`), the process (`dev`).

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use esker_agent::agent::Endpoint;
use esker_agent::clock::SystemClock;
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeParts};
use esker_agent::settings::Settings;
use esker_compaction::incarnation;
use esker_metadata::embedded::{self, EmbeddedStore};
use esker_metadata::log::{Cluster, bootstrap};
use esker_metadata::store::{Compare, MetadataStore, Op, OpResult, Txn};
use esker_segment::id::TopicId;
use esker_segment::name::ClusterId;
use esker_storage::directory::{Directory, Durability};
use esker_storage::metered::Metered;
use esker_storage::named::NamedObjects;
use esker_storage::random::Random;
use esker_storage::retrying::{RetrySettings, Retrying};
use esker_storage::store::ObjectStore;

use crate::dev::HostPort;

/// Where the metadata store lies in a data directory.
pub(crate) const METADATA: &str = "metadata";
/// Where the objects lie.
pub(crate) const OBJECTS: &str = "objects";
/// The node id of the only node.
const NODE_ID: i32 = 1;
/// The key that holds the cluster's id.
const CLUSTER_KEY: Bytes = Bytes::from_static(b"cluster");

/// A started node.
pub(crate) struct Started {
    pub(crate) node: Node,
    pub(crate) cluster: ClusterId,
    pub(crate) node_id: i32,
    pub(crate) metadata: EmbeddedStore,
}

/// The stores of a data directory.
pub(crate) struct Stores {
    pub(crate) metadata: EmbeddedStore,
    pub(crate) joined: Cluster,
    cluster: ClusterId,
    objects: Arc<dyn ObjectStore>,
}

impl Stores {
    /// The objects by name.
    pub(crate) fn named(&self) -> NamedObjects {
        NamedObjects::new(Arc::clone(&self.objects), self.cluster.clone())
    }
}

/// Opens the stores of a data directory; creates them when it is new.
pub(crate) async fn open(dir: &Path, fsync: bool) -> anyhow::Result<Stores> {
    let settings = embedded::Settings {
        fsync,
        ..embedded::Settings::default()
    };
    let metadata = EmbeddedStore::open(&dir.join(METADATA), settings)
        .await
        .context("cannot open the metadata store")?;
    let durability = if fsync {
        Durability::Fsync
    } else {
        Durability::PageCache
    };
    let objects = Directory::open(dir.join(OBJECTS), durability).context("cannot open the object directory")?;
    let seed = u64::try_from(random() & u128::from(u64::MAX)).expect("masked");
    let metered: Arc<dyn ObjectStore> = Arc::new(Metered::new(Arc::new(objects)));
    let objects: Arc<dyn ObjectStore> = Arc::new(Retrying::new(metered, RetrySettings::default(), Random::new(seed)));
    let store: Arc<dyn MetadataStore> = Arc::new(metadata.clone());
    let cluster = cluster_id(&*store).await?;
    let joined = bootstrap(store, random()).await.context("cannot join the cluster")?;
    Ok(Stores {
        metadata,
        joined,
        cluster,
        objects,
    })
}

/// Starts the node; it does not listen yet.
pub(crate) async fn start(
    dir: &Path,
    fsync: bool,
    advertised: HostPort,
    settings: Settings,
) -> anyhow::Result<Started> {
    let stores = open(dir, fsync).await?;
    incarnation::claim(&stores.named(), &stores.joined.incarnation)
        .await
        .context("object directory and metadata store do not belong together")?;
    let node = Node::start(NodeParts {
        metadata: stores.joined,
        cluster: stores.cluster.clone(),
        objects: stores.objects,
        clock: Arc::new(SystemClock),
        random: Arc::new(random),
        settings: Arc::new(settings),
        announcement: Announcement {
            node: Some(NODE_ID),
            zone: String::new(),
            kafka: Endpoint {
                host: advertised.host,
                port: advertised.port,
            },
            http: None,
            peer: None,
            process: 1,
        },
    })
    .await
    .context("cannot start the agent")?;
    Ok(Started {
        node,
        cluster: stores.cluster,
        node_id: NODE_ID,
        metadata: stores.metadata,
    })
}

/// The cluster's id; chosen at random when the store is new.
async fn cluster_id(store: &dyn MetadataStore) -> anyhow::Result<ClusterId> {
    // A random topic id in Kafka's notation is what Kafka's cluster ids look like.
    let fresh = TopicId(random()).to_string();
    let outcome = store
        .txn(Txn {
            compares: vec![Compare::Absent(CLUSTER_KEY)],
            then: vec![Op::put(CLUSTER_KEY, Bytes::from(fresh.clone()))],
            otherwise: vec![Op::Get(CLUSTER_KEY)],
        })
        .await
        .context("cannot read the cluster's id")?;
    if outcome.succeeded {
        return Ok(ClusterId::from_str(&fresh)?);
    }
    let found = outcome
        .results
        .into_iter()
        .next()
        .and_then(OpResult::into_get)
        .context("the cluster's id is gone")?;
    Ok(ClusterId::from_str(std::str::from_utf8(&found.value)?)?)
}

/// 128 bits from the system's generator.
fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has a random number generator");
    u128::from_le_bytes(bytes)
}
