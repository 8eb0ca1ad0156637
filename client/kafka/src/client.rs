//! A client of a cluster: finds out who answers a request, and tries again where that is sound.
//!
//! Owns: settings, routing, what is repeated and until when.
//! Does not own: sockets (`connection`), what is known of the cluster (`cluster`), what is asked (`admin`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_kafka::messages::Request;
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::metadata_response::MetadataResponse;
use esker_kafka::{ApiKey, ErrorCode, Str};

use crate::address::HostPort;
use crate::backoff::Backoff;
use crate::cluster::{Cluster, Node, Topic, address};
use crate::connection::Connection;
use crate::error::{Error, Refusal};

/// How long things may take, and who asks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to find a first broker.
    pub bootstrap: Vec<HostPort>,
    /// What brokers call this client.
    pub client_id: Str,
    /// How long a connection may take, and then the first words on it.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long something is tried again, from its first failure on.
    pub retry_timeout: Duration,
    /// The longest answer that is read.
    pub frame_bytes_max: usize,
}

impl Settings {
    /// For a person who waits: seconds, not minutes.
    #[must_use]
    pub fn new(bootstrap: Vec<HostPort>) -> Self {
        Self {
            bootstrap,
            client_id: Str::from_static("esker"),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(30),
            frame_bytes_max: 128 << 20,
        }
    }
}

/// Who answers a request.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// Anybody.
    Any,
    /// This broker.
    Node(i32),
    /// Whoever changes topics.
    Controller,
    /// Whoever leads a partition.
    Leader(&'a str, i32),
    /// Whoever coordinates a group.
    Group(&'a str),
}

/// Whether a request may be carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The same request twice is as good as once: it is repeated when the answer was lost.
    Harmless,
    /// It is repeated only when it certainly was not carried out.
    Harmful,
}

/// A client of one cluster; clones share connections and what is known.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    cluster: Mutex<Cluster>,
}

impl Client {
    /// A client that has not asked anybody anything.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            settings,
            cluster: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What it was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and asks again while the trouble may pass and `retry_timeout` has not. `outcome` finds the code in an answer.
    ///
    /// # Errors
    /// The last trouble.
    pub async fn call<R: Request>(
        &self,
        to: To<'_>,
        repeat: Repeat,
        request: &R,
        outcome: impl Fn(&R::Response) -> Result<(), Refusal>,
    ) -> Result<R::Response, Error> {
        let mut backoff = self.backoff();
        loop {
            let error = match self.attempt(to, request).await {
                Ok(response) => match outcome(&response) {
                    Ok(()) => return Ok(response),
                    Err(refusal) => Error::from(refusal),
                },
                Err(error) => error,
            };
            if !self.may_pass(&error, repeat) || !backoff.pause().await {
                return Err(error);
            }
            self.forget(to);
        }
    }

    /// Pauses within `retry_timeout` from the first failure.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::within(self.shared.settings.retry_timeout)
    }

    async fn attempt<R: Request>(&self, to: To<'_>, request: &R) -> Result<R::Response, Error> {
        let connection = self.connection(to).await?;
        connection.call(request, self.shared.settings.request_timeout).await
    }

    /// A first broker that cannot be reached is told at once; a cluster that was there is given time.
    pub(crate) fn may_pass(&self, error: &Error, repeat: Repeat) -> bool {
        match error {
            Error::Connect { .. } | Error::Unreachable { .. } => !self.cluster().nodes.is_empty(),
            Error::Lost { .. } | Error::Late { .. } => repeat == Repeat::Harmless,
            Error::Refused(refusal) => refusal.may_pass() && (repeat == Repeat::Harmless || !refusal.leaves_open()),
            Error::Garbled { .. } | Error::Unwritable { .. } | Error::Unsupported { .. } => false,
        }
    }

    /// Forgets what may have led to the wrong broker.
    pub fn forget(&self, to: To<'_>) {
        let mut cluster = self.cluster();
        match to {
            To::Any | To::Node(_) => {}
            To::Controller => cluster.controller = None,
            To::Leader(topic, _) => {
                cluster.topics.remove(topic);
            }
            To::Group(group) => {
                cluster.coordinators.remove(group);
            }
        }
    }

    /// A connection to who answers; shared by all who ask.
    ///
    /// # Errors
    /// If there is no such broker, or it cannot be reached.
    pub async fn connection(&self, to: To<'_>) -> Result<Connection, Error> {
        match to {
            To::Any => self.any().await,
            To::Node(node) => self.node(node).await,
            To::Controller => {
                let known = self.cluster().controller;
                let controller = match known {
                    Some(node) => Some(node),
                    None => {
                        self.refresh(Some(&[]), false).await?;
                        self.cluster().controller
                    }
                };
                match controller {
                    Some(node) => self.node(node).await,
                    None => self.any().await,
                }
            }
            To::Leader(topic, partition) => {
                let leader = self.leader(topic, partition).await?;
                self.node(leader).await
            }
            To::Group(group) => {
                let known = self.cluster().coordinators.get(group).copied();
                let coordinator = match known {
                    Some(node) => node,
                    None => self.find_coordinator(group).await?,
                };
                self.node(coordinator).await
            }
        }
    }

    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<i32, Error> {
        let known = self.topic(topic, false).await?;
        if !known.partitions.iter().any(|one| one.index == partition) {
            let words = format!("topic {topic} has no partition {partition}");
            return Err(Refusal::of(ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition, words).into());
        }
        known.leader(partition).ok_or_else(|| {
            let words = format!("nobody leads partition {partition} of topic {topic}");
            Refusal::of(ApiKey::Metadata, ErrorCode::LeaderNotAvailable, words).into()
        })
    }

    async fn any(&self) -> Result<Connection, Error> {
        let mut tried = Vec::new();
        let addresses = self.cluster().anybody(&self.shared.settings.bootstrap);
        for address in addresses {
            match self.open(&address).await {
                Ok(connection) => return Ok(connection),
                Err(Error::Connect { address, cause }) => tried.push((address, cause)),
                // It was there, and hung up on the first words.
                Err(Error::Lost { address, cause }) => {
                    tried.push((address, format!("{cause} (is it the Kafka port?)")))
                }
                Err(other) => return Err(other),
            }
        }
        Err(Error::Unreachable { tried })
    }

    async fn node(&self, id: i32) -> Result<Connection, Error> {
        let mut known = self.cluster().nodes.get(&id).map(|node| node.address.clone());
        if known.is_none() {
            self.refresh(Some(&[]), false).await?;
            known = self.cluster().nodes.get(&id).map(|node| node.address.clone());
        }
        let address = known.ok_or_else(|| {
            // Whoever named it knows more or less than who was asked now: that passes.
            let words = format!("the cluster has no node {id}");
            Refusal::of(ApiKey::Metadata, ErrorCode::LeaderNotAvailable, words)
        })?;
        self.open(&address).await
    }

    /// The connection to an address; those who ask at the same time wait for the same one.
    async fn open(&self, address: &HostPort) -> Result<Connection, Error> {
        let cell = {
            let mut cluster = self.cluster();
            let cell = cluster.connections.entry(address.clone()).or_default();
            if cell.get().is_some_and(|connection| !connection.is_open()) {
                *cell = Arc::default();
            }
            Arc::clone(cell)
        };
        let opened = cell.get_or_try_init(|| Connection::open(address, &self.shared.settings));
        opened.await.cloned()
    }

    /// Asks for the cluster's nodes and the named topics (all of them for `None`), creating them if that is wanted and allowed.
    ///
    /// # Errors
    /// If nobody answers; what is wrong with a topic stands in the answer.
    pub async fn refresh(&self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, Error> {
        let named = |topics: &[&str]| {
            let named = topics.iter().map(|topic| MetadataRequestTopic {
                name: Some(Str::from(*topic)),
                ..MetadataRequestTopic::default()
            });
            named.collect()
        };
        let request = MetadataRequest {
            topics: topics.map(named),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        // Not `call`, which asks here who answers.
        let mut backoff = self.backoff();
        loop {
            let connection = self.any().await?;
            match connection.call(&request, self.shared.settings.request_timeout).await {
                Ok(response) => {
                    Refusal::check(ApiKey::Metadata, response.error_code, None)?;
                    self.cluster().learn(&response);
                    return Ok(response);
                }
                Err(error) if self.may_pass(&error, Repeat::Harmless) && backoff.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A topic as it was last known; asked for if it is not. Waits for leaders that are being elected, and for a topic that it
    /// creates.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` and what else stands in Kafka's answer.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.cluster().topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        let mut backoff = self.backoff();
        loop {
            let told = self.refresh(Some(&[name]), create).await?;
            let code = told.topics.first().map_or(-1, |topic| topic.error_code);
            if let Some(topic) = self.cluster().topics.get(name) {
                return Ok(Arc::clone(topic));
            }
            let words = format!("there is no topic {name}");
            let unknown = code == ErrorCode::UnknownTopicOrPartition as i16;
            let Err(refused) = Refusal::check(ApiKey::Metadata, code, unknown.then_some(&words)) else {
                return Err(Refusal::of(ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition, words).into());
            };
            if !(refused.may_pass() || unknown && create) || !backoff.pause().await {
                return Err(refused.into());
            }
        }
    }

    /// All topics, as they are now, by name.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn topics(&self) -> Result<Vec<Topic>, Error> {
        let told = self.refresh(None, false).await?;
        let sound = told.topics.iter().filter(|topic| topic.error_code == 0);
        let mut topics: Vec<Topic> = sound.map(Topic::of).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The nodes, as they are now, by number.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.refresh(Some(&[]), false).await?;
        Ok(self.cluster().nodes.values().cloned().collect())
    }

    async fn find_coordinator(&self, group: &str) -> Result<i32, Error> {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![group.into()],
            ..FindCoordinatorRequest::default()
        };
        let mut backoff = self.backoff();
        loop {
            let connection = self.any().await?;
            let answer = connection.call(&request, self.shared.settings.request_timeout).await;
            let found = answer.and_then(|response| {
                let found = response.coordinators.into_iter().next().unwrap_or_default();
                let words = found.error_message.as_deref();
                Refusal::check(ApiKey::FindCoordinator, found.error_code, words)?;
                Ok(found)
            });
            match found {
                Ok(found) => {
                    let mut cluster = self.cluster();
                    cluster.coordinators.insert(group.to_owned(), found.node_id);
                    if let Some(address) = address(&found.host, found.port) {
                        let node = cluster.nodes.entry(found.node_id);
                        let rack = None;
                        node.or_insert_with(|| Node {
                            id: found.node_id,
                            address,
                            rack,
                        });
                    }
                    return Ok(found.node_id);
                }
                Err(error) if self.may_pass(&error, Repeat::Harmless) && backoff.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }
}
