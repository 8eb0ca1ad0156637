//! Merging what is fresh: segments of many agents into objects sorted by topic, partition and offset.
//!
//! Owns: one pass over the oldest index objects: each segment is read once, in chunks that fit in memory.
//! Does not own: publication (`round`), where batches are cut into objects (`merge`).
//!
//! Invariants: LOG-3, CMP-1: every stored batch that still counts comes out exactly once, byte for byte but for base offset
//! and leader epoch. A segment is named by the manifest as it is when it is as good as a merged one, and when it cannot be
//! read: then exactly its offsets fail until somebody repairs it.

use std::collections::BTreeMap;

use esker_metadata::keys::root::{IndexRef, Root};
use esker_metadata::replica::Replica;
use esker_segment::checkpoint::IndexObject;
use esker_segment::id::LogIndex;
use esker_segment::name::SegmentName;

use crate::edit::{Edit, NewSlice};
use crate::liveness::Liveness;
use crate::merge::{Output, Range};
use crate::round::{RoundError, RoundWriter};
use crate::seams::TopicPolicies;
use crate::settings::MergeSettings;

mod plan;
mod read;
#[cfg(test)]
mod tests;

pub use plan::{Chunk, Chunker, Commit, SLICE_BYTES_GOOD, SourceBatch, SourceMarker, SourceSegment, commits};
use read::{Piece, Read};

/// Level of merged objects that come from fresh segments.
const LEVEL_FRESH: u8 = 1;
/// Level of fresh segments that stand in a manifest as they are.
const LEVEL_AS_WRITTEN: u8 = 0;

/// How often segments could not be read.
pub type ReadFailures = BTreeMap<SegmentName, u32>;

/// What merging fresh segments needs besides the writer.
#[derive(Clone, Copy)]
pub struct IntakeParts<'a> {
    /// The root whose index objects are merged.
    pub root: &'a Root,
    /// What still counts.
    pub liveness: &'a Liveness,
    /// The fold, for leader epochs.
    pub replica: &'a Replica,
    /// Policies of topics.
    pub policies: &'a dyn TopicPolicies,
    /// Sizes.
    pub settings: MergeSettings,
}

/// What was merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// The change to the manifest.
    pub edit: Edit,
    /// Everything up to here is in it.
    pub merged_through: LogIndex,
    /// Segments that were read.
    pub segments: usize,
}

/// Merges the oldest index objects of a root, about `round_bytes_max` of them.
///
/// # Errors
/// See [`RoundError`]. A segment that cannot be read fails the round a few times before it is left as it is.
pub async fn run(
    parts: IntakeParts<'_>,
    failures: &mut ReadFailures,
    writer: &mut RoundWriter<'_>,
) -> Result<Intake, RoundError> {
    let limit = parts.root.index.min(parts.liveness.index());
    let mut intake = Intake {
        merged_through: parts.root.merged_through,
        ..Intake::default()
    };
    let mut chunker = Chunker::new(parts.settings.chunk_bytes_max);
    let mut bytes = 0;
    'objects: for index in parts.root.indexes.iter().filter(|index| index.first <= limit) {
        let object = read_index(index, writer).await?;
        for commit in commits(object, parts.root.merged_through, limit) {
            let through = commit.index;
            for chunk in chunker.add(commit, |at, end| parts.liveness.keeps(at, end)) {
                bytes += chunk.bytes;
                merge(&chunk, parts, failures, writer, &mut intake).await?;
            }
            intake.merged_through = through;
            if bytes + chunker.bytes() >= parts.settings.round_bytes_max {
                break 'objects;
            }
        }
        intake.merged_through = index.last.min(limit);
    }
    if bytes + chunker.bytes() < parts.settings.round_bytes_max {
        // Commits beyond the last index object brought no batches.
        intake.merged_through = limit.max(intake.merged_through);
    }
    if let Some(chunk) = chunker.finish() {
        merge(&chunk, parts, failures, writer, &mut intake).await?;
    }
    Ok(intake)
}

async fn read_index(index: &IndexRef, writer: &RoundWriter<'_>) -> Result<IndexObject, RoundError> {
    let name = index.object.name;
    let bytes = writer.objects().read_whole(&name, index.object.length_bytes).await?;
    IndexObject::decode(&bytes).map_err(|why| RoundError::Object { name, why })
}

/// Reads the segments of a chunk and writes its batches.
async fn merge(
    chunk: &Chunk,
    parts: IntakeParts<'_>,
    failures: &mut ReadFailures,
    writer: &mut RoundWriter<'_>,
    intake: &mut Intake,
) -> Result<(), RoundError> {
    let stays = |segment: &&SourceSegment| segment.is_good_enough(parts.policies, &parts.settings);
    let (staying, wanted): (Vec<_>, Vec<_>) = chunk.segments.iter().partition(stays);
    let Read { mut pieces, unread } = read::read(&wanted, parts, failures, writer.objects()).await?;
    intake.segments += chunk.segments.len();
    let as_written = staying.into_iter().chain(unread);
    let slices: Vec<NewSlice> = as_written.flat_map(SourceSegment::as_slices).collect();
    if !slices.is_empty() {
        intake.edit.add.entry(LEVEL_AS_WRITTEN).or_default().extend(slices);
    }
    pieces.extend(read::markers(&chunk.markers, parts.replica));
    pieces.sort_unstable_by_key(|piece| (piece.at, piece.batch.base));
    let mut topic_bytes = BTreeMap::new();
    for piece in &pieces {
        *topic_bytes.entry(piece.at.topic).or_default() += u64::from(piece.batch.meta.bytes);
    }
    let mut output = Output::new(parts.settings, parts.policies, &topic_bytes);
    for Piece { at, batch, data } in pieces {
        let range = Range {
            at,
            start: batch.base,
            end: batch.end(),
            max_timestamp: batch.meta.max_timestamp,
        };
        output.begin(range, writer).await?;
        output.push(batch, data);
    }
    let made = output.finish(writer).await?;
    intake.edit.add.entry(LEVEL_FRESH).or_default().extend(made);
    Ok(())
}
