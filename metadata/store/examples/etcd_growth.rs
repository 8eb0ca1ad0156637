//! Measures what a log that nobody merges leaves in etcd: `cargo run --release -p esker-metadata --example etcd_growth --
//! ENDPOINT [COMMITS]`.
//!
//! Owns: the numbers in `docs/decisions/0402-history-in-etcd-is-bounded-in-bytes.md`. Commits records of 16 KiB as fast as
//! etcd takes them, publishes a root after every 3,000 (30 seconds of 100 a second; the objects of a checkpoint are left out),
//! truncates and compacts as the leader does. 180,000 commits are 30 minutes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers, which prints"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::etcd::{EtcdSettings, EtcdStore};
use esker_metadata::keys::root::{ObjectRef, Root};
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::log::{
    AppliedCommit, Commit, CommitResult, Committer, CommitterSettings, Follower, FollowerSettings, HistoryKept,
    LogSink, RootOutcome, Session, SinkError, Truncation, bootstrap, publish_root,
};
use esker_metadata::store::MetadataStore;
use esker_segment::id::{IncarnationNumber, LogIndex, SegmentNumber, SessionId};
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use tokio::time::Instant;

const RECORD_BYTES: usize = 16 << 10;
const CHECKPOINT_COMMITS: usize = 3_000;

/// A fold of nothing.
struct Nothing;

#[async_trait]
impl LogSink for Nothing {
    async fn load_checkpoint(&mut self, _root: Option<&Root>) -> Result<(), SinkError> {
        Ok(())
    }

    fn apply(&mut self, _commit: AppliedCommit) -> Result<(), SinkError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().expect("ENDPOINT");
    let commits: usize = arguments.next().map_or(180_000, |count| count.parse().unwrap());
    let store = EtcdStore::connect(EtcdSettings::new(vec![endpoint], "growth"))
        .await
        .unwrap();
    let shared: Arc<dyn MetadataStore> = Arc::new(store.clone());
    let cluster = bootstrap(shared, 1).await.unwrap();
    let (follower, log) = Follower::new(cluster.clone(), Box::new(Nothing), FollowerSettings::default());
    tokio::spawn(follower.run());
    let session = Session::open(&cluster, |_| SessionInfo::default(), Duration::from_secs(5))
        .await
        .unwrap();
    let committer = Committer::start(&session, None, CommitterSettings::default());
    let mut truncation = Truncation::new(log.clone(), HistoryKept::default());
    let (mut seen, mut in_use_max) = (None, 0);
    let begun = Instant::now();
    let mut left = commits;
    while left > 0 {
        let some = left.min(CHECKPOINT_COMMITS);
        left -= some;
        commit_some(&committer, some).await;
        let index = log.barrier().await.unwrap();
        in_use_max = in_use_max.max(report(&store, "before", commits - left, begun).await);
        let outcome = publish_root(&cluster, seen, vec![session.compare()], root(index), vec![])
            .await
            .unwrap();
        let RootOutcome::Published(root) = outcome else {
            panic!("{outcome:?}")
        };
        seen = Some(root.revision);
        truncation.truncate(&root).await.unwrap();
        truncation.compact().await.unwrap();
        in_use_max = in_use_max.max(report(&store, "after", commits - left, begun).await);
    }
    if let Some((applied, _)) = store.examine().await[0].applied_and_snapshots {
        println!("{applied} transactions were proposed");
    }
    println!(
        "{commits} commits in {:?}: at most {in_use_max} MiB in use",
        begun.elapsed()
    );
}

async fn commit_some(committer: &Committer, count: usize) {
    let mut pending = VecDeque::new();
    for at in 0..count {
        let mut record = vec![0; RECORD_BYTES];
        record[..8].copy_from_slice(&at.to_le_bytes());
        let commit = Commit {
            record: Bytes::from(record),
            ..Commit::default()
        };
        pending.push_back(committer.submit(commit).await.unwrap());
        if pending.len() >= 16 {
            settled(pending.pop_front().unwrap().await);
        }
    }
    for pending in pending {
        settled(pending.await);
    }
}

fn settled(result: CommitResult) {
    assert!(matches!(result, CommitResult::Committed { .. }), "{result:?}");
}

/// Prints sizes, and says how many MiB are in use.
async fn report(store: &EtcdStore, when: &str, commits: usize, begun: Instant) -> u64 {
    let member = store
        .examine()
        .await
        .into_iter()
        .next()
        .expect("the only member answers");
    let (in_use, file) = (member.in_use_bytes >> 20, member.database_bytes >> 20);
    let resident = member.resident_bytes.unwrap_or_default() >> 20;
    println!(
        "{commits:>7} commits, {when:<6} {:>5.0?} s: in use {in_use:>4} MiB, file {file:>4} MiB, memory {resident:>5} MiB {:?}",
        begun.elapsed().as_secs(),
        member.worries()
    );
    in_use
}

fn root(index: LogIndex) -> Root {
    let name = SegmentName {
        incarnation: IncarnationNumber(1),
        session: SessionId(1),
        number: SegmentNumber(index.0),
        attempt: 0,
    };
    let name = ObjectName::Other {
        kind: ObjectKind::State,
        name,
    };
    Root {
        index,
        revision: esker_metadata::store::Revision(0),
        digest: u128::from(index.0),
        state: ObjectRef {
            name,
            length_bytes: 1,
            digest: 0,
        },
        indexes: Vec::new(),
        manifest: None,
        merged_through: LogIndex(0),
    }
}
