//! The rolling digest: a hash over every entry and verdict so far, by which agents notice that two folds differ.
//!
//! Owns: which bytes are hashed. They are part of the format: agents of different versions compare digests.
//! Invariants: LOG-5. Two folds with the same digest at an index reached the same verdicts on the same log.

use std::fmt;

use esker_segment::id::{Offset, ProducerEpoch, TopicPartition};
use esker_segment::wire::Encoder;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::entry::{Entry, TxnOutcome};
use crate::fold::CommitPosition;
use crate::verdict::{
    BatchVerdict, EntryVerdict, FenceVerdict, GrowVerdict, IdsVerdict, InvalidTxn, OffsetRefusal, OffsetsVerdict,
    TopicCreateVerdict, TopicDeleteVerdict, TrimVerdict, TxnEndVerdict,
};
use crate::verdict::{FeatureLevelVerdict, ForgetAbortedVerdict, IncarnationVerdict};

/// XXH3-64 over the digest before it and what the commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

impl fmt::Display for Digest {
    /// 16 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Collects what one commit did.
pub(crate) struct DigestInput {
    seed: u64,
    out: Encoder,
}

impl DigestInput {
    pub(crate) fn new(before: Digest, at: CommitPosition) -> Self {
        let mut out = Encoder::with_capacity(256);
        out.u64(at.index.0);
        out.u64(at.session.0);
        out.u64(at.number.0);
        Self { seed: before.0, out }
    }

    /// A record that does not decode.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.bytes(bytes);
    }

    pub(crate) fn entry(&mut self, entry: &Entry, verdict: &EntryVerdict) {
        // The content hash stands for the batch index, which the segment's index repeats.
        match entry {
            Entry::Segment(segment) => {
                self.out.u128(segment.content_hash);
                segment.name.encode(&mut self.out);
            }
            other => other.encode(&mut self.out),
        }
        self.verdict(verdict);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(xxh3_64_with_seed(self.out.as_slice(), self.seed))
    }

    fn tag(&mut self, tag: u8) {
        self.out.u8(tag);
    }

    fn tagged(&mut self, tag: u8, number: i64) {
        self.out.u8(tag);
        self.out.u64(number.cast_unsigned());
    }

    fn verdict(&mut self, verdict: &EntryVerdict) {
        match verdict {
            EntryVerdict::Rejected => self.tag(0),
            EntryVerdict::Segment(batches) => {
                self.tag(1);
                batches.iter().for_each(|batch| self.batch(*batch));
            }
            EntryVerdict::TxnEnd(end) => {
                self.tag(2);
                self.txn_end(end);
            }
            EntryVerdict::ProducerFence(fence) => {
                self.tag(3);
                match fence {
                    FenceVerdict::Raised { open } => self.tagged(0, i64::from(*open)),
                    FenceVerdict::Stale { current } => self.tagged(1, i64::from(current.0)),
                    FenceVerdict::UnknownProducer => self.tag(2),
                    FenceVerdict::TooManyProducers => self.tag(3),
                }
            }
            EntryVerdict::ProducerIds(ids) => {
                self.tag(4);
                match ids {
                    IdsVerdict::Granted { first, .. } => self.tagged(0, first.0),
                    IdsVerdict::Exhausted => self.tag(1),
                }
            }
            EntryVerdict::ExpireProducers(expired) => {
                self.tagged(5, i64::from(expired.windows));
                self.tagged(0, i64::from(expired.floors));
            }
            EntryVerdict::Trim(trim) => {
                self.tag(9);
                match trim {
                    TrimVerdict::Trimmed { log_start } => self.tagged(0, log_start.0),
                    TrimVerdict::AlreadyThere { log_start } => self.tagged(1, log_start.0),
                    TrimVerdict::PastStable { last_stable } => self.tagged(2, last_stable.0),
                    TrimVerdict::NoSuchPartition => self.tag(3),
                }
            }
            EntryVerdict::Offsets(offsets) => {
                self.tag(10);
                self.offsets(offsets);
            }
            EntryVerdict::TopicCreate(_)
            | EntryVerdict::TopicDelete(_)
            | EntryVerdict::PartitionsGrow(_)
            | EntryVerdict::Incarnation(_)
            | EntryVerdict::FeatureLevel(_)
            | EntryVerdict::ForgetAborted(_) => self.administrative(verdict),
        }
    }

    fn batch(&mut self, verdict: BatchVerdict) {
        match verdict {
            BatchVerdict::Stored { base } => self.tagged(0, base.0),
            BatchVerdict::Duplicate { base } => self.tagged(1, base.0),
            BatchVerdict::OutOfOrder { expected, .. } => self.tagged(2, i64::from(expected.0)),
            BatchVerdict::Fenced { current } => self.tagged(3, i64::from(current.0)),
            BatchVerdict::NoSuchPartition => self.tag(4),
            BatchVerdict::UnknownProducer => self.tag(5),
            BatchVerdict::InvalidTxn(why) => {
                self.tag(6);
                self.invalid_txn(why);
            }
            BatchVerdict::Malformed => self.tag(7),
        }
    }

    fn invalid_txn(&mut self, why: InvalidTxn) {
        match why {
            InvalidTxn::EpochAhead { current } => self.tagged(0, i64::from(current.0)),
            InvalidTxn::StillOpen => self.tag(1),
            InvalidTxn::EndedSince { ended_at } => self.tagged(2, ended_at.0.cast_signed()),
            InvalidTxn::Expired => self.tag(3),
            InvalidTxn::NotTransactional => self.tag(4),
            InvalidTxn::TooManyProducers => self.tag(5),
        }
    }

    fn txn_end(&mut self, end: &TxnEndVerdict) {
        match end {
            TxnEndVerdict::Ended {
                outcome,
                markers,
                offsets,
            } => {
                self.tagged(0, i64::from(*offsets));
                self.tag(u8::from(*outcome == TxnOutcome::Commit));
                markers.iter().for_each(|marker| self.marker(*marker));
            }
            TxnEndVerdict::Fenced {
                current: ProducerEpoch(current),
            } => self.tagged(1, i64::from(*current)),
            TxnEndVerdict::UnknownProducer => self.tag(2),
            TxnEndVerdict::Expired => self.tag(3),
            TxnEndVerdict::TooManyProducers => self.tag(4),
        }
    }

    fn marker(&mut self, (at, offset): (TopicPartition, Offset)) {
        self.out.u128(at.topic.0);
        self.out.u32(at.partition.0);
        self.out.u64(offset.0.cast_unsigned());
    }

    fn offsets(&mut self, offsets: &OffsetsVerdict) {
        match offsets {
            OffsetsVerdict::Applied { refused } => {
                self.tag(0);
                for (position, why) in refused {
                    let why = match why {
                        OffsetRefusal::NoSuchPartition => 0,
                        OffsetRefusal::NotIdle => 1,
                        OffsetRefusal::TooManyOffsets => 2,
                        OffsetRefusal::Malformed => 3,
                    };
                    self.tagged(why, i64::from(*position));
                }
            }
            OffsetsVerdict::Fenced { current } => self.tagged(1, i64::from(current.0)),
            OffsetsVerdict::UnknownProducer => self.tag(2),
            OffsetsVerdict::InvalidTxn(why) => {
                self.tag(3);
                self.invalid_txn(*why);
            }
        }
    }

    fn administrative(&mut self, verdict: &EntryVerdict) {
        let (kind, outcome) = match verdict {
            EntryVerdict::TopicCreate(create) => (6, create_tag(create)),
            EntryVerdict::TopicDelete(TopicDeleteVerdict::Deleted) => (7, 0),
            EntryVerdict::TopicDelete(TopicDeleteVerdict::NoSuchTopic) => (7, 1),
            EntryVerdict::PartitionsGrow(grow) => (8, grow_tag(grow)),
            EntryVerdict::Incarnation(IncarnationVerdict::Begun) => (11, 0),
            EntryVerdict::Incarnation(IncarnationVerdict::Stale { .. }) => (11, 1),
            EntryVerdict::FeatureLevel(FeatureLevelVerdict::Set) => (12, 0),
            EntryVerdict::FeatureLevel(FeatureLevelVerdict::Lower { .. }) => (12, 1),
            EntryVerdict::ForgetAborted(ForgetAbortedVerdict::Forgotten { .. }) => (13, 0),
            EntryVerdict::ForgetAborted(ForgetAbortedVerdict::NoSuchPartition) => (13, 1),
            _ => unreachable!("all others have details"),
        };
        self.tag(kind);
        self.tag(outcome);
    }
}

fn create_tag(create: &TopicCreateVerdict) -> u8 {
    match create {
        TopicCreateVerdict::Created => 0,
        TopicCreateVerdict::NameTaken { .. } => 1,
        TopicCreateVerdict::NameCollides { .. } => 2,
        TopicCreateVerdict::NameInvalid => 3,
        TopicCreateVerdict::IdTaken => 4,
        TopicCreateVerdict::PartitionsOutOfRange { .. } => 5,
        TopicCreateVerdict::TooManyPartitions { .. } => 6,
    }
}

fn grow_tag(grow: &GrowVerdict) -> u8 {
    match grow {
        GrowVerdict::Grown => 0,
        GrowVerdict::NoSuchTopic => 1,
        GrowVerdict::NotMore { .. } => 2,
        GrowVerdict::PartitionsOutOfRange { .. } => 3,
        GrowVerdict::TooManyPartitions { .. } => 4,
    }
}
