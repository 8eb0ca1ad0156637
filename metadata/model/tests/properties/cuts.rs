//! Folds of the same log agree, wherever they began (LOG-5), and offsets are dense (LOG-1, LOG-2).

use std::collections::BTreeMap;

use esker_model::fold::CommitPosition;
use esker_model::{BatchVerdict, CommitRecord, Entry, EntryVerdict, Fold};
use esker_segment::checkpoint::IndexObject;
use esker_segment::id::{CommitNumber, LogIndex, SessionId, TopicPartition};
use proptest::prelude::*;

use crate::logs::log;
use crate::recent::RecentCommits;

pub(crate) fn position(index: usize) -> CommitPosition {
    let index = u64::try_from(index).unwrap() + 1;
    CommitPosition {
        index: LogIndex(index),
        session: SessionId(index % 3),
        number: CommitNumber(index),
    }
}

/// A follower that makes checkpoints and restarts from them at some indexes.
fn follow(log: &[CommitRecord], restarts: &[usize], merged: u64) -> Fold {
    let mut fold = Fold::new();
    let mut recent = RecentCommits::default();
    let mut objects = Vec::new();
    let mut written = 0;
    for (at, record) in log.iter().enumerate() {
        let applied = fold.apply(position(at), record);
        recent.push(fold.index(), record.clone(), &applied.verdicts);
        if !restarts.contains(&at) {
            continue;
        }
        let object = recent.index_object(LogIndex(written + 1), fold.index());
        written = fold.index().0;
        recent.forget(fold.index());
        objects.push(IndexObject::decode(&object.encode().concat()).unwrap());
        fold = Fold::decode_state(&fold.encode_state().concat()).unwrap();
        objects
            .iter()
            .for_each(|object| fold.import_index(object, LogIndex(merged.min(written))));
    }
    fold.forget_merged(LogIndex(merged));
    fold
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn two_folds_from_different_checkpoints_agree(
        log in log(40),
        mut one in prop::collection::vec(0..40_usize, 0..5),
        mut other in prop::collection::vec(0..40_usize, 0..5),
        merged in 0..40_u64,
    ) {
        one.sort_unstable();
        other.sort_unstable();
        let (plain, one, other) = (follow(&log, &[], merged), follow(&log, &one, merged), follow(&log, &other, merged));
        let all = (LogIndex(0), LogIndex(u64::MAX));
        for fold in [&one, &other] {
            prop_assert_eq!(plain.digest(), fold.digest());
            prop_assert_eq!(plain.encode_state().digest, fold.encode_state().digest);
            prop_assert_eq!(plain.export_unmerged(all.0, all.1), fold.export_unmerged(all.0, all.1));
            prop_assert_eq!(plain.unmerged_stats(), fold.unmerged_stats());
            prop_assert_eq!(plain.group_totals(), fold.group_totals());
        }
    }

    #[test]
    fn a_different_log_shows_in_the_digest(log in log(12), other in log(12)) {
        prop_assert_eq!(log == other, follow(&log, &[], 0).digest() == follow(&other, &[], 0).digest());
    }

    #[test]
    fn bytes_and_entries_give_the_same_fold(log in log(20)) {
        let (mut through_bytes, mut direct) = (Fold::new(), Fold::new());
        for (at, record) in log.iter().enumerate() {
            let applied = direct.apply(position(at), record);
            let bytes = record.encode().unwrap();
            prop_assert_eq!(through_bytes.apply_bytes(position(at), &bytes).unwrap(), applied);
        }
        prop_assert_eq!(through_bytes.digest(), direct.digest());
    }

    #[test]
    fn offsets_are_dense_and_every_one_is_found(log in log(40)) {
        let mut fold = Fold::new();
        let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for (at, record) in log.iter().enumerate() {
            let applied = fold.apply(position(at), record);
            for (entry, verdict) in record.entries.iter().zip(&applied.verdicts) {
                let took = taken(entry, verdict);
                for (partition, base, records) in took {
                    let next = next.entry(partition).or_default();
                    prop_assert_eq!(base, *next, "in {}", partition);
                    *next += records;
                }
                if let Entry::TopicDelete(delete) = entry {
                    next.retain(|partition, _| partition.topic != delete.topic);
                }
            }
        }
        for (at, next) in next {
            let partition = fold.partition(at).unwrap();
            prop_assert_eq!(partition.high_watermark.0, next);
            prop_assert!(partition.log_start <= partition.last_stable);
            prop_assert!(partition.last_stable <= partition.high_watermark);
            for offset in partition.log_start.0..next {
                let found = fold.locate(at, esker_segment::id::Offset(offset)).next().unwrap();
                prop_assert!(found.base.0 <= offset && offset < found.end().0);
            }
        }
    }
}

/// Offsets that an entry took: partition, base, how many.
fn taken(entry: &Entry, verdict: &EntryVerdict) -> Vec<(TopicPartition, i64, i64)> {
    match (entry, verdict) {
        (Entry::Segment(segment), EntryVerdict::Segment(verdicts)) => {
            let places = segment.index.places().zip(verdicts);
            let stored = places.filter_map(|((at, _, meta), verdict)| match verdict {
                BatchVerdict::Stored { base } => Some((at, base.0, i64::from(meta.records))),
                _ => None,
            });
            stored.collect()
        }
        (Entry::TxnEnd(_), EntryVerdict::TxnEnd(esker_model::verdict::TxnEndVerdict::Ended { markers, .. })) => {
            markers.iter().map(|(at, offset)| (*at, offset.0, 1)).collect()
        }
        _ => Vec::new(),
    }
}
