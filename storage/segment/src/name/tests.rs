//! Keys: one for each name, and back.

use proptest::prelude::*;

use super::{ClusterId, ObjectKind, ObjectName, SegmentName};
use crate::id::{IncarnationNumber, SegmentNumber, SessionId};
use crate::wire::{Decoder, Encoder};

fn cluster() -> ClusterId {
    "orders.eu-1".parse().unwrap()
}

fn any_name() -> impl Strategy<Value = ObjectName> {
    (0..7_usize, any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
        |(kind, incarnation, session, number, attempt)| {
            let name = SegmentName {
                incarnation: IncarnationNumber(incarnation),
                session: SessionId(session),
                number: SegmentNumber(number),
                attempt,
            };
            match kind.checked_sub(1) {
                None => ObjectName::Segment(name),
                Some(kind) => ObjectName::Other {
                    kind: ObjectKind::ALL[kind],
                    name,
                },
            }
        },
    )
}

proptest! {
    #[test]
    fn a_key_is_read_back_as_the_name_it_came_from(name in any_name()) {
        let key = name.key(&cluster());
        prop_assert_eq!(ObjectName::parse(&cluster(), &key), Some(name));
        prop_assert!(key.starts_with(&cluster().prefix()));
        let longer = format!("{key}/x");
        prop_assert_eq!(ObjectName::parse(&cluster(), &longer), None);
        prop_assert_eq!(ObjectName::parse(&"other".parse().unwrap(), &key), None);
    }

    #[test]
    fn a_name_is_decoded_as_it_was_encoded(name in any_name()) {
        let mut out = Encoder::new();
        name.encode(&mut out);
        let bytes = out.finish();
        let mut input = Decoder::new(&bytes);
        prop_assert_eq!(ObjectName::decode(&mut input), Ok(name));
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn any_text_is_a_key_or_not_but_never_a_panic(text in "orders.eu-1/[0-9]{1,3}/[0-9a-z]{1,5}/[0-9+-]{0,12}") {
        if let Some(name) = ObjectName::parse(&cluster(), &text) {
            prop_assert_eq!(name.key(&cluster()), text);
        }
    }
}

#[test]
fn keys_look_like_this() {
    let name = SegmentName {
        incarnation: IncarnationNumber(2),
        session: SessionId(31),
        number: SegmentNumber(400),
        attempt: 1,
    };
    assert_eq!(name.key(&cluster()), "orders.eu-1/2/34/31-400-1");
    let state = ObjectName::Other {
        kind: ObjectKind::State,
        name,
    };
    assert_eq!(state.key(&cluster()), "orders.eu-1/2/state/31-400-1");
    assert_eq!(
        cluster().incarnation_key(IncarnationNumber(2)),
        "orders.eu-1/2/incarnation"
    );
}

#[test]
fn a_wrong_hash_or_a_leading_zero_is_no_key() {
    assert_eq!(ObjectName::parse(&cluster(), "orders.eu-1/2/00/31-400-1"), None);
    assert_eq!(ObjectName::parse(&cluster(), "orders.eu-1/2/state/031-400-1"), None);
    assert_eq!(ObjectName::parse(&cluster(), "orders.eu-1/2/incarnation"), None);
}

#[test]
fn a_cluster_id_cannot_leave_its_directory() {
    for refused in ["", "..", ".hidden", "a/b", "a b", "ü", &"x".repeat(65)] {
        assert!(refused.parse::<ClusterId>().is_err(), "{refused:?}");
    }
    assert_eq!("a-B_3.c".parse::<ClusterId>().unwrap().prefix(), "a-B_3.c/");
}
