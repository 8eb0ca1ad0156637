//! What a Kafka client sees of an agent: over TCP, in every version, trap by trap.
//!
//! Owns: tests of the Kafka listener as a whole, over stores in memory. `docs/compatibility.md` names them.
//! Does not own: the state machine of groups (`esker_agent::groups`), the fold (`esker_model`), stock clients (`tests/clients`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod broker;
mod client;
mod compatibility_page;
mod counted;
mod requests;

mod acknowledgement;
mod alter_configs;
mod cluster_admin;
mod credentials_and_quotas;
mod describe_configs;
mod epochs;
mod fetch;
mod fetch_limits;
mod groups;
mod idempotence;
mod internal_topics;
mod list_offsets;
mod metadata;
mod produce;
mod refused_batches;
mod stored_form;
mod throttle;
mod topic_lifecycle;
mod topic_validation;
mod versions;
