//! The command line from outside: the real binary, real nodes, what they print and how they exit.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod administration;
mod contract;
mod node;
mod records;
mod transcripts;
