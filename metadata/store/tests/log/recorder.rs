//! A sink that remembers everything, and the little that tests of the log need around a cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_metadata::keys::root::{ObjectRef, Root};
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::keys::topic::Topic;
use esker_metadata::log::{
    AppliedCommit, Cluster, Commit, CommitResult, Committer, CommitterSettings, FollowEnd, Follower, FollowerSettings,
    LogHandle, LogSink, Session, SinkError,
};
use esker_metadata::store::{KeyValue, Revision};
use esker_segment::id::{CommitNumber, IncarnationNumber, LogIndex, SegmentNumber, SessionId};
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use tokio::task::JoinHandle;

pub(crate) const TTL: Duration = Duration::from_secs(5);

/// A cluster in some store.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) checkpoints: Checkpoints,
}

/// Checkpoints by their log index: the entries up to there. The bucket, as it were.
pub(crate) type Checkpoints = Arc<Mutex<BTreeMap<LogIndex, Vec<Entry>>>>;

/// A commit as a sink has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: LogIndex,
    pub(crate) session: SessionId,
    pub(crate) number: CommitNumber,
    pub(crate) record: Bytes,
}

/// Everything a sink was told.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The whole log, with what came from checkpoints.
    pub(crate) entries: Vec<Entry>,
    /// Indexes of checkpoints that were loaded.
    pub(crate) loads: Vec<LogIndex>,
    pub(crate) roots: Vec<LogIndex>,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) sessions: BTreeMap<SessionId, SessionInfo>,
    pub(crate) owners: BTreeMap<u16, (SessionId, Revision)>,
    pub(crate) others: BTreeMap<Bytes, Bytes>,
    /// Loads that fail before one succeeds.
    pub(crate) loads_to_fail: u32,
}

/// A sink that remembers.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) recorded: Arc<Mutex<Recorded>>,
    pub(crate) checkpoints: Checkpoints,
}

impl Recorder {
    pub(crate) fn get(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap()
    }
}

#[async_trait]
impl LogSink for Recorder {
    async fn load_checkpoint(&mut self, root: Option<&Root>) -> Result<(), SinkError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut recorded = self.get();
        if recorded.loads_to_fail > 0 {
            recorded.loads_to_fail -= 1;
            return Err(SinkError("injected".to_owned()));
        }
        let index = root.map_or(LogIndex(0), |root| root.index);
        let entries = match root {
            Some(_) => self
                .checkpoints
                .lock()
                .unwrap()
                .get(&index)
                .cloned()
                .expect("a published checkpoint exists"),
            None => Vec::new(),
        };
        assert!(
            recorded.entries.len() <= entries.len(),
            "a checkpoint never takes the fold back"
        );
        assert_eq!(
            recorded.entries[..],
            entries[..recorded.entries.len()],
            "a checkpoint agrees with the log"
        );
        recorded.entries = entries;
        recorded.loads.push(index);
        Ok(())
    }

    fn apply(&mut self, commit: AppliedCommit) -> Result<(), SinkError> {
        let AppliedCommit {
            index,
            session,
            number,
            record,
            revision: _,
        } = commit;
        let mut recorded = self.get();
        assert_eq!(
            index.0,
            recorded.entries.len() as u64 + 1,
            "dense, in order, exactly once"
        );
        recorded.entries.push(Entry {
            index,
            session,
            number,
            record,
        });
        Ok(())
    }

    fn on_root(&mut self, root: &Root) {
        let mut recorded = self.get();
        assert!(
            root.index.0 <= recorded.entries.len() as u64,
            "a root is never ahead of the log"
        );
        recorded.roots.push(root.index);
    }

    fn on_topic(&mut self, name: &str, topic: Option<&Topic>) {
        match topic {
            Some(topic) => self.get().topics.insert(name.to_owned(), topic.clone()),
            None => self.get().topics.remove(name),
        };
    }

    fn on_session(&mut self, session: SessionId, info: Option<&SessionInfo>) {
        match info {
            Some(info) => self.get().sessions.insert(session, info.clone()),
            None => self.get().sessions.remove(&session),
        };
    }

    fn on_owner(&mut self, shard: u16, owner: Option<(SessionId, Revision)>) {
        match owner {
            Some(owner) => self.get().owners.insert(shard, owner),
            None => self.get().owners.remove(&shard),
        };
    }

    fn on_key(&mut self, key: &Bytes, kv: Option<&KeyValue>) {
        match kv {
            Some(kv) => self.get().others.insert(key.clone(), kv.value.clone()),
            None => self.get().others.remove(key),
        };
    }
}

/// A running follower.
pub(crate) struct Following {
    pub(crate) recorder: Recorder,
    pub(crate) log: LogHandle,
    pub(crate) end: JoinHandle<FollowEnd>,
}

impl Following {
    /// The records in log order, as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.recorder
            .get()
            .entries
            .iter()
            .map(|entry| text(&entry.record))
            .collect()
    }

    /// Waits until everything committed so far is applied.
    pub(crate) async fn catch_up(&self) -> LogIndex {
        self.log.barrier().await.unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.end.abort();
    }
}

impl Scene {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            checkpoints: Checkpoints::default(),
        }
    }

    pub(crate) fn recorder(&self) -> Recorder {
        Recorder {
            recorded: Arc::default(),
            checkpoints: self.checkpoints.clone(),
        }
    }

    pub(crate) fn follow(&self) -> Following {
        self.follow_with(self.recorder(), FollowerSettings::default())
    }

    pub(crate) fn follow_with(&self, recorder: Recorder, settings: FollowerSettings) -> Following {
        let (follower, log) = Follower::new(self.cluster.clone(), Box::new(recorder.clone()), settings);
        Following {
            recorder,
            log,
            end: tokio::spawn(follower.run()),
        }
    }

    /// Opens a session, however often it takes.
    pub(crate) async fn session(&self) -> Session {
        loop {
            match Session::open(&self.cluster, |_| SessionInfo::default(), TTL).await {
                Ok(session) => return session,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    pub(crate) async fn committer(&self) -> (Session, Committer) {
        let session = self.session().await;
        let committer = Committer::start(&session, None, CommitterSettings::default());
        (session, committer)
    }

    /// The root for a checkpoint of these entries, whose "objects" are written first.
    pub(crate) fn checkpoint(&self, entries: &[Entry]) -> Root {
        let index = entries.last().map_or(LogIndex(0), |entry| entry.index);
        self.checkpoints.lock().unwrap().insert(index, entries.to_vec());
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
            revision: Revision(0),
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
}

pub(crate) fn commit(record: &str) -> Commit {
    Commit {
        record: Bytes::copy_from_slice(record.as_bytes()),
        ..Commit::default()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Submits and waits for the result.
pub(crate) async fn run(committer: &Committer, commit: Commit) -> CommitResult {
    committer.submit(commit).await.unwrap().await
}

pub(crate) fn committed(number: u64, index: u64) -> CommitResult {
    CommitResult::Committed {
        number: CommitNumber(number),
        index: Some(LogIndex(index)),
    }
}
