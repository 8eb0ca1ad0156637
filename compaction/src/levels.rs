//! Merging what is merged again: few objects, long slices, no dead bytes.
//!
//! Owns: which objects go together (`plan`), the merge of sorted objects in bounded memory (`run`).
//! Does not own: publication (`round`), where objects are cut (`merge`).
//!
//! Invariants: CMP-1. Objects are only rewritten or forgotten, their batches stay what and where they are by offset. What
//! cannot be read is left alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker_segment::checksum::check_batch;
use esker_segment::id::Offset;
use esker_segment::manifest::{ManifestSlice, MergedObject};
use esker_segment::merged::{MergedIndex, PlacedBatch};
use esker_segment::name::ObjectName;
use esker_segment::wire::FormatError;
use esker_storage::merged::{ManifestRef, Manifests, MergedError};
use esker_storage::named::NamedObjects;

use crate::edit::Edit;
use crate::liveness::Liveness;
use crate::merge::{Output, Range};
use crate::round::{RoundError, RoundWriter, slices_of_page};
use crate::seams::TopicPolicies;
use crate::settings::MergeSettings;

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{LevelPlan, plan};

/// An error that concerns one object: a later plan leaves it out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// This object cannot be read.
    #[error("object {name:?} cannot be merged again: {why}")]
    Unreadable {
        /// Which one.
        name: ObjectName,
        /// Why.
        why: RoundError,
    },
    /// Anything else.
    #[error(transparent)]
    Round(#[from] RoundError),
}

/// Merges the objects of a plan into the next level, and gives the change to the manifest.
///
/// # Errors
/// See [`LevelError`].
pub async fn run(
    plan: &LevelPlan,
    manifest: ManifestRef,
    liveness: &Liveness,
    policies: &dyn TopicPolicies,
    settings: MergeSettings,
    writer: &mut RoundWriter<'_>,
    manifests: &Manifests,
) -> Result<Edit, LevelError> {
    let mut edit = Edit {
        remove: plan
            .merge
            .iter()
            .map(|object| object.name)
            .chain(plan.drop.iter().copied())
            .collect(),
        touch: plan.touch.clone(),
        ..Edit::default()
    };
    if plan.merge.is_empty() {
        return Ok(edit);
    }
    let slices = slices(plan, manifest, liveness, manifests)
        .await
        .map_err(RoundError::from)?;
    let mut inputs = BTreeMap::new();
    for object in &plan.merge {
        let input = Input::open(object, settings.read_bytes, manifests).await;
        let input = input.map_err(|error| unreadable(object.name, error.into()))?;
        inputs.insert(object.name, input);
    }
    let mut topic_bytes = BTreeMap::new();
    for (slice, _) in &slices {
        *topic_bytes.entry(slice.at.topic).or_default() += slice.bytes;
    }
    let mut output = Output::new(settings, policies, &topic_bytes);
    for (slice, object) in slices {
        let input = inputs.get_mut(&object).expect("every object of the plan is open");
        let start = liveness.start(slice.at).unwrap_or(Offset(0));
        let kept = input.batches(&slice, start);
        let Some(first) = input.batch(kept.start).filter(|_| !kept.is_empty()) else {
            continue;
        };
        let range = Range {
            at: slice.at,
            start: if slice.start < start { first.base } else { slice.start },
            end: slice.end,
            max_timestamp: slice.max_timestamp,
        };
        output.begin(range, writer).await?;
        // A short slice would keep all that was read together with it for as long as it waits to be written (MEM-1).
        let is_short = input.bytes(kept.clone()) < settings.read_bytes / 2;
        for nth in kept {
            let (batch, mut data) = input.read(nth).await.map_err(|error| unreadable(object, error))?;
            if is_short {
                data = Bytes::copy_from_slice(&data);
            }
            output.push(batch, data.into());
        }
    }
    let made = output.finish(writer).await?;
    edit.add.insert(plan.level, made);
    Ok(edit)
}

fn unreadable(name: ObjectName, why: RoundError) -> LevelError {
    LevelError::Unreadable { name, why }
}

/// The slices of the objects to be merged that still count, in order, each with its object.
async fn slices(
    plan: &LevelPlan,
    manifest: ManifestRef,
    liveness: &Liveness,
    manifests: &Manifests,
) -> Result<Vec<(ManifestSlice, ObjectName)>, MergedError> {
    let wanted: BTreeSet<ObjectName> = plan.merge.iter().map(|object| object.name).collect();
    let root = manifests.root(manifest).await?;
    let mut found = Vec::new();
    for page in root.pages.iter().filter(|page| plan.touch.contains(&page.name)) {
        let page = manifests.page(page).await?;
        let of_plan = slices_of_page(&page).filter(|of| wanted.contains(&of.object.name));
        let live = of_plan.filter(|of| liveness.keeps(of.slice.at, of.slice.end));
        found.extend(live.map(|of| (of.slice, of.object.name)));
    }
    found.sort_unstable_by_key(|(slice, _)| (slice.at, slice.start));
    Ok(found)
}

/// One object that is read from beginning to end.
struct Input<'a> {
    objects: &'a NamedObjects,
    name: ObjectName,
    batches: Vec<(u64, PlacedBatch)>,
    /// All batches lie before it.
    data_end: u64,
    read_bytes: u64,
    /// What was read last, and where it begins.
    window: Bytes,
    window_start: u64,
}

impl<'a> Input<'a> {
    async fn open(object: &MergedObject, read_bytes: u64, manifests: &'a Manifests) -> Result<Self, MergedError> {
        let index: MergedIndex = manifests.index(object).await?;
        Ok(Self {
            objects: manifests.objects(),
            name: object.name,
            batches: index
                .places()
                .map(|(_, place, batch)| (place.position, *batch))
                .collect(),
            data_end: object.index_position,
            read_bytes,
            window: Bytes::new(),
            window_start: 0,
        })
    }

    /// The batches of a slice that end above an offset.
    fn batches(&self, slice: &ManifestSlice, start: Offset) -> std::ops::Range<usize> {
        let end = slice.position + slice.bytes;
        let from = self.batches.partition_point(|(position, _)| *position < slice.position);
        let to = self.batches.partition_point(|(position, _)| *position < end);
        let trimmed = self.batches[from..to].partition_point(|(_, batch)| batch.end() <= start);
        from + trimmed..to
    }

    fn batch(&self, nth: usize) -> Option<&PlacedBatch> {
        self.batches.get(nth).map(|(_, batch)| batch)
    }

    /// How many bytes these batches have.
    fn bytes(&self, batches: std::ops::Range<usize>) -> u64 {
        let batches = self.batches[batches].iter();
        batches.map(|(_, batch)| u64::from(batch.meta.bytes)).sum()
    }

    /// The bytes of a batch, checked.
    async fn read(&mut self, nth: usize) -> Result<(PlacedBatch, Bytes), RoundError> {
        let (position, batch) = self.batches[nth];
        let length = u64::from(batch.meta.bytes);
        let window_end = self.window_start + u64::try_from(self.window.len()).expect("a length fits");
        if position < self.window_start || position + length > window_end {
            let end = (position + length.max(self.read_bytes)).min(self.data_end.max(position + length));
            self.window = self.objects.read(&self.name, position..end).await?;
            self.window_start = position;
        }
        let from = usize::try_from(position - self.window_start).expect("within the window");
        let to = from + usize::try_from(length).expect("within the window");
        let data = self.window.slice(from..to);
        let checked = check_batch(&data, &batch.meta).and_then(|()| check_base(&data, batch.base));
        checked.map_err(|why| RoundError::Object { name: self.name, why })?;
        Ok((batch, data))
    }
}

/// The base offset of a merged batch is in its bytes, and outside its CRC.
fn check_base(batch: &[u8], base: Offset) -> Result<(), FormatError> {
    if batch.starts_with(&base.0.to_be_bytes()) {
        Ok(())
    } else {
        Err(FormatError::Invalid {
            what: "base offset of merged batch",
        })
    }
}
