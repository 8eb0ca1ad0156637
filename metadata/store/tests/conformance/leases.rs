//! Leases: liveness of whoever holds them.

use std::time::Duration;

use esker_metadata::store::{Lease, LeaseId, MetadataError, Op, Revision, Txn};

use crate::{PATIENCE, Subject, bytes, describe, put_leased};

async fn grant(subject: &Subject) -> Lease {
    let lease = subject.store.grant_lease(subject.ttl).await.unwrap();
    assert!(lease.ttl >= subject.ttl, "never less than was asked");
    lease
}

async fn put(subject: &Subject, key: &'static str, lease: LeaseId) -> Revision {
    subject
        .txn(vec![], vec![put_leased(key, "x", lease)], vec![])
        .await
        .revision
}

pub(crate) async fn keys_go_when_the_lease_runs_out(subject: Subject) {
    let lease = grant(&subject).await;
    put(&subject, "a", lease.id).await;
    assert_eq!(subject.get("a").await.unwrap().lease, lease.id);
    tokio::time::sleep(lease.ttl / 2).await;
    assert!(subject.get("a").await.is_some(), "not before its time");
    // Sooner or later.
    let gone = async {
        while subject.get("a").await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the lease runs out");
}

pub(crate) async fn all_keys_of_a_lease_go_at_one_revision(subject: Subject) {
    let lease = grant(&subject).await;
    put(&subject, "a", lease.id).await;
    let before = put(&subject, "b", lease.id).await;
    put(&subject, "other", LeaseId(0)).await;
    let mut watch = subject.store.watch(bytes(""), Revision(before.0 + 2)).await.unwrap();
    let events = tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("the lease runs out")
        .unwrap();
    assert_eq!(events.iter().map(describe).collect::<Vec<_>>(), ["-a", "-b"]);
    assert_eq!(events[0].revision(), events[1].revision());
    assert!(subject.get("other").await.is_some());
}

pub(crate) async fn keep_alive_puts_the_end_off(subject: Subject) {
    let lease = grant(&subject).await;
    put(&subject, "a", lease.id).await;
    for _ in 0..6 {
        tokio::time::sleep(lease.ttl / 2).await;
        assert_eq!(subject.store.keep_alive(lease.id).await.unwrap(), Some(lease.ttl));
    }
    assert!(subject.get("a").await.is_some());
}

pub(crate) async fn a_lease_that_ran_out_cannot_be_kept_alive(subject: Subject) {
    let lease = grant(&subject).await;
    tokio::time::sleep(lease.ttl * 2).await;
    assert_eq!(subject.store.keep_alive(lease.id).await.unwrap(), None);
    assert_eq!(
        subject.store.keep_alive(LeaseId(i64::MAX)).await.unwrap(),
        None,
        "one that never was"
    );
}

pub(crate) async fn a_revoked_lease_takes_its_keys_along(subject: Subject) {
    let lease = grant(&subject).await;
    put(&subject, "a", lease.id).await;
    subject.store.revoke_lease(lease.id).await.unwrap();
    assert_eq!(subject.get("a").await, None);
    assert_eq!(subject.store.keep_alive(lease.id).await.unwrap(), None);
}

pub(crate) async fn revoking_twice_is_fine(subject: Subject) {
    let lease = grant(&subject).await;
    subject.store.revoke_lease(lease.id).await.unwrap();
    subject.store.revoke_lease(lease.id).await.unwrap();
}

pub(crate) async fn a_lease_that_does_not_exist_refuses_the_transaction(subject: Subject) {
    let lease = grant(&subject).await;
    subject.store.revoke_lease(lease.id).await.unwrap();
    let then = vec![crate::put("free", "x"), put_leased("a", "x", lease.id)];
    let answer = subject.store.txn(Txn { then, ..Txn::default() }).await;
    assert!(matches!(answer, Err(MetadataError::Failed(_))), "{answer:?}");
    assert_eq!(subject.get("free").await, None, "as a whole");
}

pub(crate) async fn a_put_moves_a_key_to_another_lease(subject: Subject) {
    let (first, second) = (grant(&subject).await, grant(&subject).await);
    put(&subject, "moved", first.id).await;
    put(&subject, "moved", second.id).await;
    put(&subject, "freed", first.id).await;
    put(&subject, "freed", LeaseId(0)).await;
    subject.store.revoke_lease(first.id).await.unwrap();
    assert_eq!(subject.get("moved").await.unwrap().lease, second.id);
    assert_eq!(subject.get("freed").await.unwrap().lease, LeaseId(0));
    subject.store.revoke_lease(second.id).await.unwrap();
    assert_eq!(subject.get("moved").await, None);
    assert!(subject.get("freed").await.is_some());
}

pub(crate) async fn a_key_put_again_after_its_lease_is_a_new_key(subject: Subject) {
    let lease = grant(&subject).await;
    let first = put(&subject, "a", lease.id).await;
    subject.store.revoke_lease(lease.id).await.unwrap();
    let again = subject
        .txn(vec![], vec![Op::put(bytes("a"), bytes("x"))], vec![])
        .await
        .revision;
    let kv = subject.get("a").await.unwrap();
    assert_eq!((kv.create_revision, kv.version, kv.lease), (again, 1, LeaseId(0)));
    assert!(again > first);
}
