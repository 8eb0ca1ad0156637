//! A file that has grown is written anew, and neither a kill nor a full disk while that is done loses or fails anything
//! that was acknowledged or could be (LOG-3).

use bytes::Bytes;
use esker_metadata::embedded::EmbeddedStore;
use esker_metadata::keyspace::Limits;
use esker_metadata::store::{MetadataError, MetadataStore, Txn};

use crate::faulty::{Day, Machine};
use crate::{names, put, puts};

/// Changes that a small file holds before it is written anew.
const GROWN_BYTES: usize = 8 << 20;
const VALUE_BYTES: usize = 700_000;

async fn open(machine: &Machine) -> EmbeddedStore {
    EmbeddedStore::open_on(machine.medium(), Limits::default())
        .await
        .unwrap()
}

fn big(fill: u8) -> Txn {
    puts([("big".to_owned(), Bytes::from(vec![fill; VALUE_BYTES]))])
}

/// A store whose next transaction finds a file that has grown.
async fn grown(seed: u64) -> (Machine, EmbeddedStore) {
    let machine = Machine::new(seed);
    let store = open(&machine).await;
    store.txn(put("small", "x")).await.unwrap();
    let replaced = machine.replaced();
    for fill in 0..=GROWN_BYTES / VALUE_BYTES {
        store.txn(big(u8::try_from(fill).unwrap())).await.unwrap();
    }
    assert_eq!(machine.replaced(), replaced, "it is written anew by the next one");
    assert!(machine.file_bytes() > GROWN_BYTES);
    (machine, store)
}

#[tokio::test(start_paused = true)]
async fn a_grown_file_is_written_anew_by_the_next_transaction() {
    let (machine, store) = grown(1).await;
    let replaced = machine.replaced();
    store.txn(put("next", "x")).await.unwrap();
    assert_eq!(machine.replaced(), replaced + 1);
    assert!(machine.file_bytes() < 3 * VALUE_BYTES, "{}", machine.file_bytes());
    machine.lose_power();
    assert_eq!(names(&open(&machine).await).await, ["big", "next", "small"]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_call_of_the_rewrite_loses_nothing() {
    let mut stopped = true;
    let mut calls = 0;
    while stopped {
        let (machine, store) = grown(calls).await;
        machine.stop_after(calls);
        let told = store.txn(put("next", "x")).await;
        stopped = machine.has_stopped();
        machine.lose_power();
        let found = names(&open(&machine).await).await;
        let there = found.len() == 3;
        match told {
            Ok(_) => assert!(there, "{calls} calls: acknowledged and lost"),
            Err(MetadataError::Failed(_)) => assert!(!there, "{calls} calls: failed and is there"),
            Err(MetadataError::Unknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(
            found.contains(&"big".to_owned()) && found.contains(&"small".to_owned()),
            "{calls} calls: {found:?}"
        );
        calls += 1;
    }
    assert!(calls > 8, "a rewrite and an append are more than {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn transactions_go_on_while_no_new_file_can_be_written() {
    let (machine, store) = grown(3).await;
    machine.set_day(Day {
        fresh_fails: 1000,
        ..Day::default()
    });
    let (begun, replaced) = (machine.begun(), machine.replaced());
    for fill in 0..30 {
        store.txn(big(fill)).await.unwrap();
    }
    assert_eq!(machine.replaced(), replaced);
    let tried = machine.begun() - begun;
    assert!(
        (2..=8).contains(&tried),
        "it is tried now and then, not each time: {tried}"
    );
    machine.set_day(Day::default());
    for fill in 0..15 {
        store.txn(big(fill)).await.unwrap();
    }
    assert_eq!(machine.replaced(), replaced + 1);
    assert!(machine.file_bytes() < 2 * GROWN_BYTES);
    machine.lose_power();
    assert_eq!(names(&open(&machine).await).await, ["big", "small"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_while_a_grown_file_is_written_anew_fails_nothing() {
    let machine = Machine::new(4);
    let store = open(&machine).await;
    // All that was written is live: the new file is no shorter than the old one.
    for key in 0..12 {
        let value = Bytes::from(vec![key; VALUE_BYTES]);
        store.txn(puts([(format!("k{key}"), value)])).await.unwrap();
    }
    machine.set_day(Day {
        capacity: Some(u64::try_from(machine.file_bytes()).unwrap() - 1),
        ..Day::default()
    });
    let (begun, replaced) = (machine.begun(), machine.replaced());
    store.txn(put("fits", "x")).await.unwrap();
    assert!(
        machine.begun() > begun && machine.replaced() == replaced,
        "it was tried, and there was no room"
    );
    machine.lose_power();
    machine.set_day(Day::default());
    assert_eq!(names(&open(&machine).await).await.len(), 13);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_appended_while_it_is_not_known_which_file_is_in_place() {
    for seed in 0..6 {
        let (machine, store) = grown(seed).await;
        machine.set_day(Day {
            promote_fails: 1000,
            ..Day::default()
        });
        for _ in 0..2 {
            let told = store.txn(put("early", "x")).await;
            assert!(matches!(told, Err(MetadataError::Failed(_))), "seed {seed}: {told:?}");
        }
        machine.set_day(Day::default());
        store.txn(put("next", "x")).await.unwrap();
        machine.lose_power();
        assert_eq!(
            names(&open(&machine).await).await,
            ["big", "next", "small"],
            "seed {seed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn some_room_is_always_left_for_a_full_disk() {
    let machine = Machine::new(6);
    let store = open(&machine).await;
    let some = |key: &str| puts([(key.to_owned(), vec![7; 40_000].into())]);
    for round in 0..40 {
        store.txn(some("wide")).await.unwrap();
        machine.set_day(Day {
            capacity: Some(u64::try_from(machine.file_bytes()).unwrap()),
            ..Day::default()
        });
        for _ in 0..5 {
            store
                .txn(some("full"))
                .await
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        machine.set_day(Day::default());
    }
    machine.lose_power();
    assert_eq!(names(&open(&machine).await).await, ["full", "wide"]);
}
