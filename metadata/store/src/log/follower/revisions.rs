//! What has reached the sink so far, and what a revision or a listing adds to it.
//!
//! Owns: the order of calls to the sink; the position. Pure but for the sink itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use esker_segment::id::LogIndex;

use super::listing::{FOLLOWED, Listing};
use super::sink::{AppliedCommit, LogSink};
use super::{FollowEnd, Trouble};
use crate::keys::head::Head;
use crate::keys::root::Root;
use crate::keys::session::SessionInfo;
use crate::keys::topic::Topic;
use crate::keys::{head, incarnation, owner, record, root, session, topic};
use crate::log::Cluster;
use crate::log::position::{LiveRecord, Shared};
use crate::log::recent::Applied;
use crate::signal;
use crate::store::{KeyValue, Revision, WatchEvent};

/// Records that are remembered for truncation; far more than a log that is truncated ever has.
const LIVE_MAX: usize = 1 << 18;

/// What has reached the sink.
pub(super) struct Tracker {
    cluster: Cluster,
    sink: Box<dyn LogSink>,
    shared: Arc<Shared>,
    position: signal::Sender<Option<LogIndex>>,
    /// Everything up to this revision has reached the sink.
    seen: Revision,
    /// The followed keys as the sink knows them.
    known: BTreeMap<Bytes, Revision>,
    root_seen: Option<Revision>,
    /// The last commit that was applied, and when it was made.
    last: Option<(LogIndex, Revision)>,
    followed: Vec<Bytes>,
}

/// Something for the sink, at a revision.
enum Item {
    Key(KeyValue),
    Root(Root, Revision),
    Commit(AppliedCommit),
}

impl Item {
    /// Keys come before the record of the same revision.
    const fn order(&self) -> (Revision, u8) {
        match self {
            Self::Key(kv) => (kv.mod_revision, 0),
            Self::Root(_, revision) => (*revision, 1),
            Self::Commit(commit) => (commit.revision, 2),
        }
    }
}

/// Splits events, which come in order, by revision.
pub(super) fn by_revision(events: Vec<WatchEvent>) -> Vec<(Revision, Vec<WatchEvent>)> {
    let mut groups: Vec<(Revision, Vec<WatchEvent>)> = Vec::new();
    for event in events {
        match groups.last_mut() {
            Some((revision, group)) if *revision == event.revision() => group.push(event),
            _ => groups.push((event.revision(), vec![event])),
        }
    }
    groups
}

impl Tracker {
    pub(super) fn new(
        cluster: &Cluster,
        sink: Box<dyn LogSink>,
        shared: Arc<Shared>,
        position: signal::Sender<Option<LogIndex>>,
        also: &[Bytes],
    ) -> Self {
        let mut followed: Vec<Bytes> = FOLLOWED
            .iter()
            .map(|prefix| Bytes::from_static(prefix.as_bytes()))
            .collect();
        followed.extend(also.iter().cloned());
        Self {
            cluster: cluster.clone(),
            sink,
            shared,
            position,
            seen: Revision(0),
            known: BTreeMap::new(),
            root_seen: None,
            last: None,
            followed,
        }
    }

    /// Whether nothing has reached the sink yet.
    pub(super) fn is_empty(&self) -> bool {
        self.position.get().is_none()
    }

    /// Whether the records must be read to go on from here.
    pub(super) fn lacks_records(&self, listing: &Listing) -> Result<bool, FollowEnd> {
        let Some(applied) = self.position.get() else {
            return Ok(listing.records.is_none());
        };
        if listing.head < applied {
            return Err(FollowEnd::WentBack {
                applied,
                head: listing.head,
            });
        }
        // A store that went back and grew again by as many commits has others at these indexes.
        if let (Some((index, made)), Some(found)) = (self.last, listing.head_at)
            && index == applied
            && listing.head == applied
            && made != found
        {
            return Err(FollowEnd::Diverged { index });
        }
        let remembers_too_many = self.shared.live(|live| live.len() > LIVE_MAX);
        Ok(listing.records.is_none() && (listing.head > applied || remembers_too_many))
    }

    /// Takes in everything that happened at one revision.
    pub(super) fn on_revision(&mut self, revision: Revision, events: Vec<WatchEvent>) -> Result<(), Trouble> {
        if revision <= self.seen {
            return Ok(());
        }
        let mut head = None;
        let mut commit = None;
        for event in events {
            match event {
                WatchEvent::Put(kv) if kv.key == incarnation::KEY => {
                    if kv.value != self.cluster.incarnation.encode() {
                        return Err(FollowEnd::OtherIncarnation.into());
                    }
                }
                WatchEvent::Put(kv) if kv.key == head::KEY => head = Some(kv),
                WatchEvent::Put(kv) if kv.key == root::KEY => match Root::decode(&kv.value) {
                    Ok(root) if Some(root.index) > self.position.get() => {
                        return Err(Trouble::Missed("root is ahead of the log"));
                    }
                    Ok(root) => self.on_root(&root, revision),
                    Err(error) => return Err(Trouble::Retry(format!("root cannot be read: {error}"))),
                },
                WatchEvent::Put(kv) if kv.key.starts_with(record::PREFIX.as_bytes()) => commit = Some(kv),
                WatchEvent::Delete { key, .. } if key.starts_with(record::PREFIX.as_bytes()) => self.on_truncated(&key),
                WatchEvent::Put(kv) => self.on_put(&kv),
                WatchEvent::Delete { key, .. } => self.on_delete(&key),
            }
        }
        if let Some(head) = head {
            self.on_commit(&head, commit)?;
        }
        self.seen = revision;
        Ok(())
    }

    /// Takes in a listing. The log position moves over what the listing has of it.
    pub(super) async fn on_listing(&mut self, listing: Listing) -> Result<(), Trouble> {
        if listing.revision < self.seen {
            // Reads are linearizable, so this cannot be an old answer.
            return Err(FollowEnd::RevisionWentBack {
                seen: self.seen,
                found: listing.revision,
            }
            .into());
        }
        if let Some(records) = &listing.records {
            self.agrees(records)?;
            self.remember(records);
            let first = records
                .first()
                .map_or(LogIndex(listing.head.0 + 1), |commit| commit.index);
            self.reach(first, listing.root.as_ref()).await?;
        }
        let position = self.position.get().unwrap_or_default();
        let commits = listing
            .records
            .into_iter()
            .flatten()
            .filter(|commit| commit.index > position);
        let mut items: Vec<Item> = commits.map(Item::Commit).collect();
        if let Some((root, revision)) = listing.root
            && self.root_seen.is_none_or(|seen| seen < revision)
        {
            items.push(Item::Root(root, revision));
        }
        let gone: Vec<Bytes> = {
            let here: std::collections::BTreeSet<&Bytes> = listing.keys.iter().map(|kv| &kv.key).collect();
            self.known.keys().filter(|key| !here.contains(key)).cloned().collect()
        };
        let changed = listing
            .keys
            .into_iter()
            .filter(|kv| self.known.get(&kv.key) != Some(&kv.mod_revision));
        items.extend(changed.map(Item::Key));
        items.sort_by_key(Item::order);
        for item in items {
            match item {
                Item::Key(kv) => self.on_put(&kv),
                Item::Root(root, revision) => self.on_root(&root, revision),
                Item::Commit(commit) => self.apply(commit)?,
            }
        }
        for key in gone {
            self.on_delete(&key);
        }
        self.seen = listing.revision;
        Ok(())
    }

    /// Loads the checkpoint if the records from `first` on do not join on to what is applied.
    async fn reach(&mut self, first: LogIndex, root: Option<&(Root, Revision)>) -> Result<(), Trouble> {
        let applied = self.position.get();
        if applied.is_some_and(|applied| applied.0 + 1 >= first.0) {
            return Ok(());
        }
        let index = root.map_or(self.cluster.incarnation.base, |(root, _)| root.index);
        if index.0 + 1 < first.0 {
            return Err(Trouble::Retry(format!(
                "records begin at {first}, but the checkpoint ends at {index}"
            )));
        }
        let loaded = self.sink.load_checkpoint(root.map(|(root, _)| root)).await;
        loaded.map_err(|error| Trouble::Retry(format!("checkpoint at {index} cannot be loaded: {error}")))?;
        self.root_seen = root.map(|(_, revision)| *revision);
        self.shared.position.recent(|recent| recent.restart(index));
        self.last = None;
        self.position.set(Some(index));
        Ok(())
    }

    /// Whether the log still holds the very commits that were applied.
    fn agrees(&self, records: &[AppliedCommit]) -> Result<(), FollowEnd> {
        self.shared.position.recent(|recent| {
            let differs = |commit: &&AppliedCommit| {
                let applied = recent.at(commit.index);
                applied.is_some_and(|applied| applied != Applied::of(commit))
            };
            match records.iter().find(differs) {
                Some(commit) => Err(FollowEnd::Diverged { index: commit.index }),
                None => Ok(()),
            }
        })
    }

    fn remember(&self, records: &[AppliedCommit]) {
        let records = records.iter().map(live_record);
        self.shared.live(|live| {
            live.clear();
            live.extend(records);
        });
    }

    fn on_truncated(&self, key: &[u8]) {
        let Some((session, number)) = record::parse_key(key) else {
            return;
        };
        self.shared.live(|live| {
            // Truncation goes from the oldest on, so this is the first or nearly.
            let at = live
                .iter()
                .position(|record| record.session == session && record.number == number);
            at.map(|at| live.remove(at))
        });
    }

    fn on_commit(&mut self, head: &KeyValue, commit: Option<KeyValue>) -> Result<(), Trouble> {
        let index = Head::index(head).map_err(|error| Trouble::Retry(format!("log/head cannot be read: {error}")))?;
        let applied = self.position.get().unwrap_or_default();
        if index <= applied {
            return Ok(());
        }
        let Some(kv) = commit else {
            return Err(Trouble::Missed("a commit came without its record"));
        };
        if index.0 != applied.0 + 1 {
            return Err(Trouble::Missed("log index jumped"));
        }
        let Some((session, number)) = record::parse_key(&kv.key) else {
            return Err(Trouble::Retry(format!("key {:?} is not that of a record", kv.key)));
        };
        let commit = AppliedCommit {
            index,
            revision: kv.mod_revision,
            session,
            number,
            record: kv.value,
        };
        let remembered = live_record(&commit);
        self.shared.live(|live| live.push_back(remembered));
        self.apply(commit)?;
        Ok(())
    }

    fn apply(&mut self, commit: AppliedCommit) -> Result<(), FollowEnd> {
        let (index, applied) = (commit.index, Applied::of(&commit));
        self.last = Some((index, commit.revision));
        self.sink.apply(commit).map_err(FollowEnd::Sink)?;
        self.shared.position.recent(|recent| recent.push(applied));
        self.position.set(Some(index));
        metrics::gauge!("esker_fold_index").set(as_gauge(index));
        Ok(())
    }

    fn on_root(&mut self, root: &Root, revision: Revision) {
        self.root_seen = Some(revision);
        self.sink.on_root(root);
    }

    fn is_followed(&self, key: &[u8]) -> bool {
        self.followed.iter().any(|prefix| key.starts_with(prefix))
    }

    fn on_put(&mut self, kv: &KeyValue) {
        if self.is_followed(&kv.key) {
            self.known.insert(kv.key.clone(), kv.mod_revision);
            self.tell(&kv.key, Some(kv));
        }
    }

    fn on_delete(&mut self, key: &Bytes) {
        if self.known.remove(key).is_some() {
            self.tell(key, None);
        }
    }

    fn tell(&mut self, key: &Bytes, kv: Option<&KeyValue>) {
        if let Some(name) = topic::parse_key(key) {
            match kv.map(|kv| Topic::decode(&kv.value)).transpose() {
                Ok(topic) => self.sink.on_topic(name, topic.as_ref()),
                Err(error) => unreadable(key, &error),
            }
        } else if let Some(id) = session::parse_key(key) {
            match kv.map(|kv| SessionInfo::decode(&kv.value)).transpose() {
                Ok(info) => self.sink.on_session(id, info.as_ref()),
                Err(error) => unreadable(key, &error),
            }
        } else if let Some(shard) = owner::parse_key(key) {
            match kv
                .map(|kv| owner::decode(&kv.value).map(|owner| (owner, kv.create_revision)))
                .transpose()
            {
                Ok(owner) => self.sink.on_owner(shard, owner),
                Err(error) => unreadable(key, &error),
            }
        } else {
            self.sink.on_key(key, kv);
        }
    }
}

fn live_record(commit: &AppliedCommit) -> LiveRecord {
    LiveRecord {
        index: commit.index,
        session: commit.session,
        number: commit.number,
        bytes: commit.record.len(),
    }
}

fn unreadable(key: &Bytes, error: &dyn std::fmt::Display) {
    tracing::error!(?key, %error, "value cannot be read and is ignored");
}

/// Gauges are floating point; beyond 2^53 commits the metric loses its last digits.
#[allow(clippy::cast_precision_loss)]
fn as_gauge(index: LogIndex) -> f64 {
    index.0 as f64
}
