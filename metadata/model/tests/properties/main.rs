//! Properties of the fold over random logs.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod bytes;
mod cuts;
mod idempotence;
mod logs;
#[path = "../support/recent.rs"]
mod recent;
mod reference;
mod transactions;
