//! The real directory: locking, restarts, kills, leases of the dead.

use std::time::Duration;

use esker_metadata::embedded::disk::DirectoryError;
use esker_metadata::embedded::{EmbeddedError, EmbeddedStore, Settings};
use esker_metadata::store::{KeyRange, MetadataError, MetadataStore, Op, Revision, Txn};

use crate::{all, names, put};

#[tokio::test]
async fn a_directory_belongs_to_one_store_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/yet/there");
    let store = EmbeddedStore::open(&path, Settings::default()).await.unwrap();
    let second = EmbeddedStore::open(&path, Settings::default()).await;
    let error = second.expect_err("two stores on one directory");
    assert!(
        matches!(&error, EmbeddedError::Directory(DirectoryError::InUse { .. })),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        format!("data directory {} is in use by another process", path.display())
    );
    store.close().await;
    EmbeddedStore::open(&path, Settings::default())
        .await
        .expect("free again");
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .unwrap();
    for round in 0..5 {
        store.txn(put("a", &round.to_string())).await.unwrap();
        store.txn(put(&format!("k{round}"), "x")).await.unwrap();
    }
    store
        .txn(Txn {
            then: vec![Op::Delete("k1".into())],
            ..Txn::default()
        })
        .await
        .unwrap();
    let before = (all(&store).await, store.snapshot(vec![]).await.unwrap().revision);
    store.close().await;
    let store = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .unwrap();
    assert_eq!(
        (all(&store).await, store.snapshot(vec![]).await.unwrap().revision),
        before
    );
    let next = store.txn(put("a", "next")).await.unwrap().revision;
    assert_eq!(next.0, before.1.0 + 1, "revisions go on where they were");
    let gone = store.watch("".into(), Revision(1)).await.err();
    assert_eq!(
        gone,
        Some(MetadataError::Compacted { oldest: next }),
        "history does not survive"
    );
}

#[tokio::test]
async fn leases_end_with_the_process_that_held_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .unwrap();
    let lease = store.grant_lease(Duration::from_secs(600)).await.unwrap();
    let then = vec![
        Op::Put {
            key: "leased".into(),
            value: "x".into(),
            lease: lease.id,
        },
        Op::put("free".into(), "x".into()),
    ];
    let before = store.txn(Txn { then, ..Txn::default() }).await.unwrap().revision;
    store.close().await;
    let store = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .unwrap();
    assert_eq!(names(&store).await, ["free"]);
    assert_eq!(
        store.snapshot(vec![]).await.unwrap().revision.0,
        before.0 + 1,
        "their end is a change like others"
    );
    assert_eq!(store.keep_alive(lease.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = EmbeddedStore::in_memory(esker_metadata::keyspace::Limits::default());
    let other = store.clone();
    let mut watch = other.watch("".into(), Revision(2)).await.unwrap();
    store.close().await;
    assert!(matches!(other.txn(put("a", "x")).await, Err(MetadataError::Failed(_))));
    assert!(other.snapshot(vec![KeyRange::Prefix("".into())]).await.is_err());
    assert!(watch.next().await.is_err());
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("metadata.journal"),
        b"hello, I am a text file and long enough to be read",
    )
    .unwrap();
    let error = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .expect_err("not ours");
    assert!(matches!(error, EmbeddedError::Open(_)), "{error}");
}

#[tokio::test]
async fn metadata_of_an_earlier_build_is_refused_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let earlier = directory.path().join("metadata.redb");
    std::fs::write(&earlier, b"redb").unwrap();
    let error = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .expect_err("it cannot be read");
    assert!(
        matches!(&error, EmbeddedError::Directory(DirectoryError::Earlier { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("esker recover --new-incarnation"), "{error}");
    assert_eq!(std::fs::read(&earlier).unwrap(), b"redb");
    assert!(
        !directory.path().join("metadata.journal").exists(),
        "nothing is founded"
    );
}

/// The child of [`a_killed_process_loses_nothing_that_was_acknowledged`]: writes until it is killed, and says what is done.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("ESKER_TEST_CHILD_DIRECTORY") else {
        return;
    };
    let store = EmbeddedStore::open(std::path::Path::new(&path), Settings::default())
        .await
        .unwrap();
    for number in 0..u64::MAX {
        store.txn(put(&format!("k/{number:012}"), "x")).await.unwrap();
        println!("done {number}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=3_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "directory::child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env("ESKER_TEST_CHILD_DIRECTORY", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut done = lines.filter_map(|line| line.split("done ").nth(1)?.parse::<u64>().ok());
        let acknowledged = done.by_ref().take(20).last().unwrap();
        child.kill().unwrap();
        let acknowledged = done.last().unwrap_or(acknowledged);
        child.wait().unwrap();
        let store = EmbeddedStore::open(directory.path(), Settings::default())
            .await
            .unwrap();
        let found = u64::try_from(all(&store).await.len()).unwrap();
        assert!(
            found > acknowledged,
            "round {round}: {found} keys, {acknowledged} was acknowledged"
        );
        store.close().await;
    }
}
