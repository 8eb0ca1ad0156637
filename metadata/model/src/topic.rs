//! Topics by id and by name.
//!
//! Owns: which topics exist, the rules for names, the count of partitions.
//! Does not own: what is in a partition (`partition`), configs (they are no part of the log).

use std::collections::BTreeMap;

use esker_segment::id::{IncarnationNumber, LogIndex, PartitionIndex, TopicId, TopicPartition};

use crate::entry::{Limits, TOPIC_NAME_BYTES_MAX, TopicCreate};
use crate::partition::Partition;
use crate::verdict::{GrowVerdict, TopicCreateVerdict};

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: Box<str>,
    pub(crate) created_at: LogIndex,
    /// The last deletion of any topic before that; 0 for none. It may have taken the place of that topic.
    pub(crate) deletion_before: LogIndex,
    pub(crate) partitions: Vec<Partition>,
}

/// All topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topics {
    pub(crate) by_id: BTreeMap<TopicId, Topic>,
    /// By name with dots as underscores, so that names that differ only in these collide.
    by_name: BTreeMap<Box<str>, TopicId>,
    /// Partitions of all topics.
    partitions: u32,
    /// The last deletion of any topic; 0 for none.
    pub(crate) deleted_at: LogIndex,
}

fn at(partition: PartitionIndex) -> usize {
    usize::try_from(partition.0).unwrap_or(usize::MAX)
}

/// Whether Kafka would accept the name.
fn is_legal(name: &str) -> bool {
    let fits = (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len()) && name != "." && name != "..";
    fits && name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn name_key(name: &str) -> Box<str> {
    name.replace('.', "_").into()
}

fn partition_count(topic: &Topic) -> u32 {
    u32::try_from(topic.partitions.len()).expect("created from a u32")
}

impl Topic {
    pub(crate) fn partition(&self, partition: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(at(partition))
    }

    pub(crate) fn partition_mut(&mut self, partition: PartitionIndex) -> Option<&mut Partition> {
        self.partitions.get_mut(at(partition))
    }

    pub(crate) fn partition_count(&self) -> u32 {
        partition_count(self)
    }
}

impl Topics {
    pub(crate) fn partition(&self, of: TopicPartition) -> Option<&Partition> {
        self.by_id.get(&of.topic)?.partition(of.partition)
    }

    pub(crate) fn partition_mut(&mut self, of: TopicPartition) -> Option<&mut Partition> {
        self.by_id.get_mut(&of.topic)?.partition_mut(of.partition)
    }

    /// The topic of exactly this name.
    pub(crate) fn find(&self, name: &str) -> Option<(TopicId, &Topic)> {
        let id = if name.contains('.') {
            self.by_name.get(&name_key(name))
        } else {
            self.by_name.get(name)
        };
        let id = *id?;
        let topic = self.by_id.get(&id).expect("both maps hold the same topics");
        (*topic.name == *name).then_some((id, topic))
    }

    pub(crate) fn partition_total(&self) -> u32 {
        self.partitions
    }

    /// Every partition, sorted.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.by_id.iter().flat_map(|(id, topic)| {
            (0..).zip(&topic.partitions).map(|(index, partition)| {
                (
                    TopicPartition {
                        topic: *id,
                        partition: PartitionIndex(index),
                    },
                    partition,
                )
            })
        })
    }

    /// Every partition.
    pub(crate) fn partitions_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.by_id.values_mut().flat_map(|topic| &mut topic.partitions)
    }

    /// What a creation would come to.
    pub(crate) fn judge(&self, create: &TopicCreate, limits: &Limits) -> TopicCreateVerdict {
        if !is_legal(&create.name) {
            return TopicCreateVerdict::NameInvalid;
        }
        let key = name_key(&create.name);
        if let Some(id) = self.by_name.get(&key) {
            let same = self.by_id.get(id).is_some_and(|topic| topic.name == create.name);
            return if same {
                TopicCreateVerdict::NameTaken { by: *id }
            } else {
                TopicCreateVerdict::NameCollides { with: *id }
            };
        }
        if create.topic == TopicId(0) || self.by_id.contains_key(&create.topic) {
            return TopicCreateVerdict::IdTaken;
        }
        if create.partitions == 0 || create.partitions > limits.topic_partitions_max {
            return TopicCreateVerdict::PartitionsOutOfRange {
                max: limits.topic_partitions_max,
            };
        }
        let left = limits.partitions_max.saturating_sub(self.partitions);
        if create.partitions > left {
            return TopicCreateVerdict::TooManyPartitions { left };
        }
        TopicCreateVerdict::Created
    }

    pub(crate) fn create(
        &mut self,
        create: &TopicCreate,
        limits: &Limits,
        epoch: IncarnationNumber,
        at: LogIndex,
    ) -> TopicCreateVerdict {
        let verdict = self.judge(create, limits);
        if verdict != TopicCreateVerdict::Created {
            return verdict;
        }
        self.partitions += create.partitions;
        self.by_name.insert(name_key(&create.name), create.topic);
        let mut topic = Topic {
            name: create.name.clone(),
            created_at: at,
            deletion_before: self.deleted_at,
            partitions: Vec::new(),
        };
        grow(&mut topic, create.partitions, epoch);
        self.by_id.insert(create.topic, topic);
        TopicCreateVerdict::Created
    }

    pub(crate) fn grow(
        &mut self,
        id: TopicId,
        partitions: u32,
        limits: &Limits,
        epoch: IncarnationNumber,
    ) -> GrowVerdict {
        let Some(topic) = self.by_id.get_mut(&id) else {
            return GrowVerdict::NoSuchTopic;
        };
        let current = partition_count(topic);
        if partitions <= current {
            return GrowVerdict::NotMore { current };
        }
        if partitions > limits.topic_partitions_max {
            return GrowVerdict::PartitionsOutOfRange {
                max: limits.topic_partitions_max,
            };
        }
        let left = limits.partitions_max.saturating_sub(self.partitions);
        if partitions - current > left {
            return GrowVerdict::TooManyPartitions { left };
        }
        self.partitions += partitions - current;
        grow(topic, partitions, epoch);
        GrowVerdict::Grown
    }

    /// Takes a topic out.
    pub(crate) fn remove(&mut self, id: TopicId, at: LogIndex) -> Option<Topic> {
        let topic = self.by_id.remove(&id)?;
        self.deleted_at = at;
        self.by_name.remove(&name_key(&topic.name));
        self.partitions -= partition_count(&topic);
        Some(topic)
    }

    /// Puts a topic of a checkpoint in; `false` when it contradicts another one.
    pub(crate) fn restore(&mut self, id: TopicId, topic: Topic) -> bool {
        let key = name_key(&topic.name);
        if !is_legal(&topic.name) || self.by_id.contains_key(&id) || self.by_name.contains_key(&key) {
            return false;
        }
        let Some(partitions) = self.partitions.checked_add(partition_count(&topic)) else {
            return false;
        };
        self.partitions = partitions;
        self.by_name.insert(key, id);
        self.by_id.insert(id, topic);
        true
    }
}

fn grow(topic: &mut Topic, partitions: u32, epoch: IncarnationNumber) {
    let wanted = usize::try_from(partitions).expect("checked against the limit");
    topic.partitions.reserve_exact(wanted - topic.partitions.len());
    topic.partitions.resize_with(wanted, || Partition {
        first_epoch: epoch,
        ..Partition::default()
    });
}
