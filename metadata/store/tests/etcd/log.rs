//! The commit log over etcd: what the simulated store cannot show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::etcd::EtcdStore;
use esker_metadata::keys::record;
use esker_metadata::log::{
    Cluster as EskerCluster, CommitResult, Committer, CommitterSettings, FollowEnd, Follower, FollowerSettings,
    HistoryKept, LogHandle, PublishedRoot, RootOutcome, Truncation, bootstrap, publish_root,
};
use esker_metadata::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Op, Revision, Snapshot, Txn, TxnOutcome, Watch,
};
use esker_segment::id::{CommitNumber, LogIndex};
use tokio::time::{Instant, timeout};

use crate::PATIENCE;
use crate::recorder::{Following, Recorder, Scene, commit, committed, run};
use crate::servers::{Cluster, Version};

/// A store whose answers are lost, and that does something before it opens a watch, when told to.
struct Meddled {
    inner: EtcdStore,
    loses_answers: AtomicBool,
    watches: AtomicU64,
    before_watch: tokio::sync::Mutex<Option<Meddling>>,
}

type Meddling = futures::future::BoxFuture<'static, ()>;

impl Meddled {
    fn new(inner: EtcdStore) -> Arc<Self> {
        Arc::new(Self {
            inner,
            loses_answers: AtomicBool::new(false),
            watches: AtomicU64::new(0),
            before_watch: tokio::sync::Mutex::default(),
        })
    }
}

#[async_trait]
impl MetadataStore for Meddled {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        let answer = self.inner.txn(txn).await;
        if self.loses_answers.load(Ordering::Relaxed) {
            return Err(MetadataError::Unknown("lost on purpose".to_owned()));
        }
        answer
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        self.inner.snapshot(ranges).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        self.watches.fetch_add(1, Ordering::Relaxed);
        let meddling = self.before_watch.lock().await.take();
        if let Some(meddling) = meddling {
            meddling.await;
        }
        self.inner.watch(prefix, from).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        self.inner.revoke_lease(lease).await
    }

    fn keeps_order(&self) -> bool {
        self.inner.keeps_order()
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        self.inner.compact(revision).await
    }
}

async fn scene(store: Arc<dyn MetadataStore>) -> Scene {
    Scene::new(bootstrap(store, 7).await.unwrap())
}

async fn commit_many(scene: &Scene, what: &str, count: usize) {
    let (_session, committer) = scene.committer().await;
    let mut pending = Vec::new();
    for at in 0..count {
        pending.push(committer.submit(commit(&format!("{what} {at}"))).await.unwrap());
    }
    for result in futures::future::join_all(pending).await {
        assert!(matches!(result, CommitResult::Committed { .. }), "{result:?}");
    }
}

/// Publishes what a follower has.
async fn publish(scene: &Scene, following: &Following, seen: Option<Revision>) -> Box<PublishedRoot> {
    following.catch_up().await;
    let leader = scene.session().await;
    let entries = following.recorder.get().entries.clone();
    let root = scene.checkpoint(&entries);
    let outcome = publish_root(&scene.cluster, seen, vec![leader.compare()], root, vec![]).await;
    match outcome.unwrap() {
        RootOutcome::Published(published) => published,
        other => panic!("{other:?}"),
    }
}

async fn truncate_and_forget(following: &Following, root: &PublishedRoot, store: &EtcdStore) {
    let mut truncation = Truncation::new(following.log.clone(), HistoryKept::default());
    truncation.truncate(root).await.unwrap();
    let now = store.snapshot(vec![]).await.unwrap().revision;
    store.compact(now).await.unwrap();
}

async fn records(store: &EtcdStore) -> usize {
    let snapshot = store
        .snapshot(vec![KeyRange::Prefix(record::PREFIX.into())])
        .await
        .unwrap();
    snapshot.ranges[0].len()
}

/// etcd would apply the identical transaction again once its record is gone, were it not for the counter (reliability.md,
/// section 2). LOG-1, IDM-1.
#[tokio::test]
async fn a_record_truncated_before_it_is_sent_again_is_not_written_twice() {
    for version in [Version::V3_4, Version::V3_6] {
        let server = Cluster::start(version, 1, &[]).await;
        let store = Meddled::new(server.store("esker").await);
        let scene = scene(store.clone()).await;
        let following = scene.follow();
        let (session, committer) = scene.committer().await;
        store.loses_answers.store(true, Ordering::Relaxed);
        let pending = committer.submit(commit("a")).await.unwrap();
        following.log.barrier().await.unwrap();
        while following.texts().is_empty() {
            following.log.barrier().await.unwrap();
        }
        let record = record::key(session.id(), CommitNumber(1));
        let removed = store.inner.txn(Txn {
            then: vec![Op::Delete(record)],
            ..Txn::default()
        });
        removed.await.unwrap();
        store.loses_answers.store(false, Ordering::Relaxed);
        let result = timeout(PATIENCE, pending).await.expect("an answer");
        assert!(matches!(result, CommitResult::Committed { .. }), "{result:?}");
        assert_eq!(records(&store.inner).await, 0, "not written again");
        assert_eq!(run(&committer, commit("b")).await, committed(2, 2));
        following.catch_up().await;
        assert_eq!(following.texts(), ["a", "b"]);
    }
}

#[tokio::test]
async fn a_follower_whose_history_was_compacted_reads_again() {
    for version in [Version::V3_4, Version::V3_6] {
        let server = Cluster::start(version, 1, &[]).await;
        let store = server.store("esker").await;
        let meddled = Meddled::new(store.clone());
        let leading = scene(Arc::new(store.clone())).await;
        commit_many(&leading, "first", 20).await;
        let lagging = Scene {
            cluster: EskerCluster {
                store: meddled.clone(),
                ..leading.cluster.clone()
            },
            checkpoints: leading.checkpoints.clone(),
        };
        // Between the follower's read and its watch, what it would watch is committed, truncated and compacted.
        let scene = leading.clone();
        let leader = leading.follow();
        let (log, recorder) = (leader.log.clone(), leader.recorder.clone());
        *meddled.before_watch.lock().await = Some(Box::pin(async move {
            commit_many(&scene, "then", 30).await;
            let end = tokio::spawn(std::future::pending());
            let following = Following { recorder, log, end };
            let root = publish(&scene, &following, None).await;
            truncate_and_forget(&following, &root, &store).await;
        }));
        let follower = lagging.follow();
        while follower.catch_up().await < LogIndex(50) {}
        leader.catch_up().await;
        assert_eq!(follower.texts(), leader.texts());
        assert_eq!(follower.recorder.get().loads, [LogIndex(0), LogIndex(50)]);
        assert_eq!(meddled.watches.load(Ordering::Relaxed), 2, "the first was refused");
    }
}

/// etcd #15247: a stalled leader may end every lease at once. It costs latency, and nothing else.
#[tokio::test]
async fn all_leases_revoked_at_once_cost_only_latency() {
    let server = Cluster::start(Version::V3_6, 1, &[]).await;
    let scene = scene(Arc::new(server.store("esker").await)).await;
    let following = scene.follow();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let sessions = futures::future::join_all((0..8).map(|_| scene.committer())).await;
        let mut pending = Vec::new();
        for (at, (_, committer)) in sessions.iter().enumerate() {
            let text = format!("{round}/{at}");
            pending.push((text.clone(), committer.submit(commit(&text)).await.unwrap()));
        }
        for lease in server.ctl(&[0], &["lease", "list"]).lines().skip(1) {
            server.ctl(&[0], &["lease", "revoke", lease.trim()]);
        }
        for (text, pending) in pending {
            match timeout(PATIENCE, pending).await.expect("an answer") {
                CommitResult::Committed { .. } => acknowledged.push(text),
                CommitResult::SessionLost | CommitResult::Undecided => {}
                refused @ CommitResult::Refused { .. } => panic!("{refused:?}"),
            }
        }
        for (session, committer) in &sessions {
            timeout(PATIENCE, session.lost()).await.expect("the session knows");
            assert_eq!(run(committer, commit("too late")).await, CommitResult::SessionLost);
        }
    }
    // New sessions go on at once.
    let begun = Instant::now();
    let (_session, committer) = scene.committer().await;
    assert!(matches!(
        run(&committer, commit("on")).await,
        CommitResult::Committed { .. }
    ));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    following.catch_up().await;
    let texts = following.texts();
    for text in acknowledged {
        assert_eq!(texts.iter().filter(|other| **other == text).count(), 1, "{text}");
    }
    assert!(!texts.iter().any(|text| text == "too late"));
}

/// A follower that only moves while somebody looks at it, as a process that is stopped and continued.
struct Stoppable {
    run: futures::future::BoxFuture<'static, FollowEnd>,
    log: LogHandle,
    recorder: Recorder,
}

impl Stoppable {
    fn new(scene: &Scene) -> Self {
        let recorder = scene.recorder();
        let sink = Box::new(recorder.clone());
        let (follower, log) = Follower::new(scene.cluster.clone(), sink, FollowerSettings::default());
        Self {
            run: Box::pin(follower.run()),
            log,
            recorder,
        }
    }

    /// Runs until everything is applied that was committed before, or following ends.
    async fn catch_up(&mut self) -> Result<LogIndex, FollowEnd> {
        let log = self.log.clone();
        tokio::select! {
            biased;
            end = &mut self.run => Err(end),
            index = log.barrier() => Ok(index.unwrap()),
        }
    }
}

/// Nothing acknowledged is lost or doubled while leaders of etcd are killed, and commits go on within seconds.
#[tokio::test]
async fn a_killed_etcd_leader_costs_only_latency() {
    for version in [Version::V3_4, Version::V3_6] {
        let mut servers = Cluster::start(version, 3, &[]).await;
        let scene = scene(Arc::new(servers.store("esker").await)).await;
        let following = scene.follow();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (scene, stop) = (scene.clone(), Arc::clone(&stop));
                tokio::spawn(async move { write_until(&scene, writer, &stop).await })
            })
            .collect();
        let mut longest = Duration::ZERO;
        for _ in 0..2 {
            wait_for_commits(&following, 200).await;
            let leader = servers.leader();
            let begun = Instant::now();
            servers.kill(leader);
            wait_for_commits(&following, 50).await;
            longest = longest.max(begun.elapsed());
            servers.run(leader);
            servers.wait_for(leader).await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(timeout(PATIENCE, writer).await.expect("writers end").unwrap());
        }
        following.catch_up().await;
        let mut texts = following.texts();
        texts.sort_unstable();
        assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "nothing twice");
        for text in &acknowledged {
            assert!(texts.binary_search(text).is_ok(), "{text} was acknowledged and is lost");
        }
        println!(
            "{version:?}: {} acknowledged, longest pause {longest:?}",
            acknowledged.len()
        );
        assert!(longest < Duration::from_secs(10), "{longest:?}");
    }
}

/// Commits one after the other, with a new session when one is lost. What is undecided is not written again.
async fn write_until(scene: &Scene, writer: usize, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let session = scene.session().await;
        let committer = Committer::start(&session, None, CommitterSettings::default());
        while !stop.load(Ordering::Relaxed) {
            let text = format!("{writer}/{number}");
            number += 1;
            match run(&committer, commit(&text)).await {
                CommitResult::Committed { .. } => acknowledged.push(text),
                CommitResult::SessionLost | CommitResult::Undecided => break,
                refused @ CommitResult::Refused { .. } => panic!("{refused:?}"),
            }
        }
    }
    acknowledged
}

async fn wait_for_commits(following: &Following, more: usize) {
    let wanted = following.recorder.get().entries.len() + more;
    let waiting = async {
        while following.recorder.get().entries.len() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("commits go on");
}

/// A backup of etcd, restored under processes that go on: they stop, because what they know is not there any more. LOG-1.
#[tokio::test]
async fn a_store_restored_from_a_backup_ends_following() {
    for version in [Version::V3_4, Version::V3_6] {
        for (after_backup, after_restore) in [(1, 0), (20, 0), (5, 40)] {
            let mut server = Cluster::start(version, 1, &[]).await;
            let scene = scene(Arc::new(server.store("esker").await)).await;
            commit_many(&scene, "first", 10).await;
            let backup = server.back_up();
            commit_many(&scene, "lost", after_backup).await;
            let mut stopped = Stoppable::new(&scene);
            stopped.catch_up().await.unwrap();
            server.kill(0);
            server.restore(&backup);
            server.run(0);
            server.wait_for(0).await;
            // Another process comes first and goes on from the backup, perhaps beyond what the stopped one knows.
            let other = Scene::new(bootstrap(Arc::new(server.store("esker").await), 8).await.unwrap());
            commit_many(&other, "instead", after_restore).await;
            let end = timeout(PATIENCE, &mut stopped.run).await.expect("following ends");
            println!("{version:?} {after_backup} {after_restore}: {end}");
            match (after_restore, end) {
                (0, FollowEnd::WentBack { .. } | FollowEnd::RevisionWentBack { .. }) => {}
                (40, FollowEnd::Diverged { index: LogIndex(11) }) => {}
                (_, other) => panic!("{after_backup} {after_restore}: {other:?}"),
            }
        }
    }
}

/// An agent that was away reads everything, at one revision, in pages. `ESKER_REJOIN` says how many entries: 20,000 is what
/// is promised, and takes minutes to write.
#[tokio::test]
async fn a_stopped_follower_rejoins_over_many_large_entries() {
    let entries: usize = std::env::var("ESKER_REJOIN").map_or(1_000, |count| count.parse().unwrap());
    let server = Cluster::start(Version::V3_6, 1, &["--quota-backend-bytes=8589934592"]).await;
    let scene = scene(Arc::new(server.store("esker").await)).await;
    let mut stopped = Stoppable::new(&scene);
    commit_many(&scene, "first", 10).await;
    stopped.catch_up().await.unwrap();
    let (_session, committer) = scene.committer().await;
    let mut pending = std::collections::VecDeque::new();
    for at in 0..entries {
        let mut record = format!("{at} ");
        record.push_str(&"x".repeat((64 << 10) - record.len()));
        pending.push_back(committer.submit(commit(&record)).await.unwrap());
        if pending.len() > 16 {
            pending.pop_front().unwrap().await;
        }
    }
    for result in futures::future::join_all(pending).await {
        assert!(matches!(result, CommitResult::Committed { .. }), "{result:?}");
    }
    for (what, mut follower) in [("stopped", stopped), ("new", Stoppable::new(&scene))] {
        let begun = Instant::now();
        let index = timeout(Duration::from_secs(300), follower.catch_up())
            .await
            .expect("in time");
        assert_eq!(index, Ok(LogIndex(entries as u64 + 10)));
        let recorded = follower.recorder.get();
        let is_entry = |at: usize| {
            recorded.entries[at + 10]
                .record
                .starts_with(format!("{at} ").as_bytes())
        };
        assert!((0..entries).all(is_entry), "each once, in order");
        println!(
            "{what} follower over {entries} entries of 64 KiB: {:?}",
            begun.elapsed()
        );
    }
}
