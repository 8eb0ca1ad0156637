//! Everything at once, from many writers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use esker_proxy::faults::{Fault, Rule};
use esker_storage::hedged::{HedgeSettings, Hedger};
use esker_storage::store::{ObjectKey, StoreError};
use futures::future::join_all;

use super::{behind, direct, impatient, key, pattern};

const LANES: u64 = 8;
const UPLOADS: u64 = 40;

fn storm() -> Vec<Rule> {
    let often = |fault, verbs: &[&str]| Rule::of(fault, verbs).per_million(40_000);
    let tail = Fault::Delay {
        from_millis: 100,
        to_millis: 1_500,
    };
    vec![
        Rule::of(tail, &[]).per_million(50_000),
        often(Fault::ErrorBefore { status: 503 }, &[]),
        often(Fault::ErrorAfter { status: 500 }, &["PUT", "DELETE"]),
        often(Fault::LostAnswer, &["PUT"]),
        often(Fault::Late { millis: 300 }, &["PUT"]),
        often(Fault::Reset, &[]),
        often(Fault::Truncate, &["GET", "LIST"]),
    ]
}

/// Uploads under ever new keys until one is said to be stored. Returns that one, what it holds, and how many were not.
async fn upload(behind: &super::Behind, puts: &Hedger, lane: u64, nth: u64, tried: &mut u64) -> (ObjectKey, Bytes) {
    let bytes = pattern(lane * 1_000 + nth, 1_000 + usize::try_from(nth).unwrap() * 997);
    let mut attempt = 0;
    loop {
        let mut next = || {
            attempt += 1;
            let key = key(format!("{lane}/{nth}-{attempt}"));
            (key.clone(), key)
        };
        match puts
            .create(&*behind.stack, std::slice::from_ref(&bytes), &mut next)
            .await
        {
            Ok(stored) => return (stored, bytes),
            Err(StoreError::Failed { .. } | StoreError::Unknown { .. }) => *tried += 1,
            Err(other @ StoreError::NotFound(_)) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_said_to_be_stored_is_missing_or_different() {
    for seed in 1..4 {
        let behind = behind(seed, impatient()).await;
        let puts = Hedger::puts(HedgeSettings::default());
        behind.set(storm());
        let lanes = (0..LANES).map(|lane| {
            let (behind, puts) = (&behind, &puts);
            async move {
                let (mut stored, mut not) = (BTreeMap::new(), 0);
                for nth in 0..UPLOADS {
                    let (key, bytes) = upload(behind, puts, seed * 100 + lane, nth, &mut not).await;
                    // Reads in the storm are right or refused.
                    let length = u64::try_from(bytes.len()).unwrap();
                    if let Ok(read) = behind.stack.read(&key, 0..length).await {
                        assert_eq!(read, bytes, "{key}");
                    }
                    stored.insert(key, bytes);
                }
                (stored, not)
            }
        });
        let lanes = join_all(lanes).await;
        behind.heal();
        let truth = direct().await;
        let mut unknown = 0;
        for (stored, not) in lanes {
            unknown += not;
            assert_eq!(stored.len(), usize::try_from(UPLOADS).unwrap());
            for (key, bytes) in stored {
                let length = u64::try_from(bytes.len()).unwrap();
                assert_eq!(truth.read(&key, 0..length).await.unwrap(), bytes, "{key}");
            }
        }
        let counts = behind.counts();
        assert!(unknown > 10, "the storm was felt: {counts:?}");
        assert!(counts.faults.len() >= 6, "every fault happened: {counts:?}");
        println!(
            "seed {seed}: {} stored, {unknown} attempts not; {counts:?}",
            LANES * UPLOADS
        );
    }
}

#[tokio::test]
async fn slow_uploads_of_a_real_server_are_overtaken_by_their_second_request() {
    let behind = behind(7, impatient()).await;
    let puts = Hedger::puts(HedgeSettings::default());
    let put = async |nth: u64| {
        let mut attempt = 0;
        let next = || {
            attempt += 1;
            (attempt, key(format!("h/{nth}-{attempt}")))
        };
        puts.create(&*behind.bare, &[Bytes::from_static(b"abc")], next).await
    };
    for nth in 0..60 {
        put(nth).await.unwrap();
    }
    behind.set(vec![Rule::of(Fault::Hang, &["PUT"]).times(1)]);
    let winner = tokio::time::timeout(Duration::from_secs(2), put(60))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(winner, 2, "the second name holds the object");
    assert_eq!(direct().await.read(&key("h/60-2"), 0..3).await.unwrap(), "abc");
}
