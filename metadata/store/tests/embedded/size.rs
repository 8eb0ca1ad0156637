//! The file stays small as long as the log is truncated.

use std::collections::VecDeque;

use bytes::Bytes;
use esker_metadata::embedded::{EmbeddedStore, Settings};
use esker_metadata::store::{MetadataStore, Op, Txn};
use futures::future::join_all;

/// 200 commits a second, a checkpoint each 4,096 of them: this many checkpoints are a good part of an hour. The file finds its size
/// in the first few.
const CHECKPOINTS: u64 = 6;
const COMMITS: u64 = 4_096;
const RECORD_BYTES: usize = 512;

#[tokio::test]
async fn a_truncated_log_does_not_grow_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        fsync: false,
        ..Settings::default()
    };
    let store = EmbeddedStore::open(directory.path(), settings).await.unwrap();
    let mut live: VecDeque<Bytes> = VecDeque::new();
    let mut sizes = Vec::new();
    for checkpoint in 0..CHECKPOINTS {
        for group in 0..COMMITS / 64 {
            let first = checkpoint * COMMITS + group * 64;
            let keys: Vec<Bytes> = (first..first + 64)
                .map(|n| format!("log/e/1/{n:016x}").into())
                .collect();
            let commits = keys.iter().map(|key| {
                let then = vec![
                    Op::put("commit/1".into(), Bytes::from_static(b"0123456789abcdef0")),
                    Op::put(key.clone(), vec![3; RECORD_BYTES].into()),
                    Op::put("log/head".into(), Bytes::from_static(b"0123456789abc")),
                ];
                store.txn(Txn { then, ..Txn::default() })
            });
            assert!(join_all(commits).await.iter().all(Result::is_ok));
            live.extend(keys);
        }
        while !live.is_empty() {
            let then = live.drain(..live.len().min(100)).map(Op::Delete).collect();
            store.txn(Txn { then, ..Txn::default() }).await.unwrap();
        }
        sizes.push(
            std::fs::metadata(directory.path().join("metadata.journal"))
                .unwrap()
                .len(),
        );
    }
    let (second, last) = (sizes[1], sizes[sizes.len() - 1]);
    assert!(last <= 64 << 20, "{sizes:?}");
    assert!(last <= second + second / 2, "the file goes on growing: {sizes:?}");
}
