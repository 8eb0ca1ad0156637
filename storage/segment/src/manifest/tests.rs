//! Manifests: round trips, look-ups, and what is refused.

use proptest::prelude::*;

use super::{ManifestPage, ManifestRoot, ManifestSlice, MergedObject, PageRef};
use crate::container::{Container, ContainerBuilder, ContainerKind};
use crate::id::{
    IncarnationNumber, LogIndex, Offset, PartitionIndex, SegmentNumber, SessionId, Timestamp, TopicId, TopicPartition,
};
use crate::name::{ObjectKind, ObjectName, SegmentName};
use crate::wire::FormatError;

fn at(topic: u128, partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    }
}

fn name(kind: ObjectKind, number: u64) -> ObjectName {
    let name = SegmentName {
        incarnation: IncarnationNumber(1),
        session: SessionId(5),
        number: SegmentNumber(number),
        attempt: 0,
    };
    ObjectName::Other { kind, name }
}

fn object(number: u64) -> MergedObject {
    let name = name(ObjectKind::Merged, number);
    MergedObject {
        name,
        length_bytes: 1_000_100,
        index_position: 1_000_000,
        content_hash: u128::from(number) << 90,
    }
}

fn slice(at: TopicPartition, start: i64, end: i64) -> ManifestSlice {
    ManifestSlice {
        at,
        start: Offset(start),
        end: Offset(end),
        object: 0,
        position: 64,
        bytes: 1000,
        records: 1,
        max_timestamp: Timestamp(end),
    }
}

fn page(slices: Vec<ManifestSlice>) -> ManifestPage {
    ManifestPage {
        level: 1,
        objects: vec![object(1), object(2)],
        slices,
    }
}

fn any_page() -> impl Strategy<Value = ManifestPage> {
    let slice = (
        0..5_i64,
        1..1000_i64,
        0..2_u32,
        0..500_000_u64,
        0..500_000_u64,
        any::<i64>(),
    );
    let slices = prop::collection::vec(slice, 1..4);
    prop::collection::btree_map((0..3_u128, 0..5_u32), slices, 0..6).prop_map(|partitions| {
        let mut slices = Vec::new();
        for ((topic, partition), of) in partitions {
            let mut next = 0;
            for (gap, length, object, position, bytes, time) in of {
                let start = next + gap;
                next = start + length;
                slices.push(ManifestSlice {
                    object,
                    position,
                    bytes,
                    records: length.cast_unsigned(),
                    max_timestamp: Timestamp(time),
                    ..slice_of(topic, partition, start, next)
                });
            }
        }
        page(slices)
    })
}

fn slice_of(topic: u128, partition: u32, start: i64, end: i64) -> ManifestSlice {
    slice(at(topic, partition), start, end)
}

proptest! {
    #[test]
    fn a_page_reads_back(page in any_page()) {
        prop_assert_eq!(ManifestPage::decode(&page.encode().unwrap().concat()), Ok(page));
    }

    #[test]
    fn a_look_up_finds_what_a_scan_finds(page in any_page(), topic in 0..3_u128, partition in 0..5_u32, offset in 0..2000_i64) {
        let (at, offset) = (at(topic, partition), Offset(offset));
        let scanned = page.slices.iter().find(|slice| slice.at == at && slice.end > offset);
        prop_assert_eq!(page.slice_at(at, offset), scanned);
    }

    #[test]
    fn sections_of_arbitrary_bytes_never_panic(
        objects in prop::collection::vec(any::<u8>(), 0..100), slices in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut builder = ContainerBuilder::new(ContainerKind::Page, 1);
        builder.section("head", vec![1]);
        builder.section("objects", objects.clone());
        builder.section("slices", slices);
        if let Ok(page) = ManifestPage::decode(&builder.finish().concat()) {
            prop_assert!(page.encode().is_ok());
        }
        let mut builder = ContainerBuilder::new(ContainerKind::Manifest, 1);
        builder.section("head", vec![1]);
        builder.section("pages", objects);
        if let Ok(root) = ManifestRoot::decode(&builder.finish().concat()) {
            prop_assert!(root.encode().is_ok());
        }
    }
}

#[test]
fn a_root_reads_back_and_names_the_pages_of_a_partition() {
    let pages = [
        page(vec![slice_of(1, 0, 0, 10), slice_of(1, 5, 0, 10)]),
        page(vec![slice_of(1, 6, 0, 10), slice_of(4, 0, 0, 10)]),
        ManifestPage {
            level: 2,
            ..page(vec![slice_of(1, 4, 10, 30), slice_of(2, 0, 5, 7)])
        },
    ];
    let reference = |(number, page): (u64, &ManifestPage)| page.reference(name(ObjectKind::Page, number), 500).unwrap();
    let root = ManifestRoot {
        merged_through: LogIndex(99),
        pages: (0..).zip(&pages).map(reference).collect(),
    };
    let read = ManifestRoot::decode(&root.encode().unwrap().concat()).unwrap();
    assert_eq!(read, root);
    let found = |at| read.pages_of(at).map(|page| page.name).collect::<Vec<_>>();
    let page = |number| name(ObjectKind::Page, number);
    assert_eq!(found(at(1, 4)), [page(0), page(2)]);
    assert_eq!(found(at(1, 6)), [page(1), page(2)]);
    assert_eq!(found(at(4, 1)), []);
    assert_eq!(read.pages[2].facts.oldest, Timestamp(7));
    assert_eq!(read.pages[2].facts.newest, Timestamp(30));
    assert_eq!((read.pages[2].facts.slices, read.pages[2].facts.bytes), (2, 2000));
}

#[test]
fn slices_that_overlap_or_lie_outside_their_object_are_refused() {
    let order = FormatError::Invalid {
        what: "order of slices",
    };
    let range = FormatError::Invalid { what: "range of slice" };
    let refused = |slices| page(slices).encode().map(|_| ()).unwrap_err();
    assert_eq!(refused(vec![slice_of(1, 0, 0, 10), slice_of(1, 0, 9, 11)]), order);
    assert_eq!(refused(vec![slice_of(1, 1, 0, 10), slice_of(1, 0, 0, 10)]), order);
    let good = slice_of(1, 0, 0, 10);
    assert_eq!(refused(vec![slice_of(1, 0, 4, 4)]), range);
    assert_eq!(refused(vec![ManifestSlice { object: 2, ..good }]), range);
    assert_eq!(
        refused(vec![ManifestSlice {
            position: 999_001,
            ..good
        }]),
        range
    );
    assert_eq!(
        refused(vec![ManifestSlice {
            position: u64::MAX,
            ..good
        }]),
        range
    );
    assert_eq!(refused(vec![ManifestSlice { records: 11, ..good }]), range);
}

#[test]
fn pages_of_one_level_that_overlap_are_refused() {
    let reference = |from, to| -> PageRef {
        page(vec![slice_of(1, from, 0, 10), slice_of(1, to, 0, 10)])
            .reference(name(ObjectKind::Page, 1), 5)
            .unwrap()
    };
    let root = |pages| ManifestRoot {
        merged_through: LogIndex(1),
        pages,
    };
    assert!(root(vec![reference(0, 4), reference(5, 9)]).encode().is_ok());
    assert!(root(vec![reference(0, 5), reference(5, 9)]).encode().is_err());
    assert!(root(vec![reference(5, 9), reference(0, 4)]).encode().is_err());
}

#[test]
fn an_empty_page_has_no_reference() {
    assert_eq!(page(vec![]).reference(name(ObjectKind::Page, 1), 5), None);
}

#[test]
fn the_sections_of_version_1_do_not_change() {
    let page = page(vec![slice_of(1, 2, 10, 30), slice_of(1, 2, 33, 34)]);
    let written = page.encode().unwrap().concat();
    let container = Container::decode(ContainerKind::Page, 1, &written).unwrap();
    assert_eq!(container.section("head").unwrap(), &[1][..]);
    let mut objects = vec![2];
    for (number, hash) in [(1, [0, 0, 0, 4]), (2, [0, 0, 0, 8])] {
        objects.extend([3, 1, 5, number, 0, 0xa4, 0x85, 0x3d, 0xc0, 0x84, 0x3d]);
        objects.extend([0; 8]);
        objects.extend(hash);
        objects.extend([0; 4]);
    }
    assert_eq!(container.section("objects").unwrap(), &objects);
    let mut slices = vec![2, 5, 1];
    slices.extend([0; 15]);
    slices.extend([10, 20, 0, 64, 0xe8, 7, 1, 60]);
    slices.extend([0, 3, 1, 0, 64, 0xe8, 7, 1, 8]);
    assert_eq!(container.section("slices").unwrap(), &slices);
}
