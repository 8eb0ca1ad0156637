//! Servers that die, stop, lose their leader or their space, and large answers: what the wrapper makes of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::etcd::{EtcdSettings, EtcdStore};
use esker_metadata::store::{Compare, KeyRange, LeaseId, MetadataError, MetadataStore, Op, Revision, Txn};
use tokio::time::{Instant, timeout};

use crate::PATIENCE;
use crate::servers::{Cluster, Version, free_port};

const PREFIX: &str = "/esker/test";

fn put(key: &str, value: &str) -> Txn {
    Txn {
        then: vec![Op::put(key.to_owned().into(), value.to_owned().into())],
        ..Txn::default()
    }
}

/// Asks until there is an answer.
async fn until_ok<T, F: Future<Output = Result<T, MetadataError>>>(ask: impl Fn() -> F) -> T {
    let asked = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, asked).await.expect("an answer in the end")
}

async fn value(store: &EtcdStore, key: &'static str) -> Option<Bytes> {
    let snapshot = store.snapshot(vec![KeyRange::Key(key.into())]).await.unwrap();
    snapshot.ranges.into_iter().next().unwrap().pop().map(|kv| kv.value)
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_error() {
    let cluster = Cluster::start(Version::V3_4, 1, &[]).await;
    for seed in 0..8 {
        let mut settings = cluster.settings(PREFIX);
        settings.endpoints.push(format!("127.0.0.1:{}", free_port()));
        settings.seed = seed;
        let store = EtcdStore::lazy(settings).unwrap();
        store.txn(put("a", "1")).await.unwrap();
        let lease = store.grant_lease(Duration::from_secs(2)).await.unwrap();
        assert_eq!(store.keep_alive(lease.id).await.unwrap(), Some(lease.ttl));
        store.watch(Bytes::new(), Revision(1)).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_there_is_a_certain_failure() {
    let settings = EtcdSettings::new(vec![format!("127.0.0.1:{}", free_port())], PREFIX);
    let store = EtcdStore::lazy(settings.clone()).unwrap();
    let refused = store.txn(put("a", "1")).await;
    assert!(matches!(refused, Err(MetadataError::Failed(_))), "{refused:?}");
    assert!(EtcdStore::connect(settings).await.is_err());
}

#[tokio::test]
async fn no_answer_is_an_unknown_outcome_and_the_identical_transaction_settles_it() {
    let cluster = Cluster::start(Version::V3_6, 1, &[]).await;
    let store = cluster.store(PREFIX).await;
    store.txn(put("counter", "0")).await.unwrap();
    let txn = Txn {
        compares: vec![Compare::Value("counter".into(), "0".into())],
        then: vec![
            Op::put("counter".into(), "1".into()),
            Op::put("record".into(), "x".into()),
        ],
        otherwise: vec![Op::Get("counter".into())],
    };
    cluster.signal(0, "STOP");
    let begun = Instant::now();
    let answer = store.txn(txn.clone()).await;
    let elapsed = begun.elapsed();
    assert!(matches!(answer, Err(MetadataError::Unknown(_))), "{answer:?}");
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    let read = store.snapshot(vec![]).await;
    assert!(matches!(read, Err(MetadataError::Failed(_))), "{read:?}");
    cluster.signal(0, "CONT");
    let settled = until_ok(|| store.txn(txn.clone())).await;
    let record = store.snapshot(vec![KeyRange::Key("record".into())]).await.unwrap();
    assert_eq!(record.ranges[0][0].version, 1, "{settled:?}");
    assert_eq!(value(&store, "counter").await, Some("1".into()));
}

#[tokio::test]
async fn a_member_that_comes_back_is_used_again() {
    let mut cluster = Cluster::start(Version::V3_4, 1, &[]).await;
    let store = cluster.store(PREFIX).await;
    let lease = store.grant_lease(Duration::from_secs(60)).await.unwrap();
    store.keep_alive(lease.id).await.unwrap();
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    store.txn(put("a", "1")).await.unwrap();
    watch.next().await.unwrap();
    cluster.kill(0);
    assert!(store.txn(put("a", "2")).await.is_err());
    let over = timeout(PATIENCE, watch.next()).await.expect("the watch ends");
    assert!(matches!(over, Err(MetadataError::Failed(_))), "{over:?}");
    cluster.run(0);
    until_ok(|| store.txn(put("a", "3"))).await;
    until_ok(|| store.keep_alive(lease.id))
        .await
        .expect("the lease is there");
    until_ok(|| store.watch(Bytes::new(), Revision(1))).await;
}

/// No answers and no end of the connection, as when a cable is cut.
#[tokio::test]
async fn a_silent_member_is_left_for_another() {
    let cluster = Cluster::start(Version::V3_6, 3, &[]).await;
    for seed in 0..2 {
        let settings = EtcdSettings {
            seed,
            ..cluster.settings(PREFIX)
        };
        let store = Arc::new(EtcdStore::connect(settings).await.unwrap());
        let mut lease = store.grant_lease(Duration::from_secs(5)).await.unwrap();
        lease.ttl = store.keep_alive(lease.id).await.unwrap().unwrap();
        let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
        let leader = cluster.leader();
        for member in (0..3).filter(|member| *member != leader) {
            cluster.signal(member, "STOP");
            // Leases are kept alive in time although their connection may be the silent one.
            let begun = Instant::now();
            let kept = store.keep_alive(lease.id).await.unwrap();
            assert_eq!(kept, Some(lease.ttl));
            assert!(begun.elapsed() < lease.ttl / 2, "{:?}", begun.elapsed());
            let begun = Instant::now();
            until_ok(|| store.txn(put("a", "1"))).await;
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            // The watch goes on, or says that it does not.
            let next = timeout(Duration::from_secs(9), watch.next()).await.expect("no silence");
            if next.is_err() {
                watch = until_ok(|| store.watch(Bytes::new(), Revision(1))).await;
            }
            cluster.signal(member, "CONT");
            cluster.wait_for(member).await;
        }
        store.revoke_lease(lease.id).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_answered_and_nothing_hangs() {
    let mut cluster = Cluster::start(Version::V3_4, 3, &[]).await;
    let store = cluster.store(PREFIX).await;
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    cluster.kill(0);
    cluster.kill(1);
    let begun = Instant::now();
    let refused = store.txn(put("a", "1")).await;
    assert!(refused.is_err());
    assert!(
        store.snapshot(vec![]).await.is_err(),
        "a member of a minority does not answer reads"
    );
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    // The member itself says that it has no leader.
    let ended = async { while watch.next().await.is_ok() {} };
    timeout(Duration::from_secs(20), ended).await.expect("the watch ends");
    cluster.run(0);
    until_ok(|| store.txn(put("a", "2"))).await;
}

/// etcd may apply a transaction and answer nevertheless that there is no space (seen in five of six runs of this, on both
/// versions), so that is not certain. LOG-4.
#[tokio::test]
async fn no_space_is_not_a_certain_failure() {
    for version in [Version::V3_4, Version::V3_6] {
        let cluster = Cluster::start(version, 1, &["--quota-backend-bytes=4194304"]).await;
        let store = cluster.store(PREFIX).await;
        let write = |key: usize| {
            let then = vec![Op::put(format!("k{key:02}").into(), vec![b'x'; 512 << 10].into())];
            store.txn(Txn { then, ..Txn::default() })
        };
        // Some at a time: etcd looks at its size twice, before it proposes and when it applies.
        let mut answers = Vec::new();
        while answers.len() < 60 {
            let next = answers.len();
            answers.extend(futures::future::join_all((next..next + 4).map(write)).await);
        }
        let snapshot = store.snapshot(vec![KeyRange::Prefix("k".into())]).await.unwrap();
        let mut there_although_refused = 0;
        for (key, answer) in answers.into_iter().enumerate() {
            let is_there = snapshot.ranges[0].iter().any(|kv| kv.key == format!("k{key:02}"));
            match answer {
                Ok(_) => assert!(is_there),
                Err(MetadataError::Unknown(why)) if why.contains("space") => {
                    there_although_refused += usize::from(is_there);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        println!("{version:?}: {there_although_refused} are there although they were refused");
        // Deleting goes on working; compacting and defragmenting make room, and the alarm is disarmed.
        let deletes = snapshot.ranges[0].iter().map(|kv| Op::Delete(kv.key.clone())).collect();
        let deleted = Txn {
            then: deletes,
            ..Txn::default()
        };
        let revision = store.txn(deleted).await.unwrap().revision;
        store.compact(revision).await.unwrap();
        cluster.ctl(&[0], &["defrag"]);
        cluster.ctl(&[0], &["alarm", "disarm"]);
        until_ok(|| store.txn(put("a", "1"))).await;
    }
}

#[tokio::test]
async fn a_watch_catches_up_on_much_history_in_fragments() {
    for version in [Version::V3_4, Version::V3_6] {
        let cluster = Cluster::start(version, 1, &[]).await;
        let store = cluster.store(PREFIX).await;
        let mut first = None;
        for round in 0..40 {
            // 1 MiB a revision: etcd breaks answers in the middle of one.
            let then = (0..64).map(|at| Op::put(format!("k/{at}").into(), vec![round; 16 << 10].into()));
            let done = store
                .txn(Txn {
                    then: then.collect(),
                    ..Txn::default()
                })
                .await
                .unwrap();
            first.get_or_insert(done.revision);
        }
        let mut watch = store.watch("k/".into(), first.unwrap()).await.unwrap();
        let (mut seen, mut last) = (0, Revision(0));
        while seen < 40 * 64 {
            let events = timeout(PATIENCE, watch.next()).await.expect("events come").unwrap();
            for group in events.chunk_by(|a, b| a.revision() == b.revision()) {
                assert_eq!(group.len(), 64, "a revision is never split");
                assert!(group[0].revision() > last);
                last = group[0].revision();
            }
            seen += events.len();
        }
    }
}

#[tokio::test]
async fn a_snapshot_of_many_pages_is_of_one_revision() {
    let cluster = Cluster::start(Version::V3_6, 1, &[]).await;
    let store = cluster.store(PREFIX).await;
    let value = |round: u32| Bytes::from(round.to_string().repeat(2048));
    let write = |round: u32, keys: std::ops::Range<u32>| {
        let then = keys
            .map(|key| Op::put(format!("k/{key:05}").into(), value(round)))
            .collect();
        store.txn(Txn { then, ..Txn::default() })
    };
    for batch in 0..30 {
        write(0, batch * 100..(batch + 1) * 100).await.unwrap();
    }
    let writer = async {
        for round in 1.. {
            // The first key and the last, in one transaction.
            let then = ["k/00000", "k/02999"].map(|key| Op::put(key.into(), value(round)));
            store
                .txn(Txn {
                    then: then.to_vec(),
                    ..Txn::default()
                })
                .await
                .unwrap();
        }
    };
    let reader = async {
        let mut different = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let snapshot = store.snapshot(vec![KeyRange::Prefix("k/".into())]).await.unwrap();
            let keys = &snapshot.ranges[0];
            assert_eq!(keys.len(), 3000);
            assert!(keys.is_sorted_by(|a, b| a.key < b.key), "each once, in order");
            assert_eq!(keys[0].value, keys[2999].value, "all pages are of one revision");
            assert!(keys[0].mod_revision <= snapshot.revision);
            different.insert(snapshot.revision);
        }
        assert!(different.len() > 5, "there was writing meanwhile");
    };
    tokio::select! {
        biased;
        () = reader => {}
        () = writer => {}
    }
}

#[tokio::test]
async fn a_lease_is_kept_alive_while_much_data_moves() {
    let cluster = Cluster::start(Version::V3_4, 1, &[]).await;
    let store = cluster.store(PREFIX).await;
    let lease = store.grant_lease(Duration::from_secs(2)).await.unwrap();
    let noise = async {
        loop {
            let writes = (0..16).map(|at| store.txn(put(&format!("k{at}"), &"x".repeat(1 << 20))));
            futures::future::join_all(writes).await;
            store.snapshot(vec![KeyRange::Prefix("k".into())]).await.unwrap();
        }
    };
    let keeping = async {
        for _ in 0..8 {
            tokio::time::sleep(lease.ttl / 3).await;
            assert_eq!(store.keep_alive(lease.id).await.unwrap(), Some(lease.ttl));
        }
    };
    tokio::select! {
        biased;
        () = keeping => {}
        () = noise => {}
    }
    assert_eq!(store.keep_alive(LeaseId(7)).await.unwrap(), None, "one that never was");
}

#[tokio::test]
async fn clusters_with_different_prefixes_do_not_see_each_other() {
    let cluster = Cluster::start(Version::V3_4, 1, &[]).await;
    let (one, other) = (cluster.store("a").await, cluster.store("ab").await);
    let from = one.txn(put("k", "one")).await.unwrap().revision;
    let mut watch = one.watch(Bytes::new(), from).await.unwrap();
    other.txn(put("k", "other")).await.unwrap();
    one.txn(put("end", "")).await.unwrap();
    assert_eq!(value(&one, "k").await, Some("one".into()));
    assert_eq!(value(&other, "k").await, Some("other".into()));
    let everything = other.snapshot(vec![KeyRange::Prefix(Bytes::new())]).await.unwrap();
    assert_eq!(everything.ranges[0].len(), 1);
    let mut keys = Vec::new();
    while keys.last().is_none_or(|key| key != "end") {
        keys.extend(watch.next().await.unwrap().iter().map(|event| event.key().clone()));
    }
    assert_eq!(keys, ["k", "end"]);
}
