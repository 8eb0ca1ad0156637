//! Deleting topics and trimming partitions.
//!
//! Owns: what `TopicDelete` and `Trim` do to everything that refers to a partition.
//! Invariants: RET-1.

use esker_segment::id::{PartitionIndex, TopicId, TopicPartition};

use super::Fold;
use crate::entry::Trim;
use crate::verdict::{TopicDeleteVerdict, TrimVerdict};

impl Fold {
    pub(super) fn apply_topic_delete(&mut self, id: TopicId) -> TopicDeleteVerdict {
        let Some(topic) = self.topics.remove(id, self.index) else {
            return TopicDeleteVerdict::NoSuchTopic;
        };
        for (index, mut partition) in (0..).zip(topic.partitions) {
            let at = TopicPartition {
                topic: id,
                partition: PartitionIndex(index),
            };
            partition.unmerged.clear(&mut self.sources);
            if let Some(slot) = partition.window_slot {
                self.windows.kill(slot);
            }
            for producer in partition.txns.iter().flat_map(|txns| txns.open.values()) {
                let open = self
                    .producers
                    .known
                    .get_mut(producer)
                    .and_then(|producer| producer.open.as_mut());
                open.expect("the partition has its transaction").partitions.remove(&at);
            }
        }
        for group in self.groups.groups_staged_in(id) {
            self.unstage(&group, |at| at.topic == id);
        }
        self.groups.delete_topic(id);
        TopicDeleteVerdict::Deleted
    }

    pub(super) fn apply_trim(&mut self, trim: Trim) -> TrimVerdict {
        let Some(partition) = self.topics.partition_mut(trim.partition) else {
            return TrimVerdict::NoSuchPartition;
        };
        if trim.log_start <= partition.log_start {
            return TrimVerdict::AlreadyThere {
                log_start: partition.log_start,
            };
        }
        let last_stable = partition.last_stable();
        if trim.log_start > last_stable {
            return TrimVerdict::PastStable { last_stable };
        }
        partition.log_start = trim.log_start;
        partition.unmerged.drop_below(trim.log_start, &mut self.sources);
        partition.forget_aborted(trim.log_start);
        TrimVerdict::Trimmed {
            log_start: trim.log_start,
        }
    }
}
