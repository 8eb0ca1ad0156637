//! A small client of the Kafka protocol, for the command line and for tests; it speaks to real Kafka as well.
//!
//! Owns: connections with many requests in flight, agreement on versions, finding leaders and coordinators, what is tried
//! again and for how long.
//! Does not own: the bytes of messages (`esker-kafka`), what is asked and why, terminals.
//!
//! Invariants: a peer's number allocates nothing: frames are read as they come and bounded (MEM-1). Nothing waits for ever:
//! every connect, answer and repetition has a limit in [`Settings`].
//!
//! [`Connection`] is one socket: [`Connection::send`] returns once the request is on its way, and [`Reply::within`] is
//! its answer, so that any number of requests can be in flight. [`Client`] knows the cluster: [`Client::call`] takes a request to who answers it
//! ([`To`]) and repeats it where that is sound.

mod address;
mod admin;
mod backoff;
mod client;
mod cluster;
mod connection;
mod decode;
mod error;
mod fetcher;
mod member;
mod producer;
mod versions;

pub use self::address::HostPort;
pub use self::admin::{At, Committed, Found, Overview};
pub use self::client::{Client, Repeat, Settings, To};
pub use self::cluster::{Node, Partition, Topic};
pub use self::connection::{Connection, Posted, Reply};
pub use self::decode::{DamagedBatch, Decoder};
pub use self::error::{Error, Refusal};
pub use self::fetcher::{FetchError, FetchSettings, Fetched, Fetcher, TopicPartition};
pub use self::member::Member;
pub use self::producer::{Acks, Failure, Identity, Outcome, Outgoing, Producer, ProducerSettings, Progress, Written};
