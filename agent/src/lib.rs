//! An agent: it takes records in, hands them out, and keeps nothing that matters.

pub mod groups;
pub mod http;
pub mod settings;
pub mod telemetry;
