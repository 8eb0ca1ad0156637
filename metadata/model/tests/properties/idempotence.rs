//! IDM-1: a batch is stored once and in order, however often and in whatever order it is sent.

use esker_model::entry::{ProducerIds, TopicCreate};
use esker_model::{BatchVerdict, CommitRecord, Entry, EntryVerdict, Fold};
use esker_segment::id::{PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId, TopicPartition};
use esker_segment::index::{BatchIndex, BatchMeta, ProducerStamp, Run};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cuts::position;
use crate::logs::segment_of;
use crate::reference::{Reference, Sent};

const AT: TopicPartition = TopicPartition {
    topic: TopicId(1),
    partition: PartitionIndex(0),
};

fn meta(sent: Sent) -> BatchMeta {
    BatchMeta {
        records: sent.records,
        bytes: 100,
        max_timestamp: Timestamp(0),
        crc: 0,
        producer: Some(ProducerStamp {
            id: ProducerId(sent.producer),
            epoch: ProducerEpoch(sent.epoch),
            first_sequence: Sequence(sent.first),
            transactional: false,
            verified_at: None,
        }),
    }
}

/// One topic, three granted producers.
fn world() -> Fold {
    let mut fold = Fold::new();
    let topic = Entry::TopicCreate(TopicCreate {
        topic: AT.topic,
        name: "t".into(),
        partitions: 1,
    });
    fold.apply(
        position(0),
        &CommitRecord {
            entries: vec![topic, Entry::ProducerIds(ProducerIds { count: 3 })],
        },
    );
    fold
}

/// Commits batches as one segment; gives the verdicts.
fn send(fold: &mut Fold, batches: &[Sent]) -> Vec<BatchVerdict> {
    let index = usize::try_from(fold.index().0).unwrap();
    let batches = batches.iter().map(|sent| meta(*sent)).collect();
    let runs = vec![Run {
        topic: AT.topic,
        partition: AT.partition,
        batches,
    }];
    let segment = segment_of(BatchIndex { runs }, index.try_into().unwrap());
    let applied = fold.apply(
        position(index),
        &CommitRecord {
            entries: vec![Entry::Segment(segment)],
        },
    );
    match &applied.verdicts[..] {
        [EntryVerdict::Segment(verdicts)] => verdicts.clone(),
        other => panic!("{other:?}"),
    }
}

/// Any batches: mostly out of order, some fitting.
fn noise() -> impl Strategy<Value = Vec<Sent>> {
    let sent = (0..3_i64, 0..3_i16, 0..6_i32, 1..3_u32);
    let sent = sent.prop_map(|(producer, epoch, first, records)| Sent {
        producer,
        epoch,
        first,
        records,
    });
    vec(sent, 0..60)
}

/// What a producer sends that wants to store these batches, with retries: an order of the batches with repeats.
fn retries() -> impl Strategy<Value = (Vec<u32>, Vec<usize>)> {
    vec(1..4_u32, 1..12).prop_flat_map(|records| {
        let count = records.len();
        (Just(records), vec(0..count, 0..80))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_agrees_with_a_log_that_remembers_everything(noise in noise(), cuts in vec(1..5_usize, 1..20)) {
        let (mut fold, mut reference) = (world(), Reference::default());
        let (mut rest, mut cuts) = (&noise[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (segment, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = later;
            let expected: Vec<_> = segment.iter().map(|sent| reference.append(*sent)).collect();
            prop_assert_eq!(send(&mut fold, segment), expected);
        }
    }

    #[test]
    fn it_agrees_across_the_wrap_of_sequences(steps in vec((0..3_u32, 1..4_u32), 1..40), back in 0..20_i32) {
        // The first batch of a producer begins at 0, so a very long one leads up to the wrap.
        let lead = u32::try_from(i32::MAX - back).unwrap();
        let (mut fold, mut reference) = (world(), Reference::default());
        let first = Sent { producer: 0, epoch: 0, first: 0, records: lead };
        prop_assert_eq!(send(&mut fold, &[first]), vec![reference.append(first)]);
        let (mut next, mut sent) = (Sequence(0).plus(lead), vec![first]);
        for (kind, records) in steps {
            let batch = match kind {
                0 | 1 => Sent { producer: 0, epoch: 0, first: next.0, records },
                _ => sent[sent.len().saturating_sub(usize::try_from(records).unwrap())],
            };
            let verdict = reference.append(batch);
            prop_assert_eq!(send(&mut fold, &[batch]), vec![verdict]);
            if matches!(verdict, BatchVerdict::Stored { .. }) {
                next = Sequence(batch.first).plus(batch.records);
                sent.push(batch);
            }
        }
    }

    #[test]
    fn re_sent_reordered_and_repeated_batches_are_stored_once_and_in_order((records, sends) in retries()) {
        let mut first = 0;
        let batches: Vec<Sent> = records.iter().map(|records| {
            let sent = Sent { producer: 0, epoch: 0, first, records: *records };
            first += i32::try_from(*records).unwrap();
            sent
        }).collect();
        let mut fold = world();
        let mut stored: Vec<(usize, i64)> = Vec::new();
        for at in sends {
            match send(&mut fold, &[batches[at]])[0] {
                BatchVerdict::Stored { base } => stored.push((at, base.0)),
                BatchVerdict::Duplicate { base } => prop_assert!(stored.contains(&(at, base.0))),
                BatchVerdict::OutOfOrder { .. } => {
                    // Either too early, or so late that the window has forgotten it.
                    let known = stored.iter().position(|(known, _)| *known == at);
                    prop_assert!(known.is_none_or(|known| known + 5 < stored.len()));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        // A prefix of the batches, each once, in order, at rising offsets.
        prop_assert!(stored.iter().enumerate().all(|(position, (at, _))| position == *at));
        prop_assert!(stored.is_sorted_by_key(|(_, base)| *base));
    }
}
