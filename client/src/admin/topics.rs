//! Topics: created, found, deleted.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_proto::v1;

use super::{Admin, first, first_once, outcome, outcome_once};
use crate::client::Repeat;
use crate::error::Error;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: Option<i32>,
    configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with this name, and with as many partitions as the broker's `num.partitions` says.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            configs: BTreeMap::new(),
        }
    }

    /// Gives it so many partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets a config, such as `cleanup.policy` to `compact`.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// A topic, in a list of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Kafka's topic id, 16 bytes.
    pub id: Bytes,
    /// How many partitions it has.
    pub partitions: i32,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Kafka's topic id, 16 bytes.
    pub id: Bytes,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The node that Kafka clients of the caller's zone are led to; any agent serves every partition. Absent if there is none.
    pub leader: Option<i32>,
    /// Counts changes of the leader, as Kafka clients see it.
    pub leader_epoch: i32,
}

impl Admin {
    /// Creates a topic.
    ///
    /// # Errors
    /// `TOPIC_ALREADY_EXISTS`, or a name or config that cannot be; no agent could be reached; or its answer was lost
    /// ([`Error::Unknown`]).
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), Error> {
        first_once(self.create_topics([topic]).await?)?.1
    }

    /// Creates topics; says of each whether that worked.
    ///
    /// # Errors
    /// As `create_topic`, of the call as a whole.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let topics = topics.into_iter().map(|topic| v1::NewTopic {
            name: topic.name,
            partitions: topic.partitions,
            configs: topic.configs.into_iter().collect(),
        });
        let request = v1::CreateTopicsRequest {
            topics: topics.collect(),
            validate_only: false,
        };
        let answer = self.call(Repeat::Harmful, request, |mut admin, request| async move {
            admin.create_topics(request).await
        });
        Ok(results(answer.await?))
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// It does not exist; no agent could be reached; or its answer was lost ([`Error::Unknown`]).
    pub async fn delete_topic(&self, name: impl Into<String>) -> Result<(), Error> {
        first_once(self.delete_topics([name]).await?)?.1
    }

    /// Deletes topics; says of each whether that worked.
    ///
    /// # Errors
    /// As `delete_topic`, of the call as a whole.
    pub async fn delete_topics<T: Into<String>>(
        &self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let request = v1::DeleteTopicsRequest {
            topics: names.into_iter().map(Into::into).collect(),
        };
        let answer = self.call(Repeat::Harmful, request, |mut admin, request| async move {
            admin.delete_topics(request).await
        });
        Ok(results(answer.await?))
    }

    /// Gives a topic more partitions: `count` is how many there will be. Keys go elsewhere afterwards.
    ///
    /// # Errors
    /// It does not exist or has as many; no agent could be reached; or its answer was lost ([`Error::Unknown`]).
    pub async fn create_partitions(&self, topic: impl Into<String>, count: i32) -> Result<(), Error> {
        let request = v1::CreatePartitionsRequest {
            topics: vec![v1::NewPartitions {
                topic: topic.into(),
                count,
            }],
            validate_only: false,
        };
        let answer = self.call(Repeat::Harmful, request, |mut admin, request| async move {
            admin.create_partitions(request).await
        });
        first_once(results(answer.await?))?.1
    }

    /// Every topic there is.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, Error> {
        let answer = self.call(
            Repeat::Harmless,
            v1::ListTopicsRequest {},
            |mut admin, request| async move { admin.list_topics(request).await },
        );
        let topics = answer.await?.topics.into_iter().map(|topic| TopicListing {
            name: topic.name,
            id: topic.id,
            partitions: topic.partitions,
        });
        Ok(topics.collect())
    }

    /// A topic and its partitions.
    ///
    /// # Errors
    /// It does not exist, or no agent could be reached.
    pub async fn describe_topic(&self, name: impl Into<String>) -> Result<TopicDescription, Error> {
        let request = v1::DescribeTopicsRequest {
            topics: vec![name.into()],
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.describe_topics(request).await
        });
        let topic = first(answer.await?.topics)?;
        outcome(topic.failure)?;
        let partitions = topic.partitions.into_iter().map(|partition| PartitionDescription {
            partition: partition.partition,
            leader: (partition.leader >= 0).then_some(partition.leader),
            leader_epoch: partition.leader_epoch,
        });
        Ok(TopicDescription {
            name: topic.name,
            id: topic.id,
            partitions: partitions.collect(),
        })
    }
}

/// What became of each topic that was to be created or deleted.
fn results(answer: v1::TopicResults) -> Vec<(String, Result<(), Error>)> {
    let results = answer.results.into_iter();
    results
        .map(|result| (result.topic, outcome_once(result.failure)))
        .collect()
}
