//! Bytes: what is written is read back, and nothing that is read does harm.

use esker_model::entry::{Offsets, RecordBuilder};
use esker_model::{CommitRecord, Entry, EntryVerdict, Fold};
use esker_segment::container::{Container, ContainerBuilder, ContainerKind};
use proptest::prelude::*;

use crate::cuts::position;
use crate::logs::log;

const SECTIONS: [&str; 5] = ["head", "topics", "producers", "windows", "groups"];

/// A state object with a changed section: the container's checksums are right again.
fn rebuilt(object: &bytes::Bytes, change: impl Fn(&'static str, Vec<u8>) -> Vec<u8>) -> bytes::Bytes {
    let container = Container::decode(ContainerKind::State, 1, object).unwrap();
    let mut out = ContainerBuilder::new(ContainerKind::State, 1);
    for name in SECTIONS {
        out.section(name, change(name, container.section(name).unwrap().to_vec()));
    }
    out.finish().concat()
}

fn folded(log: &[CommitRecord]) -> Fold {
    let mut fold = Fold::new();
    for (at, record) in log.iter().enumerate() {
        fold.apply(position(at), record);
    }
    fold
}

/// An entry that no record can hold.
fn too_long() -> Entry {
    Entry::Offsets(Offsets {
        group: "g".repeat(1 << 16).into(),
        shard: 0,
        txn: None,
        changes: Vec::new(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn records_are_read_as_they_were_written(log in log(3)) {
        for record in log {
            let bytes = record.encode().unwrap();
            let mut one_by_one = RecordBuilder::default();
            for entry in &record.entries {
                one_by_one.push(std::slice::from_ref(entry)).unwrap();
                // What is refused leaves nothing behind.
                let too_many = vec![entry.clone(); 32];
                prop_assert!(one_by_one.push(&too_many).is_err());
                prop_assert!(one_by_one.push(&[entry.clone(), too_long()]).is_err());
            }
            prop_assert_eq!(&one_by_one.finish(), &bytes);
            prop_assert_eq!(CommitRecord::decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn any_bytes_have_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut fold = Fold::new();
        if let Ok(applied) = fold.apply_bytes(position(0), &bytes) {
            prop_assert!(!applied.verdicts.is_empty());
        }
    }

    #[test]
    fn damaged_records_are_read_or_rejected(
        log in log(4), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut fold = Fold::new();
        let mut index = 0;
        for record in log {
            let mut bytes = record.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut.index(3));
            if let Ok(record) = CommitRecord::decode(&bytes) {
                let again = record.encode().unwrap();
                prop_assert_eq!(CommitRecord::decode(&again), Ok(record));
            }
            match fold.apply_bytes(position(index), &bytes) {
                Ok(applied) => {
                    index += 1;
                    let rejected = applied.verdicts == [EntryVerdict::Rejected];
                    prop_assert!(rejected || CommitRecord::decode(&bytes).is_ok());
                }
                Err(unsupported) => prop_assert!(unsupported.needed > esker_model::fold::SUPPORTED_LEVEL),
            }
        }
    }

    #[test]
    fn a_damaged_section_is_refused_or_gives_a_state_that_holds(
        log in log(25), more in log(10), section in 0..SECTIONS.len(),
        at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let object = folded(&log).encode_state().concat();
        let changed = rebuilt(&object, |name, mut content| {
            if name == SECTIONS[section] && !content.is_empty() {
                let at = at.index(content.len());
                content[at] = to;
            }
            content
        });
        let Ok(mut fold) = Fold::decode_state(&changed) else { return Ok(()) };
        prop_assert_eq!(fold.encode_state().concat(), changed);
        prop_assume!(fold.index().0 < u64::from(u32::MAX));
        for record in more {
            let index = usize::try_from(fold.index().0).unwrap();
            fold.apply(position(index), &record);
        }
        let again = Fold::decode_state(&fold.encode_state().concat());
        prop_assert!(again.is_ok(), "{:?}", again.err());
    }

    #[test]
    fn any_section_is_refused_or_read(
        section in 0..SECTIONS.len(), garbage in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let object = folded(&[]).encode_state().concat();
        let changed = rebuilt(&object, |name, content| if name == SECTIONS[section] { garbage.clone() } else { content });
        if let Ok(fold) = Fold::decode_state(&changed) {
            prop_assert_eq!(fold.encode_state().concat(), changed);
        }
    }
}
