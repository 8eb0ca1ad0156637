//! Compaction over simulated stores: what was stored stays readable, whatever is merged, killed or collected.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, its helpers included")]

mod checkpoints;
mod damage;
mod expiry;
mod fuse;
mod incarnations;
mod kills;
mod processes;
mod races;
mod recovery;
mod space;
mod transactions;
mod world;
