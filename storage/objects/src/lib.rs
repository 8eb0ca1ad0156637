//! Objects: the seam to a bucket, and everything between a record batch in memory and a segment in the bucket.
//!
//! Owns: the `ObjectStore` seam (`store`), its implementations and stack, the write-ahead buffer, the cache.
//! Does not own: formats (`esker-segment`), commits (`esker-metadata`).

pub mod bucket;
pub mod buffer;
pub mod cache;
pub mod check;
pub mod directory;
pub mod hedged;
pub mod merged;
pub mod metered;
pub mod named;
pub mod random;
pub mod retrying;
pub mod simulated;
pub mod store;
