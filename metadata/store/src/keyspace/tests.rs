//! Bounds of a key space, and that judging changes nothing. What transactions do is in the conformance suite.

use super::*;
use crate::store::{Op, Txn};

fn put(key: &str, bytes: usize) -> Txn {
    Txn {
        then: vec![Op::put(Bytes::copy_from_slice(key.as_bytes()), vec![1; bytes].into())],
        ..Txn::default()
    }
}

fn run(keyspace: &mut Keyspace, txn: &Txn) -> Result<(), Refusal> {
    let mut group = keyspace.group();
    let outcome = group.txn(txn).map(drop);
    let changes = group.finish();
    keyspace.apply(changes);
    outcome
}

#[test]
fn judging_changes_nothing_until_it_is_applied() {
    let mut keyspace = Keyspace::new(Limits::default());
    let mut group = keyspace.group();
    group.txn(&put("a", 1)).unwrap();
    let second = group.txn(&put("a", 1)).unwrap();
    assert_eq!(second.revision, Revision(3), "the second sees the first");
    let changes = group.finish();
    assert_eq!((keyspace.revision(), keyspace.get(b"a")), (Revision(1), None));
    keyspace.apply(changes);
    assert_eq!(keyspace.get(b"a").unwrap().version, 2);
}

#[test]
#[should_panic(expected = "judged against")]
fn changes_of_another_state_are_not_applied() {
    let mut keyspace = Keyspace::new(Limits::default());
    let mut group = keyspace.group();
    group.txn(&put("a", 1)).unwrap();
    let stale = group.finish();
    run(&mut keyspace, &put("b", 1)).unwrap();
    keyspace.apply(stale);
}

#[test]
fn a_full_key_space_refuses_puts_and_allows_deletes() {
    let limits = Limits {
        live_bytes_max: 10_000,
        ..Limits::default()
    };
    let mut keyspace = Keyspace::new(limits);
    run(&mut keyspace, &put("a", 8_000)).unwrap();
    let refused = run(&mut keyspace, &put("b", 8_000)).unwrap_err();
    assert!(matches!(refused, Refusal::Full { .. }), "{refused}");
    run(&mut keyspace, &put("a", 7_000)).expect("a smaller value fits in the place of a larger one");
    run(
        &mut keyspace,
        &Txn {
            then: vec![Op::Delete("a".into())],
            ..Txn::default()
        },
    )
    .unwrap();
    assert_eq!(keyspace.live_bytes(), 0);
    run(&mut keyspace, &put("b", 8_000)).unwrap();
}

#[test]
fn the_bound_holds_within_a_group_too() {
    let keyspace = Keyspace::new(Limits {
        live_bytes_max: 10_000,
        ..Limits::default()
    });
    let mut group = keyspace.group();
    let fitting = (0..10)
        .filter(|at| group.txn(&put(&at.to_string(), 4_000)).is_ok())
        .count();
    assert_eq!(fitting, 2);
}

#[test]
fn history_is_bounded_by_events_and_by_bytes() {
    for history in [
        HistoryLimits {
            events_max: 10,
            bytes_max: usize::MAX,
        },
        HistoryLimits {
            events_max: usize::MAX,
            bytes_max: 20_000,
        },
    ] {
        let mut keyspace = Keyspace::new(Limits {
            history,
            ..Limits::default()
        });
        for _ in 0..1_000 {
            run(&mut keyspace, &put("a", 1_000)).unwrap();
        }
        let oldest = keyspace.oldest_revision();
        let kept = keyspace.revision().0 + 1 - oldest.0;
        assert!((10..=20).contains(&kept), "{kept} revisions kept");
        let (events, next) = keyspace.events(b"", oldest, usize::MAX).unwrap();
        assert_eq!((events.len() as u64, next.0), (kept, keyspace.revision().0 + 1));
        let gone = keyspace.events(b"", Revision(oldest.0 - 1), usize::MAX).unwrap_err();
        assert_eq!(gone, MetadataError::Compacted { oldest });
    }
}

#[test]
fn one_revision_is_kept_however_large_it_is() {
    let history = HistoryLimits {
        events_max: 1,
        bytes_max: 1,
    };
    let mut keyspace = Keyspace::new(Limits {
        history,
        ..Limits::default()
    });
    run(&mut keyspace, &put("a", 1)).unwrap();
    let then = (0..5).map(|at| Op::put(format!("k{at}").into(), "x".into())).collect();
    run(&mut keyspace, &Txn { then, ..Txn::default() }).unwrap();
    assert_eq!(keyspace.events(b"", Revision(3), usize::MAX).unwrap().0.len(), 5);
}

#[test]
fn a_lease_ends_with_keys_that_the_same_group_put_on_it() {
    let mut keyspace = Keyspace::new(Limits::default());
    keyspace.add_lease(LeaseId(1));
    let leased = |key: &'static str| Op::Put {
        key: key.into(),
        value: "x".into(),
        lease: LeaseId(1),
    };
    run(
        &mut keyspace,
        &Txn {
            then: vec![leased("old"), leased("moved")],
            ..Txn::default()
        },
    )
    .unwrap();
    let mut group = keyspace.group();
    group
        .txn(&Txn {
            then: vec![leased("new"), Op::put("moved".into(), "x".into())],
            ..Txn::default()
        })
        .unwrap();
    assert!(group.end_lease(LeaseId(1)));
    assert!(!group.end_lease(LeaseId(1)), "only once");
    let refused = group
        .txn(&Txn {
            then: vec![leased("late")],
            ..Txn::default()
        })
        .unwrap_err();
    assert_eq!(refused, Refusal::NoSuchLease { lease: LeaseId(1) });
    let changes = group.finish();
    keyspace.apply(changes);
    assert_eq!(keyspace.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"moved"]);
    assert!(!keyspace.has_lease(LeaseId(1)));
}
