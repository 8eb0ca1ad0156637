//! Producer ids: which were granted, the current epoch of transactional ones, and what is open for them.
//!
//! Owns: grants, floors, open transactions with their staged offsets.
//! Does not own: sequences (`window`), last stable offsets (`partition`), committed offsets (`group`).
//!
//! Invariants: TXN-2. A producer with a floor has exactly one epoch at a time; anything of another one is refused.

use std::collections::BTreeMap;

use esker_segment::id::{LogIndex, Offset, ProducerEpoch, ProducerId, TopicPartition};

use crate::entry::OffsetCommit;
use crate::verdict::InvalidTxn;

/// Most grants that are told apart; beyond it the oldest two become one.
const GRANTS_MAX: usize = 65_536;

/// A transactional producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producer {
    /// Its only valid epoch.
    pub(crate) floor: ProducerEpoch,
    /// Log index of its last `TxnEnd`; 0 for none.
    pub(crate) ended_at: LogIndex,
    /// Log index of the last change.
    pub(crate) touched: LogIndex,
    /// Its open transaction.
    pub(crate) open: Option<Box<OpenTxn>>,
}

/// A transaction that has begun and not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenTxn {
    pub(crate) epoch: ProducerEpoch,
    /// The commit of its first batch or staged offset.
    pub(crate) opened_at: LogIndex,
    /// Partitions it wrote to, and its first offset there.
    pub(crate) partitions: BTreeMap<TopicPartition, Offset>,
    /// Offsets to commit at its end, the newest for each (group, partition).
    pub(crate) staged: BTreeMap<(Box<str>, TopicPartition), OffsetCommit>,
}

/// All producers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    /// First id never granted.
    pub(crate) next_id: ProducerId,
    /// First id of each block and the index of its grant, both rising. The first stands for all older ones too.
    pub(crate) grants: Vec<(ProducerId, LogIndex)>,
    /// Windows last touched at or below this index may have been forgotten.
    pub(crate) windows_expired_through: LogIndex,
    /// Floors last touched at or below this index may have been forgotten.
    pub(crate) floors_expired_through: LogIndex,
    pub(crate) known: BTreeMap<ProducerId, Producer>,
}

/// What the state of producers says to something transactional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochCheck {
    Current,
    Fenced { current: ProducerEpoch },
    Ahead { current: ProducerEpoch },
    Unknown,
    Expired,
}

impl Producers {
    /// Grants a block of ids.
    pub(crate) fn grant(&mut self, count: u32, at: LogIndex) -> Option<ProducerId> {
        let first = self.next_id;
        self.next_id = ProducerId(first.0.checked_add(i64::from(count))?);
        if count > 0 {
            self.grants.push((first, at));
            if self.grants.len() > GRANTS_MAX {
                // Older is the lenient side: a live producer is never refused for it.
                self.grants.remove(1);
            }
        }
        Some(first)
    }

    pub(crate) fn is_granted(&self, id: ProducerId) -> bool {
        (0..self.next_id.0).contains(&id.0)
    }

    /// When the block of an id was granted, or earlier.
    pub(crate) fn granted_at(&self, id: ProducerId) -> LogIndex {
        let after = self.grants.partition_point(|(first, _)| *first <= id);
        after.checked_sub(1).map_or(LogIndex(0), |block| self.grants[block].1)
    }

    /// The current epoch of a producer, if it is transactional. An id without a floor has epoch 0, unless its floor may
    /// have been forgotten.
    pub(crate) fn check_epoch(&self, id: ProducerId, epoch: ProducerEpoch) -> EpochCheck {
        if !self.is_granted(id) {
            return EpochCheck::Unknown;
        }
        let current = match self.known.get(&id) {
            Some(producer) => producer.floor,
            None if self.granted_at(id) <= self.floors_expired_through => return EpochCheck::Expired,
            None => ProducerEpoch(0),
        };
        match epoch.cmp(&current) {
            std::cmp::Ordering::Less => EpochCheck::Fenced { current },
            std::cmp::Ordering::Equal => EpochCheck::Current,
            std::cmp::Ordering::Greater => EpochCheck::Ahead { current },
        }
    }

    /// Whether something of a current epoch may open a transaction, or join the open one.
    pub(crate) fn check_join(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        verified_at: Option<LogIndex>,
        max: u32,
    ) -> Result<(), InvalidTxn> {
        let Some(producer) = self.known.get(&id) else {
            let full = self.known.len() >= usize::try_from(max).unwrap_or(usize::MAX);
            return if full {
                Err(InvalidTxn::TooManyProducers)
            } else {
                Ok(())
            };
        };
        if producer.open.as_ref().is_some_and(|open| open.epoch != epoch) {
            return Err(InvalidTxn::StillOpen);
        }
        match verified_at {
            Some(verified) if producer.ended_at > verified => Err(InvalidTxn::EndedSince {
                ended_at: producer.ended_at,
            }),
            _ => Ok(()),
        }
    }

    /// The open transaction of a producer, opened if need be. The checks have passed.
    pub(crate) fn join(&mut self, id: ProducerId, epoch: ProducerEpoch, at: LogIndex) -> &mut OpenTxn {
        let producer = self.known.entry(id).or_insert_with(|| Producer {
            floor: epoch,
            ..Producer::default()
        });
        producer.touched = at;
        producer.open.get_or_insert_with(|| {
            Box::new(OpenTxn {
                epoch,
                opened_at: at,
                ..OpenTxn::default()
            })
        })
    }

    pub(crate) fn is_open(&self, id: ProducerId) -> bool {
        self.known.get(&id).is_some_and(|producer| producer.open.is_some())
    }

    /// Whether an unknown window of a producer may begin above sequence 0: it may have been forgotten, or the producer
    /// knows a topic of the same name that was deleted before this one was created.
    pub(crate) fn may_begin_anywhere(&self, id: ProducerId, deletion_before: LogIndex) -> bool {
        let granted = self.granted_at(id);
        granted <= self.windows_expired_through || deletion_before > granted
    }

    /// Windows touched below an index were forgotten.
    pub(crate) fn windows_expired_below(&mut self, index: LogIndex) {
        let through = LogIndex(index.0.saturating_sub(1));
        self.windows_expired_through = self.windows_expired_through.max(through);
        self.merge_grants();
    }

    /// Forgets floors touched below an index that have nothing open; says how many.
    pub(crate) fn expire_floors(&mut self, index: LogIndex) -> usize {
        let through = LogIndex(index.0.saturating_sub(1));
        self.floors_expired_through = self.floors_expired_through.max(through);
        let before = self.known.len();
        self.known
            .retain(|_, producer| producer.open.is_some() || producer.touched >= index);
        self.merge_grants();
        before - self.known.len()
    }

    /// Grants that both expiries have passed need not be told apart.
    fn merge_grants(&mut self) {
        let passed = self.windows_expired_through.min(self.floors_expired_through);
        let old = self.grants.partition_point(|(_, at)| *at <= passed);
        if old > 1 {
            self.grants.drain(1..old);
        }
    }
}
