//! Everything at once, 200 times: what a commit was answered is what the log holds, on every follower.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::log::{
    Commit, CommitResult, Committer, CommitterSettings, HistoryKept, PublishedRoot, RootOutcome, Truncation,
    publish_root, read_root,
};
use esker_metadata::simulated::Faults;
use esker_metadata::store::{Compare, Op};
use esker_segment::id::{CommitNumber, LogIndex, SessionId};

use crate::{Entry, Following, World, text};

const SEEDS: u64 = 200;
const WRITERS: usize = 3;
const COMMITS: usize = 12;
/// Names that writers fight over.
const CLAIMS: u64 = 6;

/// A small generator for the test's own choices.
struct Choices(Cell<u64>);

impl Choices {
    fn below(&self, bound: u64) -> u64 {
        self.0.set(
            self.0
                .get()
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        );
        (self.0.get() >> 33) % bound
    }
}

/// What became of one record, over all sessions in which it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Committed {
        session: SessionId,
        number: CommitNumber,
        index: Option<LogIndex>,
    },
    Refused,
    Undecided,
}

#[derive(Debug, Default)]
struct Totals {
    committed: usize,
    refused: usize,
    undecided: usize,
    sessions: u64,
    loads: usize,
}

#[test]
fn every_answer_is_true_on_every_follower() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        let (_, found) = simulate(seed);
        totals.committed += found.committed;
        totals.refused += found.refused;
        totals.undecided += found.undecided;
        totals.sessions += found.sessions;
        totals.loads += found.loads;
    }
    // The faults were really met.
    assert!(totals.refused > 100, "{totals:?}");
    assert!(
        totals.sessions > SEEDS * WRITERS as u64,
        "sessions were lost: {totals:?}"
    );
    assert!(totals.loads > 20, "followers were overtaken: {totals:?}");
    assert!(
        totals.undecided * 500 < totals.committed,
        "nearly everything is decided: {totals:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [0, 7, 42] {
        assert_eq!(simulate(seed).0, simulate(seed).0, "seed {seed}");
    }
    assert_ne!(simulate(1).0, simulate(2).0);
}

fn simulate(seed: u64) -> (u64, Totals) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run(seed))
}

async fn run(seed: u64) -> (u64, Totals) {
    let world = Rc::new(World::new(seed, Faults::rough(u32::try_from(2 + seed % 6).unwrap())).await);
    let choices = Rc::new(Choices(Cell::new(seed)));
    let one = Rc::new(world.follow());
    let two = world.follow();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::task::spawn_local(write(world.clone(), one.clone(), choices.clone(), writer)))
        .collect();
    let trouble = tokio::task::spawn_local(make_trouble(world.clone(), choices.clone()));
    let leader = tokio::task::spawn_local(lead(world.clone(), one.clone()));
    let mut fates = BTreeMap::new();
    for writer in writers {
        fates.extend(writer.await.unwrap());
    }
    trouble.abort();
    leader.abort();
    world.store.set_faults(Faults::calm());
    world.store.set_available(true);
    // What is late has come by then.
    tokio::time::sleep(Duration::from_secs(10)).await;
    one.catch_up().await;
    two.catch_up().await;
    let (one, two) = (one.recorder.get(), two.recorder.get());
    assert_eq!(one.entries, two.entries, "seed {seed}: two followers disagree");
    judge(seed, &fates, &one.entries);
    let count = |wanted: fn(&Fate) -> bool| fates.values().filter(|fate| wanted(fate)).count();
    let totals = Totals {
        committed: count(|fate| matches!(fate, Fate::Committed { .. })),
        refused: count(|fate| *fate == Fate::Refused),
        undecided: count(|fate| *fate == Fate::Undecided),
        sessions: one.entries.iter().map(|entry| entry.session.0).max().unwrap_or(0),
        loads: one.loads.len() + two.loads.len() - 2,
    };
    (world.store.trace_hash(), totals)
}

/// The log holds exactly what the writers were told.
fn judge(seed: u64, fates: &BTreeMap<String, Fate>, entries: &[Entry]) {
    let mut found: BTreeMap<String, &Entry> = BTreeMap::new();
    for entry in entries {
        let twice = found.insert(text(&entry.record), entry);
        assert!(twice.is_none(), "seed {seed}: {entry:?} is in the log twice");
    }
    for (record, fate) in fates {
        match (fate, found.remove(record)) {
            (Fate::Committed { session, number, index }, Some(entry)) => {
                assert_eq!(
                    (entry.session, entry.number),
                    (*session, *number),
                    "seed {seed}: {record}"
                );
                assert!(
                    index.is_none_or(|index| index == entry.index),
                    "seed {seed}: {record} {fate:?} {entry:?}"
                );
            }
            (Fate::Undecided, _) | (Fate::Refused, None) => {}
            (fate, entry) => panic!("seed {seed}: {record} was answered {fate:?}, the log has {entry:?}"),
        }
    }
    assert!(found.is_empty(), "seed {seed}: records out of nowhere: {found:?}");
    let mut claims = BTreeSet::new();
    for entry in entries {
        if let Some((_, claim)) = text(&entry.record).split_once(" claims ") {
            assert!(
                claims.insert(claim.to_owned()),
                "seed {seed}: {claim} was claimed twice"
            );
        }
    }
}

/// Commits records, each until it is decided, in as many sessions as it takes.
async fn write(
    world: Rc<World>,
    following: Rc<Following>,
    choices: Rc<Choices>,
    writer: usize,
) -> BTreeMap<String, Fate> {
    let mut todo: Vec<String> = (0..COMMITS)
        .map(|at| match choices.below(4) {
            0 => format!("{writer}-{at} claims {}", choices.below(CLAIMS)),
            _ => format!("{writer}-{at}"),
        })
        .collect();
    todo.reverse();
    let mut fates = BTreeMap::new();
    while !todo.is_empty() {
        let session = world.session().await;
        let settings = CommitterSettings { window: 4, queue: 4 };
        let committer = Committer::start(&session, Some(following.log.position()), settings);
        let mut lost = Vec::new();
        while !todo.is_empty() && !session.is_lost() {
            let batch: Vec<String> = (0..=choices.below(4)).filter_map(|_| todo.pop()).collect();
            let mut pending = Vec::new();
            for record in batch {
                pending.push((committer.submit(commit_of(&record)).await.unwrap(), record));
            }
            for (pending, record) in pending {
                let expected = pending.number();
                match pending.await {
                    CommitResult::Committed { number, index } => {
                        assert_eq!(number, expected);
                        fates.insert(
                            record,
                            Fate::Committed {
                                session: session.id(),
                                number,
                                index,
                            },
                        );
                    }
                    CommitResult::SessionLost => lost.push(record),
                    CommitResult::Refused { compare } => {
                        assert_eq!(compare, 0);
                        fates.insert(record, Fate::Refused);
                    }
                    CommitResult::Undecided => {
                        fates.insert(record, Fate::Undecided);
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(choices.below(400))).await;
        }
        todo.extend(lost);
    }
    fates
}

fn commit_of(record: &str) -> Commit {
    let mut commit = crate::commit(record);
    if let Some((_, claim)) = record.split_once(" claims ") {
        let key = Bytes::from(format!("claim/{claim}"));
        commit.compares.push(Compare::Absent(key.clone()));
        commit.ops.push(Op::put(key, "x".into()));
    }
    commit
}

/// Ends leases, compacts everything, cuts the store off.
async fn make_trouble(world: Rc<World>, choices: Rc<Choices>) {
    loop {
        tokio::time::sleep(Duration::from_millis(200 + choices.below(2_000))).await;
        match choices.below(5) {
            0 | 1 => world.store.end_all_leases(),
            2 => world.store.compact_all(),
            3 => {
                world.store.set_available(false);
                tokio::time::sleep(Duration::from_millis(choices.below(8_000))).await;
                world.store.set_available(true);
            }
            _ => {}
        }
    }
}

/// Writes checkpoints and truncates eagerly, as leader after leader.
async fn lead(world: Rc<World>, following: Rc<Following>) {
    loop {
        let leader = world.session().await;
        let mut truncation = Truncation::new(following.log.clone(), HistoryKept(Duration::from_secs(2)));
        while !leader.is_lost() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let Ok(seen) = read_root(&world.cluster).await else {
                continue;
            };
            let entries = following.recorder.get().entries.clone();
            let index = entries.last().map_or(LogIndex(0), |entry| entry.index);
            if seen.as_ref().is_some_and(|seen| seen.root.index >= index) {
                continue;
            }
            let root = world.checkpoint(&entries);
            let revision = seen.map(|seen: PublishedRoot| seen.revision);
            let published = publish_root(&world.cluster, revision, vec![leader.compare()], root, vec![]).await;
            if let Ok(RootOutcome::Published(root)) = published {
                let _tried = truncation.truncate(&root).await;
                let _tried = truncation.compact().await;
            }
        }
    }
}
