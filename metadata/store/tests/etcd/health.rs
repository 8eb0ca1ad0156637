//! What is unsafe about a server is noticed.

use std::sync::Arc;

use esker_metadata::etcd::MemberHealth;
use esker_metadata::store::{MetadataStore as _, Op, Txn};

use crate::servers::{Cluster, Version};

async fn examine(cluster: &Cluster) -> Vec<MemberHealth> {
    cluster.store("esker").await.examine().await
}

#[tokio::test]
async fn default_flags_are_no_worry_and_small_quotas_are() {
    for version in [Version::V3_4, Version::V3_6] {
        let cluster = Cluster::start(version, 3, &[]).await;
        let members = examine(&cluster).await;
        assert_eq!(members.len(), 3);
        for member in members {
            assert_eq!(member.worries(), [""; 0], "{member:?}");
            assert_eq!(member.quota_bytes, Some(2 << 30), "etcd's default");
            assert!(member.resident_bytes.is_some(), "metrics were read");
        }
        let small = Cluster::start(version, 1, &["--quota-backend-bytes=8388608"]).await;
        let worries = examine(&small).await[0].worries();
        assert!(worries[0].contains("--quota-backend-bytes is 8388608"), "{worries:?}");
        let store = small.store("esker").await;
        let fill = |at: usize| {
            let then = vec![Op::put(format!("k{at}").into(), vec![b'x'; 1 << 20].into())];
            store.txn(Txn { then, ..Txn::default() })
        };
        let mut at = 0;
        while fill(at).await.is_ok() {
            at += 1;
            assert!(at < 100, "the quota is never reached");
        }
        let worries = examine(&small).await[0].worries();
        assert!(worries[0].contains("NOSPACE"), "{worries:?}");
    }
}

#[tokio::test]
async fn a_large_snapshot_count_shows_after_a_while() {
    let cluster = Cluster::start(Version::V3_4, 1, &[]).await;
    let store = Arc::new(cluster.store("esker").await);
    for _ in 0..250 {
        let writes = (0..100).map(|at: u32| {
            let store = Arc::clone(&store);
            let then = vec![Op::put(format!("k{at}").into(), "".into())];
            async move { store.txn(Txn { then, ..Txn::default() }).await }
        });
        // They need not all succeed on a busy machine.
        futures::future::join_all(writes).await;
    }
    let worries = examine(&cluster).await[0].worries();
    assert!(worries[0].contains("--snapshot-count"), "{worries:?}");
}
