//! Byte formats of everything Esker writes to a bucket, and the ids those formats are made of.
//!
//! Owns: ids (`id`), the batch index (`index`).
//! Does not own: the fold that interprets them (`esker-model`), where objects live (`esker-storage`).

pub mod id;
pub mod index;
