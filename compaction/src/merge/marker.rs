//! Transaction markers as merged objects hold them.
//!
//! Invariants: TXN-1. A marker batch is a function of the end of its transaction and its offset, the same bytes as an agent
//! makes while it is not merged (coordinator epoch 0, timestamp of the entry, epoch as in the fold).

use bytes::Bytes;
use esker_kafka::records::{EndTxn, TransactionMarker};
use esker_segment::checkpoint::IndexedTxnEnd;
use esker_segment::id::{IncarnationNumber, Offset};
use esker_segment::index::BatchMeta;
use esker_segment::merged::PlacedBatch;

/// The marker batch at an offset, ready to be merged.
///
/// # Panics
/// Never: markers are small.
#[must_use]
pub fn marker_batch(end: &IndexedTxnEnd, offset: Offset, leader_epoch: IncarnationNumber) -> (PlacedBatch, Bytes) {
    let batch = TransactionMarker {
        offset: offset.0,
        leader_epoch: i32::try_from(leader_epoch.0).unwrap_or(i32::MAX),
        timestamp: end.timestamp.0,
        producer_id: end.producer.0,
        producer_epoch: end.epoch.0,
        coordinator_epoch: 0,
        end: if end.committed { EndTxn::Commit } else { EndTxn::Abort },
    }
    .to_batch();
    let data = batch.bytes().clone();
    let meta = BatchMeta {
        records: 1,
        bytes: u32::try_from(data.len()).expect("a marker is small"),
        max_timestamp: end.timestamp,
        crc: batch.header().crc,
        // Merged indexes know markers by their flag; a marker has no sequence that a stamp could hold.
        producer: None,
    };
    let placed = PlacedBatch {
        base: offset,
        control: true,
        meta,
    };
    (placed, data)
}
