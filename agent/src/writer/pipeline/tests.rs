//! What goes into a commit, and what cannot.

use esker_model::entry::{CommitRecord, OffsetAction, OffsetChange, OffsetCommit, Offsets};
use esker_segment::id::{Offset, PartitionIndex, Timestamp, TopicId};

use super::*;

fn propose(pipeline: &mut Pipeline, entries: Vec<Entry>) -> oneshot::Receiver<Result<Vec<EntryVerdict>, ProposeError>> {
    let (reply, answer) = oneshot::channel();
    pipeline.push(Item::Entries(Proposal {
        entries,
        compares: Vec::new(),
        ops: Vec::new(),
        reply,
    }));
    answer
}

fn offsets(changes: u32, metadata: usize) -> Entry {
    let change = |partition| OffsetChange {
        topic: TopicId(1),
        partition: PartitionIndex(partition),
        action: OffsetAction::Commit(OffsetCommit {
            offset: Offset(1),
            leader_epoch: None,
            metadata: "m".repeat(metadata).into(),
            timestamp: Timestamp(0),
        }),
    };
    Entry::Offsets(Offsets {
        group: Box::from("g"),
        shard: 0,
        txn: None,
        changes: (0..changes).map(change).collect(),
    })
}

fn small() -> Vec<Entry> {
    vec![offsets(1, 10)]
}

fn items_of(ready: Option<Ready>) -> usize {
    match ready {
        Some(Ready::Commit(group)) => {
            CommitRecord::decode(&group.record).unwrap();
            group.items.len()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_record_can_hold_fails_alone() {
    for bad in [
        vec![offsets(300, 4_096)],
        vec![offsets(1, 100_000)],
        Vec::new(),
        vec![offsets(1, 0); 33],
    ] {
        let mut pipeline = Pipeline::default();
        let _before = propose(&mut pipeline, small());
        let mut answer = propose(&mut pipeline, bad);
        let _after = [propose(&mut pipeline, small()), propose(&mut pipeline, small())];
        assert_eq!(items_of(pipeline.take_ready()), 1);
        let Some(Ready::TooLarge(Item::Entries(proposal))) = pipeline.take_ready() else {
            panic!("not the one that is too large");
        };
        proposal.reply.send(Err(ProposeError::TooLarge)).unwrap();
        assert_eq!(answer.try_recv().unwrap(), Err(ProposeError::TooLarge));
        assert_eq!(items_of(pipeline.take_ready()), 2);
        assert!(pipeline.take_ready().is_none());
    }
}

#[test]
fn a_commit_is_filled_to_the_limit_and_not_beyond() {
    let mut pipeline = Pipeline::default();
    let _answers: Vec<_> = (0..5)
        .map(|_| propose(&mut pipeline, vec![offsets(100, 4_000)]))
        .collect();
    let sizes = [(); 3].map(|()| items_of(pipeline.take_ready()));
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn what_must_change_with_entries_counts_too() {
    let put = |name: usize, bytes: usize| Op::put(Bytes::from(format!("k{name}")), Bytes::from(vec![0; bytes]));
    let mut pipeline = Pipeline::default();
    let mut propose = |ops: Vec<Op>| {
        let (reply, answer) = oneshot::channel();
        pipeline.push(Item::Entries(Proposal {
            entries: small(),
            compares: Vec::new(),
            ops,
            reply,
        }));
        answer
    };
    let _fitting = [propose(vec![put(0, 300_000)]), propose(vec![put(1, 150_000)])];
    let _next = propose(vec![put(2, 100_000)]);
    let _too_large = propose(vec![put(3, EXTRAS_BYTES_MAX)]);
    let _many = [
        propose((0..EXTRAS_MAX).map(|name| put(name, 0)).collect()),
        propose(vec![put(200, 0)]),
    ];
    assert_eq!(items_of(pipeline.take_ready()), 2, "together within the limit");
    assert_eq!(items_of(pipeline.take_ready()), 1);
    assert!(matches!(pipeline.take_ready(), Some(Ready::TooLarge(_))));
    assert_eq!(
        [(); 2].map(|()| items_of(pipeline.take_ready())),
        [1, 1],
        "as many changes as fit"
    );
}
