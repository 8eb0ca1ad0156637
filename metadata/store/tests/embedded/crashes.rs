//! Whatever the disk does and whenever the power goes: what was acknowledged is there, what failed is not, nothing is
//! half there.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_metadata::embedded::EmbeddedStore;
use esker_metadata::keyspace::Limits;
use esker_metadata::store::{MetadataError, MetadataStore};
use futures::future::join_all;

use crate::faulty::{Day, Machine};
use crate::{all, puts};

const SEEDS: u64 = 60;
/// Seeds that once found something: a sync that failed while the file was being opened again.
const FOUND: [u64; 1] = [1559];
const BOOTS: u64 = 4;
const ROUNDS: u64 = 6;
/// Transactions at a time.
const WIDTH: u64 = 5;

/// What the writer was told of each transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Failed,
    Unknown,
}

#[derive(Default)]
struct Story {
    told: BTreeMap<u64, Told>,
    next: u64,
    failed: u64,
    unknown: u64,
}

#[tokio::test(start_paused = true)]
async fn no_crash_and_no_fault_breaks_a_promise() {
    let (mut failed, mut unknown, mut replaced) = (0, 0, 0);
    for seed in (0..SEEDS).chain(FOUND) {
        let machine = Machine::new(seed);
        let mut story = Story::default();
        for boot in 0..BOOTS {
            machine.set_day(Day::default());
            let store = EmbeddedStore::open_on(machine.medium(), Limits::default()).await;
            let store = store.unwrap_or_else(|error| panic!("seed {seed} boot {boot}: {error}"));
            check(&store, &mut story, &format!("seed {seed} boot {boot}")).await;
            machine.set_day(weather(seed));
            for round in 0..ROUNDS {
                write(&store, &mut story, round).await;
                check_live(&store, &story, seed).await;
            }
            machine.lose_power();
        }
        failed += story.failed;
        unknown += story.unknown;
        replaced += machine.replaced();
    }
    assert!(failed > 100, "faults were met: {failed}");
    assert!(unknown > 10, "unknown outcomes were met: {unknown}");
    assert!(replaced > SEEDS * 2, "files were rebuilt: {replaced}");
}

fn weather(seed: u64) -> Day {
    match seed % 4 {
        0 => Day::default(),
        1 => Day {
            write_fails: 15,
            ..Day::default()
        },
        2 => Day {
            sync_fails: 150,
            promote_fails: 100,
            ..Day::default()
        },
        _ => Day {
            write_fails: 20,
            sync_fails: 100,
            promote_fails: 200,
            capacity: Some(400_000),
            ..Day::default()
        },
    }
}

/// Several transactions at once, of two keys each, some large.
async fn write(store: &EmbeddedStore, story: &mut Story, round: u64) {
    let ids: Vec<u64> = (story.next..story.next + WIDTH).collect();
    story.next += WIDTH;
    let sent = ids.iter().map(|id| {
        let size = if id % 7 == 3 {
            30_000
        } else {
            50 + usize::try_from(id * 37 % 900).unwrap()
        };
        let value = Bytes::from(vec![
            u8::try_from(id % 251).unwrap();
            size + usize::try_from(round).unwrap()
        ]);
        store.txn(puts([
            (format!("t/{id:06}/a"), value.clone()),
            (format!("t/{id:06}/b"), value),
        ]))
    });
    for (id, answer) in ids.iter().zip(join_all(sent).await) {
        let told = match answer {
            Ok(outcome) => {
                assert!(outcome.succeeded);
                Told::Done
            }
            Err(MetadataError::Failed(_)) => Told::Failed,
            Err(MetadataError::Unknown(_)) => Told::Unknown,
            Err(error) => panic!("{error}"),
        };
        story.failed += u64::from(told == Told::Failed);
        story.unknown += u64::from(told == Told::Unknown);
        story.told.insert(*id, told);
    }
}

/// A running store shows exactly what it acknowledged.
async fn check_live(store: &EmbeddedStore, story: &Story, seed: u64) {
    let present = present(store, &format!("seed {seed}")).await;
    for (id, told) in &story.told {
        let there = present.contains_key(id);
        assert!(
            there == (*told == Told::Done),
            "seed {seed}: transaction {id} is {told:?} and present: {there}"
        );
    }
}

/// After a crash. What was unknown is known from now on.
async fn check(store: &EmbeddedStore, story: &mut Story, when: &str) {
    let present = present(store, when).await;
    for (id, told) in &mut story.told {
        let there = present.contains_key(id);
        match told {
            Told::Done => assert!(there, "{when}: transaction {id} was acknowledged and is lost"),
            Told::Failed => assert!(!there, "{when}: transaction {id} failed and is there"),
            Told::Unknown => *told = if there { Told::Done } else { Told::Failed },
        }
    }
}

/// The transactions that are in the store; each must be whole.
async fn present(store: &EmbeddedStore, when: &str) -> BTreeMap<u64, Bytes> {
    let mut found: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
    for kv in all(store).await {
        let id = std::str::from_utf8(&kv.key[2..8]).unwrap().parse().unwrap();
        found.entry(id).or_default().push(kv.value);
    }
    let whole = found.into_iter().map(|(id, mut values)| {
        assert_eq!(values.len(), 2, "{when}: transaction {id} is half there");
        assert_eq!(values[0], values[1], "{when}: transaction {id}");
        (id, values.remove(0))
    });
    whole.collect()
}
