//! The client against a broker that is played, which does what no real one does when asked.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod connection;
mod producer;
mod stage;
