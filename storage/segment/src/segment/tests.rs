//! Segments as a whole: what is written is read back, what is damaged is noticed.

use bytes::Bytes;
use proptest::prelude::*;

use super::build::COPY_BELOW_BYTES;
use super::{
    BatchData, MergedBuilder, OrderList, Ordered, SEGMENT_HEADER_BYTES, Segment, SegmentBuilder, SegmentHeader,
    SegmentIndex, SegmentSpan, SegmentTail, check_segment,
};
use crate::checksum::{check_batch, crc32c};
use crate::id::{
    CommitNumber, IncarnationId, IncarnationNumber, LogIndex, Offset, PartitionIndex, SegmentNumber, SessionId,
    Timestamp, TopicId, TopicPartition,
};
use crate::index::BatchMeta;
use crate::merged::PlacedBatch;
use crate::wire::FormatError;

fn header() -> SegmentHeader {
    SegmentHeader {
        incarnation: IncarnationNumber(2),
        incarnation_id: IncarnationId(0x1234_5678),
        session: SessionId(31),
        number: SegmentNumber(400),
    }
}

fn order() -> OrderList {
    let commit = |session, commit, index, first, count| Ordered {
        session: SessionId(session),
        commit: CommitNumber(commit),
        index: LogIndex(index),
        segments: SegmentSpan {
            first: SegmentNumber(first),
            count,
        },
    };
    OrderList {
        commits: vec![
            commit(31, 399, 7_000, 500, 1),
            commit(30, 12, 7_001, 0, 0),
            commit(31, 400, 7_004, 501, 2),
        ],
    }
}

fn at(topic: u128, partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    }
}

/// A record batch with a right CRC whose other bytes are `fill`.
fn batch(bytes: usize, fill: u8) -> (BatchMeta, Bytes) {
    let mut data = vec![fill; bytes];
    data[8..12].copy_from_slice(&u32::try_from(bytes - 12).unwrap().to_be_bytes());
    data[16] = 2;
    let crc = crc32c(&data[21..]);
    data[17..21].copy_from_slice(&crc.to_be_bytes());
    let bytes = u32::try_from(bytes).unwrap();
    (
        BatchMeta {
            records: 3,
            bytes,
            max_timestamp: Timestamp(5),
            crc,
            producer: None,
        },
        data.into(),
    )
}

fn built(batches: &[(TopicPartition, usize)]) -> (Segment, Vec<Bytes>) {
    let mut builder = SegmentBuilder::new();
    let mut all = Vec::new();
    for (nth, (at, bytes)) in batches.iter().enumerate() {
        let (meta, data) = batch(*bytes, u8::try_from(nth % 251).unwrap());
        builder.push(*at, meta, data.clone()).unwrap();
        all.push(data);
    }
    (builder.finish(&header(), &order()), all)
}

proptest! {
    #[test]
    fn a_segment_reads_back_and_every_batch_lies_where_it_says(
        batches in prop::collection::vec((0..3_u128, 0..3_u32, prop_oneof![4 => 61..300_usize, 1 => 16_000..17_000_usize]), 0..30)
    ) {
        let batches: Vec<_> = batches.into_iter().map(|(topic, partition, bytes)| (at(topic, partition), bytes)).collect();
        let (segment, pushed) = built(&batches);
        let object = segment.chunks.concat();
        prop_assert_eq!(object.len() as u64, segment.length_bytes);
        let (read, tail) = check_segment(&object).unwrap();
        prop_assert_eq!(read, header());
        prop_assert_eq!(&tail.order, &order());
        prop_assert_eq!(tail.footer.content_hash, segment.content_hash);
        prop_assert_eq!(&tail.index, &SegmentIndex::Fresh(segment.index.clone()));
        for (nth, place) in segment.places.iter().enumerate() {
            let run = &segment.index.runs[place.run];
            prop_assert_eq!(run.at(), batches[nth].0);
            let from = usize::try_from(place.position).unwrap();
            prop_assert_eq!(&object[from..from + pushed[nth].len()], &pushed[nth]);
            prop_assert_eq!(run.batches[place.batch].bytes as usize, pushed[nth].len());
        }
        // Arrival order within a partition.
        for (one, next) in (0..batches.len()).flat_map(|one| (one + 1..batches.len()).map(move |next| (one, next))) {
            if batches[one].0 == batches[next].0 {
                prop_assert!(segment.places[one].position < segment.places[next].position);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_segment(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check_segment(&bytes).is_err());
        prop_assert!(SegmentTail::decode(&bytes, bytes.len() as u64).is_err());
    }

    #[test]
    fn an_order_list_reads_back(
        commits in prop::collection::vec((1..=u64::MAX / 64, any::<u64>(), any::<u64>(), 0..3_u32), 0..20)
    ) {
        let mut index = 0;
        let commits = commits.into_iter().map(|(step, session, commit, count)| {
            index += step;
            let first = SegmentNumber(if count == 0 { 0 } else { commit / 2 });
            let segments = SegmentSpan { first, count };
            Ordered { session: SessionId(session), commit: CommitNumber(commit), index: LogIndex(index), segments }
        });
        let list = OrderList { commits: commits.collect() };
        let mut out = crate::wire::Encoder::new();
        list.encode(&mut out);
        let bytes = out.finish();
        prop_assert_eq!(OrderList::decode(&mut crate::wire::Decoder::new(&bytes)), Ok(list));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let (segment, _) = built(&[(at(2, 0), 80), (at(1, 1), 61), (at(2, 0), 70)]);
    let object = segment.chunks.concat();
    let (_, tail) = check_segment(&object).unwrap();
    // Base offset and leader epoch of a batch are patched when served.
    let starts: Vec<_> = tail.index.batches().iter().map(|(position, _)| *position).collect();
    let patched = |at: usize| {
        starts
            .iter()
            .any(|&start| (start..start + 8).contains(&(at as u64)) || (start + 12..start + 16).contains(&(at as u64)))
    };
    for position in (0..object.len()).filter(|&at| !patched(at)) {
        for bit in 0..8 {
            let mut damaged = object.clone();
            damaged[position] ^= 1 << bit;
            assert!(check_segment(&damaged).is_err(), "bit {bit} of byte {position}");
        }
    }
    for cut in 0..object.len() {
        assert!(check_segment(&object[..cut]).is_err(), "cut to {cut}");
    }
}

#[test]
fn a_tail_that_is_too_short_says_how_much_is_needed() {
    let (segment, _) = built(&[(at(1, 0), 100)]);
    let object = segment.chunks.concat();
    let last = |bytes: usize| &object[object.len() - bytes..];
    let needed = match SegmentTail::decode(last(70), segment.length_bytes) {
        Err(FormatError::Truncated { needed, left: 70 }) => usize::try_from(needed).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(object.len() - needed, 64 + 100, "all but header and batches");
    let tail = SegmentTail::decode(last(needed), segment.length_bytes).unwrap();
    assert_eq!(tail.index, SegmentIndex::Fresh(segment.index));
    assert!(
        SegmentTail::decode(last(needed), segment.length_bytes + 1).is_err(),
        "object of another length"
    );
}

#[test]
fn large_batches_are_not_copied_and_small_ones_share_a_chunk() {
    let mut batches = vec![(at(1, 0), COPY_BELOW_BYTES)];
    batches.extend((0..5_000).map(|partition| (at(2, partition), 100)));
    batches.push((at(3, 0), COPY_BELOW_BYTES * 4));
    let (segment, pushed) = built(&batches);
    // header, large, five thousand small ones, large, tail
    assert_eq!(segment.chunks.len(), 5);
    assert_eq!(segment.chunks[1].as_ptr(), pushed[0].as_ptr());
    assert_eq!(segment.chunks[3].as_ptr(), pushed[5_001].as_ptr());
    assert_eq!(segment.chunks[2].len(), 500_000);
}

#[test]
fn a_full_segment_has_few_enough_chunks_for_two_vectored_writes() {
    // The worst case: every large batch has a small one beside it.
    let large = (8 << 20) / (COPY_BELOW_BYTES + 61);
    let batches: Vec<_> = (0..2 * large)
        .map(|nth| {
            (
                at(1, u32::try_from(nth).unwrap()),
                if nth % 2 == 0 { COPY_BELOW_BYTES } else { 61 },
            )
        })
        .collect();
    let (segment, _) = built(&batches);
    assert!(segment.chunks.len() <= 2048, "{}", segment.chunks.len());
}

#[test]
fn the_frame_of_version_1_does_not_change() {
    let (segment, _) = built(&[(at(1, 0), 61)]);
    let object = segment.chunks.concat();
    let mut head =
        b"ESKERSEG\x01\0\0\0\x02\0\0\0\x78\x56\x34\x12\0\0\0\0\0\0\0\0\0\0\0\0\x1f\0\0\0\0\0\0\0\x90\x01\0\0\0\0\0\0"
            .to_vec();
    head.extend([0; 12]);
    head.extend(crc32c(&head).to_le_bytes());
    assert_eq!(&object[..64], head);
    let index_position = 64 + 61;
    let index = &object[index_position..index_position + 27];
    let order = [
        3, 0xd8, 0x36, 62, 0x9e, 6, 1, 0xf4, 3, 1, 1, 0x85, 6, 0, 3, 2, 0x88, 6, 2, 0xf5, 3,
    ];
    assert_eq!(&object[index_position + 27..index_position + 27 + order.len()], order);
    let mut footer = vec![
        0x7d, 0, 0, 0, 0, 0, 0, 0, 27, 0, 0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    ];
    footer.extend(crate::checksum::content_hash(index).to_le_bytes());
    footer.extend([1, 0, 0, 0]);
    footer.extend(crc32c(&[index, &order, &footer].concat()).to_le_bytes());
    footer.extend(b"ESKEREND");
    assert_eq!(&object[index_position + 27 + order.len()..], footer);
}

#[test]
fn a_merged_segment_reads_back_with_its_offsets() {
    let mut builder = MergedBuilder::new();
    let placed = |base, control, bytes| {
        let (meta, data) = batch(bytes, 9);
        (
            PlacedBatch {
                base: Offset(base),
                control,
                meta,
            },
            data,
        )
    };
    builder.slice(at(1, 0), Offset(0), Offset(100));
    for (batch, data) in [placed(0, false, 70), placed(50, true, 80)] {
        builder.push(batch, data).unwrap();
    }
    builder.slice(at(1, 0), Offset(500), Offset(600)); // compacted away, but spoken for
    builder.slice(at(1, 4), Offset(7), Offset(10));
    let (last, data) = placed(7, false, COPY_BELOW_BYTES);
    builder.push(last, data).unwrap();
    let segment = builder.finish(&header()).unwrap();
    let object = segment.chunks.concat();
    assert_eq!(object.len() as u64, segment.length_bytes);
    let (_, tail) = check_segment(&object).unwrap();
    assert_eq!(tail.index, SegmentIndex::Merged(segment.index));
    assert_eq!(segment.positions, [SEGMENT_HEADER_BYTES, 64 + 150, 64 + 150]);
    assert_eq!(segment.index_position, tail.footer.index_position);
}

#[test]
fn a_batch_gets_its_place_without_a_copy_and_nothing_else_of_it_changes() {
    let lengths = [
        61,
        COPY_BELOW_BYTES,
        COPY_BELOW_BYTES + 15,
        COPY_BELOW_BYTES + 16,
        90,
        20_000,
        70_000,
    ];
    let mut builder = MergedBuilder::new();
    builder.slice(at(1, 0), Offset(40), Offset(100));
    let (mut expected, mut large) = (Vec::new(), Vec::new());
    for (base, bytes) in (40..).step_by(3).zip(lengths) {
        let (meta, stored) = batch(bytes, 0xab);
        let placed = PlacedBatch {
            base: Offset(base),
            control: false,
            meta,
        };
        builder
            .push(placed, BatchData::placed(&stored, placed.base, IncarnationNumber(7)))
            .unwrap();
        let mut patched = stored.to_vec();
        patched[..8].copy_from_slice(&base.to_be_bytes());
        patched[12..16].copy_from_slice(&[0, 0, 0, 7]);
        expected.extend(patched);
        large.extend((bytes - 16 >= COPY_BELOW_BYTES).then_some(stored));
    }
    let segment = builder.finish(&header()).unwrap();
    let object = segment.chunks.concat();
    assert_eq!(object.len() as u64, segment.length_bytes);
    assert_eq!(object[64..64 + expected.len()], expected);
    check_segment(&object).unwrap();
    for stored in large {
        let rest = stored.as_ptr().wrapping_add(16);
        assert!(segment.chunks.iter().any(|chunk| chunk.as_ptr() == rest));
    }
    assert_eq!(
        segment.chunks.len(),
        3 + 3 + 1,
        "what is small is gathered between the large ones"
    );
}

#[test]
fn a_merged_segment_out_of_order_is_refused() {
    let mut builder = MergedBuilder::new();
    let (meta, data) = batch(61, 0);
    let outside = builder.push(
        PlacedBatch {
            base: Offset(0),
            control: false,
            meta,
        },
        data.clone(),
    );
    assert_eq!(
        outside,
        Err(FormatError::Invalid {
            what: "batch outside slices"
        })
    );
    builder.slice(at(1, 0), Offset(0), Offset(2));
    builder
        .push(
            PlacedBatch {
                base: Offset(0),
                control: false,
                meta,
            },
            data,
        )
        .unwrap();
    let beyond = builder.finish(&header()).map(|_| ());
    assert_eq!(
        beyond,
        Err(FormatError::Invalid {
            what: "offset of batch"
        }),
        "three records in a range of two"
    );
}

#[test]
fn a_batch_is_pushed_only_with_its_own_length() {
    let (meta, data) = batch(100, 0);
    let refused = SegmentBuilder::new().push(at(1, 0), meta, data.slice(1..));
    assert_eq!(
        refused,
        Err(FormatError::Invalid {
            what: "length of batch"
        })
    );
}

#[test]
fn a_batch_that_is_not_the_one_in_the_index_is_noticed() {
    let (meta, data) = batch(100, 1);
    assert_eq!(check_batch(&data, &meta), Ok(()));
    let (other, _) = batch(100, 2);
    assert!(matches!(check_batch(&data, &other), Err(FormatError::Checksum { .. })));
    let mut patched = data.to_vec();
    patched[..8].fill(0xff);
    patched[12..16].fill(0xff);
    assert_eq!(
        check_batch(&patched, &meta),
        Ok(()),
        "base offset and leader epoch may be patched"
    );
    patched[16] = 1;
    assert!(check_batch(&patched, &meta).is_err());
    // Found by simulation: a merge took over a batch whose length field was damaged when it was read.
    let mut longer = data.to_vec();
    longer[8] = 4;
    assert!(check_batch(&longer, &meta).is_err());
}
