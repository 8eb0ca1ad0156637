//! What clients see of several agents over one metadata store and one bucket.
//!
//! Owns: tests of membership, placement, coordinators, lost sessions and unreachable stores, over stores in memory.
//! Does not own: what one agent does (the tests called `kafka`), real etcd and S3 (`tests/clients`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kafka/batches.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with other tests, of which one uses all of it"
)]
mod batches;
#[path = "../kafka/client.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod client;
mod nodes;
#[path = "../kafka/requests.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod requests;

/// What the shared modules take from the other tests' broker.
mod broker {
    pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;
}

mod broker_configs;
mod coordinators;
mod generations;
mod loss;
mod members;
