//! A client of Esker, an event streaming broker that keeps its data in an object store.
//!
//! It speaks Esker's gRPC API (`esker.v1`) and reaches the same topics, offsets and consumer groups as clients of the Kafka
//! protocol. It runs on tokio.
//!
//! ```no_run
//! use esker_client::{Client, Position, Record};
//!
//! # async fn run() -> Result<(), esker_client::Error> {
//! let client = Client::connect("http://127.0.0.1:9095").await?;
//!
//! let producer = client.producer("flights").open().await?;
//! let delivery = producer.send(Record::new("EWR,IAH").key("N14228")).await?;
//! let stored = delivery.await?;
//! println!("partition {} offset {}", stored.partition, stored.offset);
//! producer.close().await?;
//!
//! let mut flights = client.consumer().subscribe_topic("flights", Position::Earliest).await?;
//! while let Some(record) = flights.next().await {
//!     let record = record?;
//!     println!("{}/{} {:?}", record.partition, record.offset, record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Writing
//!
//! A [`Producer`] writes to one topic. Each record is stored once, and in the order in which it was [sent](Producer::send), whatever
//! happens to connections and agents meanwhile: the producer keeps what is not acknowledged, and resumes its session at any agent
//! that it can reach. Records share batches ([`linger`](ProducerBuilder::linger), [`batch_bytes`](ProducerBuilder::batch_bytes));
//! `send` waits while the producer holds as much as it may ([`buffer_bytes`](ProducerBuilder::buffer_bytes)).
//!
//! Three things can become of a record. It is stored, and its [`Delivery`] says where. It certainly is not, and the error says why.
//! Or time was up after it had been sent: then nobody knows, and the error is [`Error::Unknown`], which is never
//! [retriable](Error::is_retriable).
//!
//! [`Client::produce`] writes some records with one call, without a session.
//!
//! # Reading
//!
//! [`Consumer::subscribe`] reads partitions that you name, as a [`Stream`](futures::Stream) of records; cut off, it goes on with the
//! next record. [`Consumer::group`] joins a group and is given partitions by it, in the same groups as Kafka clients:
//!
//! ```no_run
//! use esker_client::{Client, GroupEvent};
//!
//! # async fn run(client: Client) -> Result<(), esker_client::Error> {
//! let mut member = client.consumer().group("billing", ["flights"]).join().await?;
//! while let Some(event) = member.next().await {
//!     match event? {
//!         GroupEvent::Assigned(partitions) => println!("mine: {partitions:?}"),
//!         GroupEvent::Revoked(_) => println!("what I have not committed goes to others"),
//!         GroupEvent::Records(records) => {
//!             for record in &records.records {
//!                 println!("{:?}", record.value);
//!             }
//!             member.commit(&records).await?;
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is not read is not fetched: whoever reads slowly costs a few MiB. [`Consumer::fetch`] reads once.
//!
//! # Errors
//!
//! Calls that do no harm when they are made twice are made again, with pauses that grow, for as long as the [`RetryPolicy`] says.
//! An [`Error`] says in its text what to do about it; [`Error::is_retriable`] says whether to call again helps,
//! [`Error::is_kafka`] and [`Error::refusal`] what an agent has said.
//!
//! # What there is not
//!
//! Agents serve no TLS and no authentication on this port yet, so neither does the client. There are no transactions; compression is
//! the agents' affair.

pub mod admin;
mod client;
mod connections;
mod consumer;
mod error;
mod position;
mod producer;
mod record;
mod retry;

pub use crate::admin::Admin;
pub use crate::client::{Client, ClientBuilder};
pub use crate::consumer::{
    Committer, Consumer, Fetch, Fetched, GroupBuilder, GroupEvent, GroupStart, GroupSubscription, Records, Subscription,
};
pub use crate::error::{Error, KafkaError, Refusal, UnknownOutcome, Unreachable};
pub use crate::position::{Position, TopicPartition};
pub use crate::producer::{Delivery, Producer, ProducerBuilder};
pub use crate::record::{ConsumedRecord, Header, Record, Stored};
pub use crate::retry::RetryPolicy;
pub use tonic::Code;
