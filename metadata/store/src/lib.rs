//! The coordination store, and the commit log over it.
//!
//! Owns: the `MetadataStore` seam (`store`), its implementations, typed keys, the commit log (sessions, committer,
//! follower).
//! Does not own: what entries mean (`esker-model`), objects (`esker-storage`).

pub mod store;
