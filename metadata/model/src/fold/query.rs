//! Questions to the fold: what agents answer clients from.
//!
//! Owns: the read API of the verdict state.
//! Does not own: the unmerged index (`unmerged`), which of these answers may deny something (read barrier, agent).

use std::collections::BTreeMap;

use esker_segment::id::{
    IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicPartition,
};

use super::Fold;
use crate::digest::Digest;
use crate::entry::{Limits, OffsetCommit, TopicCreate};
use crate::group::{CommittedOffset, GroupOffset};
use crate::partition::{AbortedTxn, Partition};
use crate::topic::Topic;
use crate::verdict::TopicCreateVerdict;
use crate::window::WindowSlot;

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicView<'a> {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: &'a str,
    /// How many partitions it has.
    pub partitions: u32,
    /// The commit that created it.
    pub created_at: LogIndex,
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// The first offset that still exists.
    pub log_start: Offset,
    /// The first offset that a read_committed consumer may not see yet.
    pub last_stable: Offset,
    /// The offset that the next record gets.
    pub high_watermark: Offset,
}

/// The window of a producer in a partition, for DescribeProducers and for holding back batches that are too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch in this partition.
    pub epoch: ProducerEpoch,
    /// The sequence that its next batch must begin with.
    pub next_sequence: Sequence,
    /// The commit that last stored a batch of it here.
    pub touched: LogIndex,
    /// First offset of its open transaction in this partition.
    pub open_from: Option<Offset>,
}

/// A transaction that has begun and not ended.
#[derive(Clone, Copy, Debug)]
pub struct OpenTransaction<'a> {
    /// Whose.
    pub producer: ProducerId,
    /// The epoch in which it began.
    pub epoch: ProducerEpoch,
    /// The commit of its first batch or staged offset; its age is how long ago that index was.
    pub opened_at: LogIndex,
    partitions: &'a BTreeMap<TopicPartition, Offset>,
    staged: &'a BTreeMap<(Box<str>, TopicPartition), OffsetCommit>,
}

impl<'a> OpenTransaction<'a> {
    /// Partitions it wrote to, sorted, and its first offset there.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, Offset)> + use<'a> {
        self.partitions.iter().map(|(at, first)| (*at, *first))
    }

    /// Offsets it has staged: group, partition, commit.
    pub fn staged(&self) -> impl Iterator<Item = (&'a str, TopicPartition, &'a OffsetCommit)> + use<'a> {
        self.staged.iter().map(|((group, at), commit)| (&**group, *at, commit))
    }
}

fn view(id: TopicId, topic: &Topic) -> TopicView<'_> {
    TopicView {
        id,
        name: &topic.name,
        partitions: topic.partition_count(),
        created_at: topic.created_at,
    }
}

impl Fold {
    /// Index of the last commit that was applied.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// Digest of everything up to [`Fold::index`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The current life of the cluster.
    #[must_use]
    pub fn incarnation(&self) -> (IncarnationNumber, IncarnationId) {
        (self.incarnation, self.incarnation_id)
    }

    /// The life of the cluster to which a commit belongs.
    #[must_use]
    pub fn incarnation_at(&self, index: LogIndex) -> IncarnationNumber {
        let begun = self.incarnations.partition_point(|(at, _)| *at <= index);
        begun
            .checked_sub(1)
            .map_or(IncarnationNumber(0), |last| self.incarnations[last].1)
    }

    /// The feature level that is switched on.
    #[must_use]
    pub fn feature_level(&self) -> u16 {
        self.level
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl Iterator<Item = TopicView<'_>> {
        self.topics.by_id.iter().map(|(id, topic)| view(*id, topic))
    }

    /// The topic with an id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<TopicView<'_>> {
        self.topics.by_id.get(&id).map(|topic| view(id, topic))
    }

    /// The topic with a name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<TopicView<'_>> {
        self.topics.find(name).map(|(id, topic)| view(id, topic))
    }

    /// What the creation of a topic would come to if it were the next entry.
    #[must_use]
    pub fn judge_topic(&self, create: &TopicCreate) -> TopicCreateVerdict {
        self.topics.judge(create, &self.limits)
    }

    /// Partitions of all topics together.
    #[must_use]
    pub fn partition_total(&self) -> u32 {
        self.topics.partition_total()
    }

    /// The offsets of a partition.
    #[must_use]
    pub fn partition(&self, at: TopicPartition) -> Option<PartitionView> {
        self.topics.partition(at).map(|partition| PartitionView {
            log_start: partition.log_start,
            last_stable: partition.last_stable(),
            high_watermark: partition.high_watermark,
        })
    }

    /// Aborted transactions with data in `[from, upto)`, by the offset of their marker. A fetch gives the range that it
    /// returns, so that the answer holds exactly what its reader must skip.
    pub fn aborted(&self, at: TopicPartition, from: Offset, upto: Offset) -> impl Iterator<Item = &AbortedTxn> {
        self.topics
            .partition(at)
            .into_iter()
            .flat_map(move |partition| partition.aborted(from, upto))
    }

    /// The leader epoch in which the record at an offset was or will be written.
    #[must_use]
    pub fn leader_epoch_at(&self, at: TopicPartition, offset: Offset) -> Option<IncarnationNumber> {
        let partition = self.topics.partition(at)?;
        let (before, _) = epochs(partition).take_while(|(_, start)| *start <= offset).last()?;
        Some(before)
    }

    /// Where a leader epoch ended: the largest epoch that is not above it, and the offset after its last record (as
    /// OffsetForLeaderEpoch answers). `None` when there is no such epoch.
    #[must_use]
    pub fn leader_epoch_end(
        &self,
        at: TopicPartition,
        epoch: IncarnationNumber,
    ) -> Option<(IncarnationNumber, Offset)> {
        let partition = self.topics.partition(at)?;
        let mut found = None;
        for (number, start) in epochs(partition) {
            if number > epoch {
                return found.map(|number| (number, start));
            }
            found = Some(number);
        }
        found.map(|number| (number, partition.high_watermark))
    }

    /// First id that was never granted.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.producers.next_id
    }

    /// Windows that are remembered, over all producers and partitions.
    #[must_use]
    pub fn producer_windows(&self) -> usize {
        self.windows.len()
    }

    /// Producers whose transactional epoch is remembered.
    #[must_use]
    pub fn transactional_producers(&self) -> usize {
        self.producers.known.len()
    }

    /// Whether `ExpireProducers` would forget windows last touched below an index. It walks all windows.
    #[must_use]
    pub fn has_windows_untouched_since(&self, index: LogIndex) -> bool {
        let idle = |window: &crate::window::Window| window.touched() < index;
        self.windows
            .all()
            .any(|window| idle(window) && !self.producers.is_open(window.producer()))
    }

    /// For `ExpireProducers`: the index to expire below so that at most `keep_max` windows stay. `None` when there are no
    /// more than that.
    #[must_use]
    pub fn window_expiry_keeping(&self, keep_max: usize) -> Option<LogIndex> {
        self.windows.index_keeping(keep_max)
    }

    /// The current epoch of a transactional producer, if it is remembered.
    #[must_use]
    pub fn producer_epoch(&self, id: ProducerId) -> Option<ProducerEpoch> {
        self.producers.known.get(&id).map(|producer| producer.floor)
    }

    /// What a producer has done in a partition.
    #[must_use]
    pub fn producer(&self, at: TopicPartition, id: ProducerId) -> Option<ProducerView> {
        let window = self.windows.get(self.topics.partition(at)?.window_slot?, id)?;
        let open = self
            .producers
            .known
            .get(&id)
            .and_then(|producer| producer.open.as_ref());
        Some(ProducerView {
            id,
            epoch: window.epoch(),
            next_sequence: window.next_sequence(),
            touched: window.touched(),
            open_from: open.and_then(|open| open.partitions.get(&at).copied()),
        })
    }

    /// Whether a producer that is unknown in a partition may begin there with any sequence, because its state may have been
    /// forgotten. Otherwise its first batch must begin at 0, and one that does not has overtaken it.
    #[must_use]
    pub fn may_begin_anywhere(&self, at: TopicPartition, id: ProducerId) -> bool {
        let topic = self.topics.by_id.get(&at.topic);
        topic.is_some_and(|topic| self.producers.may_begin_anywhere(id, topic.deletion_before))
    }

    /// The producers of partitions, sorted; those that have none are left out. It walks all windows, once: for DescribeProducers only.
    #[must_use]
    pub fn producer_ids(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> BTreeMap<TopicPartition, Vec<ProducerId>> {
        let slot_of = |at| self.topics.partition(at)?.window_slot;
        let slots: BTreeMap<WindowSlot, TopicPartition> = partitions
            .into_iter()
            .filter_map(|at| Some((slot_of(at)?, at)))
            .collect();
        let mut found: BTreeMap<TopicPartition, Vec<ProducerId>> = BTreeMap::new();
        if slots.is_empty() {
            return found;
        }
        for window in self.windows.all() {
            if let Some(at) = slots.get(&window.slot()) {
                found.entry(*at).or_default().push(window.producer());
            }
        }
        found.values_mut().for_each(|ids| ids.sort_unstable());
        found
    }

    /// The open transaction of a producer.
    #[must_use]
    pub fn open_transaction(&self, id: ProducerId) -> Option<OpenTransaction<'_>> {
        let open = self.producers.known.get(&id)?.open.as_deref()?;
        Some(OpenTransaction {
            producer: id,
            epoch: open.epoch,
            opened_at: open.opened_at,
            partitions: &open.partitions,
            staged: &open.staged,
        })
    }

    /// All open transactions, by producer id.
    pub fn open_transactions(&self) -> impl Iterator<Item = OpenTransaction<'_>> {
        self.producers.known.keys().filter_map(|id| self.open_transaction(*id))
    }

    /// What a group has committed in a partition, and whether that is about to change.
    #[must_use]
    pub fn group_offset(&self, group: &str, at: TopicPartition) -> GroupOffset<'_> {
        self.groups.get(group, at)
    }

    /// Everything that a group has committed, by partition.
    pub fn group_offsets(&self, group: &str) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        let group = self.groups.by_id.get(group);
        group
            .into_iter()
            .flat_map(|group| group.offsets.iter().map(|(at, committed)| (*at, committed)))
    }

    /// Partitions in which a group has staged offsets, in open transactions.
    pub fn group_pending(&self, group: &str) -> impl Iterator<Item = TopicPartition> {
        let group = self.groups.by_id.get(group);
        group.into_iter().flat_map(|group| group.pending.keys().copied())
    }

    /// Ids of the groups that have committed or staged offsets, sorted.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.by_id.keys().map(|id| &**id)
    }

    /// Committed and staged offsets of all groups, and the bytes they count for.
    #[must_use]
    pub fn group_totals(&self) -> (u64, u64) {
        (self.groups.entries(), self.groups.bytes())
    }

    /// All partitions of a topic, with their offsets.
    pub fn partitions_of(&self, id: TopicId) -> impl Iterator<Item = (PartitionIndex, PartitionView)> {
        let partitions = self.topics.by_id.get(&id).map_or(0, Topic::partition_count);
        (0..partitions)
            .map(PartitionIndex)
            .filter_map(move |partition| Some((partition, self.partition(TopicPartition { topic: id, partition })?)))
    }
}

/// Epochs with the offset at which each began.
fn epochs(partition: &Partition) -> impl Iterator<Item = (IncarnationNumber, Offset)> {
    let replaced = partition.epochs.first().is_some_and(|(_, start)| *start == Offset(0));
    let first = (!replaced).then_some((partition.first_epoch, Offset(0)));
    first.into_iter().chain(partition.epochs.iter().copied())
}
