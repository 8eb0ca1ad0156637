//! Byte formats of everything Esker writes to a bucket, and the ids those formats are made of.
//!
//! Owns: ids (`id`) and object names (`name`), the primitives of every encoding (`wire`, `checksum`), the batch index
//! (`index`, `merged`), segments (`segment`), and the objects behind a checkpoint (`container`, `checkpoint`,
//! `manifest`, `journal`).
//! Does not own: the fold that interprets them (`esker-model`), where objects live (`esker-storage`).

pub mod checkpoint;
pub mod checksum;
pub mod container;
pub mod id;
pub mod index;
pub mod journal;
pub mod manifest;
pub mod merged;
pub mod name;
pub mod segment;
pub mod wire;
