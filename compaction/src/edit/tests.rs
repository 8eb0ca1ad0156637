//! Whatever is added and removed, pages hold exactly what they should, in order and within bounds.

use std::collections::{BTreeMap, BTreeSet};

use esker_segment::id::{LogIndex, Offset, PartitionIndex, SegmentNumber, Timestamp, TopicId, TopicPartition};
use esker_segment::manifest::{ManifestPage, ManifestSlice, MergedObject, PageRef};
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};
use proptest::prelude::*;

use super::{Edit, NewSlice, manifest_root, object_of, plan_pages, rebuild};

const PAGE_SLICES_MAX: usize = 8;

fn name(kind: ObjectKind, number: u64) -> ObjectName {
    let name = SegmentName {
        number: SegmentNumber(number),
        ..SegmentName::default()
    };
    ObjectName::Other { kind, name }
}

fn slice(partition: u32, start: i64, object: u64) -> NewSlice {
    NewSlice {
        object: MergedObject {
            name: name(ObjectKind::Merged, object),
            length_bytes: 10_000,
            index_position: 9_000,
            content_hash: 1,
        },
        slice: ManifestSlice {
            at: TopicPartition {
                topic: TopicId(1),
                partition: PartitionIndex(partition),
            },
            start: Offset(start),
            end: Offset(start + 1),
            object: 0,
            position: 64,
            bytes: 100,
            records: 1,
            max_timestamp: Timestamp(start),
        },
    }
}

/// A manifest in memory.
#[derive(Default)]
struct Manifest {
    pages: BTreeMap<ObjectName, ManifestPage>,
    refs: Vec<PageRef>,
    written: u64,
    next_offset: i64,
}

/// Level, partition, start, object.
type Flat = BTreeSet<(u8, u32, i64, ObjectName)>;

impl Manifest {
    fn flat(&self) -> Flat {
        let of_page = |page: &'_ ManifestPage| {
            let of = |slice: &ManifestSlice| {
                (
                    page.level,
                    slice.at.partition.0,
                    slice.start.0,
                    object_of(page, slice).name,
                )
            };
            page.slices.iter().map(of).collect::<Vec<_>>()
        };
        self.pages.values().flat_map(of_page).collect()
    }

    /// Applies an edit as a round does. Says how many pages were written.
    fn apply(&mut self, edit: &Edit, dead: u32) -> u64 {
        let before = self.written;
        let root = manifest_root(LogIndex(0), self.refs.clone());
        let plan = plan_pages(&root, edit, PAGE_SLICES_MAX);
        let mut refs = plan.kept;
        for group in &plan.groups {
            let replaced: Vec<ManifestPage> = group
                .replaced
                .iter()
                .map(|page| self.pages.remove(&page.name).expect("it is there once"))
                .collect();
            let keep = |slice: &ManifestSlice, object: &MergedObject| {
                !edit.remove.contains(&object.name) && slice.at.partition.0 != dead
            };
            for page in rebuild(group, &replaced, keep, PAGE_SLICES_MAX) {
                self.written += 1;
                let name = name(ObjectKind::Page, self.written);
                refs.extend(page.reference(name, page.encode().unwrap().length_bytes));
                self.pages.insert(name, page);
            }
        }
        self.refs = manifest_root(LogIndex(0), refs).pages;
        // Writing it checks that pages of a level do not overlap.
        manifest_root(LogIndex(0), self.refs.clone()).encode().unwrap();
        let named: BTreeSet<ObjectName> = self.refs.iter().map(|page| page.name).collect();
        assert_eq!(named, self.pages.keys().copied().collect());
        self.written - before
    }

    fn pages_of(&self, object: ObjectName) -> BTreeSet<ObjectName> {
        let names = |page: &ManifestPage| page.objects.iter().any(|of| of.name == object);
        self.pages
            .iter()
            .filter(|(_, page)| names(page))
            .map(|(name, _)| *name)
            .collect()
    }
}

proptest! {
    #[test]
    fn pages_hold_what_was_added_and_not_removed(
        steps in prop::collection::vec((prop::collection::vec((1_u8..3, 0_u32..30), 0..20), any::<prop::sample::Index>()), 1..30),
    ) {
        let (mut manifest, mut expected) = (Manifest::default(), Flat::new());
        for (nth, (adds, removed)) in steps.into_iter().enumerate() {
            let object = u64::try_from(nth).unwrap();
            let mut edit = Edit::default();
            for (level, partition) in adds {
                manifest.next_offset += 1;
                let new = slice(partition, manifest.next_offset, object);
                edit.add.entry(level).or_default().push(new);
                expected.insert((level, partition, manifest.next_offset, new.object.name));
            }
            if nth % 3 == 2 {
                let gone = name(ObjectKind::Merged, u64::try_from(removed.index(nth)).unwrap());
                edit.touch = manifest.pages_of(gone);
                edit.remove.insert(gone);
                expected.retain(|(.., object)| *object != gone);
            }
            manifest.apply(&edit, u32::MAX);
            prop_assert_eq!(manifest.flat(), expected.clone());
            for page in manifest.pages.values() {
                let partitions: BTreeSet<_> = page.slices.iter().map(|slice| slice.at).collect();
                prop_assert!(page.slices.len() <= PAGE_SLICES_MAX || partitions.len() == 1);
            }
        }
    }
}

#[test]
fn a_page_that_nothing_happens_to_is_not_written_again() {
    let mut manifest = Manifest::default();
    let all = (0..40).map(|partition| slice(partition, 0, 1)).collect();
    let written = manifest.apply(
        &Edit {
            add: BTreeMap::from([(1, all)]),
            ..Edit::default()
        },
        u32::MAX,
    );
    assert_eq!(written, 5);
    let one = vec![slice(20, 7, 2)];
    let written = manifest.apply(
        &Edit {
            add: BTreeMap::from([(1, one)]),
            ..Edit::default()
        },
        u32::MAX,
    );
    assert!(written <= 2, "{written} pages for one slice");
    let dead = manifest.pages_of(name(ObjectKind::Merged, 2));
    assert_eq!(
        manifest.apply(
            &Edit {
                touch: dead,
                ..Edit::default()
            },
            20
        ),
        1
    );
    assert_eq!(manifest.flat().len(), 39);
    assert!(Edit::default().is_empty());
}

#[test]
fn small_pages_are_put_together() {
    let mut manifest = Manifest::default();
    // Sixteen partitions, which lose nearly all their slices one object after the other.
    for object in 0..8 {
        let start = i64::try_from(object).unwrap();
        let all = (0..16).map(|partition| slice(partition, start, object)).collect();
        manifest.apply(
            &Edit {
                add: BTreeMap::from([(1, all)]),
                ..Edit::default()
            },
            u32::MAX,
        );
    }
    let before = manifest.pages.len();
    for object in 0..7 {
        let gone = name(ObjectKind::Merged, object);
        let touch = manifest.pages_of(gone);
        manifest.apply(
            &Edit {
                touch,
                remove: BTreeSet::from([gone]),
                ..Edit::default()
            },
            u32::MAX,
        );
    }
    assert!(
        before == 16 && manifest.pages.len() <= 4,
        "{before} pages became {}",
        manifest.pages.len()
    );
}
