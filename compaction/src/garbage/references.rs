//! What is referred to, and what sessions may still bring, at one revision.
//!
//! Owns: reading session, counters, root and entries in one snapshot, and everything that the root names.
//!
//! Invariants: GC-1. If any of it cannot be read, nothing is known and nothing is collected.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker_metadata::keys::commit::Progress;
use esker_metadata::keys::root::Root;
use esker_metadata::keys::{commit, counter, incarnation, published, record, root, session};
use esker_metadata::log::Cluster;
use esker_metadata::store::{KeyRange, KeyValue};
use esker_model::CommitRecord;
use esker_model::entry::Entry;
use esker_segment::checkpoint::IndexObject;
use esker_segment::id::{SegmentNumber, SessionId};
use esker_segment::name::ObjectName;
use esker_segment::wire::FormatError;
use esker_storage::merged::Manifests;

use super::GarbageError;
use crate::incarnation::IncarnationError;

/// Names that something refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// All of them.
    pub names: BTreeSet<ObjectName>,
}

/// How far a live session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Its segments up to this number are in the log or never will be.
    pub segments: SegmentNumber,
    /// Its other objects up to this number are named by a root or never will be by a later one.
    pub published: SegmentNumber,
}

/// Everything that the rule asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Live sessions.
    pub sessions: BTreeMap<SessionId, Counters>,
    /// The last session that was given out.
    pub counter: SessionId,
    /// What is referred to.
    pub references: References,
}

/// Reads it.
///
/// # Errors
/// See [`GarbageError`].
pub async fn read(cluster: &Cluster, manifests: &Manifests) -> Result<Standing, GarbageError> {
    let prefix = |prefix: &'static str| KeyRange::Prefix(Bytes::from_static(prefix.as_bytes()));
    let ranges = vec![
        KeyRange::Key(incarnation::KEY),
        KeyRange::Key(root::KEY),
        KeyRange::Key(counter::KEY),
        prefix(session::PREFIX),
        prefix(commit::PREFIX),
        prefix(published::PREFIX),
        prefix(record::PREFIX),
    ];
    let mut ranges = cluster.store.snapshot(ranges).await?.ranges.into_iter();
    let mut next = || ranges.next().unwrap_or_default();
    if next().pop().is_none_or(|kv| kv.value != cluster.incarnation.encode()) {
        return Err(IncarnationError::Moved.into());
    }
    let (root, counter) = (next().pop(), next().pop());
    let counter = counter.map_or(Ok(SessionId(0)), |kv| counter::decode(&kv.value));
    let (sessions, commits, published, records) = (next(), next(), next(), next());
    let mut standing = Standing {
        sessions: counters(&sessions, &commits, &published)?,
        counter: counter.map_err(|why| damaged("session counter", why))?,
        references: References::default(),
    };
    let names = &mut standing.references.names;
    for kv in &records {
        // A record that does not decode was rejected by every fold: it brought nothing.
        if let Ok(record) = CommitRecord::decode(&kv.value) {
            let segments = record.entries.iter().filter_map(|entry| match entry {
                Entry::Segment(segment) => Some(ObjectName::Segment(segment.name)),
                _ => None,
            });
            names.extend(segments);
        }
    }
    if let Some(kv) = root {
        let root = Root::decode(&kv.value).map_err(|why| damaged("root", why))?;
        of_root(&root, manifests, names).await?;
    }
    Ok(standing)
}

fn damaged(what: impl Into<String>, why: FormatError) -> GarbageError {
    let what = what.into();
    GarbageError::Damaged { what, why }
}

fn counters(
    sessions: &[KeyValue],
    commits: &[KeyValue],
    publications: &[KeyValue],
) -> Result<BTreeMap<SessionId, Counters>, GarbageError> {
    let key = |kv: &KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
    let unknown = |kv: &KeyValue| damaged(key(kv), FormatError::Invalid { what: "session id" });
    let mut all = BTreeMap::new();
    for kv in sessions {
        let id = session::parse_key(&kv.key).ok_or_else(|| unknown(kv))?;
        all.insert(id, Counters::default());
    }
    for kv in commits {
        let id = commit::parse_key(&kv.key).ok_or_else(|| unknown(kv))?;
        let progress = Progress::decode(&kv.value).map_err(|why| damaged(key(kv), why))?;
        if let Some(counters) = all.get_mut(&id) {
            counters.segments = progress.segments;
        }
    }
    for kv in publications {
        let id = published::parse_key(&kv.key).ok_or_else(|| unknown(kv))?;
        let through = published::decode(&kv.value).map_err(|why| damaged(key(kv), why))?;
        if let Some(counters) = all.get_mut(&id) {
            counters.published = through;
        }
    }
    Ok(all)
}

/// Everything that a root names, directly or not.
async fn of_root(root: &Root, manifests: &Manifests, names: &mut BTreeSet<ObjectName>) -> Result<(), GarbageError> {
    names.insert(root.state.name);
    for index in &root.indexes {
        names.insert(index.object.name);
        let object = &index.object;
        let bytes = manifests
            .objects()
            .read_whole(&object.name, object.length_bytes)
            .await?;
        let decoded = IndexObject::decode(&bytes)
            .map_err(|why| damaged(manifests.objects().key(&object.name).to_string(), why))?;
        names.extend(decoded.segments.iter().map(|segment| ObjectName::Segment(segment.name)));
    }
    let Some(manifest) = root.manifest_ref() else {
        return Ok(());
    };
    names.insert(manifest.0);
    let manifest = manifests.root(manifest).await?;
    for page in &manifest.pages {
        names.insert(page.name);
        names.extend(manifests.page(page).await?.objects.iter().map(|object| object.name));
    }
    Ok(())
}
