//! Merged indexes: round trips and what is refused.

use proptest::prelude::*;

use super::{MergedIndex, PlacedBatch, Slice};
use crate::id::{Offset, PartitionIndex, TopicId, TopicPartition};
use crate::index::tests::any_batch;
use crate::wire::{Decoder, Encoder, FormatError};

/// Slices with gaps between and within them, some of them empty, several a partition.
fn any_merged() -> impl Strategy<Value = MergedIndex> {
    let batches = prop::collection::vec((0..5_i64, any::<bool>(), any_batch()), 0..4);
    let slices = prop::collection::vec((0..5_i64, 1..5_i64, batches), 1..4);
    prop::collection::btree_map((0..3_u128, 0..3_u32), slices, 0..5).prop_map(|partitions| {
        let mut index = MergedIndex::default();
        for ((topic, partition), slices) in partitions {
            let at = TopicPartition {
                topic: TopicId(topic),
                partition: PartitionIndex(partition),
            };
            let mut next = 0;
            for (gap, rest, batches) in slices {
                let start = Offset(next + gap);
                let mut end = start;
                let mut placed = Vec::new();
                for (gap, control, meta) in batches {
                    let batch = PlacedBatch {
                        base: Offset(end.0 + gap),
                        control,
                        meta,
                    };
                    end = batch.end();
                    placed.push(batch);
                }
                next = end.0 + rest;
                index.slices.push(Slice {
                    at,
                    start,
                    end: Offset(next),
                    batches: placed,
                });
            }
        }
        index
    })
}

proptest! {
    #[test]
    fn a_merged_index_reads_back(index in any_merged()) {
        prop_assert_eq!(index.check(), Ok(()));
        let mut out = Encoder::new();
        index.encode(&mut out);
        let bytes = out.finish();
        let mut input = Decoder::new(&bytes);
        prop_assert_eq!(MergedIndex::decode(&mut input), Ok(index));
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn a_damaged_one_decodes_to_a_valid_one_or_to_an_error(
        index in any_merged(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut out = Encoder::new();
        index.encode(&mut out);
        let mut bytes = out.finish();
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(index) = MergedIndex::decode(&mut Decoder::new(&bytes)) {
            prop_assert_eq!(index.check(), Ok(()));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(index) = MergedIndex::decode(&mut Decoder::new(&bytes)) {
            prop_assert_eq!(index.check(), Ok(()));
        }
    }
}

fn slice(partition: u32, start: i64, end: i64) -> Slice {
    let at = TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(partition),
    };
    Slice {
        at,
        start: Offset(start),
        end: Offset(end),
        batches: Vec::new(),
    }
}

#[test]
fn overlapping_unsorted_or_empty_ranges_are_refused() {
    let order = Err(FormatError::Invalid {
        what: "order of slices",
    });
    let range = Err(FormatError::Invalid {
        what: "offset range of slice",
    });
    let check = |slices| MergedIndex { slices }.check();
    assert_eq!(check(vec![slice(0, 0, 10), slice(0, 10, 12), slice(1, 5, 6)]), Ok(()));
    assert_eq!(check(vec![slice(0, 0, 10), slice(0, 9, 12)]), order);
    assert_eq!(check(vec![slice(1, 0, 10), slice(0, 0, 10)]), order);
    assert_eq!(check(vec![slice(0, 10, 10)]), range);
    assert_eq!(check(vec![slice(0, -1, 10)]), range);
}
