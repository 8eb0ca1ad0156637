//! Verdicts of the fold as answers of scenario files.

use esker_model::entry::TxnOutcome;
use esker_model::verdict::{
    FeatureLevelVerdict, FenceVerdict, ForgetAbortedVerdict, GrowVerdict, IdsVerdict, IncarnationVerdict, InvalidTxn,
    OffsetRefusal, OffsetsVerdict, TopicCreateVerdict, TopicDeleteVerdict, TrimVerdict, TxnEndVerdict,
};
use esker_model::{BatchVerdict, EntryVerdict};
use esker_segment::id::TopicPartition;

use crate::world::World;

pub(crate) fn at(world: &World, at: TopicPartition) -> String {
    format!("{}/{}", world.names.name(at.topic), at.partition)
}

pub(crate) fn outcome(outcome: TxnOutcome) -> &'static str {
    match outcome {
        TxnOutcome::Commit => "commit",
        TxnOutcome::Abort => "abort",
    }
}

/// Whether a verdict that is neither of a segment nor a rejection stands for a change.
pub(crate) fn changes(verdict: &EntryVerdict) -> bool {
    match verdict {
        EntryVerdict::Segment(_) | EntryVerdict::Rejected => unreachable!("decided by the caller"),
        EntryVerdict::TxnEnd(verdict) => matches!(verdict, TxnEndVerdict::Ended { .. }),
        EntryVerdict::ProducerFence(verdict) => matches!(verdict, FenceVerdict::Raised { .. }),
        EntryVerdict::ProducerIds(verdict) => matches!(verdict, IdsVerdict::Granted { .. }),
        EntryVerdict::ExpireProducers(_) => true,
        EntryVerdict::TopicCreate(verdict) => matches!(verdict, TopicCreateVerdict::Created),
        EntryVerdict::TopicDelete(verdict) => matches!(verdict, TopicDeleteVerdict::Deleted),
        EntryVerdict::PartitionsGrow(verdict) => matches!(verdict, GrowVerdict::Grown),
        EntryVerdict::Trim(verdict) => matches!(verdict, TrimVerdict::Trimmed { .. }),
        EntryVerdict::Offsets(verdict) => matches!(verdict, OffsetsVerdict::Applied { .. }),
        EntryVerdict::Incarnation(verdict) => matches!(verdict, IncarnationVerdict::Begun),
        EntryVerdict::FeatureLevel(verdict) => matches!(verdict, FeatureLevelVerdict::Set),
        EntryVerdict::ForgetAborted(verdict) => matches!(verdict, ForgetAbortedVerdict::Forgotten { .. }),
    }
}

pub(crate) fn verdict(world: &World, verdict: &EntryVerdict) -> Vec<String> {
    vec![match verdict {
        EntryVerdict::Segment(batches) => return batches.iter().map(batch).collect(),
        EntryVerdict::TxnEnd(verdict) => return txn_end(world, verdict),
        EntryVerdict::ProducerFence(verdict) => fence(verdict),
        EntryVerdict::ProducerIds(IdsVerdict::Granted { first, count }) => {
            format!("granted first={first} count={count}")
        }
        EntryVerdict::ProducerIds(IdsVerdict::Exhausted) => "exhausted".into(),
        EntryVerdict::ExpireProducers(gone) => format!("expired windows={} floors={}", gone.windows, gone.floors),
        EntryVerdict::TopicCreate(verdict) => create(world, verdict),
        EntryVerdict::TopicDelete(TopicDeleteVerdict::Deleted) => "deleted".into(),
        EntryVerdict::TopicDelete(TopicDeleteVerdict::NoSuchTopic) => "no such topic".into(),
        EntryVerdict::PartitionsGrow(verdict) => grow(verdict),
        EntryVerdict::Trim(verdict) => trim(verdict),
        EntryVerdict::Offsets(verdict) => return offsets(verdict),
        EntryVerdict::Incarnation(IncarnationVerdict::Begun) => "begun".into(),
        EntryVerdict::Incarnation(IncarnationVerdict::Stale { current }) => format!("stale current={current}"),
        EntryVerdict::FeatureLevel(FeatureLevelVerdict::Set) => "set".into(),
        EntryVerdict::FeatureLevel(FeatureLevelVerdict::Lower { current }) => format!("lower current={current}"),
        EntryVerdict::ForgetAborted(ForgetAbortedVerdict::Forgotten { transactions }) => {
            format!("forgotten transactions={transactions}")
        }
        EntryVerdict::ForgetAborted(ForgetAbortedVerdict::NoSuchPartition) => "no such partition".into(),
        EntryVerdict::Rejected => "rejected".into(),
    }]
}

fn batch(verdict: &BatchVerdict) -> String {
    match verdict {
        BatchVerdict::Stored { base } => format!("stored base={base}"),
        BatchVerdict::Duplicate { base } => format!("duplicate base={base}"),
        BatchVerdict::OutOfOrder { expected, found } => format!("out of order expected={expected} found={found}"),
        BatchVerdict::Fenced { current } => format!("fenced current={current}"),
        BatchVerdict::NoSuchPartition => "no such partition".into(),
        BatchVerdict::UnknownProducer => "unknown producer".into(),
        BatchVerdict::InvalidTxn(why) => invalid_txn(*why),
        BatchVerdict::Malformed => "malformed".into(),
    }
}

fn invalid_txn(why: InvalidTxn) -> String {
    match why {
        InvalidTxn::EpochAhead { current } => format!("invalid txn: epoch ahead current={current}"),
        InvalidTxn::StillOpen => "invalid txn: still open".into(),
        InvalidTxn::EndedSince { ended_at } => format!("invalid txn: ended since at={ended_at}"),
        InvalidTxn::Expired => "invalid txn: expired".into(),
        InvalidTxn::NotTransactional => "invalid txn: not transactional".into(),
        InvalidTxn::TooManyProducers => "invalid txn: too many producers".into(),
    }
}

fn txn_end(world: &World, verdict: &TxnEndVerdict) -> Vec<String> {
    vec![match verdict {
        TxnEndVerdict::Ended {
            outcome: how,
            markers,
            offsets,
        } => {
            let mut lines = vec![format!("{} offsets={offsets}", outcome(*how))];
            lines.extend(
                markers
                    .iter()
                    .map(|(marked, offset)| format!("marker {}@{offset}", at(world, *marked))),
            );
            return lines;
        }
        TxnEndVerdict::Fenced { current } => format!("fenced current={current}"),
        TxnEndVerdict::UnknownProducer => "unknown producer".into(),
        TxnEndVerdict::Expired => "expired".into(),
        TxnEndVerdict::TooManyProducers => "too many producers".into(),
    }]
}

fn fence(verdict: &FenceVerdict) -> String {
    match verdict {
        FenceVerdict::Raised { open: false } => "raised".into(),
        FenceVerdict::Raised { open: true } => "raised, a transaction is open".into(),
        FenceVerdict::Stale { current } => format!("stale current={current}"),
        FenceVerdict::UnknownProducer => "unknown producer".into(),
        FenceVerdict::TooManyProducers => "too many producers".into(),
    }
}

fn create(world: &World, verdict: &TopicCreateVerdict) -> String {
    match verdict {
        TopicCreateVerdict::Created => "created".into(),
        TopicCreateVerdict::NameTaken { by } => format!("name taken by={}", by.0),
        TopicCreateVerdict::NameCollides { with } => format!("name collides with={}", world.names.name(*with)),
        TopicCreateVerdict::NameInvalid => "name invalid".into(),
        TopicCreateVerdict::IdTaken => "id taken".into(),
        TopicCreateVerdict::PartitionsOutOfRange { max } => format!("partitions out of range max={max}"),
        TopicCreateVerdict::TooManyPartitions { left } => format!("too many partitions left={left}"),
    }
}

fn grow(verdict: &GrowVerdict) -> String {
    match verdict {
        GrowVerdict::Grown => "grown".into(),
        GrowVerdict::NoSuchTopic => "no such topic".into(),
        GrowVerdict::NotMore { current } => format!("not more current={current}"),
        GrowVerdict::PartitionsOutOfRange { max } => format!("partitions out of range max={max}"),
        GrowVerdict::TooManyPartitions { left } => format!("too many partitions left={left}"),
    }
}

fn trim(verdict: &TrimVerdict) -> String {
    match verdict {
        TrimVerdict::Trimmed { log_start } => format!("trimmed start={log_start}"),
        TrimVerdict::AlreadyThere { log_start } => format!("already there start={log_start}"),
        TrimVerdict::PastStable { last_stable } => format!("past stable={last_stable}"),
        TrimVerdict::NoSuchPartition => "no such partition".into(),
    }
}

fn offsets(verdict: &OffsetsVerdict) -> Vec<String> {
    vec![match verdict {
        OffsetsVerdict::Applied { refused } if refused.is_empty() => "applied".into(),
        OffsetsVerdict::Applied { refused } => {
            let why = |why: OffsetRefusal| match why {
                OffsetRefusal::NoSuchPartition => "no such partition",
                OffsetRefusal::NotIdle => "not idle",
                OffsetRefusal::TooManyOffsets => "too many offsets",
                OffsetRefusal::Malformed => "malformed",
            };
            let each = refused
                .iter()
                .map(|(position, refusal)| format!("refused #{position}: {}", why(*refusal)));
            return each.collect();
        }
        OffsetsVerdict::Fenced { current } => format!("fenced current={current}"),
        OffsetsVerdict::UnknownProducer => "unknown producer".into(),
        OffsetsVerdict::InvalidTxn(why) => invalid_txn(*why),
    }]
}
