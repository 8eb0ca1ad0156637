//! Verdicts: what became of an entry. Every fold of the same log reaches the same.
//!
//! Owns: the enums, one per kind of entry.
//! Does not own: which Kafka error a verdict becomes (agent).

use esker_segment::id::{
    IncarnationNumber, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition,
};
use esker_segment::segment::SegmentSpan;

use crate::entry::TxnOutcome;

/// What one commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One verdict per entry, in order. A record whose frame does not decode has a single `Rejected`.
    pub verdicts: Vec<EntryVerdict>,
    /// Partitions whose high watermark or last stable offset rose, in the order of the entries; one can stand here twice
    /// when several entries moved it.
    pub advanced: Vec<TopicPartition>,
    /// Segments of the committing session that it brought.
    pub segments: SegmentSpan,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryVerdict {
    /// One verdict per batch, in the order of the batch index.
    Segment(Vec<BatchVerdict>),
    /// Of `TxnEnd`.
    TxnEnd(TxnEndVerdict),
    /// Of `ProducerFence`.
    ProducerFence(FenceVerdict),
    /// Of `ProducerIds`.
    ProducerIds(IdsVerdict),
    /// Of `ExpireProducers`.
    ExpireProducers(ExpireVerdict),
    /// Of `TopicCreate`.
    TopicCreate(TopicCreateVerdict),
    /// Of `TopicDelete`.
    TopicDelete(TopicDeleteVerdict),
    /// Of `PartitionsGrow`.
    PartitionsGrow(GrowVerdict),
    /// Of `Trim`.
    Trim(TrimVerdict),
    /// Of `Offsets`.
    Offsets(OffsetsVerdict),
    /// Of `Incarnation`.
    Incarnation(IncarnationVerdict),
    /// Of `FeatureLevel`.
    FeatureLevel(FeatureLevelVerdict),
    /// Of `ForgetAborted`.
    ForgetAborted(ForgetAbortedVerdict),
    /// The entry does not decode, contradicts itself, or needs a level that is not switched on. It changed nothing.
    Rejected,
}

/// What became of one batch of a committed segment. All but `Stored` change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchVerdict {
    /// Stored; its first record has this offset.
    Stored {
        /// Offset of its first record.
        base: Offset,
    },
    /// Seen before; this is where it was stored then.
    Duplicate {
        /// Offset of its first record.
        base: Offset,
    },
    /// Its sequence is not the next one of its producer in this partition.
    OutOfOrder {
        /// The next one.
        expected: Sequence,
        /// The batch's.
        found: Sequence,
    },
    /// A newer epoch of its producer is known.
    Fenced {
        /// The newest.
        current: ProducerEpoch,
    },
    /// No such topic or partition (any more).
    NoSuchPartition,
    /// The producer id was never granted.
    UnknownProducer,
    /// It cannot be part of a transaction now.
    InvalidTxn(InvalidTxn),
    /// The batch contradicts itself: no records, or a negative producer field.
    Malformed,
}

/// Why something cannot be part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidTxn {
    /// Its epoch is newer than any that the producer was given.
    EpochAhead {
        /// The newest it was given.
        current: ProducerEpoch,
    },
    /// A transaction of an older epoch is still open for the producer; it ends soon. Retriable.
    StillOpen,
    /// It would open a transaction, but was verified before the last one ended. (A late batch of that one.)
    EndedSince {
        /// When that one ended.
        ended_at: LogIndex,
    },
    /// The producer was idle for so long that its epoch is forgotten.
    Expired,
    /// It is not transactional, but its producer has an open transaction in this partition.
    NotTransactional,
    /// There are as many transactional producers as the limits allow.
    TooManyProducers,
}

/// What became of a `TxnEnd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnEndVerdict {
    /// Everything open for the producer ended here.
    Ended {
        /// How: as the entry says, but always an abort when what was open is of an older epoch.
        outcome: TxnOutcome,
        /// Partitions that took a marker, sorted, and its offset.
        markers: Vec<(TopicPartition, Offset)>,
        /// Committed offsets that took effect, or were dropped.
        offsets: u32,
    },
    /// The epoch is not the producer's current one.
    Fenced {
        /// The current one.
        current: ProducerEpoch,
    },
    /// The producer id was never granted.
    UnknownProducer,
    /// The producer was idle for so long that its epoch is forgotten.
    Expired,
    /// There are as many transactional producers as the limits allow.
    TooManyProducers,
}

/// What became of a `ProducerFence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceVerdict {
    /// The epoch is the producer's current one from here on.
    Raised {
        /// Whether a transaction of an older epoch is open, which a `TxnEnd` of the new epoch ends.
        open: bool,
    },
    /// The producer has this epoch or a newer one already.
    Stale {
        /// The current one.
        current: ProducerEpoch,
    },
    /// The producer id was never granted.
    UnknownProducer,
    /// There are as many transactional producers as the limits allow.
    TooManyProducers,
}

/// What became of a `ProducerIds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdsVerdict {
    /// The ids `first`, `first + 1`, … belong to the session that committed the entry.
    Granted {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// None are left.
    Exhausted,
}

/// What became of an `ExpireProducers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireVerdict {
    /// Windows that were forgotten.
    pub windows: u32,
    /// Epochs of transactional producers that were forgotten.
    pub floors: u32,
}

/// What became of a `TopicCreate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCreateVerdict {
    /// It exists from here on.
    Created,
    /// A topic of this name exists.
    NameTaken {
        /// Its id.
        by: TopicId,
    },
    /// A topic exists whose name differs only in dots and underscores, which Kafka refuses as well.
    NameCollides {
        /// Its id.
        with: TopicId,
    },
    /// Not a legal name.
    NameInvalid,
    /// A topic with this id exists, or the id is zero.
    IdTaken,
    /// Zero partitions, or more than a topic may have.
    PartitionsOutOfRange {
        /// Most partitions of a topic.
        max: u32,
    },
    /// All topics together would have too many partitions.
    TooManyPartitions {
        /// Partitions that may still be created.
        left: u32,
    },
}

/// What became of a `TopicDelete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicDeleteVerdict {
    /// It is gone, with its batches, open transactions and committed offsets.
    Deleted,
    /// There is none with this id.
    NoSuchTopic,
}

/// What became of a `PartitionsGrow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowVerdict {
    /// It has the new number of partitions.
    Grown,
    /// There is none with this id.
    NoSuchTopic,
    /// It has as many or more.
    NotMore {
        /// How many it has.
        current: u32,
    },
    /// More than a topic may have.
    PartitionsOutOfRange {
        /// Most partitions of a topic.
        max: u32,
    },
    /// All topics together would have too many partitions.
    TooManyPartitions {
        /// Partitions that may still be created.
        left: u32,
    },
}

/// What became of a `Trim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimVerdict {
    /// The log starts here now.
    Trimmed {
        /// The new log start offset.
        log_start: Offset,
    },
    /// It started here or later already.
    AlreadyThere {
        /// The log start offset.
        log_start: Offset,
    },
    /// Beyond the last stable offset (RET-1).
    PastStable {
        /// The last stable offset.
        last_stable: Offset,
    },
    /// No such topic or partition.
    NoSuchPartition,
}

/// What became of an `Offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetsVerdict {
    /// Applied, or staged; but for these.
    Applied {
        /// Changes that were refused: position in the entry, and why.
        refused: Vec<(u32, OffsetRefusal)>,
    },
    /// A newer epoch of the producer is known. Nothing was staged.
    Fenced {
        /// The current one.
        current: ProducerEpoch,
    },
    /// The producer id was never granted. Nothing was staged.
    UnknownProducer,
    /// It cannot be part of a transaction now. Nothing was staged.
    InvalidTxn(InvalidTxn),
}

/// Why one change to an offset was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetRefusal {
    /// No such topic or partition.
    NoSuchPartition,
    /// The offset was committed since, or an open transaction has staged one: it is not idle.
    NotIdle,
    /// The limits of committed offsets are reached.
    TooManyOffsets,
    /// A deletion inside a transaction.
    Malformed,
}

/// What became of an `Incarnation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncarnationVerdict {
    /// It has begun.
    Begun,
    /// Its number is not larger than the current one.
    Stale {
        /// The current one.
        current: IncarnationNumber,
    },
}

/// What became of a `FeatureLevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureLevelVerdict {
    /// Level and limits hold from here on.
    Set,
    /// It is below the current one; nothing changed, the limits neither.
    Lower {
        /// The current one.
        current: u16,
    },
}

/// What became of a `ForgetAborted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetAbortedVerdict {
    /// The aborted transactions that ended below are forgotten.
    Forgotten {
        /// How many.
        transactions: u32,
    },
    /// No such topic or partition.
    NoSuchPartition,
}
