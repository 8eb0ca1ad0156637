//! The primitives: what is written is what is read, and nothing else is accepted.

use proptest::prelude::*;

use super::{Decoder, Encoder, FormatError, unzigzag, varint_len, zigzag};

proptest! {
    #[test]
    fn every_field_reads_back(
        a in any::<u64>(), b in any::<i64>(), c in any::<u128>(), d in any::<u16>(), e in any::<u32>(),
        text in ".{0,20}", flag in any::<bool>(),
    ) {
        let mut out = Encoder::new();
        out.varint(a);
        out.zigzag(b);
        out.u128(c);
        out.u16(d);
        out.u32(e);
        out.str(&text);
        out.bool(flag);
        out.u64(a);
        let bytes = out.finish();
        let mut input = Decoder::new(&bytes);
        prop_assert_eq!(input.varint(), Ok(a));
        prop_assert_eq!(input.zigzag(), Ok(b));
        prop_assert_eq!(input.u128(), Ok(c));
        prop_assert_eq!(input.u16(), Ok(d));
        prop_assert_eq!(input.u32(), Ok(e));
        prop_assert_eq!(input.str("text", 80), Ok(text.as_str()));
        prop_assert_eq!(input.bool(), Ok(flag));
        prop_assert_eq!(input.u64(), Ok(a));
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn zigzag_is_its_own_inverse(value in any::<i64>()) {
        prop_assert_eq!(unzigzag(zigzag(value)), value);
    }

    #[test]
    fn length_of_a_varint_is_known_before_it_is_written(value in any::<u64>(), shift in 0_u32..64) {
        let mut out = Encoder::new();
        out.varint(value >> shift);
        prop_assert_eq!(out.len(), varint_len(value >> shift));
    }

    #[test]
    fn a_varint_that_decodes_is_the_only_encoding_of_its_value(input in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut decoder = Decoder::new(&input);
        if let Ok(value) = decoder.varint() {
            let mut out = Encoder::new();
            out.varint(value);
            prop_assert_eq!(out.as_slice(), &input[..input.len() - decoder.left()]);
        }
    }
}

#[test]
fn small_magnitudes_stay_small() {
    assert_eq!([0, -1, 1, -2, i64::MIN].map(zigzag), [0, 1, 2, 3, u64::MAX]);
}

#[test]
fn a_count_that_cannot_be_there_is_refused_before_anything_is_allocated() {
    let mut out = Encoder::new();
    out.varint(1 << 40);
    let bytes = out.finish();
    let found = 1 << 40;
    assert_eq!(
        Decoder::new(&bytes).count("items", 10, 1),
        Err(FormatError::OverLimit {
            what: "items",
            found,
            max: 10
        })
    );
    let refused = Decoder::new(&bytes).count("items", usize::MAX, 8);
    assert_eq!(
        refused,
        Err(FormatError::Truncated {
            needed: 8 << 40,
            left: 0
        })
    );
}

#[test]
fn overlong_and_overflowing_varints_are_refused() {
    assert_eq!(Decoder::new(&[0x80, 0x00]).varint(), Err(FormatError::Varint));
    assert_eq!(Decoder::new(&[0xff; 10]).varint(), Err(FormatError::Varint));
    let mut largest = [0xff; 10];
    largest[9] = 1;
    assert_eq!(Decoder::new(&largest).varint(), Ok(u64::MAX));
    largest[9] = 2;
    assert_eq!(Decoder::new(&largest).varint(), Err(FormatError::Varint));
}

#[test]
fn bytes_left_over_are_an_error() {
    let mut input = Decoder::new(&[1, 2]);
    assert_eq!(input.u8(), Ok(1));
    assert_eq!(input.finish(), Err(FormatError::Trailing { left: 1 }));
    assert_eq!(input.rest(), &[2]);
    assert_eq!(input.u16(), Err(FormatError::Truncated { needed: 2, left: 0 }));
}
