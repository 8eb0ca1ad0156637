//! What came after the checkpoint: segments in the order that later segments say.
//!
//! Owns: collecting the order lists, making the entries again, knowing what has no place.
//! Does not own: what entries do (the fold).
//!
//! Invariants: LOG-1 within what is recovered: the order ends where the first index is not known, because whatever stood there
//! may have taken offsets.

use std::collections::{BTreeMap, BTreeSet};

use esker_model::entry::{Entry, ProducerIds, SegmentEntry, TopicCreate};
use esker_model::{BatchVerdict, CommitPosition, CommitRecord, EntryVerdict, Fold};
use esker_segment::checkpoint::{IndexObject, IndexedSegment, IndexedTxnEnd};
use esker_segment::id::{IncarnationNumber, LogIndex, ProducerId, SegmentNumber, SessionId, TopicId, TopicPartition};
use esker_segment::index::BatchIndex;
use esker_segment::name::{ObjectName, SegmentName};
use esker_segment::segment::{Footer, Ordered, SegmentIndex, SegmentTail};
use esker_segment::wire::FormatError;
use esker_storage::named::NamedObjects;
use esker_storage::store::StoreError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::gather::{Bucket, FoundManifest};
use super::{Left, RecoverError};

/// Bytes that are read from the end of a segment at first.
const TAIL_BYTES: u64 = 64 << 10;
/// Segments whose tails are read at the same time.
const TAILS_AT_ONCE: usize = 16;
/// Ids that one entry grants; what was granted and never used is not needed.
const GRANT: i64 = 1_000;

/// A segment of the bucket.
#[derive(Clone, Debug)]
pub(super) struct Found {
    length_bytes: u64,
    content_hash: u128,
    index: BatchIndex,
}

/// Segments that can be read, and the order that they tell.
#[derive(Debug, Default)]
pub(super) struct Orders {
    by_index: BTreeMap<LogIndex, Ordered>,
    segments: BTreeMap<SegmentName, Found>,
}

/// Reads the tail of every segment that the manifest does not name: those have their place, and lie below it.
pub(super) async fn orders(
    objects: &NamedObjects,
    bucket: &Bucket,
    left: &mut Vec<Left>,
) -> Result<Orders, RecoverError> {
    let mut orders = Orders::default();
    let wanted = bucket
        .segments
        .iter()
        .filter(|(name, _)| !bucket.in_manifest.contains(name));
    // Boxed and collected: the compiler cannot see that a lazy stream of them is `Send`.
    let read = |(name, length): (&SegmentName, &u64)| {
        let (name, length) = (*name, *length);
        async move { (name, length, tail(objects, name, length).await) }.boxed()
    };
    let reads: Vec<BoxFuture<'_, _>> = wanted.map(read).collect();
    let mut tails = futures::stream::iter(reads).buffered(TAILS_AT_ONCE);
    while let Some((name, length_bytes, tail)) = tails.next().await {
        let tail = match tail? {
            Ok(tail) => tail,
            Err(why) => {
                left.push(Left::Unreadable {
                    name,
                    why: why.to_string(),
                });
                continue;
            }
        };
        for ordered in tail.order.commits {
            orders.by_index.insert(ordered.index, ordered);
        }
        if let SegmentIndex::Fresh(index) = tail.index {
            let found = Found {
                length_bytes,
                content_hash: tail.footer.content_hash,
                index,
            };
            orders.segments.insert(name, found);
        }
    }
    Ok(orders)
}

async fn tail(
    objects: &NamedObjects,
    name: SegmentName,
    length: u64,
) -> Result<Result<SegmentTail, FormatError>, StoreError> {
    let name = ObjectName::Segment(name);
    let mut bytes = objects.read(&name, length.saturating_sub(TAIL_BYTES)..length).await?;
    let needed = match Footer::decode(&bytes, length) {
        Ok(footer) => footer.tail_bytes(),
        Err(why) => return Ok(Err(why)),
    };
    if needed > TAIL_BYTES {
        bytes = objects.read(&name, length.saturating_sub(needed)..length).await?;
    }
    Ok(SegmentTail::decode(&bytes, length))
}

/// The fold on its way.
pub(super) struct Replay<'a> {
    pub(super) fold: Fold,
    pub(super) manifest: Option<FoundManifest>,
    pub(super) segments: Vec<IndexedSegment>,
    pub(super) txn_ends: Vec<IndexedTxnEnd>,
    incarnation: IncarnationNumber,
    in_manifest: BTreeSet<SegmentName>,
    topics: &'a BTreeMap<TopicId, String>,
    unknown: BTreeMap<TopicId, u64>,
    beyond: BTreeMap<TopicPartition, u64>,
}

impl<'a> Replay<'a> {
    /// The fold of the checkpoint, unmerged batches included.
    pub(super) fn begin(bucket: Bucket, topics: &'a BTreeMap<TopicId, String>) -> Self {
        let mut replay = Self {
            fold: bucket.fold,
            manifest: bucket.manifest,
            segments: Vec::new(),
            txn_ends: Vec::new(),
            incarnation: bucket.incarnation,
            in_manifest: bucket.in_manifest,
            topics,
            unknown: BTreeMap::new(),
            beyond: BTreeMap::new(),
        };
        let through = bucket.manifest.map_or(LogIndex(0), |manifest| manifest.through);
        let mut seen: BTreeSet<(LogIndex, SegmentName)> = BTreeSet::new();
        let mut ended: BTreeSet<(LogIndex, ProducerId)> = BTreeSet::new();
        for mut index in bucket.indexes {
            // Two processes may have written the same range: what is there already is there.
            index
                .segments
                .retain(|segment| seen.insert((segment.log_index, segment.name)));
            index.txn_ends.retain(|end| ended.insert((end.log_index, end.producer)));
            replay.import(index, through);
        }
        replay.segments.sort_by_key(|segment| segment.log_index);
        replay.txn_ends.sort_by_key(|end| end.log_index);
        replay
    }

    fn import(&mut self, index: IndexObject, through: LogIndex) {
        self.fold.import_index(&index, through);
        self.segments.extend(index.segments);
        self.txn_ends.extend(index.txn_ends);
    }

    /// Segments that have their place.
    pub(super) fn used(&self) -> BTreeSet<SegmentName> {
        let unmerged = self.segments.iter().map(|segment| segment.name);
        unmerged.chain(self.in_manifest.iter().copied()).collect()
    }

    /// Goes on as far as the order is known, and what took offsets.
    pub(super) fn run(&mut self, orders: &Orders, left: &mut Vec<Left>) {
        while let Some(ordered) = orders.by_index.get(&LogIndex(self.fold.index().0 + 1)) {
            if ordered.segments.count == 0 {
                left.push(Left::Entries {
                    index: ordered.index,
                    session: ordered.session,
                });
                // It may have ended a transaction, and markers have offsets.
                if self.fold.open_transactions().next().is_some() {
                    break;
                }
            }
            let (mut entries, before) = (Vec::new(), left.len());
            for number in ordered.segments.numbers() {
                match self.entry(orders, ordered.session, number) {
                    Some(entry) => entries.push(entry),
                    None => left.push(Left::Missing {
                        index: ordered.index,
                        session: ordered.session,
                        number,
                    }),
                }
            }
            // Later batches stood behind those that are missing.
            if left.len() > before {
                break;
            }
            self.apply(*ordered, entries);
        }
        let unknown = std::mem::take(&mut self.unknown).into_iter();
        left.extend(unknown.map(|(topic, records)| Left::UnknownTopic { topic, records }));
        let beyond = std::mem::take(&mut self.beyond).into_iter();
        left.extend(beyond.map(|(at, records)| Left::UnknownPartition { at, records }));
    }

    /// The entry of a segment again. All attempts to upload it hold the same.
    fn entry(&self, orders: &Orders, session: SessionId, number: SegmentNumber) -> Option<SegmentEntry> {
        let name = |attempt| SegmentName {
            incarnation: self.incarnation,
            session,
            number,
            attempt,
        };
        let (name, found) = orders.segments.range(name(0)..=name(u32::MAX)).next()?;
        Some(SegmentEntry {
            name: *name,
            bytes: found.length_bytes,
            content_hash: found.content_hash,
            index: found.index.clone(),
            ..SegmentEntry::default()
        })
    }

    fn apply(&mut self, ordered: Ordered, segments: Vec<SegmentEntry>) {
        let mut entries = self.lost_with_the_log(&segments);
        let before = entries.len();
        entries.extend(segments.iter().cloned().map(Entry::Segment));
        let at = CommitPosition {
            index: ordered.index,
            session: ordered.session,
            number: ordered.commit,
        };
        let applied = self.fold.apply(at, &CommitRecord { entries });
        for (segment, verdict) in segments.into_iter().zip(&applied.verdicts[before..]) {
            let EntryVerdict::Segment(verdicts) = verdict else {
                continue;
            };
            self.note(ordered.index, segment, verdicts);
        }
    }

    fn note(&mut self, log_index: LogIndex, segment: SegmentEntry, verdicts: &[BatchVerdict]) {
        let base = |verdict: &BatchVerdict| match verdict {
            BatchVerdict::Stored { base } => Some(*base),
            _ => None,
        };
        for ((at, _, meta), verdict) in segment.index.places().zip(verdicts) {
            if *verdict == BatchVerdict::NoSuchPartition {
                let records = match self.fold.topic(at.topic) {
                    Some(_) => self.beyond.entry(at).or_default(),
                    None => self.unknown.entry(at.topic).or_default(),
                };
                *records += u64::from(meta.records);
            }
        }
        self.segments.push(IndexedSegment {
            log_index,
            name: segment.name,
            length_bytes: segment.bytes,
            content_hash: segment.content_hash,
            zone: segment.zone.into(),
            confirmed: segment.confirmed,
            bases: verdicts.iter().map(base).collect(),
            index: segment.index,
        });
    }

    /// Entries that must have been there for these segments to be accepted: grants of their producers' ids, and topics whose
    /// names somebody knows.
    fn lost_with_the_log(&self, segments: &[SegmentEntry]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let places = || segments.iter().flat_map(|segment| segment.index.places());
        let highest = places()
            .filter_map(|(_, _, meta)| meta.producer.map(|producer| producer.id))
            .max();
        if let Some(id) = highest.filter(|id| *id >= self.fold.next_producer_id()) {
            let missing =
                id.0.saturating_sub(self.fold.next_producer_id().0)
                    .saturating_add(GRANT);
            let count = u32::try_from(missing).unwrap_or(u32::MAX);
            entries.push(Entry::ProducerIds(ProducerIds { count }));
        }
        let mut topics: BTreeMap<TopicId, u32> = BTreeMap::new();
        for (at, ..) in places() {
            let partitions = topics.entry(at.topic).or_default();
            *partitions = (*partitions).max(at.partition.0 + 1);
        }
        for (topic, partitions) in topics {
            if let Some(name) = self.topics.get(&topic).filter(|_| self.fold.topic(topic).is_none()) {
                entries.push(Entry::TopicCreate(TopicCreate {
                    topic,
                    name: Box::from(name.as_str()),
                    partitions,
                }));
            }
        }
        entries
    }
}

/// Segments that have no place: neither in the checkpoint, nor in the order, nor merged.
pub(super) fn name_unordered(orders: &Orders, used: &BTreeSet<SegmentName>, fold: &Fold, left: &mut Vec<Left>) {
    // Attempts of a segment that has its place are copies.
    let placed = |name: &SegmentName| {
        let same = |attempt| SegmentName { attempt, ..*name };
        used.range(same(0)..=same(u32::MAX)).next().is_some()
    };
    // What is merged has been in the order before; its session may have gone on.
    let mut merged: BTreeMap<SessionId, SegmentNumber> = BTreeMap::new();
    // Sessions of other lives are others, whatever their ids.
    let life = orders.segments.keys().next().map(|name| name.incarnation);
    for name in used.iter().filter(|name| Some(name.incarnation) == life) {
        let highest = merged.entry(name.session).or_default();
        *highest = (*highest).max(name.number);
    }
    for ordered in orders.by_index.values().filter(|ordered| ordered.index <= fold.index()) {
        if let Some(last) = ordered.segments.numbers().last() {
            let highest = merged.entry(ordered.session).or_default();
            *highest = (*highest).max(last);
        }
    }
    for (name, found) in &orders.segments {
        let passed = merged.get(&name.session).is_some_and(|last| name.number <= *last);
        if placed(name) || passed {
            continue;
        }
        let mut holds: BTreeMap<TopicPartition, (u64, u64)> = BTreeMap::new();
        for (at, _, meta) in found.index.places() {
            let held = holds.entry(at).or_default();
            *held = (held.0 + 1, held.1 + u64::from(meta.records));
        }
        left.push(Left::Unordered { name: *name, holds });
    }
}
