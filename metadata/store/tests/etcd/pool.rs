//! Servers that cases use one after the other, because starting them takes longer than most cases.
//!
//! Invariants: a case has its servers to itself, a prefix that nobody had, and finds no lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker_metadata::store::{LeaseId, MetadataStore as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Subject;
use crate::servers::{Cluster, Version};

/// The shortest that etcd grants.
const TTL: Duration = Duration::from_secs(2);

/// Clusters of one kind.
pub(crate) struct Pool {
    version: Version,
    members: usize,
    permits: Semaphore,
    idle: Mutex<Vec<Cluster>>,
    cases: AtomicU64,
}

impl Pool {
    pub(crate) const fn new(version: Version, members: usize, clusters: usize) -> Self {
        Self {
            version,
            members,
            permits: Semaphore::const_new(clusters),
            idle: Mutex::new(Vec::new()),
            cases: AtomicU64::new(0),
        }
    }

    /// A store on a cluster that nobody else uses meanwhile.
    pub(crate) async fn subject(&'static self) -> Subject {
        let permit = self.permits.acquire().await.unwrap();
        let idle = self.idle.lock().unwrap().pop();
        let cluster = match idle {
            Some(cluster) => cluster,
            None => Cluster::start(self.version, self.members, &[]).await,
        };
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        let store = cluster.store(&format!("case-{case}")).await;
        for lease in cluster.ctl(&[0], &["lease", "list"]).lines().skip(1) {
            let id = i64::from_str_radix(lease.trim(), 16).unwrap();
            store.revoke_lease(LeaseId(id)).await.unwrap();
        }
        let lent = Lent {
            pool: self,
            cluster: Some(cluster),
            _permit: permit,
        };
        Subject {
            store: Arc::new(store),
            ttl: TTL,
            _keep: Some(Box::new(lent)),
        }
    }
}

struct Lent {
    pool: &'static Pool,
    cluster: Option<Cluster>,
    _permit: SemaphorePermit<'static>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.idle.lock().unwrap().extend(self.cluster.take());
    }
}
