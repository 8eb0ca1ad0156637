//! Entries of the commit log: everything a verdict depends on, and nothing else.
//!
//! Owns: the kinds of entries and what they say; their bytes are in `codec`.
//! Does not own: what they do to the state (`fold`), who may write them (agent).
//!
//! Invariants: one format for ever. A new kind gets a new code and a `FeatureLevel`, an old one never changes its bytes.

use bytes::Bytes;
use esker_segment::id::{
    IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use esker_segment::index::BatchIndex;
use esker_segment::name::SegmentName;

pub(crate) mod body;
mod codec;

pub(crate) use codec::FIRST_LEVEL;
pub use codec::{MalformedRecord, NotEncodable, RecordBuilder};

/// Most entries of one commit.
pub const ENTRIES_MAX: usize = 32;
/// Most bytes of one commit record.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a topic name, as in Kafka.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Most bytes of a group id.
pub const GROUP_ID_BYTES_MAX: usize = 32_767;
/// Most bytes of the metadata string of a committed offset. Agents enforce `offset.metadata.max.bytes` below it.
pub const OFFSET_METADATA_BYTES_MAX: usize = 65_536;
/// Most bytes of a zone name.
pub const ZONE_BYTES_MAX: usize = 255;

/// What one commit puts into the log: 1 to 32 entries, at most 1 MiB encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitRecord {
    /// The entries, in the order in which they take effect.
    pub entries: Vec<Entry>,
}

/// One entry of the commit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A segment was uploaded: its batches become part of their partitions.
    Segment(SegmentEntry),
    /// A transaction ends: everything open for the producer becomes visible or void at this log index.
    TxnEnd(TxnEnd),
    /// Older epochs of a producer must change nothing from here on.
    ProducerFence(ProducerFence),
    /// Asks for a block of producer ids; the verdict says which.
    ProducerIds(ProducerIds),
    /// Forgets producers that were idle for long.
    ExpireProducers(ExpireProducers),
    /// Creates a topic.
    TopicCreate(TopicCreate),
    /// Deletes a topic with all it holds.
    TopicDelete(TopicDelete),
    /// Raises the number of partitions of a topic.
    PartitionsGrow(PartitionsGrow),
    /// Raises the log start offset of a partition: DeleteRecords and retention.
    Trim(Trim),
    /// Commits, stages or deletes offsets of a group.
    Offsets(Offsets),
    /// A new life of the cluster begins. It must be the first entry of its record.
    Incarnation(Incarnation),
    /// Switches rules on and sets the limits that the fold enforces.
    FeatureLevel(FeatureLevel),
    /// Aborted data below an offset is physically gone, so nobody needs to filter it any more.
    ForgetAborted(ForgetAborted),
    /// Bytes that are none of the above. The fold rejects it, unless it asks for a level that this code does not
    /// know: then it must not be applied at all.
    Opaque(Opaque),
}

/// An uploaded segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Which object; it also names the session of its writer.
    pub name: SegmentName,
    /// Length of the object in bytes.
    pub bytes: u64,
    /// Content hash of the object (XXH3-128 over its index).
    pub content_hash: u128,
    /// Zone of its writer, whose cache holds it first; empty for none.
    pub zone: Box<str>,
    /// Which replicas of a replicated store confirmed it, as a bit set by configured position; 0 when the store is not
    /// replicated.
    pub confirmed: u64,
    /// Its batches.
    pub index: BatchIndex,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxnOutcome {
    /// Its data and offsets take effect.
    Commit,
    /// They do not.
    Abort,
}

/// End of whatever is open for a producer. It has no list of partitions: the fold knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnEnd {
    /// Whose transaction.
    pub producer: ProducerId,
    /// The producer's current epoch; another one makes the entry void.
    pub epoch: ProducerEpoch,
    /// Commit or abort.
    pub outcome: TxnOutcome,
    /// Time of the end as the coordinator saw it; it stands in the marker batches.
    pub timestamp: Timestamp,
    /// The epoch from here on: the same for clients before transactions V2, one more for V2 (KIP-890) and for
    /// transactions that the coordinator aborts on its own.
    pub next_epoch: ProducerEpoch,
}

/// Raises the epoch of a transactional producer. Every InitProducerId of a transactional id writes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFence {
    /// Whose.
    pub producer: ProducerId,
    /// The epoch from here on.
    pub epoch: ProducerEpoch,
}

/// Asks for a block of producer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIds {
    /// How many.
    pub count: u32,
}

/// Forgets idle producers; never those with an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireProducers {
    /// Windows of (producer, partition) last touched below this index go.
    pub windows_untouched_since: LogIndex,
    /// Epochs of transactional producers last touched below this index go; not later than a transactional id is kept.
    pub floors_untouched_since: LogIndex,
}

/// Creates a topic. Configs are not part of the log: no verdict depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreate {
    /// A fresh random id.
    pub topic: TopicId,
    /// Its name.
    pub name: Box<str>,
    /// How many partitions, at least 1.
    pub partitions: u32,
}

/// Deletes a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDelete {
    /// Which.
    pub topic: TopicId,
}

/// Raises the number of partitions of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionsGrow {
    /// Which.
    pub topic: TopicId,
    /// How many it has from here on; more than before.
    pub partitions: u32,
}

/// Raises a log start offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The first offset that stays.
    pub log_start: Offset,
}

/// Offsets of one group, from its coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The group.
    pub group: Box<str>,
    /// Coordinator shard that decided it; for people who read the log.
    pub shard: u16,
    /// When the offsets belong to a transaction they are staged and take effect at its end.
    pub txn: Option<TxnStamp>,
    /// The changes, in order.
    pub changes: Vec<OffsetChange>,
}

/// The transaction that staged offsets belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnStamp {
    /// Producer id.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// For a client without transactions V2: the log index of the read at which the transaction was verified.
    pub verified_at: Option<LogIndex>,
}

/// One change to the offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetChange {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// What happens to it.
    pub action: OffsetAction,
}

/// What happens to the offset of a group in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetAction {
    /// Commits this offset.
    Commit(OffsetCommit),
    /// Deletes what is committed and what is staged.
    Delete,
    /// Deletes what was last committed below this index, unless an open transaction has staged an offset.
    Expire {
        /// The decider saw nothing newer at this index.
        untouched_since: LogIndex,
    },
}

/// An offset as a consumer commits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, if the client knows it.
    pub leader_epoch: Option<u32>,
    /// Text of the client, returned as it is.
    pub metadata: Box<str>,
    /// When it was committed.
    pub timestamp: Timestamp,
}

/// A new life of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Its number; larger than all before. It is the leader epoch of what is written from here on.
    pub number: IncarnationNumber,
    /// Its random id.
    pub id: IncarnationId,
}

/// Switches on the rules of a level, and sets the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevel {
    /// The level; it never falls.
    pub level: u16,
    /// The limits from here on.
    pub limits: Limits,
}

/// What the fold refuses to go beyond. They come through the log, so that all folds refuse the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max.partitions`: partitions of all topics together.
    pub partitions_max: u32,
    /// `max.partitions.per.topic`.
    pub topic_partitions_max: u32,
    /// `producer.state.max`: windows of (producer, partition). Beyond it the longest idle eighth is forgotten.
    pub producer_windows_max: u32,
    /// Producers whose transactional epoch is kept.
    pub transactional_producers_max: u32,
    /// Committed and staged offsets of all groups together.
    pub group_offsets_max: u32,
    /// Bytes of group ids and metadata of these offsets.
    pub group_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            partitions_max: 100_000,
            topic_partitions_max: 10_000,
            producer_windows_max: 1_000_000,
            transactional_producers_max: 1_000_000,
            group_offsets_max: 2_000_000,
            group_bytes_max: 256 << 20,
        }
    }
}

/// Aborted data of a partition is gone from the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgetAborted {
    /// Which partition.
    pub partition: TopicPartition,
    /// Merged objects hold no batch of an aborted transaction that ended below this offset.
    pub below: Offset,
}

/// An entry that this code cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Code of its kind.
    pub kind: u8,
    /// Feature level that one needs to read it.
    pub level: u16,
    /// Its body.
    pub body: Bytes,
}
