//! Reading fresh segments for a merge: each with one request, checked and not copied.
//!
//! Owns: the check of every batch, its base offset and leader epoch, what is done about a segment that cannot be
//! read.
//!
//! Invariants: a batch is merged only if its bytes are those that were committed (length and CRC-32C as in the log).

use esker_metadata::replica::Replica;
use esker_segment::checksum::check_batch;
use esker_segment::id::TopicPartition;
use esker_segment::merged::PlacedBatch;
use esker_segment::segment::BatchData;
use esker_segment::wire::FormatError;
use esker_storage::named::NamedObjects;
use esker_storage::store::StoreError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use metrics::counter;

use super::{IntakeParts, ReadFailures, SourceBatch, SourceMarker, SourceSegment};
use crate::merge::marker::marker_batch;
use crate::round::RoundError;

/// One batch, ready to be written.
pub(super) struct Piece {
    pub(super) at: TopicPartition,
    pub(super) batch: PlacedBatch,
    pub(super) data: BatchData,
}

/// What reading a chunk gave.
#[derive(Default)]
pub(super) struct Read<'a> {
    pub(super) pieces: Vec<Piece>,
    /// Segments that stay where they are.
    pub(super) unread: Vec<&'a SourceSegment>,
}

/// Why a segment was not read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("batch at byte {position} is damaged: {why}")]
    Damaged { position: u64, why: FormatError },
}

/// Reads segments of a chunk.
pub(super) async fn read<'a>(
    segments: &[&'a SourceSegment],
    parts: IntakeParts<'_>,
    failures: &mut ReadFailures,
    objects: &NamedObjects,
) -> Result<Read<'a>, RoundError> {
    let mut all = Read::default();
    // Boxed and collected: the compiler cannot see that a lazy stream of them is `Send`.
    let reads: Vec<BoxFuture<'_, _>> = segments
        .iter()
        .map(|&segment| async move { (segment, read_segment(segment, objects).await) }.boxed())
        .collect();
    let mut reads = futures::stream::iter(reads).buffer_unordered(parts.settings.requests_max.max(1));
    while let Some((segment, outcome)) = reads.next().await {
        match outcome {
            Ok(pieces) => {
                failures.remove(&segment.name);
                all.pieces.extend(pieces);
            }
            Err(error) => {
                let attempts = failures.entry(segment.name).or_default();
                *attempts += 1;
                let key = objects.key(&segment.object.name);
                counter!("esker_merge_unreadable_total").increment(1);
                tracing::error!(%key, attempts, %error, "segment cannot be merged");
                if *attempts < parts.settings.read_attempts_max {
                    return Err(unreadable(error, segment));
                }
                failures.remove(&segment.name);
                all.unread.push(segment);
            }
        }
    }
    Ok(all)
}

fn unreadable(error: ReadError, segment: &SourceSegment) -> RoundError {
    match error {
        ReadError::Store(error) => RoundError::Store(error),
        ReadError::Damaged { why, .. } => RoundError::Object {
            name: segment.object.name,
            why,
        },
    }
}

async fn read_segment(segment: &SourceSegment, objects: &NamedObjects) -> Result<Vec<Piece>, ReadError> {
    let range = segment.range();
    let start = range.start;
    let bytes = objects.read(&segment.object.name, range).await?;
    let within = |position: u64| usize::try_from(position - start).expect("within what was read");
    let piece = |batch: &SourceBatch| {
        let stored = bytes.slice(within(batch.position)..within(batch.position + u64::from(batch.meta.bytes)));
        check_batch(&stored, &batch.meta).map_err(|why| ReadError::Damaged {
            position: batch.position,
            why,
        })?;
        Ok(Piece {
            at: batch.at,
            batch: PlacedBatch {
                base: batch.base,
                control: false,
                meta: batch.meta,
            },
            data: BatchData::placed(&stored, batch.base, segment.name.incarnation),
        })
    };
    segment.batches.iter().map(piece).collect()
}

/// The batches of markers. One whose partition is gone by now needs none.
pub(super) fn markers<'a>(markers: &'a [SourceMarker], replica: &'a Replica) -> impl Iterator<Item = Piece> {
    markers.iter().filter_map(|marker| {
        let epoch = replica.fold().leader_epoch_at(marker.at, marker.offset)?;
        let (batch, data) = marker_batch(&marker.end, marker.offset, epoch);
        Some(Piece {
            at: marker.at,
            batch,
            data: data.into(),
        })
    })
}
