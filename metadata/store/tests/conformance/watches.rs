//! Watches and compaction.

use std::time::Duration;

use esker_metadata::store::{KeyRange, MetadataError, Op, Revision, WatchEvent};

use crate::{PATIENCE, Subject, bytes, describe, put};

pub(crate) async fn an_old_revision_gives_everything_in_order(subject: Subject) {
    let first = subject.put("a", "1").await;
    subject.put("a", "2").await;
    subject.delete("a").await;
    subject.txn(vec![], vec![put("c", "3"), put("b", "3")], vec![]).await;
    let mut watch = subject.store.watch(bytes(""), first).await.unwrap();
    let events = subject.events(&mut watch, 5).await;
    let text: Vec<String> = events.iter().map(describe).collect();
    assert_eq!(text, ["a=1", "a=2", "-a", "c=3", "b=3"]);
    let revisions: Vec<u64> = events.iter().map(|event| event.revision().0 - first.0).collect();
    assert_eq!(revisions, [0, 1, 2, 3, 3]);
    let WatchEvent::Put(second) = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!((second.version, second.create_revision), (2, first));
    subject.put("d", "4").await;
    assert_eq!(
        subject
            .events(&mut watch, 1)
            .await
            .iter()
            .map(describe)
            .collect::<Vec<_>>(),
        ["d=4"]
    );
}

pub(crate) async fn a_revision_is_never_split(subject: Subject) {
    let from = subject.put("first", "").await;
    for round in 0..40 {
        let then = (0..100)
            .map(|at| Op::put(format!("k/{at}").into(), format!("{round}").into()))
            .collect();
        subject.txn(vec![], then, vec![]).await;
    }
    let mut watch = subject.store.watch(bytes("k/"), from).await.unwrap();
    let mut seen = 0;
    let mut last = Revision(0);
    while seen < 4_000 {
        let events = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("events come")
            .unwrap();
        for group in events.chunk_by(|a, b| a.revision() == b.revision()) {
            assert_eq!(group.len(), 100);
            assert!(group[0].revision() > last);
            last = group[0].revision();
        }
        seen += events.len();
    }
}

pub(crate) async fn only_the_prefix_is_watched(subject: Subject) {
    let from = subject.put("z", "").await;
    let mut watch = subject.store.watch(bytes("a/"), from).await.unwrap();
    subject
        .txn(vec![], vec![put("a", "1"), put("a/1", "2"), put("a0", "3")], vec![])
        .await;
    subject.put("b", "4").await;
    subject.put("a/2", "5").await;
    let events = subject.events(&mut watch, 2).await;
    assert_eq!(events.iter().map(describe).collect::<Vec<_>>(), ["a/1=2", "a/2=5"]);
}

pub(crate) async fn a_watch_waits_for_the_future(subject: Subject) {
    let now = subject.put("a", "1").await;
    let mut watch = subject.store.watch(bytes(""), Revision(now.0 + 2)).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_secs(1), watch.next())
            .await
            .is_err()
    );
    subject.put("a", "2").await;
    subject.put("a", "3").await;
    assert_eq!(
        subject
            .events(&mut watch, 1)
            .await
            .iter()
            .map(describe)
            .collect::<Vec<_>>(),
        ["a=3"]
    );
}

pub(crate) async fn a_cancelled_wait_loses_nothing(subject: Subject) {
    let from = subject.put("first", "").await;
    let mut watch = subject.store.watch(bytes("k"), from).await.unwrap();
    let store = subject.store.clone();
    let writer = tokio::spawn(async move {
        for at in 0..50 {
            let then = vec![Op::put(format!("k{at:02}").into(), bytes("x"))];
            store
                .txn(esker_metadata::store::Txn {
                    then,
                    ..Default::default()
                })
                .await
                .unwrap();
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 50 {
        // Cancelled over and over, at whatever point it has got to.
        if let Ok(events) = tokio::time::timeout(Duration::from_micros(700), watch.next()).await {
            seen.extend(events.unwrap().iter().map(describe));
        }
    }
    assert_eq!(seen, (0..50).map(|at| format!("k{at:02}=x")).collect::<Vec<_>>());
    writer.await.unwrap();
}

pub(crate) async fn no_gap_between_a_snapshot_and_a_watch(subject: Subject) {
    let store = subject.store.clone();
    let writer = tokio::spawn(async move {
        for at in 0..60 {
            let then = vec![Op::put(format!("k{at:02}").into(), bytes("x"))];
            store
                .txn(esker_metadata::store::Txn {
                    then,
                    ..Default::default()
                })
                .await
                .unwrap();
        }
    });
    for _ in 0..20 {
        let snapshot = subject
            .store
            .snapshot(vec![KeyRange::Prefix(bytes("k"))])
            .await
            .unwrap();
        let mut keys: Vec<_> = snapshot.ranges[0].iter().map(|kv| kv.key.clone()).collect();
        let from = Revision(snapshot.revision.0 + 1);
        let mut watch = subject.store.watch(bytes("k"), from).await.unwrap();
        let missing = (60 - keys.len()).min(5);
        keys.extend(
            subject
                .events(&mut watch, missing)
                .await
                .iter()
                .map(|event| event.key().clone()),
        );
        let expected: Vec<String> = (0..keys.len()).map(|at| format!("k{at:02}")).collect();
        assert_eq!(keys, expected);
    }
    writer.await.unwrap();
}

pub(crate) async fn compacted_history_cannot_be_watched(subject: Subject) {
    let first = subject.put("a", "1").await;
    let mut early = subject.store.watch(bytes(""), first).await.unwrap();
    subject.put("a", "2").await;
    let third = subject.put("a", "3").await;
    subject.store.compact(third).await.unwrap();
    let refused = subject.store.watch(bytes(""), first).await.err();
    assert_eq!(refused, Some(MetadataError::Compacted { oldest: third }));
    // One that lags is told so, or has been sent everything already; it never skips.
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match early.next().await {
            Ok(events) => seen.extend(events.iter().map(describe)),
            Err(error) => {
                assert_eq!(error, MetadataError::Compacted { oldest: third });
                break;
            }
        }
    }
    assert!(
        ["a=1", "a=2", "a=3"]
            .iter()
            .zip(&seen)
            .all(|(expected, seen)| expected == seen),
        "{seen:?}"
    );
    let mut watch = subject.store.watch(bytes(""), third).await.unwrap();
    assert_eq!(
        subject
            .events(&mut watch, 1)
            .await
            .iter()
            .map(describe)
            .collect::<Vec<_>>(),
        ["a=3"]
    );
    subject.store.compact(first).await.unwrap();
    assert!(
        subject.store.watch(bytes(""), first).await.is_err(),
        "an older compaction brings nothing back"
    );
}

pub(crate) async fn compaction_keeps_live_keys(subject: Subject) {
    let first = subject.put("a", "1").await;
    let second = subject.put("b", "2").await;
    subject.store.compact(second).await.unwrap();
    let kv = subject.get("a").await.unwrap();
    assert_eq!((kv.create_revision, kv.version), (first, 1));
    assert_eq!(subject.store.snapshot(vec![]).await.unwrap().revision, second);
}
