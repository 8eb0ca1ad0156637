//! Places: partitions of topics, and where to start in them.

use std::fmt;
use std::sync::Arc;

use esker_proto::v1;
use esker_proto::v1::position::At;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// This partition of this topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record that there is.
    Earliest,
    /// After the last record: only what comes from now on.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record with this timestamp or a later one, in milliseconds since 1970; the end if there is none.
    Timestamp(i64),
}

impl Position {
    pub(crate) fn into_proto(self) -> v1::Position {
        let at = match self {
            Self::Earliest => At::Edge(v1::Edge::Earliest.into()),
            Self::Latest => At::Edge(v1::Edge::Latest.into()),
            Self::Offset(offset) => At::Offset(offset),
            Self::Timestamp(timestamp) => At::TimestampMs(timestamp),
        };
        v1::Position { at: Some(at) }
    }

    /// This position in a partition.
    pub(crate) fn in_partition(self, place: &TopicPartition) -> v1::PartitionPosition {
        v1::PartitionPosition {
            topic: place.topic.to_string(),
            partition: place.partition,
            at: Some(self.into_proto()),
        }
    }
}

/// Partitions as messages name them.
pub(crate) fn each_partition(topics: Vec<v1::TopicPartitions>) -> Vec<TopicPartition> {
    let each = topics.into_iter().flat_map(|topic| {
        let name: Arc<str> = topic.topic.into();
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| TopicPartition::new(Arc::clone(&name), partition))
    });
    each.collect()
}
