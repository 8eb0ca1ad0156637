//! Many at once: compares exclude, answers are real, nobody suffers for another's mistake.

use std::sync::Arc;

use bytes::Bytes;
use esker_metadata::store::{Compare, KeyRange, MetadataStore, Op, OpResult, Txn};
use futures::future::join_all;

use crate::{Subject, bytes, put};

const TASKS: usize = 16;
const ROUNDS: usize = 8;

async fn read_counter(store: &Arc<dyn MetadataStore>) -> Bytes {
    let snapshot = store.snapshot(vec![KeyRange::Key(bytes("counter"))]).await.unwrap();
    snapshot.ranges[0][0].value.clone()
}

pub(crate) async fn compared_increments_count_exactly(subject: Subject) {
    subject.put("counter", "0").await;
    let tasks = (0..TASKS).map(|_| {
        let store = subject.store.clone();
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                loop {
                    let seen = read_counter(&store).await;
                    let next: u64 = std::str::from_utf8(&seen).unwrap().parse::<u64>().unwrap() + 1;
                    let txn = Txn {
                        compares: vec![Compare::Value(bytes("counter"), seen)],
                        then: vec![Op::put(bytes("counter"), next.to_string().into())],
                        otherwise: vec![],
                    };
                    if store.txn(txn).await.unwrap().succeeded {
                        break;
                    }
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let kv = subject.get("counter").await.unwrap();
    assert_eq!(kv.value, (TASKS * ROUNDS).to_string());
    assert_eq!(kv.version, (TASKS * ROUNDS) as u64 + 1);
}

pub(crate) async fn one_of_many_claims_wins(subject: Subject) {
    let claims = (0..TASKS).map(|task| {
        let txn = Txn {
            compares: vec![Compare::Absent(bytes("claim"))],
            then: vec![Op::put(bytes("claim"), task.to_string().into())],
            otherwise: vec![Op::Get(bytes("claim"))],
        };
        let store = subject.store.clone();
        tokio::spawn(async move { store.txn(txn).await.unwrap() })
    });
    let outcomes: Vec<_> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<usize> = (0..TASKS).filter(|task| outcomes[*task].succeeded).collect();
    assert_eq!(winners.len(), 1);
    for outcome in outcomes.iter().filter(|outcome| !outcome.succeeded) {
        let [OpResult::Get(Some(found))] = &outcome.results[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!(found.value, winners[0].to_string(), "every loser sees the winner");
    }
}

pub(crate) async fn an_answered_transaction_is_seen_by_every_later_read(subject: Subject) {
    let writers = (0..TASKS).map(|task| {
        let store = subject.store.clone();
        tokio::spawn(async move {
            let key = Bytes::from(format!("k{task}"));
            for round in 0..ROUNDS {
                let value = Bytes::from(round.to_string());
                let then = vec![Op::put(key.clone(), value.clone())];
                let done = store.txn(Txn { then, ..Txn::default() }).await.unwrap();
                let read = store.snapshot(vec![KeyRange::Key(key.clone())]).await.unwrap();
                assert_eq!(read.ranges[0][0].value, value);
                assert!(read.revision >= done.revision);
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
}

pub(crate) async fn a_refused_transaction_takes_no_other_along(subject: Subject) {
    let attempts = (0..TASKS).map(|task| {
        let key = Bytes::from(format!("k{task:02}"));
        let mut then = vec![Op::put(key, bytes("x"))];
        if task % 2 == 1 {
            then.push(put("", "an empty key"));
        }
        let store = subject.store.clone();
        tokio::spawn(async move { store.txn(Txn { then, ..Txn::default() }).await })
    });
    for (task, answer) in join_all(attempts).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().is_ok(), task % 2 == 0, "task {task}");
    }
    let snapshot = subject
        .store
        .snapshot(vec![KeyRange::Prefix(bytes("k"))])
        .await
        .unwrap();
    assert_eq!(snapshot.ranges[0].len(), TASKS / 2);
}

pub(crate) async fn the_identical_transaction_applies_once(subject: Subject) {
    subject.put("counter", "0").await;
    let txn = Txn {
        compares: vec![Compare::Value(bytes("counter"), bytes("0"))],
        then: vec![put("counter", "1"), put("record", "x")],
        otherwise: vec![Op::Get(bytes("counter"))],
    };
    let sent = (0..TASKS).map(|_| subject.store.txn(txn.clone()));
    let outcomes = join_all(sent).await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| outcome.as_ref().unwrap().succeeded)
            .count(),
        1
    );
    assert_eq!(subject.get("record").await.unwrap().version, 1);
}
