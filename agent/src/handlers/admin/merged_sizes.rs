//! How many merged bytes each partition has, added up once for each page of a manifest.
//!
//! Owns: the sums of the newest manifest that somebody asked about, page by page, and that one asker adds up while the others wait.
//! Does not own: reading manifests (`esker_storage::merged`), what is not merged (the fold).
//!
//! A page is never changed, and the next manifest has most pages of the one before. So the sums of a page hold for as long as no
//! slice that was counted is cut; [`Sum::holds`] says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_segment::id::{Offset, TopicPartition};
use esker_segment::name::ObjectName;
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

    /// Whether every sum holds, when the partitions begin where `log_start` says.
    fn hold(&self, log_start: impl Fn(TopicPartition) -> Offset) -> bool {
        self.0.iter().all(|(at, sum)| sum.holds(log_start(*at)))
    }

    /// Adds those of another page.
    fn add_all(&mut self, other: &Self) {
        for (at, sum) in &other.0 {
            let all = self.0.entry(*at).or_insert(Sum { bytes: 0, ..*sum });
            all.bytes += sum.bytes;
            all.end = all.end.max(sum.end);
            all.first_end = all.first_end.min(sum.first_end);
        }
    }
}

/// The sums of one manifest.
#[derive(Clone, Debug, Default)]
pub(super) struct OfManifest {
    /// Those of each page.
    pages: BTreeMap<ObjectName, Arc<Sums>>,
    all: Arc<Sums>,
}

impl OfManifest {
    /// The sums of a page, if they are known and nothing of them was cut.
    pub(super) fn page(&self, name: ObjectName, log_start: impl Fn(TopicPartition) -> Offset) -> Option<Arc<Sums>> {
        let sums = self.pages.get(&name)?;
        sums.hold(log_start).then(|| Arc::clone(sums))
    }

    /// That of all these pages.
    pub(super) fn of(pages: BTreeMap<ObjectName, Arc<Sums>>) -> Self {
        let mut all = Sums::default();
        pages.values().for_each(|sums| all.add_all(sums));
        let all = Arc::new(all);
        Self { pages, all }
    }
}

/// The sums of one manifest, for all who ask.
#[derive(Debug, Default)]
pub struct MergedSizes(Mutex<Option<(ManifestRef, OfManifest)>>);

impl MergedSizes {
    /// The sums of a manifest; who asks first adds them up, and is given those of the manifest before.
    ///
    /// # Errors
    /// Those of `add_up`; the next who asks tries again.
    pub(super) async fn of<E>(
        &self,
        root: ManifestRef,
        add_up: impl AsyncFnOnce(&OfManifest) -> Result<OfManifest, E>,
    ) -> Result<Arc<Sums>, E> {
        let mut kept = self.0.lock().await;
        if let Some((of, sums)) = &*kept
            && *of == root
        {
            return Ok(Arc::clone(&sums.all));
        }
        let nothing = OfManifest::default();
        let sums = add_up(kept.as_ref().map_or(&nothing, |(_, sums)| sums)).await?;
        let all = Arc::clone(&sums.all);
        *kept = Some((root, sums));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use esker_segment::id::{PartitionIndex, SegmentNumber, TopicId};
    use esker_segment::name::SegmentName;

    use super::*;

    const AT: TopicPartition = TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(0),
    };

    #[tokio::test]
    async fn a_manifest_is_added_up_once() {
        let sizes = MergedSizes::default();
        let walks = Cell::new(0);
        let walk = |fails: bool| {
            let walks = &walks;
            async move |_: &OfManifest| {
                walks.set(walks.get() + 1);
                if fails {
                    Err("unreachable")
                } else {
                    Ok(OfManifest::default())
                }
            }
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
    fn a_page_is_read_again_only_when_something_of_it_was_cut() {
        let name = |number| {
            ObjectName::Segment(SegmentName {
                number: SegmentNumber(number),
                ..SegmentName::default()
            })
        };
        let page = |end| {
            let mut sums = Sums::default();
            sums.add(AT, Offset(end), 5);
            Arc::new(sums)
        };
        let of = OfManifest::of(BTreeMap::from([(name(1), page(10)), (name(2), page(20))]));
        let all = of.all.get(AT).expect("two slices");
        assert_eq!((all.bytes, all.end, all.first_end), (10, Offset(20), Offset(10)));
        let known = |number, log_start| of.page(name(number), |_| Offset(log_start)).is_some();
        assert!(known(1, 9) && !known(1, 10) && known(2, 10) && !known(3, 0));
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
