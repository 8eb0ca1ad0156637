//! Bootstrap and sessions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::keys::session::{self, SessionInfo};
use esker_metadata::log::{Session, SessionError, bootstrap};
use esker_metadata::simulated::{Faults, SimulatedStore};
use esker_metadata::store::{KeyRange, MetadataStore};
use futures::future::join_all;

use crate::{TTL, World};

#[tokio::test(start_paused = true)]
async fn all_who_bootstrap_join_one_incarnation() {
    for seed in 0..20 {
        let store = SimulatedStore::new(seed, Faults::rough(10));
        let joined = join_all((0..8).map(|id| {
            let store: Arc<dyn MetadataStore> = Arc::new(store.clone());
            async move {
                loop {
                    if let Ok(cluster) = bootstrap(store.clone(), id).await {
                        return cluster.incarnation;
                    }
                }
            }
        }));
        let joined = joined.await;
        assert!(
            joined.iter().all(|incarnation| *incarnation == joined[0]),
            "seed {seed}: {joined:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn session_ids_are_never_given_out_twice() {
    for seed in 0..20 {
        let world = World::new(seed, Faults::rough(8)).await;
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let sessions = join_all((0..5).map(|_| world.session())).await;
            for session in &sessions {
                assert!(seen.insert(session.id()), "seed {seed}: {} twice", session.id());
            }
            // The others run out.
            sessions.into_iter().next().unwrap().close().await.ok();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_as_long_as_it_is_kept_alive() {
    let world = World::calm().await;
    let session = world.session().await;
    tokio::time::sleep(TTL * 20).await;
    assert!(!session.is_lost());
    let key = session::key(session.id());
    assert_eq!(world.store.peek(&[KeyRange::Key(key.clone())]).ranges[0].len(), 1);
    drop(session);
    tokio::time::sleep(TTL * 2).await;
    assert_eq!(world.store.peek(&[KeyRange::Key(key)]).ranges[0].len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_early_is_noticed() {
    let world = World::calm().await;
    let session = world.session().await;
    let lost = session.lost();
    world.store.end_all_leases();
    tokio::time::timeout(TTL, lost)
        .await
        .expect("noticed at the next keep-alive");
    assert!(session.is_lost());
    let refused = session.update(&SessionInfo::default()).await;
    assert_eq!(refused, Err(SessionError::Lost(session.id())));
    let next = world.session().await;
    assert!(next.id() > session.id());
}

#[tokio::test(start_paused = true)]
async fn a_store_out_of_reach_loses_the_session_within_the_ttl() {
    let world = World::calm().await;
    let session = world.session().await;
    tokio::time::sleep(TTL).await;
    world.store.set_available(false);
    let begun = tokio::time::Instant::now();
    session.lost().await;
    assert!(begun.elapsed() <= TTL, "{:?}", begun.elapsed());
    assert!(
        begun.elapsed() >= TTL / 2,
        "not at the first failure: {:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn failed_keep_alives_are_tried_again_in_time() {
    let world = World::new(
        3,
        Faults {
            fail_before: esker_metadata::simulated::Chance::PERCENT * 40,
            ..Faults::calm()
        },
    );
    let world = world.await;
    let session = world.session().await;
    tokio::time::sleep(TTL * 20).await;
    assert!(!session.is_lost());
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_the_session_s_identity() {
    let world = World::calm().await;
    let session = Session::open(&world.cluster, |id| info(i32::try_from(id.0).unwrap()), TTL)
        .await
        .unwrap();
    assert_eq!(session.ttl(), TTL);
    session.update(&info(77)).await.unwrap();
    let found = world
        .store
        .peek(&[KeyRange::Key(session::key(session.id()))])
        .ranges
        .remove(0)
        .remove(0);
    assert_eq!(SessionInfo::decode(&found.value), Ok(info(77)));
    assert_eq!((found.create_revision, found.version), (session.created(), 2));
    assert_eq!(found.lease, session.lease());
}

#[tokio::test(start_paused = true)]
async fn a_closed_session_is_gone_at_once() {
    let world = World::calm().await;
    let session = world.session().await;
    let key = session::key(session.id());
    session.close().await.unwrap();
    assert_eq!(world.store.peek(&[KeyRange::Key(key)]).ranges[0].len(), 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn info(node_id: i32) -> SessionInfo {
    SessionInfo {
        node_id,
        ..SessionInfo::default()
    }
}
