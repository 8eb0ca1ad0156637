//! TXN-1: what a read_committed consumer sees is exactly what was committed, whatever range it fetches.

use std::collections::BTreeMap;

use esker_model::entry::TxnOutcome;
use esker_model::unmerged::Source;
use esker_model::verdict::TxnEndVerdict;
use esker_model::{BatchVerdict, Entry, EntryVerdict, Fold};
use esker_segment::id::{Offset, ProducerId, TopicPartition};
use proptest::prelude::*;

use crate::cuts::position;
use crate::logs::log;

/// What a naive log knows of one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Plain,
    Open(ProducerId),
    Committed,
    Aborted,
    Marker,
}

type Naive = BTreeMap<TopicPartition, Vec<Record>>;

/// Keeps a naive log beside the fold.
fn note(naive: &mut Naive, entry: &Entry, verdict: &EntryVerdict) {
    match (entry, verdict) {
        (Entry::Segment(segment), EntryVerdict::Segment(verdicts)) => {
            for ((at, _, meta), verdict) in segment.index.places().zip(verdicts) {
                if matches!(verdict, BatchVerdict::Stored { .. }) {
                    let stamp = meta.producer.filter(|stamp| stamp.transactional);
                    let record = stamp.map_or(Record::Plain, |stamp| Record::Open(stamp.id));
                    let log = naive.entry(at).or_default();
                    log.extend((0..meta.records).map(|_| record));
                }
            }
        }
        (Entry::TxnEnd(end), EntryVerdict::TxnEnd(TxnEndVerdict::Ended { outcome, .. })) => {
            for log in naive.values_mut() {
                let ours = Record::Open(end.producer);
                if !log.contains(&ours) {
                    continue;
                }
                let now = if *outcome == TxnOutcome::Commit {
                    Record::Committed
                } else {
                    Record::Aborted
                };
                log.iter_mut()
                    .filter(|record| **record == ours)
                    .for_each(|record| *record = now);
                log.push(Record::Marker);
            }
        }
        (Entry::TopicDelete(delete), _) => naive.retain(|at, _| at.topic != delete.topic),
        _ => {}
    }
}

/// Offsets that a Kafka consumer hands out in read_committed: it walks the batches of a fetch below the last stable offset
/// and skips those of producers that have an aborted transaction there, from its first offset to its marker.
fn consume(
    fold: &Fold,
    owners: &BTreeMap<(TopicPartition, i64), ProducerId>,
    at: TopicPartition,
    from: i64,
) -> Vec<i64> {
    let stable = fold.partition(at).unwrap().last_stable;
    let mut aborted: Vec<_> = fold.aborted(at, Offset(from), stable).collect();
    aborted.sort_by_key(|txn| txn.first);
    let (mut aborted, mut skipped) = (aborted.into_iter().peekable(), Vec::new());
    let mut seen = Vec::new();
    for batch in fold.locate(at, Offset(from)).take_while(|batch| batch.base < stable) {
        while let Some(txn) = aborted.next_if(|txn| txn.first < batch.end()) {
            skipped.push(txn.producer);
        }
        match batch.source {
            Source::Marker(marker) => skipped.retain(|producer| *producer != marker.producer),
            Source::Segment(_) => {
                let owner = owners.get(&(at, batch.base.0));
                if owner.is_none_or(|owner| !skipped.contains(owner)) {
                    seen.extend((batch.base.0..batch.end().0).filter(|offset| *offset >= from));
                }
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn read_committed_sees_what_was_committed_and_nothing_else(log in log(40)) {
        // Incarnations and forgotten aborts have nothing to do with it.
        let keep = |entry: &Entry| !matches!(entry, Entry::ForgetAborted(_));
        let mut fold = Fold::new();
        let (mut naive, mut owners) = (Naive::new(), BTreeMap::new());
        for (at, mut record) in log.into_iter().enumerate() {
            record.entries.retain(keep);
            let applied = fold.apply(position(at), &record);
            for (entry, verdict) in record.entries.iter().zip(&applied.verdicts) {
                note(&mut naive, entry, verdict);
                own(&mut owners, entry, verdict);
            }
            check(&fold, &naive, &owners)?;
        }
    }
}

/// Which producer a transactional batch belongs to, as its header would say.
fn own(owners: &mut BTreeMap<(TopicPartition, i64), ProducerId>, entry: &Entry, verdict: &EntryVerdict) {
    if let (Entry::Segment(segment), EntryVerdict::Segment(verdicts)) = (entry, verdict) {
        for ((at, _, meta), verdict) in segment.index.places().zip(verdicts) {
            if let (BatchVerdict::Stored { base }, Some(stamp)) = (verdict, meta.producer) {
                owners.remove(&(at, base.0));
                if stamp.transactional {
                    owners.insert((at, base.0), stamp.id);
                }
            }
        }
    }
    if let Entry::TopicDelete(delete) = entry {
        owners.retain(|(at, _), _| at.topic != delete.topic);
    }
}

fn check(
    fold: &Fold,
    naive: &Naive,
    owners: &BTreeMap<(TopicPartition, i64), ProducerId>,
) -> Result<(), TestCaseError> {
    for (at, log) in naive {
        let partition = fold.partition(*at).unwrap();
        let open = log.iter().position(|record| matches!(record, Record::Open(_)));
        let stable = i64::try_from(open.unwrap_or(log.len())).unwrap();
        prop_assert_eq!(partition.last_stable.0, stable, "last stable offset of {}", at);
        for from in [partition.log_start.0, stable / 2, stable - 1] {
            let from = from.max(partition.log_start.0);
            let offsets = (0..).zip(log).filter(|(offset, _)| (from..stable).contains(offset));
            let visible = offsets.filter(|(_, record)| matches!(record, Record::Plain | Record::Committed));
            let expected: Vec<i64> = visible.map(|(offset, _)| offset).collect();
            prop_assert_eq!(consume(fold, owners, *at, from), expected, "{} from {}", at, from);
        }
    }
    Ok(())
}
