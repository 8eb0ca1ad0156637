//! The fold: the commit log, entry by entry, into the state that every answer of an agent comes from.
//!
//! Owns: `apply`, total and deterministic, and the order in which the parts of the state are asked.
//! Does not own: the parts (`topic`, `partition`, `window`, `producer`, `group`, `unmerged`), how entries travel.
//!
//! Invariants: LOG-1, LOG-2, LOG-5, IDM-1, TXN-1, TXN-2, RET-1.

use esker_segment::id::{CommitNumber, IncarnationId, IncarnationNumber, LogIndex, SessionId, TopicPartition};
use esker_segment::segment::SegmentSpan;

use crate::digest::{Digest, DigestInput};
use crate::entry::{CommitRecord, Entry, FIRST_LEVEL, FeatureLevel, Incarnation, Limits};
use crate::group::Groups;
use crate::producer::Producers;
use crate::topic::Topics;
use crate::unmerged::Sources;
use crate::verdict::{
    Applied, EntryVerdict, ExpireVerdict, FeatureLevelVerdict, ForgetAbortedVerdict, IdsVerdict, IncarnationVerdict,
};
use crate::window::WindowTable;

mod offsets;
mod query;
mod segment;
mod topics;
mod transaction;
mod unmerged;

pub use query::{OpenTransaction, PartitionView, ProducerView, TopicView};

/// Highest feature level that this code can apply.
pub const SUPPORTED_LEVEL: u16 = FIRST_LEVEL;

/// Where a record stands in the log, and who put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPosition {
    /// Its log index.
    pub index: LogIndex,
    /// The session that committed it.
    pub session: SessionId,
    /// As which of its commits.
    pub number: CommitNumber,
}

/// An entry needs a newer program. It must not be applied: the agent stops instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry needs feature level {needed}, this program knows {SUPPORTED_LEVEL}")]
pub struct Unsupported {
    /// The level it needs.
    pub needed: u16,
}

/// State of the commit log up to an index.
#[derive(Clone, Debug)]
pub struct Fold {
    pub(crate) index: LogIndex,
    pub(crate) digest: Digest,
    pub(crate) incarnation: IncarnationNumber,
    pub(crate) incarnation_id: IncarnationId,
    /// When each incarnation began.
    pub(crate) incarnations: Vec<(LogIndex, IncarnationNumber)>,
    pub(crate) level: u16,
    pub(crate) limits: Limits,
    pub(crate) topics: Topics,
    pub(crate) producers: Producers,
    pub(crate) windows: WindowTable,
    pub(crate) groups: Groups,
    /// Outside the verdict state.
    pub(crate) sources: Sources,
}

impl Default for Fold {
    fn default() -> Self {
        Self::new()
    }
}

impl Fold {
    /// The state before the first commit, at log index 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            index: LogIndex(0),
            digest: Digest::default(),
            incarnation: IncarnationNumber(0),
            incarnation_id: IncarnationId(0),
            incarnations: Vec::new(),
            level: FIRST_LEVEL,
            limits: Limits::default(),
            topics: Topics::default(),
            producers: Producers::default(),
            windows: WindowTable::default(),
            groups: Groups::default(),
            sources: Sources::default(),
        }
    }

    /// Whether this program may apply an entry.
    ///
    /// # Errors
    /// `Unsupported` when it needs a newer one.
    pub fn supports(entry: &Entry) -> Result<(), Unsupported> {
        let needed = entry.level();
        if needed <= SUPPORTED_LEVEL {
            Ok(())
        } else {
            Err(Unsupported { needed })
        }
    }

    /// Applies the bytes of the next commit. A record that does not decode is rejected as a whole.
    ///
    /// # Errors
    /// `Unsupported` when an entry needs a newer program; then nothing was applied.
    ///
    /// # Panics
    /// As [`Fold::apply`].
    pub fn apply_bytes(&mut self, at: CommitPosition, bytes: &[u8]) -> Result<Applied, Unsupported> {
        if let Ok(record) = CommitRecord::decode(bytes) {
            record.entries.iter().try_for_each(Self::supports)?;
            return Ok(self.apply(at, &record));
        }
        let mut digest = self.begin(at);
        digest.bytes(bytes);
        self.digest = digest.finish();
        Ok(Applied {
            verdicts: vec![EntryVerdict::Rejected],
            advanced: Vec::new(),
            segments: SegmentSpan::default(),
        })
    }

    /// Applies the next commit. The caller has asked [`Fold::supports`] for each entry.
    ///
    /// # Panics
    /// When the index is not the one after the last: the follower has lost a commit and must not go on.
    pub fn apply(&mut self, at: CommitPosition, record: &CommitRecord) -> Applied {
        let mut digest = self.begin(at);
        let mut applied = Applied {
            verdicts: Vec::with_capacity(record.entries.len()),
            advanced: Vec::new(),
            segments: SegmentSpan::default(),
        };
        for (position, entry) in record.entries.iter().enumerate() {
            // What a commit brings belongs to one incarnation, so one can only begin it.
            let misplaced = position > 0 && matches!(entry, Entry::Incarnation(_));
            let verdict = if misplaced {
                EntryVerdict::Rejected
            } else {
                self.apply_entry(entry, &mut applied.advanced)
            };
            if let Entry::Segment(segment) = entry
                && segment.name.session == at.session
            {
                applied.segments.push(segment.name.number);
            }
            digest.entry(entry, &verdict);
            applied.verdicts.push(verdict);
        }
        self.digest = digest.finish();
        applied
    }

    fn begin(&mut self, at: CommitPosition) -> DigestInput {
        assert_eq!(at.index.0, self.index.0 + 1, "the log index is dense");
        self.index = at.index;
        DigestInput::new(self.digest, at)
    }

    fn apply_entry(&mut self, entry: &Entry, advanced: &mut Vec<TopicPartition>) -> EntryVerdict {
        match entry {
            Entry::Segment(segment) => self.apply_segment(segment, advanced),
            Entry::TxnEnd(end) => self.apply_txn_end(*end, advanced),
            Entry::ProducerFence(fence) => EntryVerdict::ProducerFence(self.apply_fence(*fence)),
            Entry::ProducerIds(ids) => {
                let granted = self.producers.grant(ids.count, self.index);
                EntryVerdict::ProducerIds(granted.map_or(IdsVerdict::Exhausted, |first| IdsVerdict::Granted {
                    first,
                    count: ids.count,
                }))
            }
            Entry::ExpireProducers(expire) => {
                let windows = self.expire_windows(expire.windows_untouched_since);
                let floors = self
                    .producers
                    .expire_floors(expire.floors_untouched_since.min(self.index));
                EntryVerdict::ExpireProducers(ExpireVerdict {
                    windows: count(windows),
                    floors: count(floors),
                })
            }
            Entry::TopicCreate(create) => {
                EntryVerdict::TopicCreate(self.topics.create(create, &self.limits, self.incarnation, self.index))
            }
            Entry::TopicDelete(delete) => EntryVerdict::TopicDelete(self.apply_topic_delete(delete.topic)),
            Entry::PartitionsGrow(grow) => EntryVerdict::PartitionsGrow(self.topics.grow(
                grow.topic,
                grow.partitions,
                &self.limits,
                self.incarnation,
            )),
            Entry::Trim(trim) => EntryVerdict::Trim(self.apply_trim(*trim)),
            Entry::Offsets(offsets) => EntryVerdict::Offsets(self.apply_offsets(offsets)),
            Entry::Incarnation(incarnation) => EntryVerdict::Incarnation(self.apply_incarnation(*incarnation)),
            Entry::FeatureLevel(feature) => self.apply_feature_level(*feature),
            Entry::ForgetAborted(forget) => {
                let partition = self.topics.partition_mut(forget.partition);
                EntryVerdict::ForgetAborted(partition.map_or(ForgetAbortedVerdict::NoSuchPartition, |partition| {
                    ForgetAbortedVerdict::Forgotten {
                        transactions: count(partition.forget_aborted(forget.below)),
                    }
                }))
            }
            Entry::Opaque(_) => EntryVerdict::Rejected,
        }
    }

    fn apply_incarnation(&mut self, begun: Incarnation) -> IncarnationVerdict {
        if begun.number <= self.incarnation {
            return IncarnationVerdict::Stale {
                current: self.incarnation,
            };
        }
        self.incarnation = begun.number;
        self.incarnation_id = begun.id;
        self.incarnations.push((self.index, begun.number));
        for partition in self.topics.partitions_mut() {
            partition.begin_epoch(begun.number);
        }
        IncarnationVerdict::Begun
    }

    fn apply_feature_level(&mut self, feature: FeatureLevel) -> EntryVerdict {
        if feature.level > SUPPORTED_LEVEL {
            return EntryVerdict::Rejected;
        }
        if feature.level < self.level {
            return EntryVerdict::FeatureLevel(FeatureLevelVerdict::Lower { current: self.level });
        }
        self.level = feature.level;
        self.limits = feature.limits;
        EntryVerdict::FeatureLevel(FeatureLevelVerdict::Set)
    }

    /// Forgets idle windows; never those of a producer with an open transaction.
    fn expire_windows(&mut self, below: LogIndex) -> usize {
        let below = below.min(self.index);
        let producers = &self.producers;
        let expired = self.windows.expire(below, |producer| producers.is_open(producer));
        self.producers.windows_expired_below(below);
        expired
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
