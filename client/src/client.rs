//! The client: settings, single calls, and the way to everything else.
//!
//! Owns: which calls are made again, and when.
//! Does not own: connections (`connections`), streams (`producer`, `consumer`).
//!
//! Invariants: what may have been carried out is made again only if that does no harm.

use std::sync::Arc;
use std::time::Duration;

use esker_proto::v1;
use esker_proto::v1::admin_client::AdminClient;
use esker_proto::v1::consumer_client::ConsumerClient;
use esker_proto::v1::producer_client::ProducerClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::connections::{Connection, Connections, Timing};
use crate::consumer::Consumer;
use crate::error::{Error, Unreachable};
use crate::producer::{ProducerBuilder, fit_one_message};
use crate::record::{Record, Stored};
use crate::retry::{Outage, RetryPolicy};

/// Metadata by which a client says what it calls itself.
const CLIENT_ID: &str = "client-id";

/// How a client behaves; made by [`Client::builder`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    addresses: Vec<String>,
    client_id: String,
    timing: Timing,
    request_timeout: Duration,
    retry: RetryPolicy,
    message_bytes_max: usize,
}

impl ClientBuilder {
    /// Adds an agent, as `http://HOST:PORT`. Any agent of a cluster will do; more than one keeps the client going when one is
    /// lost.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// What the client calls itself, in descriptions of groups for instance. Agents read the zone from it (`zone=a`).
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// How long one address may take to accept a connection. 5 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timing.connect_timeout = timeout;
        self
    }

    /// How long one attempt of a call may take. 10 s unless set.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How often an agent is asked whether it is still there, and how long it may take to say so; a connection whose agent does
    /// not is given up. Every 10 s, and 10 s, unless set.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.timing.keep_alive_interval = interval;
        self.timing.keep_alive_timeout = timeout;
        self
    }

    /// How often and how long what fails is tried again.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The longest message that the client takes. An answer with records has 3 MiB at most, or one record however large it is: so
    /// it must be more than the largest record of any topic that is read. 64 MiB unless set.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// The client, without a connection: that is made by its first call.
    ///
    /// # Errors
    /// An address or the client id cannot be one.
    pub fn build(self) -> Result<Client, Error> {
        let connections = Connections::new(&self.addresses, &self.timing)?;
        let id = MetadataValue::try_from(self.client_id.as_str());
        let id =
            id.map_err(|_| Error::invalid("the client id has characters that are not visible ASCII; leave them out"))?;
        Ok(Client {
            shared: Arc::new(Shared {
                connections,
                id,
                request_timeout: self.request_timeout,
                retry: self.retry,
                message_bytes_max: self.message_bytes_max,
            }),
        })
    }

    /// The client, after an agent has answered. Each address is tried once.
    ///
    /// # Errors
    /// As [`build`](Self::build), or no agent answers.
    pub async fn connect(self) -> Result<Client, Error> {
        let mut addresses = self.addresses.len();
        let client = self.build()?;
        let describe = |connection: Connection| {
            let mut admin = client.admin_of(&connection);
            let request = client.request(v1::DescribeClusterRequest {});
            async move { admin.describe_cluster(request).await }
        };
        loop {
            addresses = addresses.saturating_sub(1);
            match client.attempt(client.shared.request_timeout, &describe).await {
                Ok(_) => return Ok(client),
                // Something else than an agent may listen at one of them.
                Err(Error::Lost { .. }) if addresses > 0 => {}
                Err(Error::Lost { address, reason }) => {
                    return Err(Error::Unreachable(Unreachable::mute(&address, &reason)));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Esker, from outside: cheap to clone, and clones share one connection for their single calls.
///
/// Producers and subscriptions have connections of their own.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) connections: Connections,
    id: MetadataValue<Ascii>,
    pub(crate) request_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    message_bytes_max: usize,
}

/// What becomes of a call whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same again: it is made again.
    Harmless,
    /// It may have been carried out, and to do it again may do it twice.
    Harmful,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the agent at this address (`http://HOST:PORT`), after it has answered.
    ///
    /// # Errors
    /// The address cannot be one, or no agent answers there.
    pub async fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::builder().address(address).connect().await
    }

    /// A client with other settings.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            addresses: Vec::new(),
            client_id: "esker-client".to_owned(),
            timing: Timing {
                connect_timeout: Duration::from_secs(5),
                keep_alive_interval: Duration::from_secs(10),
                keep_alive_timeout: Duration::from_secs(10),
            },
            request_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            message_bytes_max: 64 * 1024 * 1024,
        }
    }

    /// A producer of this topic, each record once and in order: set it up, then [open](ProducerBuilder::open) it.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// What reads records.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        Consumer::new(self.clone())
    }

    /// Topics, configs, groups, offsets, the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Writes records with one call, and says where each of them is stored.
    ///
    /// It is not idempotent. It is made again only if it certainly was not carried out; when an answer is lost, the error is
    /// [`Error::Unknown`]. A [producer](Self::producer) knows better.
    ///
    /// # Errors
    /// As said; they do not fit into one message (15 MiB, 65,536 records); and if some partitions have stored their records and others not, [`Refusal::stored`](crate::Refusal::stored) says
    /// which.
    pub async fn produce(
        &self,
        topic: impl Into<String>,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Vec<Stored>, Error> {
        let request = v1::ProduceRequest {
            topic: topic.into(),
            records: records.into_iter().map(Record::into_proto).collect(),
        };
        fit_one_message(&request.records)?;
        let produced = self
            .call(Repeat::Harmful, Duration::ZERO, |connection| {
                let (mut producer, request) = (self.producer_of(&connection), self.request(request.clone()));
                async move { producer.produce(request).await }
            })
            .await;
        match produced {
            Ok(stored) => Stored::zip(stored.partitions, stored.offsets)
                .into_iter()
                .collect::<Option<Vec<Stored>>>()
                .ok_or_else(|| Error::lost("the answer", "it does not say where the records are").or_happened()),
            // Of an agent that has tried: it may have been carried out all the same.
            Err(error) if error.kafka_code().is_some() && error.is_retriable() => Err(error.or_happened()),
            Err(error) => Err(error),
        }
    }

    /// Makes a call, again and again while that helps. `wait` is how long the agent may take beyond the usual time.
    pub(crate) async fn call<T, F>(
        &self,
        repeat: Repeat,
        wait: Duration,
        call: impl Fn(Connection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let policy = &self.shared.retry;
        let mut outage = Outage::new(policy);
        loop {
            let error = match self.attempt(self.shared.request_timeout + wait, &call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if repeat == Repeat::Harmful && !error.is_certain() {
                return Err(error.or_happened());
            }
            let again = match repeat {
                Repeat::Harmless => error.is_retriable(),
                Repeat::Harmful => matches!(error, Error::Unreachable(_)),
            };
            if !again {
                return Err(error);
            }
            tracing::debug!(%error, "a call failed and is made again");
            tokio::time::sleep(outage.failed(policy, error)?).await;
        }
    }

    async fn attempt<T, F>(&self, timeout: Duration, call: &impl Fn(Connection) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let connections = &self.shared.connections;
        let connection = connections.shared().await?;
        let address = connection.address.clone();
        let error = match tokio::time::timeout(timeout, call(connection.clone())).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => Error::of_status(&status, &address),
            Err(_) => Error::lost(&address, format!("no answer within {timeout:?}")),
        };
        if is_of_the_agent(&error) {
            connections.failed(&connection).await;
        }
        Err(error)
    }

    /// A message with what goes along with every call.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(CLIENT_ID, self.shared.id.clone());
        request
    }

    pub(crate) fn producer_of(&self, connection: &Connection) -> ProducerClient<Channel> {
        ProducerClient::new(connection.channel.clone()).max_decoding_message_size(self.shared.message_bytes_max)
    }

    pub(crate) fn consumer_of(&self, connection: &Connection) -> ConsumerClient<Channel> {
        ConsumerClient::new(connection.channel.clone()).max_decoding_message_size(self.shared.message_bytes_max)
    }

    pub(crate) fn admin_of(&self, connection: &Connection) -> AdminClient<Channel> {
        AdminClient::new(connection.channel.clone()).max_decoding_message_size(self.shared.message_bytes_max)
    }
}

/// Whether another agent may do better.
pub(crate) fn is_of_the_agent(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) | Error::Lost { .. } => true,
        Error::Refused(refusal) => refusal.kafka.is_none() && refusal.retriable,
        Error::Unknown(_) | Error::GaveUp { .. } | Error::Invalid(_) | Error::Closed => false,
    }
}
