//! The local directory: what is on disk when a write is done, what a crash leaves, which errors are certain.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Directory, Durability};
use crate::store::{ObjectKey, ObjectStore, StoreError};

fn key(text: &str) -> ObjectKey {
    ObjectKey(text.to_owned())
}

fn data() -> Vec<Bytes> {
    vec![Bytes::from_static(b"some "), Bytes::from_static(b"bytes")]
}

fn synced(store: &Directory) -> Vec<String> {
    let synced: Vec<PathBuf> = std::mem::take(&mut store.shared.synced.lock().unwrap());
    synced
        .into_iter()
        .map(|path| path.to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn objects_are_there_after_a_reopen() {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("not/yet/there");
    Directory::open(&root, Durability::Fsync)
        .unwrap()
        .create(&key("c/1/aa/1-1-0"), data())
        .await
        .unwrap();
    let again = Directory::open(&root, Durability::Fsync).unwrap();
    assert_eq!(again.read(&key("c/1/aa/1-1-0"), 0..10).await.unwrap(), "some bytes");
    assert_eq!(
        again.list("", None, 10).await.unwrap().len(),
        1,
        "staging is not listed"
    );
}

#[tokio::test]
async fn a_write_syncs_the_file_and_every_directory_that_may_be_new() {
    let keep = tempfile::tempdir().unwrap();
    let store = Directory::open(keep.path(), Durability::Fsync).unwrap();
    store.create(&key("c/1/aa/1"), data()).await.unwrap();
    assert_eq!(synced(&store), ["c/1", "c", "", "c/1/aa/1", "c/1/aa"]);
    store.create(&key("c/1/aa/2"), data()).await.unwrap();
    assert_eq!(synced(&store), ["c/1/aa/2", "c/1/aa"]);
    store.create(&key("c/1/bb/3"), data()).await.unwrap();
    assert_eq!(synced(&store), ["c/1", "c", "", "c/1/bb/3", "c/1/bb"]);
    // Another process finds the directory, but cannot know whether its creator had synced it yet.
    let other = Directory::open(keep.path(), Durability::Fsync).unwrap();
    other.create(&key("c/1/aa/4"), data()).await.unwrap();
    assert_eq!(synced(&other), ["c/1", "c", "", "c/1/aa/4", "c/1/aa"]);
}

#[tokio::test]
async fn without_durability_nothing_is_synced() {
    let keep = tempfile::tempdir().unwrap();
    let store = Directory::open(keep.path(), Durability::PageCache).unwrap();
    store.create(&key("c/1/aa/1"), data()).await.unwrap();
    assert_eq!(synced(&store), [""; 0]);
}

#[tokio::test]
async fn what_certainly_did_not_happen_is_failed() {
    let keep = tempfile::tempdir().unwrap();
    let store = Directory::open(keep.path(), Durability::Fsync).unwrap();
    store.create(&key("c/file"), data()).await.unwrap();
    let below_a_file = store.create(&key("c/file/below"), data()).await;
    assert!(
        matches!(below_a_file, Err(StoreError::Failed { .. })),
        "{below_a_file:?}"
    );
    let over_a_directory = store.create(&key("c"), data()).await;
    assert!(
        matches!(over_a_directory, Err(StoreError::Failed { .. })),
        "{over_a_directory:?}"
    );
    assert_eq!(staged(keep.path()), [""; 0], "nothing is left behind");
}

/// The names of staged files, sorted.
fn staged(root: &Path) -> Vec<String> {
    let lanes = fs::read_dir(root.join(".staging")).unwrap();
    let files = lanes.flat_map(|lane| fs::read_dir(lane.unwrap().path()).unwrap());
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_directory_is_no_object() {
    let keep = tempfile::tempdir().unwrap();
    let store = Directory::open(keep.path(), Durability::Fsync).unwrap();
    store.create(&key("c/file"), data()).await.unwrap();
    assert_eq!(store.read(&key("c"), 0..1).await, Err(StoreError::NotFound(key("c"))));
    assert_eq!(store.read(&key("c"), 0..0).await, Err(StoreError::NotFound(key("c"))));
}

#[tokio::test]
async fn a_key_cannot_leave_the_root_or_hide() {
    let keep = tempfile::tempdir().unwrap();
    let store = Directory::open(keep.path().join("bucket"), Durability::Fsync).unwrap();
    for bad in [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        ".hidden",
        ".staging/x",
        "a\\b",
        "a\0b",
    ] {
        for refused in [
            store.create(&key(bad), data()).await,
            store.read(&key(bad), 0..1).await.map(|_| ()),
            store.delete(&key(bad)).await,
        ] {
            assert!(
                matches!(refused, Err(StoreError::Failed { .. })),
                "{bad:?}: {refused:?}"
            );
        }
    }
    assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 1);
}

#[test]
fn only_stale_leftovers_of_crashed_writers_are_swept() {
    let keep = tempfile::tempdir().unwrap();
    // Each in a lane of its own: the newest file of all says what time it is.
    let lane = |lane: u64| super::staging_lane(keep.path(), lane);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (nth, (name, age_seconds)) in (0..).zip([("fresh", 0), ("young", 3_000), ("stale", 4_000)]) {
        fs::create_dir_all(lane(nth)).unwrap();
        let file = File::create(lane(nth).join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(age_seconds)).unwrap();
    }
    Directory::open(keep.path(), Durability::Fsync).unwrap();
    assert_eq!(staged(keep.path()), ["fresh", "young"]);
}

#[tokio::test]
async fn two_that_use_the_same_directory_do_not_share_staged_files() {
    let keep = tempfile::tempdir().unwrap();
    let stores = [(); 2].map(|()| Directory::open(keep.path(), Durability::PageCache).unwrap());
    let writes = (0..100_u8).map(|nth| {
        let store = stores[usize::from(nth % 2)].clone();
        async move {
            let key = key(&format!("c/{nth}"));
            store.create(&key, vec![vec![nth; 50_000].into()]).await.unwrap();
            let read = store.read(&key, 0..50_000).await.unwrap();
            assert!(read.iter().all(|&byte| byte == nth), "object {nth}");
        }
    });
    futures::future::join_all(writes).await;
}
