//! Index objects for tests, made from entries and their verdicts alone: a second way beside the export of the fold.

use std::collections::VecDeque;

use esker_segment::checkpoint::{IndexObject, IndexedSegment, IndexedTxnEnd};
use esker_segment::id::{LogIndex, Offset};

use esker_model::entry::{SegmentEntry, TxnEnd, TxnOutcome};
use esker_model::verdict::TxnEndVerdict;
use esker_model::{BatchVerdict, CommitRecord, Entry, EntryVerdict};

/// Applied commits in log order, without those that brought no batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentCommits {
    segments: VecDeque<IndexedSegment>,
    txn_ends: VecDeque<IndexedTxnEnd>,
}

impl RecentCommits {
    /// Notes what a commit brought. Commits come in log order.
    pub(crate) fn push(&mut self, index: LogIndex, record: CommitRecord, verdicts: &[EntryVerdict]) {
        for (entry, verdict) in record.entries.into_iter().zip(verdicts) {
            match (entry, verdict) {
                (Entry::Segment(segment), EntryVerdict::Segment(batches)) => {
                    let segment = indexed(index, segment, batches);
                    if segment.bases.iter().any(Option::is_some) {
                        self.segments.push_back(segment);
                    }
                }
                (Entry::TxnEnd(end), EntryVerdict::TxnEnd(TxnEndVerdict::Ended { outcome, markers, .. }))
                    if !markers.is_empty() =>
                {
                    self.txn_ends.push_back(ended(index, end, *outcome, markers.clone()));
                }
                _ => {}
            }
        }
    }

    /// What the commits of a range brought; they stay here until they are forgotten.
    pub(crate) fn index_object(&self, first: LogIndex, last: LogIndex) -> IndexObject {
        let range = first..=last;
        let segments = self
            .segments
            .iter()
            .filter(|segment| range.contains(&segment.log_index));
        let txn_ends = self.txn_ends.iter().filter(|end| range.contains(&end.log_index));
        IndexObject {
            first,
            last,
            segments: segments.cloned().collect(),
            txn_ends: txn_ends.cloned().collect(),
        }
    }

    /// Forgets commits up to an index: a published checkpoint holds them.
    pub(crate) fn forget(&mut self, through: LogIndex) {
        while self
            .segments
            .pop_front_if(|segment| segment.log_index <= through)
            .is_some()
        {}
        while self.txn_ends.pop_front_if(|end| end.log_index <= through).is_some() {}
    }
}

fn indexed(log_index: LogIndex, segment: SegmentEntry, verdicts: &[BatchVerdict]) -> IndexedSegment {
    let base = |verdict: &BatchVerdict| match verdict {
        BatchVerdict::Stored { base } => Some(*base),
        BatchVerdict::Duplicate { .. }
        | BatchVerdict::OutOfOrder { .. }
        | BatchVerdict::Fenced { .. }
        | BatchVerdict::NoSuchPartition
        | BatchVerdict::UnknownProducer
        | BatchVerdict::InvalidTxn(_)
        | BatchVerdict::Malformed => None,
    };
    IndexedSegment {
        log_index,
        name: segment.name,
        length_bytes: segment.bytes,
        content_hash: segment.content_hash,
        zone: segment.zone.into(),
        confirmed: segment.confirmed,
        index: segment.index,
        bases: verdicts.iter().map(base).collect(),
    }
}

fn ended(
    log_index: LogIndex,
    end: TxnEnd,
    outcome: TxnOutcome,
    markers: Vec<(esker_segment::id::TopicPartition, Offset)>,
) -> IndexedTxnEnd {
    IndexedTxnEnd {
        log_index,
        producer: end.producer,
        epoch: end.next_epoch,
        committed: outcome == TxnOutcome::Commit,
        timestamp: end.timestamp,
        markers,
    }
}
