//! Reading: single fetches, subscriptions to partitions, membership of groups.
//!
//! Owns: settings of readers, fetches.
//! Does not own: subscriptions (`subscription`), groups (`group`).

mod events;
mod group;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use esker_proto::v1;

pub use self::group::{Committer, GroupBuilder, GroupEvent, GroupStart, GroupSubscription};
pub use self::subscription::Subscription;
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::position::{Position, TopicPartition};
use crate::record::ConsumedRecord;

/// Reads records; made by [`Client::consumer`].
#[derive(Clone, Debug)]
pub struct Consumer {
    client: Client,
    read_committed: bool,
    max_bytes: u32,
}

impl Consumer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            read_committed: false,
            max_bytes: 0,
        }
    }

    /// Leaves out records of transactions that were aborted, and stops before those that are not yet decided.
    #[must_use]
    pub fn read_committed(mut self, only: bool) -> Self {
        self.read_committed = only;
        self
    }

    /// How many bytes of records come at a time, about: 1 MiB unless set, 3 MiB at most. One record comes however large it is.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Reads partitions from these positions on, as records come. What is not read is not fetched: a slow reader costs a few
    /// MiB. When the connection is lost it goes on where it was, at any agent: no record is missing, none comes twice.
    ///
    /// # Errors
    /// A partition does not exist, an offset is outside the log, or no agent could be reached.
    pub async fn subscribe<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = (P, Position)>,
    ) -> Result<Subscription, Error> {
        let wanted = partitions.into_iter().map(|(place, position)| (place.into(), position));
        Subscription::open(self, wanted.collect()).await
    }

    /// The same, of all partitions that the topic has now.
    ///
    /// # Errors
    /// As `subscribe`.
    pub async fn subscribe_topic(&self, topic: &str, position: Position) -> Result<Subscription, Error> {
        let described = self.client.admin().describe_topic(topic).await?;
        let each = described.partitions.into_iter();
        self.subscribe(each.map(|partition| ((topic, partition.partition), position)))
            .await
    }

    /// A member of a consumer group, one that Kafka consumers may be members of as well: set it up, then
    /// [join](GroupBuilder::join).
    #[must_use]
    pub fn group<T: Into<String>>(
        &self,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> GroupBuilder {
        let topics = topics.into_iter().map(Into::into).collect();
        GroupBuilder::new(self.clone(), group.into(), topics)
    }

    /// Reads some records of one partition with one call. Go on from [`Fetched::next_offset`].
    ///
    /// # Errors
    /// The partition does not exist, the offset is outside the log, or no agent could be reached.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Fetched, Error> {
        let request = v1::FetchRequest {
            topic: fetch.place.topic.to_string(),
            partition: fetch.place.partition,
            from: Some(fetch.from.into_proto()),
            max_records: fetch.max_records,
            max_bytes: self.max_bytes,
            max_wait_ms: u32::try_from(fetch.max_wait.as_millis()).unwrap_or(u32::MAX),
            read_committed: self.read_committed,
        };
        let client = &self.client;
        let answer = client.call(Repeat::Harmless, fetch.max_wait, |connection| {
            let (mut consumer, request) = (client.consumer_of(&connection), client.request(request.clone()));
            async move { consumer.fetch(request).await }
        });
        let answer = answer.await?;
        let records = answer.records.into_iter();
        let TopicPartition { topic, partition } = fetch.place;
        Ok(Fetched {
            records: records
                .map(|record| ConsumedRecord::new(&topic, partition, record))
                .collect(),
            next_offset: answer.next_offset,
            high_watermark: answer.high_watermark,
            log_start_offset: answer.log_start_offset,
        })
    }
}

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    place: TopicPartition,
    from: Position,
    max_records: u32,
    max_wait: Duration,
}

impl Fetch {
    /// Records of this partition, from this position on.
    pub fn new(place: impl Into<TopicPartition>, from: Position) -> Self {
        Self {
            place: place.into(),
            from,
            max_records: 0,
            max_wait: Duration::ZERO,
        }
    }

    /// So many at most.
    #[must_use]
    pub fn max_records(mut self, records: u32) -> Self {
        self.max_records = records;
        self
    }

    /// How long to wait for a record when there is none; not at all unless set, 5 minutes at most.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }
}

/// What a fetch has found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// In the order of their offsets.
    pub records: Vec<ConsumedRecord>,
    /// Where to go on. It may be more than the last record's offset plus one: offsets may be unused.
    pub next_offset: i64,
    /// The end of the log: the offset of the next record that will be written.
    pub high_watermark: i64,
    /// The first offset that there is.
    pub log_start_offset: i64,
}

/// Records of one partition, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Records {
    /// Where they are from.
    pub place: TopicPartition,
    /// At least one.
    pub records: Vec<ConsumedRecord>,
    /// Where to go on when these are done: what to commit.
    pub next_offset: i64,
    /// The end of the log: the offset of the next record that will be written.
    pub high_watermark: i64,
}

impl Records {
    fn new(records: v1::subscribe_event::Records) -> Self {
        let topic: Arc<str> = records.topic.into();
        let partition = records.partition;
        let each = records.records.into_iter();
        Self {
            records: each
                .map(|record| ConsumedRecord::new(&topic, partition, record))
                .collect(),
            place: TopicPartition::new(topic, partition),
            next_offset: records.next_offset,
            high_watermark: records.high_watermark,
        }
    }
}
