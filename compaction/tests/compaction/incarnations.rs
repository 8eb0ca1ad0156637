//! Bucket and coordination store that do not belong together: nobody founds a cluster on either.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use esker_compaction::incarnation::{IncarnationError, claim, verify, verify_founding};
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::log::{Cluster, Session, bootstrap};
use esker_metadata::simulated::SimulatedStore;
use esker_segment::name::ClusterId;
use esker_storage::named::NamedObjects;
use esker_storage::random::Random as Dice;
use esker_storage::simulated::{Faults, SimulatedStore as Bucket};
use esker_storage::store::{ObjectKey, ObjectStore as _};
use tokio::time::Duration;

use crate::world::calm;

/// A coordination store and a bucket, and nothing in either.
fn nothing(seed: u64) -> (SimulatedStore, Bucket) {
    (
        SimulatedStore::new(seed, calm()),
        Bucket::new(Dice::new(seed), Faults::NONE),
    )
}

fn of(bucket: &Bucket, cluster: &str) -> NamedObjects {
    NamedObjects::new(Arc::new(bucket.clone()), cluster.parse().unwrap())
}

async fn founded(store: &SimulatedStore, bucket: &Bucket, cluster: &str) -> Cluster {
    verify_founding(bucket, store).await.unwrap();
    let joined = bootstrap(Arc::new(store.clone()), 7).await.unwrap();
    claim(&of(bucket, cluster), &joined).await.unwrap();
    joined
}

async fn work(cluster: &Cluster) {
    Session::open(cluster, |_| SessionInfo::default(), Duration::from_secs(5))
        .await
        .unwrap();
}

fn clusters(names: &[&str]) -> BTreeSet<ClusterId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_founded_where_nobody_was_and_joined_afterwards() {
    let (store, bucket) = nothing(1);
    let foreign = ObjectKey("backup/2026/11/dump".to_owned());
    bucket.create(&foreign, vec![Bytes::from_static(b"?")]).await.unwrap();
    let joined = founded(&store, &bucket, "a").await;
    work(&joined).await;
    let again = founded(&store, &bucket, "a").await;
    assert_eq!(again.incarnation, joined.incarnation);
}

#[tokio::test(start_paused = true)]
async fn nobody_founds_a_cluster_on_the_bucket_of_another() {
    let (store, bucket) = nothing(2);
    work(&founded(&store, &bucket, "a").await).await;
    let (empty, _) = nothing(3);
    let refused = verify_founding(&bucket, &empty).await.unwrap_err();
    assert_eq!(refused, IncarnationError::Lost { held: clusters(&["a"]) });
    assert!(refused.to_string().contains("cluster a") && !refused.passes());
    // Not even one that got as far as the coordination store.
    let joined = bootstrap(Arc::new(empty.clone()), 9).await.unwrap();
    let refused = claim(&of(&bucket, "b"), &joined).await.unwrap_err();
    let held = clusters(&["a"]);
    assert!(matches!(&refused, IncarnationError::Elsewhere { held: found, .. } if *found == held));
    assert_eq!(
        verify(&of(&bucket, "b"), &joined.incarnation).await,
        Err(IncarnationError::Unclaimed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_has_worked_claims_no_other_bucket() {
    let (store, bucket) = nothing(4);
    let joined = founded(&store, &bucket, "a").await;
    work(&joined).await;
    let (_, empty) = nothing(5);
    let refused = claim(&of(&empty, "a"), &joined).await.unwrap_err();
    let expected = IncarnationError::Elsewhere {
        cluster: "a".parse().unwrap(),
        number: joined.incarnation.number,
        held: BTreeSet::new(),
    };
    assert_eq!(refused, expected);
    assert_eq!(empty.list("", None, 10).await.unwrap(), [], "nothing was written there");
}

/// Killed between the two writes.
#[tokio::test(start_paused = true)]
async fn a_founding_that_was_cut_short_is_finished() {
    let (store, bucket) = nothing(6);
    bootstrap(Arc::new(store.clone()), 7).await.unwrap();
    founded(&store, &bucket, "a").await;
}
