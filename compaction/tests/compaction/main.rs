//! Compaction over simulated stores: what was stored stays readable, whatever is merged, killed or collected.

mod checkpoints;
mod damage;
mod fuse;
mod kills;
mod races;
mod space;
mod transactions;
mod world;
