//! The coordination store, and the commit log over it.
//!
//! Owns: the `MetadataStore` seam (`store`), its implementations (`etcd`; `embedded` and `simulated` over one pure state
//! machine, `keyspace`), typed keys (`keys`), the commit log (`log`), the process's fold (`replica`), checkpoints of it (`checkpoint`).
//! Does not own: what entries mean (`esker-model`), the bucket (`esker-storage`), when there is a checkpoint (compaction).
//!
//! How a process uses it:
//!
//! 1. `EtcdStore::connect(settings)`, `EmbeddedStore::open(dir, settings)` or `EmbeddedStore::in_memory(limits)`; then [`log::bootstrap`]`(store, random
//!    id)` gives a [`log::Cluster`] (store and incarnation; cheap to clone).
//! 2. [`log::Follower::new`]`(cluster, sink, settings)` gives the follower, whose `run()` is a task of its own, and a
//!    [`log::LogHandle`]: `position()`, `reached(index)`, `barrier()`. The [`log::LogSink`] gets `load_checkpoint` first,
//!    then each commit once and in order, and the keys beside the log.
//! 3. [`log::Session::open`]`(&cluster, |id| info, ttl)` claims a session id and keeps its lease alive; `lost()` says when
//!    to stop and open another one. `compare()` is the condition that fences whatever the session writes.
//! 4. [`log::Committer::start`]`(&session, Some(handle.position()), settings)`; `submit(commit).await?` puts a commit in
//!    line and gives a [`log::Pending`]: its `number()` at once, its [`log::CommitResult`] when awaited.
//! 5. Who leads calls [`log::publish_root`], then [`log::Truncation::truncate`] and `compact`.

pub mod ages;
pub mod checkpoint;
pub mod embedded;
pub mod etcd;
pub mod keys;
pub mod keyspace;
mod lease_clock;
pub mod log;
mod metered;
pub mod replica;
pub mod signal;
pub mod simulated;
pub mod store;
