//! What every object store must do.
//!
//! Owns: the contract of `store` as tests.
//! Does not own: the stores it is run against: `main` beside this file, and `storage/objects/tests/servers` for those that need one.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use esker_storage::store::{ObjectKey, ObjectStore, StoreError};

/// A store under test and whatever must live as long as it.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) _keep: Option<tempfile::TempDir>,
}

fn key(text: &str) -> ObjectKey {
    ObjectKey(text.to_owned())
}

/// Bytes that differ everywhere, so that a wrong range is noticed.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

async fn put(store: &dyn ObjectStore, name: &str) {
    store
        .create(&key(name), vec![Bytes::from(name.to_owned())])
        .await
        .unwrap();
}

async fn names(store: &dyn ObjectStore, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(key);
    let found = store.list(prefix, after.as_ref(), limit).await.unwrap();
    found.into_iter().map(|meta| meta.key.0).collect()
}

pub(crate) async fn what_was_written_reads_back_in_any_range(store: &dyn ObjectStore) {
    let whole = pattern(100_000);
    let chunks = vec![
        whole.slice(..10),
        Bytes::new(),
        whole.slice(10..70_000),
        whole.slice(70_000..),
    ];
    store.create(&key("c/1/aa/1-1-0"), chunks).await.unwrap();
    for range in [
        0..100_000,
        0..1,
        9..11,
        69_999..70_001,
        99_999..100_000,
        50..50,
        100_000..100_000,
    ] {
        let expected = &whole[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert_eq!(
            store.read(&key("c/1/aa/1-1-0"), range.clone()).await.unwrap(),
            expected,
            "{range:?}"
        );
    }
}

pub(crate) async fn an_empty_object_is_an_object(store: &dyn ObjectStore) {
    store.create(&key("c/none"), vec![]).await.unwrap();
    store
        .create(&key("c/empty"), vec![Bytes::new(), Bytes::new()])
        .await
        .unwrap();
    assert_eq!(store.read(&key("c/none"), 0..0).await.unwrap(), "");
    let found = store.list("c/", None, 10).await.unwrap();
    assert_eq!(found.iter().map(|meta| meta.size_bytes).collect::<Vec<_>>(), [0, 0]);
}

pub(crate) async fn a_range_beyond_the_end_fails(store: &dyn ObjectStore) {
    store.create(&key("c/ten"), vec![pattern(10)]).await.unwrap();
    for range in [0..11, 9..11, 10..11, 11..11, 20..30, 0..u64::MAX / 2] {
        let refused = store.read(&key("c/ten"), range.clone()).await;
        assert!(
            matches!(refused, Err(StoreError::Failed { .. })),
            "{range:?}: {refused:?}"
        );
    }
}

pub(crate) async fn what_is_not_there_is_not_found(store: &dyn ObjectStore) {
    for range in [0..1, 0..0] {
        let missing = store.read(&key("c/1/aa/none"), range).await;
        assert_eq!(missing, Err(StoreError::NotFound(key("c/1/aa/none"))));
    }
    put(store, "c/1/aa/1-1-0").await;
    let inside = store.read(&key("c/1/aa/1-1-1"), 0..1).await;
    assert_eq!(inside, Err(StoreError::NotFound(key("c/1/aa/1-1-1"))));
    assert_eq!(names(store, "d/", None, 10).await, [""; 0]);
}

pub(crate) async fn a_listing_is_in_key_order_and_honours_prefix_after_and_limit(store: &dyn ObjectStore) {
    let all = ["a/1/b/2", "a/1/b/3", "a/1/c", "a/10/b/1", "a/2/x", "a0", "b/1"];
    for name in ["b/1", "a/2/x", "a0", "a/1/b/3", "a/10/b/1", "a/1/c", "a/1/b/2"] {
        put(store, name).await;
    }
    assert_eq!(names(store, "", None, 100).await, all);
    assert_eq!(names(store, "a/", None, 100).await, all[..5]);
    assert_eq!(
        names(store, "a/1", None, 100).await,
        all[..4],
        "a prefix may end within a name"
    );
    assert_eq!(names(store, "a/1/b/", None, 100).await, all[..2]);
    assert_eq!(names(store, "a/1/c", None, 100).await, ["a/1/c"]);
    assert_eq!(names(store, "a/", Some("a/1/b/3"), 100).await, all[2..5]);
    assert_eq!(
        names(store, "a/", Some("a/1/b/25"), 100).await,
        all[1..5],
        "after need not exist"
    );
    assert_eq!(names(store, "", Some("a/2/x"), 100).await, all[5..]);
    assert_eq!(names(store, "a/", Some("b"), 100).await, [""; 0]);
    assert_eq!(names(store, "b/", Some("a/1"), 100).await, ["b/1"]);
    assert_eq!(names(store, "", None, 0).await, [""; 0]);
    for limit in 1..4 {
        let mut paged = Vec::new();
        loop {
            let page = names(store, "", paged.last().map(String::as_str), limit).await;
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit);
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
}

/// Hyphen and dot sort before the slash. SeaweedFS goes through directories in order instead; none of our keys depends on
/// it: names beside each other in a directory differ before the end of the shorter one, or continue with a letter or digit.
pub(crate) async fn the_slash_sorts_among_the_other_bytes(store: &dyn ObjectStore) {
    let all = ["a-b/1", "a.b", "a/1", "a/2", "a0/1"];
    for name in ["a/1", "a0/1", "a.b", "a/2", "a-b/1"] {
        put(store, name).await;
    }
    assert_eq!(names(store, "", None, 100).await, all);
    assert_eq!(names(store, "", Some("a.b"), 2).await, all[2..4]);
}

pub(crate) async fn a_listing_knows_the_sizes(store: &dyn ObjectStore) {
    store
        .create(&key("c/big"), vec![pattern(1000), pattern(234)])
        .await
        .unwrap();
    let found = store.list("c/", None, 10).await.unwrap();
    assert_eq!((found.len(), found[0].size_bytes), (1, 1234));
}

pub(crate) async fn deleting_twice_is_fine(store: &dyn ObjectStore) {
    put(store, "c/1").await;
    put(store, "c/2").await;
    for _ in 0..2 {
        store.delete(&key("c/1")).await.unwrap();
        assert!(matches!(
            store.read(&key("c/1"), 0..1).await,
            Err(StoreError::NotFound(_))
        ));
    }
    store.delete(&key("nowhere/at/all")).await.unwrap();
    assert_eq!(names(store, "", None, 10).await, ["c/2"]);
}

pub(crate) async fn writing_the_same_key_again_is_fine(store: &dyn ObjectStore) {
    for _ in 0..3 {
        store.create(&key("c/again"), vec![pattern(5000)]).await.unwrap();
    }
    assert_eq!(store.read(&key("c/again"), 0..5000).await.unwrap(), pattern(5000));
    store.create(&key("c/again"), vec![pattern(10)]).await.unwrap();
    assert!(
        store.read(&key("c/again"), 0..5000).await.is_err(),
        "the whole object is replaced"
    );
    store.delete(&key("c/again")).await.unwrap();
    put(store, "c/again").await;
    assert_eq!(names(store, "", None, 10).await, ["c/again"]);
}

pub(crate) async fn many_objects_are_all_listed(store: &dyn ObjectStore) {
    let all: Vec<String> = (0..600).map(|nth| format!("c/1/{:02x}/{nth:04}", nth % 16)).collect();
    for name in &all {
        put(store, name).await;
    }
    let mut sorted = all;
    sorted.sort();
    assert_eq!(names(store, "c/", None, 10_000).await, sorted);
    assert_eq!(names(store, "c/", Some(&sorted[299]), 5).await, sorted[300..305]);
}

pub(crate) async fn a_large_object_of_many_chunks_is_one_object(store: &dyn ObjectStore) {
    let chunk = pattern(16_000);
    let chunks: Vec<Bytes> = (0..1500).map(|_| chunk.clone()).collect(); // more than one vectored write takes
    store.create(&key("c/large"), chunks).await.unwrap();
    let last = store.read(&key("c/large"), 1499 * 16_000..1500 * 16_000).await.unwrap();
    assert_eq!(last, chunk);
    let whole = store.read(&key("c/large"), 0..1500 * 16_000).await.unwrap();
    assert!(whole.chunks(16_000).all(|part| part == chunk));
}

pub(crate) async fn concurrent_writers_do_not_disturb_each_other(store: &dyn ObjectStore) {
    let writes = (0..40_u8).map(|nth| async move {
        let key = key(&format!("c/new-{}/{nth}", nth % 7));
        store.create(&key, vec![vec![nth; 3000].into()]).await.unwrap();
        let read = store.read(&key, 0..3000).await.unwrap();
        assert!(read.iter().all(|&byte| byte == nth));
    });
    join_all(writes).await;
    assert_eq!(names(store, "c/", None, 100).await.len(), 40);
}

pub(crate) async fn same_key_from_two_writers_is_one_of_the_two(store: &dyn ObjectStore) {
    let writes = (0..8_u8).map(|nth| async move {
        store
            .create(&key("c/contended"), vec![vec![nth; 200_000].into()])
            .await
            .unwrap();
        let read = store.read(&key("c/contended"), 0..200_000).await.unwrap();
        assert!(read.iter().all(|&byte| byte == read[0]), "never a mixture");
    });
    join_all(writes).await;
}

macro_rules! conformance {
    ($module:ident, $make:expr, [$($case:ident),* $(,)?]) => {
        mod $module {
            $(#[tokio::test]
            async fn $case() {
                let subject: $crate::cases::Subject = $make;
                $crate::cases::$case(subject.store.as_ref()).await;
            })*
        }
    };
    ($($module:ident: $make:expr;)*) => {
        $($crate::cases::conformance!($module, $make, [
            what_was_written_reads_back_in_any_range,
            an_empty_object_is_an_object,
            a_range_beyond_the_end_fails,
            what_is_not_there_is_not_found,
            a_listing_is_in_key_order_and_honours_prefix_after_and_limit,
            a_listing_knows_the_sizes,
            deleting_twice_is_fine,
            writing_the_same_key_again_is_fine,
            many_objects_are_all_listed,
            a_large_object_of_many_chunks_is_one_object,
            concurrent_writers_do_not_disturb_each_other,
            same_key_from_two_writers_is_one_of_the_two,
        ]);)*
    };
}

pub(crate) use conformance;
