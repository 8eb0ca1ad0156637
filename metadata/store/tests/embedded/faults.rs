//! What callers are told when the disk fails, and that the store comes back by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_metadata::embedded::EmbeddedStore;
use esker_metadata::keyspace::Limits;
use esker_metadata::store::{KeyRange, MetadataError, MetadataStore, Op, Revision, Txn};
use futures::future::join_all;

use crate::faulty::{Day, Machine};
use crate::{names, put, puts};

async fn open(machine: &Machine) -> EmbeddedStore {
    EmbeddedStore::open_on(machine.medium(), Limits::default())
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_fails_and_then_serves_again() {
    let machine = Machine::new(1);
    let store = open(&machine).await;
    store.txn(put("before", "x")).await.unwrap();
    let full = u64::try_from(machine.file_bytes()).unwrap();
    machine.set_day(Day {
        capacity: Some(full),
        ..Day::default()
    });
    let big = || puts([("big".to_owned(), vec![7; 1_200_000].into())]);
    for _ in 0..3 {
        let answer = store.txn(big()).await;
        assert!(
            matches!(answer, Err(MetadataError::Failed(_))),
            "certainly without effect: {answer:?}"
        );
        assert_eq!(names(&store).await, ["before"], "reading goes on");
    }
    machine.set_day(Day::default());
    store.txn(big()).await.unwrap();
    machine.lose_power();
    assert_eq!(names(&open(&machine).await).await, ["before", "big"]);
}

#[tokio::test(start_paused = true)]
async fn space_can_be_made_on_a_full_disk() {
    let machine = Machine::new(1);
    let store = open(&machine).await;
    store
        .txn(puts([("big".to_owned(), vec![7; 900_000].into())]))
        .await
        .unwrap();
    store.txn(put("small", "x")).await.unwrap();
    let full = u64::try_from(machine.file_bytes()).unwrap();
    machine.set_day(Day {
        capacity: Some(full),
        ..Day::default()
    });
    let more = || {
        puts([
            ("more".to_owned(), vec![7; 1_000_000].into()),
            ("yet".to_owned(), vec![7; 400_000].into()),
        ])
    };
    assert!(matches!(store.txn(more()).await, Err(MetadataError::Failed(_))));
    let delete = Txn {
        then: vec![Op::Delete("big".into())],
        ..Txn::default()
    };
    store.txn(delete).await.expect("a file has room for it");
    store.txn(put("again", "x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_sync_the_file_is_written_anew() {
    let machine = Machine::new(3);
    let store = open(&machine).await;
    store.txn(put("before", "x")).await.unwrap();
    let replaced = machine.replaced();
    machine.set_day(Day {
        sync_fails: 1000,
        ..Day::default()
    });
    let answer = store.txn(put("lost", "x")).await;
    assert!(matches!(answer, Err(MetadataError::Unknown(_))), "{answer:?}");
    let answer = store.txn(put("refused", "x")).await;
    assert!(
        matches!(answer, Err(MetadataError::Failed(_))),
        "nothing was tried: {answer:?}"
    );
    assert_eq!(names(&store).await, ["before"]);
    machine.set_day(Day::default());
    store.txn(put("after", "x")).await.unwrap();
    assert!(
        machine.replaced() > replaced,
        "pages of a failed sync are never trusted"
    );
    machine.lose_power();
    assert_eq!(names(&open(&machine).await).await, ["after", "before"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_transaction_can_be_sent_again() {
    let machine = Machine::new(4);
    let store = open(&machine).await;
    machine.set_day(Day {
        sync_fails: 1000,
        ..Day::default()
    });
    let txn = Txn {
        compares: vec![esker_metadata::store::Compare::Absent("k".into())],
        then: vec![Op::put("k".into(), "x".into())],
        otherwise: vec![Op::Get("k".into())],
    };
    assert!(matches!(store.txn(txn.clone()).await, Err(MetadataError::Unknown(_))));
    machine.set_day(Day::default());
    assert!(store.txn(txn.clone()).await.unwrap().succeeded);
    assert!(!store.txn(txn).await.unwrap().succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_failed_group_leaves_no_trace_in_a_watch() {
    let machine = Machine::new(5);
    let store = open(&machine).await;
    let first = store.txn(put("a", "1")).await.unwrap().revision;
    let mut watch = store.watch("".into(), first).await.unwrap();
    machine.set_day(Day {
        write_fails: 1000,
        ..Day::default()
    });
    assert!(store.txn(put("a", "2")).await.is_err());
    machine.set_day(Day::default());
    let third = store.txn(put("a", "3")).await.unwrap().revision;
    assert_eq!(third, Revision(first.0 + 1), "revisions stay dense");
    let mut seen = watch.next().await.unwrap();
    if seen.len() < 2 {
        seen.extend(watch.next().await.unwrap());
    }
    assert_eq!(
        seen.iter()
            .map(|event| event.revision().0 - first.0)
            .collect::<Vec<_>>(),
        [0, 1]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_end_cannot_be_written_ends_later() {
    let machine = Machine::new(6);
    let store = open(&machine).await;
    let lease = store.grant_lease(Duration::from_secs(1)).await.unwrap();
    let then = vec![Op::Put {
        key: "leased".into(),
        value: "x".into(),
        lease: lease.id,
    }];
    store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    machine.set_day(Day {
        write_fails: 1000,
        ..Day::default()
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(names(&store).await, ["leased"]);
    machine.set_day(Day::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&store).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_group_costs_one_sync() {
    let machine = Machine::new(7);
    let store = open(&machine).await;
    let before = machine.syncs.load(Ordering::Relaxed);
    store.txn(put("alone", "x")).await.unwrap();
    let alone = machine.syncs.load(Ordering::Relaxed) - before;
    assert_eq!(alone, 1, "one sync for one transaction");
    let before = machine.syncs.load(Ordering::Relaxed);
    let many: Vec<_> = (0..64).map(|at| put(&format!("k{at}"), "x")).collect();
    for answer in join_all(many.into_iter().map(|txn| store.txn(txn))).await {
        answer.unwrap();
    }
    let together = machine.syncs.load(Ordering::Relaxed) - before;
    assert!(together <= 2, "{together} syncs for 64 transactions that wait together");
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_costs_no_sync() {
    let machine = Machine::new(8);
    let store = open(&machine).await;
    store.txn(put("a", "x")).await.unwrap();
    let before = machine.syncs.load(Ordering::Relaxed);
    let lease = store.grant_lease(Duration::from_secs(5)).await.unwrap();
    store.keep_alive(lease.id).await.unwrap();
    store.revoke_lease(lease.id).await.unwrap();
    store.snapshot(vec![KeyRange::Prefix("".into())]).await.unwrap();
    store
        .txn(Txn {
            then: vec![Op::Get("a".into()), Op::Delete("b".into())],
            ..Txn::default()
        })
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        machine.syncs.load(Ordering::Relaxed),
        before,
        "an idle store writes nothing"
    );
}
