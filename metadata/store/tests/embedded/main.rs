//! The embedded store against a bad disk, a killed process and a full one.
//!
//! Owns: what `conformance` cannot say, because it is about files: durability, recovery, locking, size.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod crashes;
mod damage;
mod directory;
mod faults;
mod faulty;
mod growth;
mod size;

use bytes::Bytes;
use esker_metadata::store::{KeyRange, KeyValue, MetadataStore, Op, Txn};

/// A transaction that puts these keys.
fn puts(keys: impl IntoIterator<Item = (String, Bytes)>) -> Txn {
    Txn {
        then: keys
            .into_iter()
            .map(|(key, value)| Op::put(key.into(), value))
            .collect(),
        ..Txn::default()
    }
}

/// A transaction that puts one key.
fn put(key: &str, value: &str) -> Txn {
    puts([(key.to_owned(), Bytes::copy_from_slice(value.as_bytes()))])
}

/// All live keys.
async fn all(store: &dyn MetadataStore) -> Vec<KeyValue> {
    store
        .snapshot(vec![KeyRange::Prefix(Bytes::new())])
        .await
        .unwrap()
        .ranges
        .remove(0)
}

/// All live keys as text.
async fn names(store: &dyn MetadataStore) -> Vec<String> {
    all(store)
        .await
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect()
}
