//! How many merged bytes each partition has, added up once for each manifest.
//!
//! Owns: the sums of the newest manifest that somebody asked about, and that one asker adds up while the others wait.
//! Does not own: reading manifests (`esker_storage::merged`), what is not merged (the fold).
//!
//! A manifest is never changed, so its sums hold for as long as no slice that was counted is cut; [`Sum::holds`] says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_segment::id::{Offset, TopicPartition};
use esker_storage::merged::ManifestRef;
use tokio::sync::Mutex;

/// What a manifest has of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// Bytes of all slices that end above the log start.
    pub(super) bytes: u64,
    /// Where the last of them ends.
    pub(super) end: Offset,
    /// Where the first of them ends.
    first_end: Offset,
}

impl Sum {
    /// Whether every slice that was counted still counts.
    pub(super) fn holds(&self, log_start: Offset) -> bool {
        log_start < self.first_end
    }
}

/// By partition; one without slices has no sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(BTreeMap<TopicPartition, Sum>);

impl Sums {
    /// Counts a slice.
    pub(super) fn add(&mut self, at: TopicPartition, end: Offset, bytes: u64) {
        let nothing = Sum {
            bytes: 0,
            end,
            first_end: end,
        };
        let sum = self.0.entry(at).or_insert(nothing);
        sum.bytes += bytes;
        sum.end = sum.end.max(end);
        sum.first_end = sum.first_end.min(end);
    }

    /// That of a partition.
    pub(super) fn get(&self, at: TopicPartition) -> Option<&Sum> {
        self.0.get(&at)
    }
}

/// The sums of one manifest, for all who ask.
#[derive(Debug, Default)]
pub struct MergedSizes(Mutex<Option<(ManifestRef, Arc<Sums>)>>);

impl MergedSizes {
    /// The sums of a manifest; who asks first adds them up.
    ///
    /// # Errors
    /// Those of `add_up`; the next who asks tries again.
    pub(super) async fn of<E>(
        &self,
        root: ManifestRef,
        add_up: impl Future<Output = Result<Sums, E>>,
    ) -> Result<Arc<Sums>, E> {
        let mut kept = self.0.lock().await;
        if let Some((of, sums)) = &*kept
            && *of == root
        {
            return Ok(Arc::clone(sums));
        }
        let sums = Arc::new(add_up.await?);
        *kept = Some((root, Arc::clone(&sums)));
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use esker_segment::id::{PartitionIndex, SegmentNumber, TopicId};
    use esker_segment::name::{ObjectName, SegmentName};

    use super::*;

    const AT: TopicPartition = TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(0),
    };

    #[tokio::test]
    async fn a_manifest_is_added_up_once() {
        let sizes = MergedSizes::default();
        let walks = Cell::new(0);
        let walk = async |fails: bool| {
            walks.set(walks.get() + 1);
            if fails { Err("unreachable") } else { Ok(Sums::default()) }
        };
        let root = |number| {
            let name = SegmentName {
                number: SegmentNumber(number),
                ..SegmentName::default()
            };
            (ObjectName::Segment(name), 10)
        };
        let (one, other) = (root(1), root(2));
        assert!(sizes.of(one, walk(true)).await.is_err());
        for (root, walked) in [(one, 2), (one, 2), (other, 3), (other, 3)] {
            sizes.of(root, walk(false)).await.expect("reachable");
            assert_eq!(walks.get(), walked);
        }
    }

    #[test]
    fn a_sum_holds_until_its_first_slice_is_cut() {
        let mut sums = Sums::default();
        sums.add(AT, Offset(20), 7);
        sums.add(AT, Offset(10), 5);
        let sum = sums.get(AT).expect("two slices");
        assert_eq!((sum.bytes, sum.end), (12, Offset(20)));
        assert!(sum.holds(Offset(9)) && !sum.holds(Offset(10)));
    }
}
