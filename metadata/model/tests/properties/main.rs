//! Properties of the fold over random logs.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod bytes;
mod cuts;
mod idempotence;
mod logs;
mod reference;
mod transactions;
