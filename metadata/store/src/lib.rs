//! The coordination store, and the commit log over it.
//!
//! Owns: the `MetadataStore` seam (`store`), its implementations (`embedded`, `simulated`) over one pure state machine
//! (`keyspace`), typed keys (`keys`), the commit log (`log`).
//! Does not own: what entries mean (`esker-model`), objects (`esker-storage`).

pub mod embedded;
pub mod keys;
pub mod keyspace;
mod lease_clock;
pub mod store;
