//! What a gRPC client sees of agents: over HTTP/2, beside Kafka clients of the same agents.
//!
//! Owns: tests of the gRPC listener as a whole, over stores in memory.
//! Does not own: what Kafka clients see (the tests called `kafka`), several agents as such (`cluster`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kafka/batches.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with other tests, of which one uses all of it"
)]
mod batches;
mod broker;
#[path = "../kafka/client.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod client;
#[path = "../kafka/requests.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod requests;

mod admin;
mod consume;
mod cut;
mod cutter;
mod frames;
mod hostile;
mod produce;
mod produce_stream;
mod server;
mod subscribe;
