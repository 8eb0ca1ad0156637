//! What the store makes of a file whose end a crash has torn, and of one that was damaged: the first loses nothing, the
//! second is refused and left alone (LOG-3: what was acknowledged is never dropped in silence).
//!
//! Owns: a reading of the format that does not use the store's own code.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::embedded::{EmbeddedError, EmbeddedStore, OpenError};
use esker_metadata::keyspace::Limits;
use esker_metadata::store::{LeaseId, MetadataError, MetadataStore, Op, Txn};

use crate::faulty::{Day, Machine};
use crate::{names, put, puts};

const HEAD_BYTES: usize = 22;

async fn open(machine: &Machine) -> Result<EmbeddedStore, EmbeddedError> {
    EmbeddedStore::open_on(machine.medium(), Limits::default()).await
}

/// Where the frames are.
fn frames(file: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = HEAD_BYTES;
    while let Some(length) = file.get(at + 4..at + 8) {
        let length = usize::try_from(u32::from_le_bytes(length.try_into().unwrap())).unwrap();
        if length == 0 {
            break;
        }
        found.push(at..at + 8 + length);
        at += 8 + length;
    }
    found
}

/// A file with three keys, each put by a frame of its own behind the first frame, which holds a fourth.
async fn sample(size: usize) -> Vec<u8> {
    let machine = Machine::new(1);
    let store = open(&machine).await.unwrap();
    store.txn(put("first", "x")).await.unwrap();
    store.close().await;
    let store = open(&machine).await.unwrap();
    for key in ["a", "b", "last"] {
        let value = Bytes::from(vec![key.as_bytes()[0]; size]);
        store.txn(puts([(key.to_owned(), value)])).await.unwrap();
    }
    let file = machine.file();
    assert_eq!(frames(&file).len(), 4, "the format is as this test thinks");
    file
}

/// The file is taken, its last transaction is not there, and the store goes on.
async fn expect_torn(file: Vec<u8>, what: &str) {
    let machine = Machine::holding(file);
    let store = open(&machine).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(names(&store).await, ["a", "b", "first"], "{what}");
    store.txn(put("next", "x")).await.unwrap();
    machine.lose_power();
    let store = open(&machine).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(names(&store).await, ["a", "b", "first", "next"], "{what}");
}

async fn expect_refused(file: &[u8], what: &str) -> OpenError {
    let machine = Machine::holding(file.to_vec());
    let refused = open(&machine).await;
    assert!(
        machine.file() == file && machine.begun() == 0,
        "{what}: it is left alone"
    );
    match refused.expect_err(what) {
        EmbeddedError::Open(error) => error,
        other => panic!("{what}: {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_torn_at_any_byte_is_not_there_and_nothing_else_is_lost() {
    let file = sample(40).await;
    let last = frames(&file).pop().unwrap();
    for at in last.clone() {
        let mut short = file.clone();
        short[at..last.end].fill(0);
        let mut garbage = file.clone();
        for (offset, byte) in garbage[at..last.end].iter_mut().enumerate() {
            *byte = !byte.rotate_left(u32::try_from(offset % 8).unwrap());
        }
        let mut reordered = file.clone();
        reordered[last.start..=at].fill(0);
        for (torn, how) in [(short, "short"), (garbage, "garbage"), (reordered, "reordered")] {
            if torn != file {
                expect_torn(torn, &format!("{how} at {}", at - last.start)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_lacks_any_sector_is_not_there() {
    let file = sample(20_000).await;
    let last = frames(&file).pop().unwrap();
    for sector in last.start / 512..last.end.div_ceil(512) {
        let mut torn = file.clone();
        torn[(sector * 512).max(last.start)..((sector + 1) * 512).min(last.end)].fill(0);
        expect_torn(torn, &format!("sector {sector}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_changed_before_the_last_frame_is_refused() {
    let file = sample(40).await;
    let last = frames(&file).pop().unwrap();
    for at in 0..last.start {
        for bit in [0x01, 0x80] {
            let mut flipped = file.clone();
            flipped[at] ^= bit;
            let error = expect_refused(&flipped, &format!("byte {at}")).await;
            let damaged = matches!(error, OpenError::Damaged { .. });
            assert_eq!(damaged, at >= HEAD_BYTES, "byte {at}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_missing_in_the_middle_are_refused() {
    let file = sample(40).await;
    let frames = frames(&file);
    for missing in [0..1, 1..2, 1..3, 2..3] {
        let mut spliced = file.clone();
        spliced.drain(frames[missing.start].start..frames[missing.end - 1].end);
        spliced.resize(file.len(), 0);
        let error = expect_refused(&spliced, &format!("without {missing:?}")).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_cut_off_is_refused() {
    let file = sample(40).await;
    let end = frames(&file).pop().unwrap().end;
    for length in (0..end + 10).chain([file.len() / 2, file.len() - 1]) {
        let error = expect_refused(&file[..length], &format!("cut to {length}")).await;
        let complete = length >= frames(&file)[0].end;
        assert_eq!(matches!(error, OpenError::Cut { .. }), complete, "{length}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_of_another_file_are_not_read() {
    let (file, other) = (sample(40).await, sample(40).await);
    let (ends, others) = (frames(&file), frames(&other));
    // A disk may give back what an earlier file left: where the last frame would be, or anywhere behind it.
    for shift in [0, 1, 700] {
        let mut stale = file.clone();
        let (from, to) = (others[3].start, others[3].end);
        let begin = ends[3].start + shift;
        stale[ends[3].clone()].fill(0);
        stale[begin..begin + (to - from)].copy_from_slice(&other[from..to]);
        expect_torn(stale, &format!("shifted by {shift}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_that_lies_is_not_believed() {
    let file = sample(40).await;
    let frames = frames(&file);
    let rest = u32::try_from(file.len() - frames[3].start).unwrap();
    for length in [u32::MAX, u32::MAX - 7, rest, rest - 8, rest - 9, 1, 0] {
        let lie = |frame: usize| {
            let mut lying = file.clone();
            let at = frames[frame].start + 4;
            lying[at..at + 4].copy_from_slice(&length.to_le_bytes());
            lying
        };
        expect_torn(lie(3), &format!("length {length}")).await;
        expect_refused(&lie(1), &format!("length {length} in the middle")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_left_after_a_failed_sync_is_made_durable_before_it_is_shown() {
    for seed in 0..40 {
        let machine = Machine::new(seed);
        let store = open(&machine).await.unwrap();
        store.txn(put("before", "x")).await.unwrap();
        machine.set_day(Day {
            sync_fails: 1000,
            ..Day::default()
        });
        let lost = puts([("lost".to_owned(), vec![7; 3_000].into())]);
        assert!(matches!(store.txn(lost).await, Err(MetadataError::Unknown(_))));
        machine.kill();
        machine.set_day(Day::default());
        let store = open(&machine).await.unwrap();
        let shown = names(&store).await;
        assert!(shown.contains(&"before".to_owned()), "seed {seed}: {shown:?}");
        machine.lose_power();
        assert_eq!(names(&open(&machine).await.unwrap()).await, shown, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_keep_the_store_from_opening() {
    let machine = Machine::new(2);
    let store = open(&machine).await.unwrap();
    let lease = store.grant_lease(Duration::from_secs(60)).await.unwrap();
    let leased = Op::Put {
        key: "leased".into(),
        value: "x".into(),
        lease: LeaseId(lease.id.0),
    };
    let then = vec![leased, Op::put("kept".into(), "x".into())];
    store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    machine.kill();
    machine.set_day(Day {
        capacity: Some(u64::try_from(machine.file_bytes()).unwrap()),
        fresh_fails: 1000,
        ..Day::default()
    });
    let store = open(&machine).await.unwrap();
    assert_eq!(names(&store).await, ["kept"], "the lease ended, durably");
    store.txn(put("more", "x")).await.unwrap();
    machine.lose_power();
    assert_eq!(names(&open(&machine).await.unwrap()).await, ["kept", "more"]);
}

#[tokio::test(start_paused = true)]
async fn a_torn_file_that_cannot_be_written_anew_goes_on() {
    let mut file = sample(40).await;
    let last = frames(&file).pop().unwrap();
    file[last.end - 1] ^= 1;
    let machine = Machine::holding(file.clone());
    machine.set_day(Day {
        fresh_fails: 1000,
        ..Day::default()
    });
    let store = open(&machine).await.unwrap();
    assert_eq!(names(&store).await, ["a", "b", "first"]);
    assert!(
        machine.file()[last.start..].iter().all(|byte| *byte == 0),
        "what is torn is never read again"
    );
    store.txn(put("next", "x")).await.unwrap();
    machine.lose_power();
    assert_eq!(names(&open(&machine).await.unwrap()).await, ["a", "b", "first", "next"]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_frame_is_refused_even_if_the_one_behind_it_is_torn() {
    let file = sample(40).await;
    let frames = frames(&file);
    for torn_at in frames[3].start + 24..frames[3].end {
        let mut damaged = file.clone();
        damaged[frames[2].end - 1] ^= 1;
        damaged[torn_at..frames[3].end].fill(0);
        let error = expect_refused(&damaged, &format!("torn at {torn_at}")).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_that_were_never_synced_are_not_trusted_when_no_new_file_can_be_written() {
    for seed in 0..40 {
        let machine = Machine::new(seed);
        let store = open(&machine).await.unwrap();
        store.txn(put("before", "x")).await.unwrap();
        machine.set_day(Day {
            sync_fails: 1000,
            ..Day::default()
        });
        let doubtful = puts([("doubtful".to_owned(), vec![7; 3_000].into())]);
        assert!(matches!(store.txn(doubtful).await, Err(MetadataError::Unknown(_))));
        machine.kill();
        machine.set_day(Day {
            fresh_fails: 1000,
            ..Day::default()
        });
        let store = open(&machine).await.unwrap();
        store.txn(put("next", "x")).await.unwrap();
        let shown = names(&store).await;
        machine.lose_power();
        machine.set_day(Day::default());
        assert_eq!(names(&open(&machine).await.unwrap()).await, shown, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_opens_when_even_its_reserve_is_used_up() {
    let machine = Machine::new(5);
    let store = open(&machine).await.unwrap();
    let lease = store.grant_lease(Duration::from_secs(60)).await.unwrap();
    let leased = Op::Put {
        key: "leased".into(),
        value: "x".into(),
        lease: LeaseId(lease.id.0),
    };
    let then = vec![leased, Op::put("kept".into(), "x".into())];
    store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    machine.set_day(Day {
        capacity: Some(u64::try_from(machine.file_bytes()).unwrap()),
        fresh_fails: 1000,
        ..Day::default()
    });
    // Ever smaller ones, until nothing fits.
    let mut size = 100_000;
    while size > 0 {
        match store.txn(puts([("filler".to_owned(), vec![7; size].into())])).await {
            Ok(_) => {}
            Err(MetadataError::Failed(_)) => size /= 2,
            Err(error) => panic!("{error}"),
        }
    }
    machine.kill();
    for _ in 0..2 {
        let store = open(&machine).await.unwrap();
        assert_eq!(names(&store).await, ["filler", "kept"], "the lease has ended");
        machine.lose_power();
    }
    machine.set_day(Day::default());
    let store = open(&machine).await.unwrap();
    store.txn(put("more", "x")).await.unwrap();
    machine.lose_power();
    assert_eq!(names(&open(&machine).await.unwrap()).await, ["filler", "kept", "more"]);
}
