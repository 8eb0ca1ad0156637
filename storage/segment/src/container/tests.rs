//! Containers: what goes in comes out, and no flipped bit goes unnoticed.

use bytes::Bytes;

use super::{Container, ContainerBuilder, ContainerKind};
use crate::wire::FormatError;

fn sample() -> Bytes {
    let mut builder = ContainerBuilder::new(ContainerKind::State, 2);
    builder.section("topics", Bytes::from_static(b"orders"));
    builder.section("empty", Bytes::new());
    let written = builder.finish();
    let object = written.concat();
    assert_eq!(u64::try_from(object.len()), Ok(written.length_bytes));
    object
}

#[test]
fn sections_read_back_without_a_copy() {
    let object = sample();
    let read = Container::decode(ContainerKind::State, 2, &object).unwrap();
    assert_eq!(read.version, 2);
    assert_eq!(read.names().collect::<Vec<_>>(), ["topics", "empty"]);
    let topics = read.section("topics").unwrap();
    assert_eq!(topics, "orders");
    assert!(object.as_ptr_range().contains(&topics.as_ptr()));
    assert_eq!(read.section("empty").unwrap(), "");
    assert_eq!(read.section("other"), Err(FormatError::Invalid { what: "other" }));
}

#[test]
fn the_bytes_of_the_container_do_not_change() {
    let mut builder = ContainerBuilder::new(ContainerKind::Page, 1);
    builder.section("a", Bytes::from_static(b"123456789"));
    let mut golden = b"ESKEROBJ\x04\0\x01\0\x01a\x09\0\0\0\0\0\0\0".to_vec();
    golden.extend(0xe306_9283_u32.to_le_bytes()); // CRC-32C of the check string "123456789"
    golden.extend(b"123456789\x01\0\0\0");
    golden.extend(crate::checksum::content_hash(&golden).to_le_bytes());
    golden.extend(b"ESKEREND");
    assert_eq!(builder.finish().concat(), golden);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let object = sample();
    for at in 0..object.len() {
        for bit in 0..8 {
            let mut damaged = object.to_vec();
            damaged[at] ^= 1 << bit;
            let read = Container::decode(ContainerKind::State, 2, &damaged.into());
            assert!(read.is_err(), "bit {bit} of byte {at}");
        }
        let cut = Container::decode(ContainerKind::State, 2, &object.slice(..at));
        assert!(cut.is_err(), "cut to {at}");
    }
}

#[test]
fn a_damaged_section_is_named_by_its_checksum() {
    let object = sample();
    let mut damaged = object.to_vec();
    let at = object.windows(6).position(|window| window == b"orders").unwrap();
    damaged[at] = b'O';
    let read = Container::decode(ContainerKind::State, 2, &damaged.into());
    assert!(
        matches!(read, Err(FormatError::Checksum { what: "section", .. })),
        "{read:?}"
    );
}

#[test]
fn other_kinds_and_newer_versions_are_refused() {
    let object = sample();
    let other = Container::decode(ContainerKind::Index, 2, &object);
    assert_eq!(other, Err(FormatError::Magic { what: "index object" }));
    let newer = Container::decode(ContainerKind::State, 1, &object);
    assert_eq!(
        newer,
        Err(FormatError::Version {
            what: "state object",
            found: 2,
            known: 1
        })
    );
}
