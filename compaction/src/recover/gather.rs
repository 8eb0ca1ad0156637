//! What the bucket holds of a cluster: the newest complete checkpoint, and the segments.
//!
//! Owns: choosing among the checkpoints and manifests that lie there, published or not: each is a true cut of the log.
//! Does not own: what comes after the checkpoint (`replay`).

use std::collections::{BTreeMap, BTreeSet};

use esker_metadata::checkpoint::AdminKeys;
use esker_metadata::keys::root::ObjectRef;
use esker_model::Fold;
use esker_segment::checkpoint::IndexObject;
use esker_segment::id::{IncarnationNumber, LogIndex, SessionId};
use esker_segment::manifest::{ManifestPage, ManifestRoot};
use esker_segment::name::{ClusterId, ObjectKind, ObjectName, SegmentName};
use esker_storage::named::NamedObjects;
use esker_storage::store::{ObjectKey, ObjectStore, StoreError};

use super::{Left, RecoverError};

/// Keys of one listing.
const PAGE: usize = 1_000;

/// A manifest all of whose pages and objects are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundManifest {
    pub(super) object: ObjectRef,
    pub(super) through: LogIndex,
}

/// What was found.
#[derive(Debug)]
pub struct Bucket {
    /// The newest life that has left a checkpoint or a segment.
    pub incarnation: IncarnationNumber,
    /// The newest life that the bucket has heard of.
    pub newest: IncarnationNumber,
    /// The state of its newest checkpoint, without unmerged batches; an empty fold if there is none.
    pub(super) fold: Fold,
    /// What administrators had set by then, if the checkpoint says so.
    pub(super) admin: Option<AdminKeys>,
    pub(super) manifest: Option<FoundManifest>,
    /// Fresh segments that it names as they are.
    pub(super) in_manifest: BTreeSet<SegmentName>,
    /// Index objects in log order.
    pub(super) indexes: Vec<IndexObject>,
    /// Segments that index objects of the same life give a place at or below the checkpoint, merged since or not.
    pub(super) placed: BTreeSet<SegmentName>,
    /// Segments of that life, with their lengths.
    pub(super) segments: BTreeMap<SegmentName, u64>,
    pub(super) damaged: Vec<Left>,
}

/// The clusters that a bucket holds something of. Objects whose keys no cluster has do not count.
///
/// # Errors
/// The bucket cannot be listed.
pub async fn clusters(store: &dyn ObjectStore) -> Result<BTreeSet<ClusterId>, StoreError> {
    let mut found = BTreeSet::new();
    let mut after: Option<ObjectKey> = None;
    loop {
        let page = store.list("", after.as_ref(), PAGE).await?;
        for meta in &page {
            let cluster = meta.key.as_str().split('/').next().unwrap_or_default();
            if let Ok(cluster) = cluster.parse::<ClusterId>()
                && is_of(&cluster, meta.key.as_str())
            {
                found.insert(cluster);
            }
        }
        if page.len() < PAGE {
            return Ok(found);
        }
        let last = page.last().map(|meta| meta.key.as_str().to_owned()).unwrap_or_default();
        let cluster = last.split('/').next().unwrap_or_default();
        after = Some(match cluster.parse() {
            // Everything else that this cluster has can be skipped: '0' comes after '/'.
            Ok(known) if found.contains(&known) => ObjectKey(format!("{cluster}0")).max(ObjectKey(last)),
            Ok(_) | Err(_) => ObjectKey(last),
        });
    }
}

/// Whether an object of this cluster has such a key.
fn is_of(cluster: &ClusterId, key: &str) -> bool {
    let says_incarnation = || {
        let number = key
            .strip_prefix(cluster.as_str())?
            .strip_prefix('/')?
            .strip_suffix("/incarnation")?;
        let number = IncarnationNumber(number.parse().ok()?);
        Some(cluster.incarnation_key(number) == key)
    };
    ObjectName::parse(cluster, key).is_some() || says_incarnation() == Some(true)
}

/// Reads what is there.
///
/// # Errors
/// `Nothing`, or the bucket does not answer. What is damaged is named.
pub async fn gather(objects: &NamedObjects) -> Result<Bucket, RecoverError> {
    let (mut all, newest) = list(objects).await?;
    let part = |name: &ObjectName| match name {
        ObjectName::Segment(name) | ObjectName::Other { name, .. } => *name,
    };
    let of = |name: &ObjectName| part(name).incarnation;
    // A life that recovery has prepared, and in which no session has written anything, may never have begun: what it holds
    // can be made again from the one before, which may have gone on.
    let lived: BTreeSet<_> = all
        .keys()
        .filter(|name| part(name).session != SessionId(0))
        .map(of)
        .collect();
    all.retain(|name, _| lived.contains(&of(name)));
    let kind = |wanted: ObjectKind| {
        all.iter()
            .filter(move |(name, _)| matches!(name, ObjectName::Other { kind, .. } if *kind == wanted))
            .map(|(name, bytes)| (*name, *bytes))
    };
    let mut damaged = Vec::new();
    let (fold, admin) = newest_state(objects, kind(ObjectKind::State).collect(), &mut damaged).await?;
    let last_segment = all
        .keys()
        .filter(|name| matches!(name, ObjectName::Segment(_)))
        .map(of)
        .max();
    let incarnation = last_segment
        .into_iter()
        .chain([fold.incarnation().0])
        .max()
        .unwrap_or(newest);
    if incarnation == IncarnationNumber(0) {
        return Err(RecoverError::Nothing);
    }
    // Offsets of different lives must not be mixed: every life begins with index objects of its own.
    let of_life = kind(ObjectKind::Index).filter(|(name, _)| of(name) == fold.incarnation().0);
    let mut indexes = indexes(objects, of_life.collect(), &mut damaged).await?;
    let life = Life {
        number: fold.incarnation().0,
        inherited: indexes
            .first()
            .map_or(fold.index(), |index| LogIndex(index.first.0.saturating_sub(1))),
        end: fold.index(),
    };
    let manifests = kind(ObjectKind::Manifest).collect();
    let (manifest, in_manifest) = newest_manifest(objects, &all, manifests, life, &mut damaged).await?;
    let placed = placed(&indexes, fold.index());
    cut(
        &mut indexes,
        manifest.map_or(LogIndex(0), |manifest| manifest.through),
        fold.index(),
    );
    let segments = all.iter().filter_map(|(name, bytes)| match name {
        ObjectName::Segment(name) if name.incarnation == incarnation => Some((*name, *bytes)),
        ObjectName::Segment(_) | ObjectName::Other { .. } => None,
    });
    Ok(Bucket {
        incarnation,
        newest,
        manifest,
        in_manifest,
        indexes,
        placed,
        segments: segments.collect(),
        damaged,
        fold,
        admin,
    })
}

/// Every object of every life, with its length, and the highest incarnation number.
async fn list(objects: &NamedObjects) -> Result<(BTreeMap<ObjectName, u64>, IncarnationNumber), RecoverError> {
    let (mut all, mut newest) = (BTreeMap::new(), IncarnationNumber(0));
    let (prefix, mut after): (_, Option<ObjectKey>) = (objects.cluster.prefix(), None);
    loop {
        let page = objects.store.list(&prefix, after.as_ref(), PAGE).await?;
        let full = page.len() >= PAGE;
        after = page.last().map(|meta| meta.key.clone()).or(after);
        for meta in page {
            let number = meta.key.as_str()[prefix.len()..].split('/').next().unwrap_or_default();
            newest = newest.max(IncarnationNumber(number.parse().unwrap_or_default()));
            if let Some(name) = ObjectName::parse(&objects.cluster, meta.key.as_str()) {
                all.insert(name, meta.size_bytes);
            }
        }
        if !full {
            return Ok((all, newest));
        }
    }
}

async fn newest_state(
    objects: &NamedObjects,
    states: Vec<(ObjectName, u64)>,
    damaged: &mut Vec<Left>,
) -> Result<(Fold, Option<AdminKeys>), RecoverError> {
    let (mut newest, mut newest_admin) = (Fold::new(), None);
    for (name, bytes) in states {
        let read = objects.read_whole(&name, bytes).await?;
        let decoded = Fold::decode_state(&read).and_then(|fold| Ok((fold, AdminKeys::of_state(&read)?)));
        match decoded {
            Ok((fold, admin)) if (fold.incarnation().0, fold.index()) > (newest.incarnation().0, newest.index()) => {
                (newest, newest_admin) = (fold, admin);
            }
            Ok(_) => {}
            Err(why) => damaged.push(Left::Damaged {
                name,
                why: why.to_string(),
            }),
        }
    }
    Ok((newest, newest_admin))
}

/// The life of the newest checkpoint.
#[derive(Clone, Copy, Debug)]
struct Life {
    number: IncarnationNumber,
    /// A manifest of an earlier life counts up to here at most: that life may have gone on.
    inherited: LogIndex,
    /// Where the checkpoint ends.
    end: LogIndex,
}

impl Life {
    fn counts(&self, name: &ObjectName, through: LogIndex) -> bool {
        let (ObjectName::Segment(name) | ObjectName::Other { name, .. }) = name;
        through <= self.end && (name.incarnation == self.number || through <= self.inherited)
    }
}

/// The manifest that has merged most, among those that nothing is missing of; if something is missing of all, the newest whose
/// pages can be read, and what is missing is named. A newer one than that which is taken is named too.
async fn newest_manifest(
    objects: &NamedObjects,
    all: &BTreeMap<ObjectName, u64>,
    manifests: Vec<(ObjectName, u64)>,
    life: Life,
    damaged: &mut Vec<Left>,
) -> Result<(Option<FoundManifest>, BTreeSet<SegmentName>), RecoverError> {
    let mut found: Vec<(ObjectName, u64, ManifestRoot)> = Vec::new();
    for (name, bytes) in manifests {
        match ManifestRoot::decode(&objects.read_whole(&name, bytes).await?) {
            Ok(root) if life.counts(&name, root.merged_through) => found.push((name, bytes, root)),
            Ok(_) => {}
            Err(why) => damaged.push(Left::Damaged {
                name,
                why: why.to_string(),
            }),
        }
    }
    found.sort_by_key(|(name, _, root)| {
        let (ObjectName::Segment(of) | ObjectName::Other { name: of, .. }) = name;
        std::cmp::Reverse((of.incarnation, root.merged_through, *name))
    });
    let mut incomplete = None;
    for (name, length_bytes, root) in found {
        let contents = match contents(objects, all, &root).await? {
            Ok(contents) => contents,
            Err(why) => {
                damaged.push(Left::Damaged { name, why });
                continue;
            }
        };
        if !contents.missing.is_empty() {
            let why = format!("{} objects that it names are not in the bucket", contents.missing.len());
            damaged.push(Left::Damaged { name, why });
            incomplete.get_or_insert((name, length_bytes, root.merged_through, contents));
            continue;
        }
        incomplete = Some((name, length_bytes, root.merged_through, contents));
        break;
    }
    let Some((name, length_bytes, through, contents)) = incomplete else {
        return Ok((None, BTreeSet::new()));
    };
    let gone = contents.fresh.iter().map(|name| ObjectName::Segment(*name));
    let gone = gone.filter(|name| !all.contains_key(name));
    damaged.extend(gone.chain(contents.missing).map(|name| Left::Damaged {
        name,
        why: "it is not in the bucket".to_owned(),
    }));
    let bytes = objects.read_whole(&name, length_bytes).await?;
    let object = ObjectRef {
        name,
        length_bytes,
        digest: digest_of(&bytes),
    };
    Ok((Some(FoundManifest { object, through }), contents.fresh))
}

/// The digest stands before the eight bytes of the magic.
fn digest_of(container: &[u8]) -> u128 {
    let end = container.len().saturating_sub(8);
    let bytes = container.get(end.saturating_sub(16)..end).unwrap_or_default();
    bytes.try_into().map_or(0, u128::from_le_bytes)
}

/// What a manifest names.
#[derive(Debug, Default)]
struct Contents {
    /// Segments as they were uploaded. One may be named because it could not be read, and so it may be gone.
    fresh: BTreeSet<SegmentName>,
    /// Merged objects that are not in the bucket.
    missing: Vec<ObjectName>,
}

/// What a manifest names, or why a page of it cannot be read.
async fn contents(
    objects: &NamedObjects,
    all: &BTreeMap<ObjectName, u64>,
    root: &ManifestRoot,
) -> Result<Result<Contents, String>, RecoverError> {
    let mut contents = Contents::default();
    for page in &root.pages {
        if all.get(&page.name) != Some(&page.length_bytes) {
            return Ok(Err(format!("page {:?} is not in the bucket", page.name)));
        }
        let bytes = objects.read_whole(&page.name, page.length_bytes).await?;
        let decoded = match ManifestPage::decode(&bytes) {
            Ok(decoded) => decoded,
            Err(why) => return Ok(Err(format!("page {:?} cannot be read: {why}", page.name))),
        };
        for object in &decoded.objects {
            match object.name {
                ObjectName::Segment(name) => drop(contents.fresh.insert(name)),
                name @ ObjectName::Other { .. } if !all.contains_key(&name) => contents.missing.push(name),
                ObjectName::Other { .. } => {}
            }
        }
    }
    Ok(Ok(contents))
}

/// The index objects that can be read, in log order.
async fn indexes(
    objects: &NamedObjects,
    found: Vec<(ObjectName, u64)>,
    damaged: &mut Vec<Left>,
) -> Result<Vec<IndexObject>, RecoverError> {
    let mut indexes = Vec::new();
    for (name, bytes) in found {
        match IndexObject::decode(&objects.read_whole(&name, bytes).await?) {
            Ok(index) => indexes.push(index),
            Err(why) => damaged.push(Left::Damaged {
                name,
                why: why.to_string(),
            }),
        }
    }
    indexes.sort_by_key(|index| (index.first, index.last));
    Ok(indexes)
}

/// The segments that stand at or below a log index. What is merged of them the manifest does not name any more, and the last
/// one has no successor that tells its place.
fn placed(indexes: &[IndexObject], through: LogIndex) -> BTreeSet<SegmentName> {
    let all = indexes.iter().flat_map(|index| &index.segments);
    all.filter(|segment| segment.log_index <= through)
        .map(|segment| segment.name)
        .collect()
}

/// Leaves of index objects what lies above one log index and not beyond another.
fn cut(indexes: &mut Vec<IndexObject>, after: LogIndex, through: LogIndex) {
    indexes.retain(|index| index.last > after && index.first <= through);
    let counts = |at: LogIndex| at > after && at <= through;
    for index in indexes {
        index.segments.retain(|segment| counts(segment.log_index));
        index.txn_ends.retain(|end| counts(end.log_index));
    }
}
