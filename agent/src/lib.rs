//! An agent: it takes records in, hands them out, and keeps nothing that matters.
//!
//! Owns: the Kafka, gRPC and HTTP listeners, the produce path from the socket to the log, the fetch path back, groups, settings.
//! Does not own: formats, the fold, the stores; merging and retention (`esker-compaction`).

pub mod agent;
pub mod broker_configs;
pub mod clock;
pub mod fetch;
pub mod group_parts;
pub mod groups;
pub mod grpc;
pub mod handlers;
pub mod health;
pub mod http;
pub mod internal_topics;
pub mod kafka;
pub mod load;
pub mod membership;
pub mod node;
pub mod offset_queue;
pub mod peers;
pub mod produce;
pub mod producer_ids;
pub mod replica_view;
pub mod settings;
pub mod shards;
pub mod telemetry;
pub mod topics;
pub mod wake;
pub mod writer;
pub mod zones;
