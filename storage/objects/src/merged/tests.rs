//! Look-ups over several levels, gaps, and objects that are gone.

use std::sync::Arc;

use bytes::Bytes;
use esker_segment::id::{IncarnationId, LogIndex, PartitionIndex, SegmentNumber, SessionId, TopicId};
use esker_segment::index::BatchMeta;
use esker_segment::manifest::{ManifestPage, ManifestRoot};
use esker_segment::merged::PlacedBatch;
use esker_segment::name::{ObjectKind, SegmentName};
use esker_segment::segment::{MergedBuilder, OrderList, SEGMENT_HEADER_BYTES, SegmentBuilder, SegmentHeader};

use super::*;
use crate::random::Random;
use crate::simulated::{Faults, SimulatedStore};

/// Offsets, largest timestamp, whether it is a marker.
type Sketch = (u32, i64, bool);

/// A manifest in the making.
struct Bench {
    store: SimulatedStore,
    objects: NamedObjects,
    named: u64,
    /// Pages by level.
    pages: Vec<ManifestPage>,
}

const AT: TopicPartition = TopicPartition {
    topic: TopicId(7),
    partition: PartitionIndex(3),
};

fn other(partition: u32) -> TopicPartition {
    let partition = PartitionIndex(partition);
    TopicPartition { partition, ..AT }
}

fn meta(records: u32, timestamp: i64) -> BatchMeta {
    BatchMeta {
        records,
        bytes: 100,
        max_timestamp: Timestamp(timestamp),
        crc: 0,
        producer: None,
    }
}

fn data() -> Bytes {
    Bytes::from(vec![0; 100])
}

impl Bench {
    fn new() -> Self {
        let store = SimulatedStore::new(Random::new(1), Faults::NONE);
        let objects = NamedObjects::new(Arc::new(store.clone()), "test".parse().unwrap());
        Self {
            store,
            objects,
            named: 0,
            pages: Vec::new(),
        }
    }

    fn name(&mut self, kind: ObjectKind) -> ObjectName {
        self.named += 1;
        let name = SegmentName {
            incarnation: IncarnationNumber(4),
            session: SessionId(1),
            number: SegmentNumber(self.named),
            attempt: 0,
        };
        ObjectName::Other { kind, name }
    }

    fn page(&mut self, level: u8) -> &mut ManifestPage {
        if !self.pages.iter().any(|page| page.level == level) {
            self.pages.push(ManifestPage {
                level,
                ..ManifestPage::default()
            });
        }
        self.pages.iter_mut().find(|page| page.level == level).unwrap()
    }

    fn add(&mut self, level: u8, at: TopicPartition, bounds: (i64, i64), object: (MergedObject, u64), of: &[Sketch]) {
        let (object, position) = object;
        let page = self.page(level);
        page.objects.push(object);
        page.slices.push(ManifestSlice {
            at,
            start: Offset(bounds.0),
            end: Offset(bounds.1),
            object: u32::try_from(page.objects.len() - 1).unwrap(),
            position,
            bytes: 100 * u64::try_from(of.len()).unwrap(),
            records: of.iter().map(|(records, ..)| u64::from(*records)).sum(),
            max_timestamp: Timestamp(of.iter().map(|(_, timestamp, _)| *timestamp).max().unwrap_or(-1)),
        });
        page.slices.sort_by_key(|slice| (slice.at, slice.start));
    }

    /// One object with one slice, whose batches begin at `base`.
    async fn slice(
        &mut self,
        level: u8,
        at: TopicPartition,
        bounds: (i64, i64),
        base: i64,
        of: &[Sketch],
    ) -> ObjectName {
        let mut builder = MergedBuilder::new();
        builder.slice(at, Offset(bounds.0), Offset(bounds.1));
        let mut next = Offset(base);
        for (records, timestamp, control) in of {
            let meta = meta(*records, *timestamp);
            let control = *control;
            builder
                .push(
                    PlacedBatch {
                        base: next,
                        control,
                        meta,
                    },
                    data(),
                )
                .unwrap();
            next = next.plus(*records);
        }
        let segment = builder.finish(&SegmentHeader::default()).unwrap();
        let name = self.name(ObjectKind::Merged);
        let object = MergedObject {
            name,
            length_bytes: segment.length_bytes,
            index_position: segment.index_position,
            content_hash: segment.content_hash,
        };
        self.objects.create(&name, segment.chunks).await.unwrap();
        self.add(level, at, bounds, (object, segment.positions[0]), of);
        name
    }

    /// Writes pages and root.
    async fn publish(&mut self) -> ManifestRef {
        let mut root = ManifestRoot {
            merged_through: LogIndex(9),
            pages: Vec::new(),
        };
        for page in self.pages.clone() {
            let (name, written) = (self.name(ObjectKind::Page), page.encode().unwrap());
            root.pages.push(page.reference(name, written.length_bytes).unwrap());
            self.objects.create(&name, written.chunks).await.unwrap();
        }
        root.pages.sort_by_key(|page| (page.level, page.first));
        let (name, written) = (self.name(ObjectKind::Manifest), root.encode().unwrap());
        self.objects.create(&name, written.chunks).await.unwrap();
        (name, written.length_bytes)
    }

    async fn reader(&mut self) -> MergedReader {
        let reader = MergedReader::new(self.objects.clone(), MergedSettings::default());
        reader.set_root(Some(self.publish().await));
        reader
    }
}

async fn bases(reader: &MergedReader, from: i64, end: i64, bytes_max: u64) -> Vec<i64> {
    let found = reader.locate(AT, Offset(from), Offset(end), bytes_max).await.unwrap();
    found.iter().map(|place| place.base.0).collect()
}

/// Offsets 10 to 20 on level 2, 20 to 26 on level 1, 30 to 33 on level 1.
async fn three_slices() -> (Bench, Vec<ObjectName>) {
    let mut bench = Bench::new();
    let names = vec![
        bench
            .slice(2, AT, (10, 20), 10, &[(4, 50, false), (1, 90, true), (5, 70, false)])
            .await,
        bench
            .slice(1, AT, (20, 26), 20, &[(3, 70, false), (3, 60, false)])
            .await,
        bench.slice(1, AT, (26, 33), 30, &[(3, 65, false)]).await,
    ];
    bench.slice(1, other(2), (0, 5), 0, &[(5, 999, false)]).await;
    bench.slice(1, other(4), (0, 5), 0, &[(5, 999, false)]).await;
    (bench, names)
}

#[tokio::test]
async fn batches_come_from_the_one_that_contains_the_offset_on() {
    let (mut bench, _) = three_slices().await;
    let reader = bench.reader().await;
    let all = i64::MAX;
    assert_eq!(bases(&reader, 12, all, 10_000).await, [10, 14, 15, 20, 23, 30]);
    assert_eq!(bases(&reader, 19, all, 200).await, [15, 20], "as many as fit");
    assert_eq!(bases(&reader, 19, all, 0).await, [15], "at least one");
    assert_eq!(
        bases(&reader, 19, 23, 10_000).await,
        [15, 20],
        "not what begins at the end"
    );
    assert_eq!(bases(&reader, 27, all, 10_000).await, [30], "over a gap");
    assert_eq!(bases(&reader, 0, all, 100).await, [10]);
    assert_eq!(bases(&reader, 33, all, 10_000).await, [0; 0]);
    let place = reader.locate(AT, Offset(14), Offset(15), 0).await.unwrap()[0];
    assert!(place.control && place.epoch.is_none());
    assert_eq!((place.position, place.end()), (SEGMENT_HEADER_BYTES + 100, Offset(15)));
}

#[tokio::test]
async fn timestamps_are_those_of_records_not_of_markers() {
    let (mut bench, _) = three_slices().await;
    let reader = bench.reader().await;
    let first = async |from: i64, timestamp: i64| {
        let found = reader
            .locate_timestamp(AT, Offset(from), Timestamp(timestamp))
            .await
            .unwrap();
        found.map(|place| place.base.0)
    };
    assert_eq!(first(0, 50).await, Some(10));
    assert_eq!(first(0, 51).await, Some(15));
    assert_eq!(first(20, 70).await, Some(20));
    assert_eq!(first(24, 61).await, Some(30));
    assert_eq!(first(0, 71).await, None, "the marker has 90");
    let largest = async |from: i64, below: i64| {
        let found = reader
            .locate_max_timestamp(AT, Offset(from), Offset(below))
            .await
            .unwrap();
        found.map(|place| (place.base.0, place.max_timestamp.0))
    };
    assert_eq!(largest(0, 100).await, Some((15, 70)), "the first of two");
    assert_eq!(largest(20, 100).await, Some((20, 70)));
    assert_eq!(largest(21, 100).await, Some((30, 65)), "its batch begins below");
    assert_eq!(largest(23, 100).await, Some((30, 65)));
    assert_eq!(largest(0, 15).await, Some((10, 50)));
    assert_eq!(largest(33, 100).await, None);
}

#[tokio::test]
async fn without_a_manifest_nothing_is_merged() {
    let reader = MergedReader::new(Bench::new().objects, MergedSettings::default());
    assert_eq!(reader.locate(AT, Offset(0), Offset(9), 9).await, Ok(Vec::new()));
    assert_eq!(reader.locate_timestamp(AT, Offset(0), Timestamp(0)).await, Ok(None));
}

#[tokio::test]
async fn an_object_that_is_gone_is_an_error_for_exactly_its_offsets() {
    let (mut bench, names) = three_slices().await;
    let reader = bench.reader().await;
    assert!(bench.store.lose(&bench.objects.key(&names[1])));
    assert_eq!(
        bases(&reader, 10, i64::MAX, 10_000).await,
        [10, 14, 15],
        "what comes before it"
    );
    assert_eq!(bases(&reader, 27, i64::MAX, 10_000).await, [30]);
    for from in [20, 25] {
        let found = reader.locate(AT, Offset(from), Offset(99), 9).await;
        assert!(
            matches!(found, Err(MergedError::Store(StoreError::NotFound(_)))),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_damaged_index_is_an_error() {
    let (mut bench, names) = three_slices().await;
    let reader = bench.reader().await;
    let key = bench.objects.key(&names[0]);
    assert!(bench.store.corrupt(&key, 8 * (SEGMENT_HEADER_BYTES + 300 + 5)));
    let found = reader.locate(AT, Offset(10), Offset(99), 9).await;
    assert!(matches!(found, Err(MergedError::Damaged { .. })), "{found:?}");
}

#[tokio::test]
async fn a_look_up_begins_again_when_its_manifest_was_replaced_and_deleted() {
    let (mut bench, _) = three_slices().await;
    let reader = bench.reader().await;
    let old = reader.root().unwrap();
    let new = bench.publish().await;
    // The old root is gone before the reader hears of the new one: nothing is found, and it says so.
    assert!(bench.store.lose(&bench.objects.key(&old.0)));
    assert!(reader.locate(AT, Offset(10), Offset(99), 9).await.is_err());
    // It hears of it while the look-up is under way.
    bench.store.set_faults(Faults {
        latency: crate::simulated::Latency {
            usual: std::time::Duration::from_millis(1)..std::time::Duration::from_millis(2),
            ..crate::simulated::Latency::NONE
        },
        ..Faults::NONE
    });
    let (found, ()) = futures::future::join(reader.locate(AT, Offset(10), Offset(99), 9), async {
        reader.set_root(Some(new));
    })
    .await;
    assert_eq!(found.unwrap()[0].base, Offset(10));
}

#[tokio::test]
async fn a_fresh_segment_in_a_manifest_is_served_with_the_epoch_of_its_incarnation() {
    let mut bench = Bench::new();
    let name = SegmentName {
        incarnation: IncarnationNumber(4),
        session: SessionId(2),
        number: SegmentNumber(1),
        attempt: 0,
    };
    let mut builder = SegmentBuilder::new();
    for (at, records) in [(other(2), 9), (AT, 2), (AT, 3), (AT, 4)] {
        builder.push(at, meta(records, 5), data()).unwrap();
    }
    let header = SegmentHeader {
        incarnation_id: IncarnationId(1),
        ..SegmentHeader::default()
    };
    let segment = builder.finish(&header, &OrderList::default());
    let object = MergedObject {
        name: ObjectName::Segment(name),
        length_bytes: segment.length_bytes,
        index_position: SEGMENT_HEADER_BYTES + 400,
        content_hash: segment.content_hash,
    };
    bench.objects.create(&object.name, segment.chunks).await.unwrap();
    // Of its three batches the first is dead.
    bench.add(
        0,
        AT,
        (50, 57),
        (object, SEGMENT_HEADER_BYTES + 200),
        &[(3, 5, false), (4, 5, false)],
    );
    let reader = bench.reader().await;
    let found = reader.locate(AT, Offset(0), Offset(99), 1_000).await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|place| (place.base.0, place.records, place.position - SEGMENT_HEADER_BYTES))
        .collect();
    assert_eq!(seen, [(50, 3, 200), (53, 4, 300)]);
    assert!(found.iter().all(|place| place.epoch == Some(IncarnationNumber(4))));
}

fn assert_send<T: Send>(_: T) {}

#[tokio::test]
async fn look_ups_can_be_spawned() {
    let reader = MergedReader::new(Bench::new().objects, MergedSettings::default());
    assert_send(reader.locate(AT, Offset(0), Offset(1), 1));
    assert_send(reader.locate_timestamp(AT, Offset(0), Timestamp(1)));
    assert_send(reader.locate_max_timestamp(AT, Offset(0), Offset(1)));
}
