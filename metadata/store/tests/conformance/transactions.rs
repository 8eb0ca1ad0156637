//! Compares, operations, versions, revisions, limits, snapshots.

use bytes::Bytes;
use esker_metadata::store::{Compare, KeyRange, MetadataError, Op, OpResult, Revision, TXN_OPS_MAX, Txn};

use crate::{Subject, bytes, put};

pub(crate) async fn absent_holds_only_without_the_key(subject: Subject) {
    assert!(subject.holds(Compare::Absent(bytes("a"))).await);
    subject.put("a", "").await;
    assert!(!subject.holds(Compare::Absent(bytes("a"))).await);
    subject.delete("a").await;
    assert!(subject.holds(Compare::Absent(bytes("a"))).await);
}

pub(crate) async fn create_revision_holds_for_one_life_of_a_key(subject: Subject) {
    assert!(
        !subject.holds(Compare::CreateRevision(bytes("a"), Revision(0))).await,
        "an absent key has none"
    );
    let first = subject.put("a", "1").await;
    let second = subject.put("a", "2").await;
    assert!(subject.holds(Compare::CreateRevision(bytes("a"), first)).await);
    assert!(!subject.holds(Compare::CreateRevision(bytes("a"), second)).await);
    subject.delete("a").await;
    assert!(!subject.holds(Compare::CreateRevision(bytes("a"), first)).await);
    let again = subject.put("a", "3").await;
    assert!(!subject.holds(Compare::CreateRevision(bytes("a"), first)).await);
    assert!(subject.holds(Compare::CreateRevision(bytes("a"), again)).await);
}

pub(crate) async fn mod_revision_holds_until_the_next_put(subject: Subject) {
    assert!(
        !subject.holds(Compare::ModRevision(bytes("a"), Revision(0))).await,
        "an absent key has none"
    );
    let first = subject.put("a", "1").await;
    assert!(subject.holds(Compare::ModRevision(bytes("a"), first)).await);
    let second = subject.put("a", "1").await;
    assert!(!subject.holds(Compare::ModRevision(bytes("a"), first)).await);
    assert!(subject.holds(Compare::ModRevision(bytes("a"), second)).await);
}

pub(crate) async fn value_holds_only_for_that_value(subject: Subject) {
    assert!(
        !subject.holds(Compare::Value(bytes("a"), bytes(""))).await,
        "an absent key has no value"
    );
    subject.put("a", "1").await;
    assert!(subject.holds(Compare::Value(bytes("a"), bytes("1"))).await);
    assert!(!subject.holds(Compare::Value(bytes("a"), bytes("2"))).await);
    assert!(!subject.holds(Compare::Value(bytes("a"), bytes(""))).await);
}

pub(crate) async fn all_compares_must_hold(subject: Subject) {
    subject.put("a", "1").await;
    let compares = vec![
        Compare::Value(bytes("a"), bytes("1")),
        Compare::Value(bytes("b"), bytes("1")),
    ];
    let outcome = subject
        .txn(compares.clone(), vec![put("c", "then")], vec![put("c", "otherwise")])
        .await;
    assert!(!outcome.succeeded);
    assert_eq!(subject.get("c").await.unwrap().value, "otherwise");
    subject.put("b", "1").await;
    let outcome = subject
        .txn(compares, vec![put("c", "then")], vec![put("c", "otherwise")])
        .await;
    assert!(outcome.succeeded);
    assert_eq!(subject.get("c").await.unwrap().value, "then");
}

pub(crate) async fn a_put_answers_what_was_there(subject: Subject) {
    let first = subject.txn(vec![], vec![put("a", "1")], vec![]).await;
    assert_eq!(first.results, [OpResult::Put(None)]);
    let second = subject.txn(vec![], vec![put("a", "2")], vec![]).await;
    let [OpResult::Put(Some(was))] = &second.results[..] else {
        panic!("{second:?}")
    };
    assert_eq!(
        (&was.value[..], was.version, was.mod_revision),
        (&b"1"[..], 1, first.revision)
    );
    subject.delete("a").await;
    let third = subject.txn(vec![], vec![put("a", "3")], vec![]).await;
    assert_eq!(third.results, [OpResult::Put(None)]);
}

pub(crate) async fn versions_count_puts_and_begin_anew_after_a_delete(subject: Subject) {
    for version in 1..=3 {
        subject.put("a", "x").await;
        assert_eq!(subject.get("a").await.unwrap().version, version);
    }
    subject.delete("a").await;
    assert_eq!(subject.get("a").await, None);
    let revision = subject.put("a", "x").await;
    let kv = subject.get("a").await.unwrap();
    assert_eq!(
        (kv.version, kv.create_revision, kv.mod_revision),
        (1, revision, revision)
    );
}

pub(crate) async fn a_delete_answers_whether_there_was_a_key(subject: Subject) {
    subject.put("a", "x").await;
    let deletes = vec![Op::Delete(bytes("a")), Op::Delete(bytes("b"))];
    let outcome = subject.txn(vec![], deletes, vec![]).await;
    assert_eq!(outcome.results, [OpResult::Delete(true), OpResult::Delete(false)]);
}

pub(crate) async fn a_read_sees_what_stands_before_it(subject: Subject) {
    let get = || Op::Get(bytes("a"));
    let outcome = subject.txn(vec![], vec![get(), put("a", "1"), get()], vec![]).await;
    let [OpResult::Get(None), OpResult::Put(None), OpResult::Get(Some(seen))] = &outcome.results[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (&seen.value[..], seen.version, seen.mod_revision),
        (&b"1"[..], 1, outcome.revision)
    );
}

pub(crate) async fn revisions_rise_by_one_for_each_change(subject: Subject) {
    let first = subject.put("a", "1").await;
    let both = subject
        .txn(
            vec![],
            vec![put("a", "2"), put("b", "2"), Op::Delete(bytes("c"))],
            vec![],
        )
        .await;
    assert_eq!(both.revision.0, first.0 + 1);
    assert_eq!(subject.get("a").await.unwrap().mod_revision, both.revision);
    assert_eq!(subject.get("b").await.unwrap().mod_revision, both.revision);
    assert_eq!(subject.delete("a").await.0, first.0 + 2);
}

pub(crate) async fn what_changes_nothing_keeps_the_revision(subject: Subject) {
    let first = subject.put("a", "1").await;
    assert_eq!(subject.delete("nothing").await, first);
    assert_eq!(
        subject.txn(vec![], vec![Op::Get(bytes("a"))], vec![]).await.revision,
        first
    );
    assert_eq!(
        subject
            .txn(vec![Compare::Absent(bytes("a"))], vec![put("a", "2")], vec![])
            .await
            .revision,
        first
    );
    assert_eq!(subject.store.snapshot(vec![]).await.unwrap().revision, first);
}

pub(crate) async fn values_of_a_mebibyte_are_fine(subject: Subject) {
    let value = Bytes::from(
        (0..1 << 20)
            .map(|at: u32| at.to_le_bytes()[at as usize % 3])
            .collect::<Vec<u8>>(),
    );
    let txn = Txn {
        then: vec![Op::put(bytes("big"), value.clone())],
        ..Txn::default()
    };
    subject.store.txn(txn).await.unwrap();
    assert_eq!(subject.get("big").await.unwrap().value, value);
}

pub(crate) async fn too_many_bytes_are_refused(subject: Subject) {
    let value = Bytes::from(vec![0; 1 << 20]);
    let then = vec![Op::put(bytes("a"), value.clone()), Op::put(bytes("b"), value)];
    refused(&subject, Txn { then, ..Txn::default() }).await;
}

pub(crate) async fn a_list_has_at_most_128_operations(subject: Subject) {
    let puts = |count: usize| {
        (0..count)
            .map(|at| Op::put(format!("k{at:03}").into(), bytes("x")))
            .collect::<Vec<_>>()
    };
    refused(
        &subject,
        Txn {
            then: puts(TXN_OPS_MAX + 1),
            ..Txn::default()
        },
    )
    .await;
    refused(
        &subject,
        Txn {
            otherwise: puts(TXN_OPS_MAX + 1),
            ..Txn::default()
        },
    )
    .await;
    let txn = Txn {
        then: puts(TXN_OPS_MAX),
        otherwise: puts(TXN_OPS_MAX),
        ..Txn::default()
    };
    assert_eq!(subject.store.txn(txn).await.unwrap().results.len(), 128);
    let snapshot = subject
        .store
        .snapshot(vec![KeyRange::Prefix(bytes("k"))])
        .await
        .unwrap();
    assert_eq!(snapshot.ranges[0].len(), 128);
}

pub(crate) async fn one_key_is_not_changed_twice(subject: Subject) {
    refused(
        &subject,
        Txn {
            then: vec![put("a", "1"), put("a", "2")],
            ..Txn::default()
        },
    )
    .await;
    refused(
        &subject,
        Txn {
            then: vec![put("a", "1"), Op::Delete(bytes("a"))],
            ..Txn::default()
        },
    )
    .await;
}

pub(crate) async fn an_empty_key_is_refused(subject: Subject) {
    refused(
        &subject,
        Txn {
            then: vec![put("b", "1"), put("", "1")],
            ..Txn::default()
        },
    )
    .await;
}

pub(crate) async fn a_prefix_ends_where_it_ends(subject: Subject) {
    for key in ["a", "a/", "a/1", "a/2", "a0", "b"] {
        subject.put(key, "x").await;
    }
    let raw = Bytes::from_static(b"a/\xff\xff");
    subject
        .store
        .txn(Txn {
            then: vec![Op::put(raw, bytes("x"))],
            ..Txn::default()
        })
        .await
        .unwrap();
    let ranges = vec![
        KeyRange::Prefix(bytes("a/")),
        KeyRange::Key(bytes("a")),
        KeyRange::Prefix(bytes("")),
    ];
    let snapshot = subject.store.snapshot(ranges).await.unwrap();
    let keys: Vec<&[u8]> = snapshot.ranges[0].iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [&b"a/"[..], b"a/1", b"a/2", b"a/\xff\xff"]);
    assert_eq!(snapshot.ranges[1].len(), 1);
    assert_eq!(snapshot.ranges[2].len(), 7);
    assert!(snapshot.ranges[2].is_sorted_by(|a, b| a.key < b.key));
}

pub(crate) async fn a_snapshot_reads_all_ranges_at_one_revision(subject: Subject) {
    subject
        .txn(vec![], vec![put("x/1", "0"), put("y/1", "0")], vec![])
        .await;
    let store = subject.store.clone();
    let writer = tokio::spawn(async move {
        for round in 1..100 {
            let value = Bytes::from(round.to_string());
            let then = vec![Op::put(bytes("x/1"), value.clone()), Op::put(bytes("y/1"), value)];
            store.txn(Txn { then, ..Txn::default() }).await.unwrap();
        }
    });
    while !writer.is_finished() {
        let ranges = vec![KeyRange::Prefix(bytes("x/")), KeyRange::Key(bytes("y/1"))];
        let snapshot = subject.store.snapshot(ranges).await.unwrap();
        let (x, y) = (&snapshot.ranges[0][0], &snapshot.ranges[1][0]);
        assert_eq!(x.value, y.value);
        assert_eq!(x.mod_revision, y.mod_revision);
        assert!(x.mod_revision <= snapshot.revision);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

/// The transaction has no effect, certainly.
async fn refused(subject: &Subject, txn: Txn) {
    let before = subject.store.snapshot(vec![KeyRange::Prefix(bytes(""))]).await.unwrap();
    let answer = subject.store.txn(txn).await;
    assert!(matches!(answer, Err(MetadataError::Failed(_))), "{answer:?}");
    let after = subject.store.snapshot(vec![KeyRange::Prefix(bytes(""))]).await.unwrap();
    assert_eq!(before, after);
}
