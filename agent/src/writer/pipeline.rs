//! The queue between upload and commit: what was proposed to the log, in order.
//!
//! Owns: first in, first out: a segment that was uploaded early waits for those before it; which proposals go into one
//! commit.
//! Does not own: uploads (`upload`), the commit itself (`esker_metadata`).
//!
//! Invariants: LOG-2, IDM-1 (batches of one producer enter the log in the order in which they entered the buffer).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use esker_metadata::log::{EXTRAS_BYTES_MAX, EXTRAS_MAX, extras_bytes};
use esker_metadata::store::{Compare, Op};
use esker_model::entry::{Entry, RecordBuilder};
use esker_model::{BatchVerdict, EntryVerdict};
use esker_segment::id::{SegmentNumber, TopicPartition};
use esker_segment::index::BatchMeta;
use esker_segment::segment::{Ordered, Segment, SegmentBuilder};
use tokio::sync::oneshot;

use super::ProposeError;
use crate::kafka::budget::BudgetShare;
use crate::produce::acks::Ack;

/// A batch on its way into the log; its bytes are in the buffer, then in a segment.
#[derive(Debug)]
pub struct Entering {
    /// Its partition.
    pub at: TopicPartition,
    /// What its header says.
    pub meta: BatchMeta,
    /// Who waits for it.
    pub ack: Ack,
    /// Its request's share of the byte budget.
    pub budget: Option<Arc<BudgetShare>>,
}

/// The batches of one flush. They are kept until they are judged, so that they can be uploaded again.
#[derive(Debug)]
pub struct Flushed {
    /// Which segment of the session.
    pub number: SegmentNumber,
    /// Their bytes.
    pub segment: Arc<SegmentBuilder>,
    /// In the order in which they entered.
    pub batches: Vec<Entering>,
    /// The commits that this agent had folded since the segment before. They are in no other segment of its.
    pub order: Vec<Ordered>,
}

/// A segment that is in the bucket.
#[derive(Debug)]
pub struct Uploaded {
    /// Its entry.
    pub entry: Entry,
    /// For each batch of the flush, its place among the verdicts.
    pub verdict_places: Vec<usize>,
}

/// Entries without a segment, with what must change together with them.
#[derive(Debug)]
pub struct Proposal {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Must hold beside the session's own compares.
    pub compares: Vec<Compare>,
    /// Done in the same transaction.
    pub ops: Vec<Op>,
    /// Gets the verdicts.
    pub reply: oneshot::Sender<Result<Vec<EntryVerdict>, ProposeError>>,
}

/// One place in the queue.
#[derive(Debug)]
pub enum Item {
    /// A segment; `uploaded` once it is in the bucket.
    Segment {
        /// Its batches.
        flushed: Flushed,
        /// Its entry, when it may be committed.
        uploaded: Option<Uploaded>,
    },
    /// Other entries.
    Entries(Proposal),
}

/// Items that go into one commit.
#[derive(Debug)]
pub struct Group {
    /// The record.
    pub record: Bytes,
    /// Its items.
    pub items: Vec<Item>,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Pipeline {
    items: VecDeque<Item>,
}

/// What is next in line.
#[derive(Debug)]
pub enum Ready {
    /// A commit.
    Commit(Group),
    /// An item that no commit can hold: it fails, nothing else.
    TooLarge(Item),
}

/// What a commit carries beside its record.
#[derive(Clone, Copy, Default)]
struct Extras {
    compares: usize,
    ops: usize,
    bytes: usize,
}

impl Extras {
    fn of(proposal: &Proposal) -> Self {
        Self {
            compares: proposal.compares.len(),
            ops: proposal.ops.len(),
            bytes: extras_bytes(&proposal.compares, &proposal.ops),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            compares: self.compares + other.compares,
            ops: self.ops + other.ops,
            bytes: self.bytes + other.bytes,
        }
    }

    fn fit(self) -> bool {
        self.compares.max(self.ops) <= EXTRAS_MAX && self.bytes <= EXTRAS_BYTES_MAX
    }
}

impl Pipeline {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Puts an item at the end.
    pub fn push(&mut self, item: Item) {
        self.items.push_back(item);
    }

    /// Notes that a segment is in the bucket.
    pub fn on_uploaded(&mut self, number: SegmentNumber, done: Uploaded) {
        for item in &mut self.items {
            if let Item::Segment { flushed, uploaded } = item
                && flushed.number == number
            {
                *uploaded = Some(done);
                return;
            }
        }
    }

    /// Whether the first item is a segment that is not in the bucket and that nobody waits for.
    pub fn head_is_abandoned(&self) -> bool {
        match self.items.front() {
            Some(Item::Segment {
                flushed,
                uploaded: None,
            }) => flushed.is_abandoned(),
            _ => false,
        }
    }

    /// Takes everything out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Item> + '_ {
        self.items.drain(..)
    }

    /// Takes the items of the next commit: all that are next in line and ready, within the limits of a record. A proposal
    /// with compares of its own is alone in its commit, so that a refusal concerns only itself.
    pub fn take_ready(&mut self) -> Option<Ready> {
        let mut record = RecordBuilder::default();
        let mut items = Vec::new();
        let mut extras = Extras::default();
        while let Some(next) = self.items.front() {
            let (entries, own_extras, alone) = match next {
                Item::Segment {
                    uploaded: Some(uploaded),
                    ..
                } => (std::slice::from_ref(&uploaded.entry), Extras::default(), false),
                Item::Segment { uploaded: None, .. } => break,
                Item::Entries(proposal) => {
                    let alone = !proposal.compares.is_empty();
                    (proposal.entries.as_slice(), Extras::of(proposal), alone)
                }
            };
            if !items.is_empty() && alone {
                break;
            }
            let all_extras = extras.and(own_extras);
            if !all_extras.fit() || record.push(entries).is_err() {
                if items.is_empty() {
                    return self.items.pop_front().map(Ready::TooLarge);
                }
                break;
            }
            extras = all_extras;
            items.extend(self.items.pop_front());
            if alone {
                break;
            }
        }
        if items.is_empty() {
            return None;
        }
        Some(Ready::Commit(Group {
            record: Bytes::from(record.finish()),
            items,
        }))
    }
}

impl Flushed {
    /// Whether all requests that wait for it were answered as timed out.
    fn is_abandoned(&self) -> bool {
        self.batches.iter().all(|batch| batch.ack.is_abandoned())
    }
}

/// For each batch in push order, its place among the verdicts of the segment.
#[must_use]
pub fn verdict_places(segment: &Segment) -> Vec<usize> {
    let mut before = Vec::with_capacity(segment.index.runs.len());
    let mut total = 0;
    for run in &segment.index.runs {
        before.push(total);
        total += run.batches.len();
    }
    segment
        .places
        .iter()
        .map(|place| before[place.run] + place.batch)
        .collect()
}

/// The verdict of each batch of a flush, in the order in which they entered.
#[must_use]
pub fn verdicts_in_order(uploaded: &Uploaded, verdict: &EntryVerdict) -> Option<Vec<BatchVerdict>> {
    let EntryVerdict::Segment(verdicts) = verdict else {
        return None;
    };
    let mut in_order = Vec::with_capacity(uploaded.verdict_places.len());
    for place in &uploaded.verdict_places {
        in_order.push(*verdicts.get(*place)?);
    }
    Some(in_order)
}

#[cfg(test)]
mod tests;
