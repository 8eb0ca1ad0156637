//! What a user of the client sees of agents: the real ones, in this process, over stores in memory.
//!
//! Owns: tests of the client as a whole, with a network between that can be cut and held up (`proxy`).
//! Does not own: what agents do with other clients (`agent/tests/grpc`), from where starting them is taken.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../agent/tests/kafka/batches.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with other tests, of which one uses all of it"
)]
mod batches;
#[path = "../../../agent/tests/grpc/broker.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod broker;
#[path = "../../../agent/tests/kafka/client.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod client;
mod proxy;
#[path = "../../../agent/tests/kafka/requests.rs"]
#[allow(dead_code, reason = "shared with other tests, of which one uses all of it")]
mod requests;
mod stored;

mod administer;
mod consume;
mod group;
mod outage;
mod produce;
mod reconnect;
mod refuse;
