//! A naive idempotent log: it remembers everything and looks through all of it. The fold must agree with it.

use std::collections::BTreeMap;

use esker_model::{BatchVerdict, WINDOW_BATCHES};
use esker_segment::id::{Offset, ProducerEpoch, Sequence};

/// One batch as a producer sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) producer: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) records: u32,
}

/// Every batch that was ever stored in a partition, with its base offset.
#[derive(Default)]
pub(crate) struct Reference {
    stored: BTreeMap<i64, Vec<(Sent, i64)>>,
    next: i64,
}

const SEQUENCES: i64 = 1 << 31;

impl Reference {
    pub(crate) fn append(&mut self, sent: Sent) -> BatchVerdict {
        let history = self.stored.entry(sent.producer).or_default();
        let newest = history.iter().map(|(batch, _)| batch.epoch).max();
        if let Some(newest) = newest.filter(|newest| *newest > sent.epoch) {
            return BatchVerdict::Fenced {
                current: ProducerEpoch(newest),
            };
        }
        let of_epoch: Vec<_> = history.iter().filter(|(batch, _)| batch.epoch == sent.epoch).collect();
        let expected = of_epoch.last().map_or(0, |(batch, _)| {
            (i64::from(batch.first) + i64::from(batch.records)) % SEQUENCES
        });
        if i64::from(sent.first) == expected {
            let base = self.next;
            self.next += i64::from(sent.records);
            history.push((sent, base));
            return BatchVerdict::Stored { base: Offset(base) };
        }
        let mut window = of_epoch.iter().rev().take(WINDOW_BATCHES);
        let same = window.find(|(batch, _)| (batch.first, batch.records) == (sent.first, sent.records));
        match same {
            Some((_, base)) => BatchVerdict::Duplicate { base: Offset(*base) },
            None => BatchVerdict::OutOfOrder {
                expected: Sequence(i32::try_from(expected).unwrap()),
                found: Sequence(sent.first),
            },
        }
    }
}
