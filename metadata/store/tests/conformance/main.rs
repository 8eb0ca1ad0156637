//! One suite for every metadata store: each line of the contract in `store.rs` is a case here.
//!
//! Owns: the cases and the stores of this process that they run on. `metadata/store/tests/etcd` runs the same cases on real servers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[macro_use]
mod cases;
mod concurrency;
mod leases;
mod subject;
mod transactions;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use esker_metadata::embedded::{EmbeddedStore, Settings};
use esker_metadata::keyspace::Limits;
use esker_metadata::simulated::{Faults, SimulatedStore};
pub(crate) use subject::{PATIENCE, Subject, bytes, describe, put, put_leased};

/// Time is not real here.
const TTL: Duration = Duration::from_secs(5);

async fn embedded_on_disk() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .unwrap();
    Subject {
        store: Arc::new(store),
        ttl: TTL,
        _keep: Some(Box::new(directory)),
    }
}

async fn embedded_in_memory() -> Subject {
    Subject {
        store: Arc::new(EmbeddedStore::in_memory(Limits::default())),
        ttl: TTL,
        _keep: None,
    }
}

async fn simulated() -> Subject {
    Subject {
        store: Arc::new(SimulatedStore::new(1, Faults::calm())),
        ttl: TTL,
        _keep: None,
    }
}

macro_rules! run_on {
    ($backend:ident, $($module:ident::$case:ident,)*) => {
        mod $backend {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                crate::$module::$case(crate::$backend().await).await;
            })*
        }
    };
}

for_each_case!(run_on, embedded_on_disk);
for_each_case!(run_on, embedded_in_memory);
for_each_case!(run_on, simulated);
