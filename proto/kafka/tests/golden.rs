//! Bytes that Apache Kafka 4.3 wrote: we read them and write the same. `judge/run --golden` makes the files.

mod schema;

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_kafka::{ApiKey, ErrorCode};
use schema::from_hex;
use schema::listing::{abridged, listing};

const MESSAGES: &str = include_str!("golden/messages.txt");
const TABLES: &str = include_str!("golden/tables.txt");
const BATCHES: &str = include_str!("golden/batches.txt");

#[test]
fn kafkas_messages_of_every_version_are_read_and_written_alike() {
    let entries = schema::messages::all();
    let mut seen = BTreeSet::new();
    for line in MESSAGES.lines() {
        let f: Vec<&str> = line.split(' ').collect();
        let [name, version, hex] = f[..] else { panic!("{line}") };
        let version: i16 = version.parse().unwrap();
        let entry = entries.iter().find(|entry| entry.name == name).unwrap();
        let bytes = from_hex(hex);
        let again = (entry.recode)(Bytes::from(bytes.clone()), version, version);
        assert_eq!(again.as_deref(), Ok(&bytes[..]), "{name} {version}");
        seen.insert((name, version));
    }
    for entry in &entries {
        for version in entry.versions() {
            assert!(
                seen.contains(&(entry.name, version)),
                "no golden bytes for {} {version}",
                entry.name
            );
        }
    }
}

#[test]
fn kafkas_batches_of_every_codec_are_read() {
    let mut codecs = BTreeSet::new();
    for line in BATCHES.lines() {
        let f: Vec<&str> = line.split(' ').collect();
        let [name, hex, theirs] = f[..] else { panic!("{line}") };
        let ours = listing(Bytes::from(from_hex(hex))).map(|listing| abridged(&listing));
        assert_eq!(ours.as_deref(), Ok(theirs), "{name}");
        codecs.insert(name.split('-').next().unwrap());
    }
    assert_eq!(
        codecs,
        BTreeSet::from(["gzip", "lz4", "marker", "none", "snappy", "zstd"])
    );
}

#[test]
fn api_keys_and_error_codes_are_kafkas() {
    for row in TABLES.lines() {
        assert_eq!(schema::tables::check_row(row), Ok(()), "{row}");
    }
    let count = |kind: &str| TABLES.lines().filter(|row| row.starts_with(kind)).count();
    assert_eq!((count("a "), count("e ")), (ApiKey::ALL.len(), ErrorCode::ALL.len()));
}

#[test]
fn our_transaction_markers_are_kafkas_byte_for_byte() {
    use esker_kafka::records::{EndTxn, TransactionMarker};
    for (name, end) in [("marker-abort", EndTxn::Abort), ("marker-commit", EndTxn::Commit)] {
        let line = BATCHES.lines().find(|line| line.starts_with(name)).unwrap();
        let marker = TransactionMarker {
            offset: 77,
            leader_epoch: 5,
            timestamp: 1_700_000_000_123,
            producer_id: 9000,
            producer_epoch: 3,
            coordinator_epoch: 11,
            end,
        };
        assert_eq!(
            schema::to_hex(marker.to_batch().bytes()),
            line.split(' ').nth(1).unwrap(),
            "{name}"
        );
    }
}
