//! The Kafka wire protocol: listener, connections, and the requests an agent answers.

pub mod budget;
pub mod connection;
pub mod dispatch;
pub mod listener;
