//! Walking over all that is merged, partition by partition.
//!
//! Owns: the walk, with one page of each level in memory; what a survey sums up about each object.
//! Does not own: what is done about it (`levels`, `retention`, `check`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_segment::id::{Timestamp, TopicId, TopicPartition};
use esker_segment::manifest::{ManifestPage, ManifestRoot, ManifestSlice, MergedObject, PageRef};
use esker_segment::name::ObjectName;
use esker_segment::segment::SEGMENT_HEADER_BYTES;
use esker_storage::merged::{ManifestRef, Manifests, MergedError};

use crate::edit::object_of;
use crate::liveness::Liveness;
use crate::seams::{TopicPolicies, TopicPolicy};

/// A slice as the walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its level.
    pub level: u8,
    /// The page that names it.
    pub page: ObjectName,
    /// The slice.
    pub slice: ManifestSlice,
    /// Its object.
    pub object: MergedObject,
}

/// Position in the pages of one level.
struct Cursor {
    pages: Vec<PageRef>,
    next_page: usize,
    current: Option<(PageRef, Arc<ManifestPage>)>,
    next: usize,
}

impl Cursor {
    /// Makes sure that `current` has a slice left, if there is any.
    async fn fill(&mut self, manifests: &Manifests) -> Result<(), MergedError> {
        while self
            .current
            .as_ref()
            .is_none_or(|(_, page)| self.next >= page.slices.len())
        {
            let Some(page) = self.pages.get(self.next_page).copied() else {
                self.current = None;
                return Ok(());
            };
            self.next_page += 1;
            let read = manifests.page(&page).await?;
            (self.current, self.next) = (Some((page, read)), 0);
        }
        Ok(())
    }

    fn at(&self) -> Option<TopicPartition> {
        let (_, page) = self.current.as_ref()?;
        page.slices.get(self.next).map(|slice| slice.at)
    }

    /// Takes the slices of a partition, if they come next. A partition lies on one page of a level.
    fn take(&mut self, at: TopicPartition, found: &mut Vec<Found>) {
        let Some((reference, page)) = &self.current else { return };
        while let Some(slice) = page.slices.get(self.next).filter(|slice| slice.at == at) {
            found.push(Found {
                level: reference.level,
                page: reference.name,
                slice: *slice,
                object: object_of(page, slice),
            });
            self.next += 1;
        }
    }
}

/// Visits every partition that has merged data, in order, with its slices ascending.
///
/// # Errors
/// See [`MergedError`].
pub async fn walk(
    manifests: &Manifests,
    root: Option<ManifestRef>,
    mut visit: impl FnMut(TopicPartition, &[Found]),
) -> Result<(), MergedError> {
    let Some(root) = root else { return Ok(()) };
    let root: Arc<ManifestRoot> = manifests.root(root).await?;
    let mut cursors: Vec<Cursor> = root
        .pages
        .chunk_by(|one, next| one.level == next.level)
        .map(|level| Cursor {
            pages: level.to_vec(),
            next_page: 0,
            current: None,
            next: 0,
        })
        .collect();
    let mut found = Vec::new();
    loop {
        for cursor in &mut cursors {
            cursor.fill(manifests).await?;
        }
        let Some(at) = cursors.iter().filter_map(Cursor::at).min() else {
            return Ok(());
        };
        found.clear();
        cursors.iter_mut().for_each(|cursor| cursor.take(at, &mut found));
        found.sort_by_key(|found| found.slice.start);
        visit(at, &found);
    }
}

/// What is known of one merged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// The object.
    pub object: MergedObject,
    /// The highest level on which it has slices; nearly always the only one.
    pub level: u8,
    /// The policy of all its topics; `None` when they have different ones.
    pub policy: Option<TopicPolicy>,
    /// Bytes of slices that still count.
    pub live_bytes: u64,
    /// Slices that still count.
    pub live_slices: u64,
    /// Slices that do not.
    pub dead_slices: u64,
    /// First and last partition.
    pub span: (TopicPartition, TopicPartition),
    /// Pages that name it.
    pub pages: BTreeSet<ObjectName>,
}

impl ObjectFacts {
    /// Bytes of its batches, dead ones included.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.object.index_position.saturating_sub(SEGMENT_HEADER_BYTES)
    }

    /// About how many batches it holds, rather more than less: each takes some nine bytes of the index.
    #[must_use]
    pub fn batches_estimate(&self) -> usize {
        let index_bytes = self.object.length_bytes.saturating_sub(self.object.index_position);
        usize::try_from(index_bytes / 9).unwrap_or(usize::MAX)
    }
}

/// All merged objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Facts by object.
    pub objects: BTreeMap<ObjectName, ObjectFacts>,
    /// For each level and policy: how many slices there are, and in how many partitions.
    pub depth: BTreeMap<(u8, TopicPolicy), Depth>,
}

/// How often partitions are cut up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Slices.
    pub slices: u64,
    /// Partitions that have any.
    pub partitions: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Survey {
    /// Notes a partition.
    pub fn add(&mut self, at: TopicPartition, slices: &[Found], liveness: &Liveness, policy: TopicPolicy) {
        let mut levels = BTreeSet::new();
        for found in slices {
            let live = liveness.keeps(at, found.slice.end);
            let facts = self.objects.entry(found.object.name).or_insert_with(|| ObjectFacts {
                object: found.object,
                level: found.level,
                policy: Some(policy),
                live_bytes: 0,
                live_slices: 0,
                dead_slices: 0,
                span: (at, at),
                pages: BTreeSet::new(),
            });
            facts.level = facts.level.max(found.level);
            facts.pages.insert(found.page);
            facts.span.1 = facts.span.1.max(at);
            if !live {
                facts.dead_slices += 1;
                continue;
            }
            if facts.live_slices > 0 && facts.policy != Some(policy) {
                facts.policy = None;
            } else if facts.live_slices == 0 {
                facts.policy = Some(policy);
            }
            facts.live_slices += 1;
            facts.live_bytes += found.slice.bytes;
            let depth = self.depth.entry((found.level, policy)).or_default();
            depth.slices += 1;
            depth.bytes += found.slice.bytes;
            depth.partitions += u64::from(levels.insert(found.level));
        }
    }
}

/// Surveys a manifest.
///
/// # Errors
/// See [`MergedError`].
pub async fn survey(
    manifests: &Manifests,
    root: Option<ManifestRef>,
    liveness: &Liveness,
    policies: &dyn TopicPolicies,
) -> Result<Survey, MergedError> {
    let mut survey = Survey::default();
    let mut of_topic: Option<(TopicId, TopicPolicy)> = None;
    walk(manifests, root, |at, slices| {
        let known = of_topic.filter(|(topic, _)| *topic == at.topic);
        let (_, policy) = known.unwrap_or_else(|| (at.topic, policies.policy(at.topic)));
        of_topic = Some((at.topic, policy));
        survey.add(at, slices, liveness, policy);
    })
    .await?;
    Ok(survey)
}

/// The largest timestamp of some slices.
#[must_use]
pub fn newest(slices: &[Found]) -> Option<Timestamp> {
    slices.iter().map(|found| found.slice.max_timestamp).max()
}
