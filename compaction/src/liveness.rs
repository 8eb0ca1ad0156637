//! What of the merged data still counts, as the fold saw it at one log index.
//!
//! Owns: the view, and the rule from which index on it may be used.
//!
//! Invariants: LOG-3. A partition that the view does not know is gone only if everything asked about was committed at or
//! below the view's index: a topic may have been created since. And what the view calls gone must be gone for whoever loads
//! the root, so the root must have reached the view.

use std::collections::BTreeMap;

use esker_metadata::keys::root::Root;
use esker_model::Fold;
use esker_segment::id::{LogIndex, Offset, TopicPartition};

/// Log start offsets of all partitions at a log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    index: LogIndex,
    starts: BTreeMap<TopicPartition, Offset>,
}

impl Liveness {
    /// As the fold is now.
    #[must_use]
    pub fn of(fold: &Fold) -> Self {
        let of_topic = |topic: esker_model::fold::TopicView<'_>| {
            fold.partitions_of(topic.id).map(move |(partition, view)| {
                (
                    TopicPartition {
                        topic: topic.id,
                        partition,
                    },
                    view.log_start,
                )
            })
        };
        Self {
            index: fold.index(),
            starts: fold.topics().flat_map(of_topic).collect(),
        }
    }

    /// The index at which it was taken.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// Whether it may be used for changes to what a root names.
    #[must_use]
    pub fn fits(&self, root: &Root) -> bool {
        root.merged_through <= self.index && self.index <= root.index
    }

    /// The first offset of a partition that still counts; `None` when the partition is gone.
    #[must_use]
    pub fn start(&self, at: TopicPartition) -> Option<Offset> {
        self.starts.get(&at).copied()
    }

    /// Whether anything below an offset still counts.
    #[must_use]
    pub fn keeps(&self, at: TopicPartition, end: Offset) -> bool {
        self.start(at).is_some_and(|start| start < end)
    }
}
