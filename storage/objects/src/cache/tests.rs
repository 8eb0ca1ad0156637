//! The cache: no copies, single flight, the budget, and what scans may not do.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proptest::prelude::*;

use super::disk::{DiskCache, DiskCacheError};
use super::{Access, CacheSettings, SegmentCache, slices};
use crate::random::Random;
use crate::simulated::{Call, Fault, Faults, Latency, SimulatedStore};
use crate::store::{ObjectKey, ObjectStore, StoreError};

const BLOCK: u64 = 1000;

fn key(nth: u64) -> ObjectKey {
    ObjectKey(format!("c/{nth}"))
}

fn pattern(length: u64) -> Bytes {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

fn slow_store() -> SimulatedStore {
    let ten = Duration::from_millis(10);
    let latency = Latency {
        usual: ten..ten,
        ..Latency::NONE
    };
    SimulatedStore::new(
        Random::new(1),
        Faults {
            latency,
            ..Faults::NONE
        },
    )
}

fn cache(store: &SimulatedStore, bytes_max: usize) -> SegmentCache {
    SegmentCache::new(
        Arc::new(store.clone()),
        CacheSettings {
            bytes_max,
            block_bytes: BLOCK,
        },
    )
}

fn reads(store: &SimulatedStore) -> usize {
    store
        .trace()
        .iter()
        .filter(|event| event.what.starts_with("Read"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn what_the_writer_put_in_is_read_without_the_store_and_without_a_copy() {
    let store = slow_store();
    let cache = cache(&store, 1 << 20);
    let chunks = vec![pattern(300), pattern(5000), pattern(200)];
    cache.insert(&key(1), chunks.clone());
    let read = cache.read(&key(1), 5500, 290..5310, Access::Tail).await.unwrap();
    let pieces = &read.pieces;
    assert_eq!(
        *pieces,
        [chunks[0].slice(290..), chunks[1].clone(), chunks[2].slice(..10)]
    );
    assert_eq!(pieces[1].as_ptr(), chunks[1].as_ptr());
    assert_eq!(reads(&store), 0);
}

#[tokio::test(start_paused = true)]
async fn other_objects_are_read_in_blocks_each_once() {
    let store = slow_store();
    store.create(&key(1), vec![pattern(4500)]).await.unwrap();
    let cache = cache(&store, 1 << 20);
    let read = cache
        .read(&key(1), 4500, 1500..2500, Access::Tail)
        .await
        .unwrap()
        .pieces
        .concat();
    assert_eq!(read, pattern(4500)[1500..2500]);
    assert_eq!(reads(&store), 2, "blocks 1 and 2");
    let whole = cache
        .read(&key(1), 4500, 0..4500, Access::Tail)
        .await
        .unwrap()
        .pieces
        .concat();
    assert_eq!(whole, pattern(4500));
    assert_eq!(reads(&store), 5, "blocks 0, 3 and the short last one");
    assert_eq!(
        cache
            .read(&key(1), 4500, 700..700, Access::Tail)
            .await
            .unwrap()
            .pieces
            .concat(),
        b""
    );
}

#[tokio::test(start_paused = true)]
async fn many_who_want_the_same_cause_one_request() {
    let store = slow_store();
    store.create(&key(1), vec![pattern(4500)]).await.unwrap();
    let (cache, key) = (cache(&store, 1 << 20), key(1));
    let readers = (0..50).map(|nth| cache.read(&key, 4500, nth..nth + 800, Access::Tail));
    assert!(join_all(readers).await.into_iter().all(|read| read.is_ok()));
    assert_eq!(reads(&store), 1);
    let whole = (0..50).map(|_| cache.read_whole(&key, 4500));
    assert!(
        join_all(whole)
            .await
            .into_iter()
            .all(|read| read.unwrap().concat() == pattern(4500))
    );
    assert_eq!(reads(&store), 2);
    cache.read(&key, 4500, 3000..4500, Access::Tail).await.unwrap();
    assert_eq!(reads(&store), 2, "the whole one serves all parts");
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_all_who_wait_and_is_not_kept() {
    let store = slow_store();
    let cache = cache(&store, 1 << 20);
    let one = key(1);
    let missing = (0..3).map(|_| cache.read(&one, 10, 0..10, Access::Tail));
    for outcome in join_all(missing).await {
        assert_eq!(outcome.map(|read| read.pieces), Err(StoreError::NotFound(key(1))));
    }
    assert_eq!(reads(&store), 1);
    store.create(&key(1), vec![pattern(10)]).await.unwrap();
    store.inject(Call::Read, Fault::FailBefore);
    assert!(matches!(
        cache
            .read(&key(1), 10, 0..10, Access::Tail)
            .await
            .map(|read| read.pieces),
        Err(StoreError::Failed { .. })
    ));
    assert_eq!(
        cache
            .read(&key(1), 10, 0..10, Access::Tail)
            .await
            .unwrap()
            .pieces
            .concat(),
        pattern(10)
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_does_not_take_the_fetch_with_it() {
    let store = slow_store();
    store.create(&key(1), vec![pattern(10)]).await.unwrap();
    let cache = cache(&store, 1 << 20);
    let one = key(1);
    let impatient = cache.read(&one, 10, 0..10, Access::Tail);
    tokio::time::timeout(Duration::from_millis(5), impatient)
        .await
        .unwrap_err();
    assert_eq!(
        cache
            .read(&key(1), 10, 0..10, Access::Tail)
            .await
            .unwrap()
            .pieces
            .concat(),
        pattern(10)
    );
    assert_eq!(reads(&store), 1);
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_kept_and_the_least_recently_used_goes_first() {
    let store = slow_store();
    let cache = cache(&store, 20_000);
    for nth in 0..100 {
        cache.insert(&key(nth), vec![pattern(1000)]);
        assert!(cache.usage_bytes() <= 20_000);
        let kept = cache.read(&key(0), 1000, 0..1000, Access::Tail).await;
        assert_eq!(kept.unwrap().pieces.concat(), pattern(1000), "used all the time");
    }
    assert_eq!(reads(&store), 0);
    assert!(
        cache.read(&key(50), 1000, 0..1, Access::Tail).await.is_err(),
        "not in the store either"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_would_push_out_all_others_is_not_kept() {
    let store = slow_store();
    store.create(&key(2), vec![pattern(15_000)]).await.unwrap();
    let cache = cache(&store, 20_000);
    cache.insert(&key(1), vec![pattern(5000)]);
    cache.insert(&key(2), vec![pattern(15_000)]);
    for _ in 0..2 {
        assert_eq!(
            cache.read_whole(&key(2), 15_000).await.unwrap().concat(),
            pattern(15_000)
        );
    }
    assert_eq!(reads(&store), 2);
    cache.read(&key(1), 5000, 0..5000, Access::Tail).await.unwrap();
    assert_eq!(reads(&store), 2);
}

#[tokio::test(start_paused = true)]
async fn a_scan_cannot_push_out_the_tail() {
    let store = slow_store();
    store.create(&key(99), vec![pattern(500_000)]).await.unwrap();
    let cache = cache(&store, 100_000);
    for nth in 0..50 {
        cache.insert(&key(nth), vec![pattern(1000)]);
    }
    for block in 0..500 {
        let range = block * BLOCK..(block + 1) * BLOCK;
        cache.read(&key(99), 500_000, range, Access::Scan).await.unwrap();
    }
    let before = reads(&store);
    for nth in 0..50 {
        cache.read(&key(nth), 1000, 0..1000, Access::Tail).await.unwrap();
    }
    assert_eq!(reads(&store), before, "every fresh segment is still there");
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_read_again() {
    let store = slow_store();
    store.create(&key(1), vec![pattern(2500)]).await.unwrap();
    let cache = cache(&store, 1 << 20);
    cache.insert(&key(1), vec![Bytes::from(vec![0; 2500])]);
    cache.forget(&key(1), 2500);
    assert_eq!(
        cache
            .read(&key(1), 2500, 0..2500, Access::Tail)
            .await
            .unwrap()
            .pieces
            .concat(),
        pattern(2500)
    );
    assert_eq!(reads(&store), 3);
    cache.forget(&key(1), 2500);
    cache.read(&key(1), 2500, 2400..2500, Access::Tail).await.unwrap();
    assert_eq!(reads(&store), 4);
    assert!(cache.usage_bytes() < 2500);
}

#[tokio::test(start_paused = true)]
async fn a_range_beyond_the_object_fails() {
    let store = slow_store();
    let cache = cache(&store, 1 << 20);
    cache.insert(&key(1), vec![pattern(10)]);
    for range in [0..11, 11..11, 12..20] {
        let refused = cache.read(&key(1), 10, range, Access::Tail).await;
        assert!(matches!(refused, Err(StoreError::Failed { .. })));
    }
    let shorter_than_said = cache.read(&key(1), 20, 5..15, Access::Tail).await;
    assert!(matches!(shorter_than_said, Err(StoreError::Failed { .. })));
}

proptest! {
    #[test]
    fn slices_are_what_the_concatenation_has_there(
        lengths in prop::collection::vec(0..20_usize, 0..8), start in 0..100_u64, length in 0..100_u64,
    ) {
        let chunks: Vec<Bytes> = lengths.iter().map(|&length| pattern(length as u64)).collect();
        let whole = chunks.concat();
        let range = start..start + length;
        let expected = whole.get(usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap());
        let found = slices(&chunks, &range).map(|found| found.concat());
        match expected {
            Some(expected) => prop_assert_eq!(found.as_deref(), Some(expected)),
            None => prop_assert!(found.is_none() || length == 0),
        }
    }
}

async fn disk(directory: &Path) -> DiskCache {
    DiskCache::open(directory, 64 << 20).await.unwrap()
}

#[tokio::test]
async fn blocks_on_disk_are_found_after_a_restart_and_damaged_ones_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let data = pattern(10 * BLOCK);
    store.create(&key(1), vec![data.clone()]).await.unwrap();
    let range = 500..4_500;
    for expected in [5, 5] {
        let cache = cache(&store, 1 << 20).with_disk(disk(directory.path()).await);
        for _ in 0..2 {
            let read = cache
                .read(&key(1), 10 * BLOCK, range.clone(), Access::Scan)
                .await
                .unwrap();
            assert_eq!(read.pieces.concat(), data[500..4_500]);
        }
        assert_eq!(reads(&store), expected, "the second process needs no request");
        cache.disk.as_ref().unwrap().settle().await;
    }
    let cache = cache(&store, 1 << 20).with_disk(disk(directory.path()).await);
    cache.forget(&key(1), 10 * BLOCK);
    cache.read(&key(1), 10 * BLOCK, range, Access::Scan).await.unwrap();
    assert_eq!(reads(&store), 10, "what was forgotten comes from the store");
}

#[tokio::test]
async fn a_disk_cache_has_one_user_and_a_least_size() {
    let directory = tempfile::tempdir().unwrap();
    let held = disk(directory.path()).await;
    let second = DiskCache::open(directory.path(), 64 << 20).await;
    assert!(matches!(second, Err(DiskCacheError::InUse { .. })), "{second:?}");
    drop(held);
    disk(directory.path()).await;
    let larger = DiskCache::open(directory.path(), 8 << 30).await.unwrap();
    let mut left: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["blocks-8589934592", "lock"], "a cache of another size goes");
    let files = fs::read_dir(directory.path().join("blocks-8589934592"))
        .unwrap()
        .count();
    assert_eq!(files, 64, "each is an open file");
    drop(larger);
    let small = DiskCache::open(directory.path(), 1 << 20).await;
    assert!(matches!(small, Err(DiskCacheError::TooSmall)), "{small:?}");
}

#[tokio::test]
async fn a_disk_cache_whose_files_are_damaged_asks_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let data = pattern(3 * BLOCK);
    store.create(&key(1), vec![data.clone()]).await.unwrap();
    let first = cache(&store, 1 << 20).with_disk(disk(directory.path()).await);
    first
        .read(&key(1), 3 * BLOCK, 0..3 * BLOCK, Access::Scan)
        .await
        .unwrap();
    first.disk.as_ref().unwrap().settle().await;
    drop(first);
    for file in fs::read_dir(directory.path().join("blocks-67108864")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        for byte in bytes.iter_mut().skip(4096).step_by(64) {
            *byte ^= 0x55;
        }
        fs::write(&path, bytes).unwrap();
    }
    let second = cache(&store, 1 << 20).with_disk(disk(directory.path()).await);
    let read = second
        .read(&key(1), 3 * BLOCK, 0..3 * BLOCK, Access::Scan)
        .await
        .unwrap();
    assert_eq!(read.pieces.concat(), data);
    assert_eq!(reads(&store), 6);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_checked_once_while_they_are_in_memory_and_again_when_they_were_not() {
    let store = slow_store();
    store.create(&key(1), vec![pattern(4 * BLOCK)]).await.unwrap();
    let cache = cache(&store, 1 << 20);
    let read = async |range| cache.read(&key(1), 4 * BLOCK, range, Access::Tail).await.unwrap();
    let first = read(500..2_500).await;
    assert!(!first.is_checked(&(500..600)), "it comes from the store");
    first.set_checked(&(500..2_200));
    let second = read(900..2_500).await;
    assert!(second.is_checked(&(900..2_200)), "over three blocks");
    assert!(!second.is_checked(&(2_100..2_201)));
    cache.forget(&key(1), 4 * BLOCK);
    assert!(
        !read(500..2_500).await.is_checked(&(900..1_000)),
        "other bytes may have come"
    );
    cache.insert(&key(1), vec![pattern(4 * BLOCK)]);
    assert!(
        read(500..2_500).await.is_checked(&(500..2_500)),
        "the writer has checked them"
    );
}
