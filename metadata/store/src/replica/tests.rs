//! Verdicts of own commits: those that come, and those that a checkpoint skipped.

use std::future::{pending, ready};
use std::time::Duration;

use esker_model::entry::{CommitRecord, Entry, ProducerIds};
use esker_segment::id::{IncarnationNumber, LogIndex, SegmentNumber};
use esker_segment::name::{ObjectName, SegmentName};
use tokio::time::timeout;

use super::*;
use crate::keys::root::ObjectRef;

const OWN: SessionId = SessionId(5);

fn replica() -> Replica {
    let replica = Replica::new();
    replica.expect_session(OWN);
    replica
}

fn apply(replica: &Replica, index: u64, number: u64) {
    let entries = vec![Entry::ProducerIds(ProducerIds { count: 10 })];
    let record = CommitRecord { entries }.encode().unwrap();
    let at = CommitPosition {
        index: LogIndex(index),
        session: OWN,
        number: CommitNumber(number),
    };
    replica.apply(at, &record).unwrap();
}

fn load_checkpoint(replica: &Replica, index: u64) {
    let root = Root {
        index: LogIndex(index),
        revision: crate::store::Revision(index),
        digest: 0,
        state: ObjectRef {
            name: ObjectName::Segment(SegmentName {
                incarnation: IncarnationNumber(1),
                session: OWN,
                number: SegmentNumber(1),
                attempt: 0,
            }),
            length_bytes: 0,
            digest: 0,
        },
        indexes: Vec::new(),
        manifest: None,
        merged_through: LogIndex(0),
    };
    replica.replace(Fold::new(), root);
}

async fn asked(replica: &Replica, number: u64, folded: impl Future<Output = ()>) -> Option<usize> {
    let verdicts = replica.own_verdicts_once(OWN, CommitNumber(number), folded);
    let verdicts = timeout(Duration::from_secs(60), verdicts)
        .await
        .expect("an end of the wait");
    verdicts.map(|verdicts| verdicts.len())
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_a_checkpoint_skipped_before_its_answer_came_has_no_verdicts() {
    let replica = replica();
    load_checkpoint(&replica, 1);
    assert_eq!(asked(&replica, 1, ready(())).await, None);
    assert!(
        replica.lock_own().verdicts.is_empty(),
        "nothing waits for what never comes"
    );
    // Later commits of the session are judged as ever. (The fold that was loaded here is that of an empty log.)
    apply(&replica, 1, 2);
    assert_eq!(asked(&replica, 2, ready(())).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_the_checkpoint_is_loaded_is_told() {
    let replica = replica();
    let (told, ()) = tokio::join!(asked(&replica, 1, pending()), async { load_checkpoint(&replica, 1) });
    assert_eq!(told, None);
}

#[tokio::test(start_paused = true)]
async fn verdicts_that_come_together_with_the_position_are_not_lost() {
    let replica = replica();
    assert_eq!(asked(&replica, 1, async { apply(&replica, 1, 1) }).await, Some(1));
    let (told, ()) = tokio::join!(asked(&replica, 2, pending()), async { apply(&replica, 2, 2) });
    assert_eq!(told, Some(1));
    apply(&replica, 3, 3);
    assert_eq!(asked(&replica, 3, ready(())).await, Some(1));
}
