//! Administration: topics, configs, groups, offsets, the cluster.
//!
//! Owns: offsets of partitions, the cluster, how all of these calls are made.
//! Does not own: topics (`topics`), configs (`configs`), groups (`groups`).

mod configs;
mod groups;
mod topics;

use std::time::Duration;

use esker_proto::v1;
use esker_proto::v1::admin_client::AdminClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub use self::configs::{Config, ConfigChange, ConfigSource, Resource};
pub use self::groups::{CommittedOffset, GroupDescription, GroupListing, GroupListings, GroupMember};
pub use self::topics::{NewTopic, PartitionDescription, TopicDescription, TopicListing};
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::position::{Position, TopicPartition};

/// Administers the cluster; made by [`Client::admin`].
///
/// What only looks, or sets something to a value, is tried again for as long as the client's [retry policy](crate::RetryPolicy)
/// says. What creates or deletes is not once it may have been carried out: if its answer is lost, the error is
/// [`Error::Unknown`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The offset of a position in a partition.
    ///
    /// # Errors
    /// The partition does not exist, or no agent could be reached.
    pub async fn offset(&self, place: impl Into<TopicPartition>, position: Position) -> Result<i64, Error> {
        let found = self.offsets([(place, position)]).await?.into_iter().next();
        found.ok_or_else(|| Error::lost("the answer", "it names no offset"))?.1
    }

    /// The offsets of positions in partitions, in the order in which they are asked for.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn offsets<P: Into<TopicPartition>>(
        &self,
        wanted: impl IntoIterator<Item = (P, Position)>,
    ) -> Result<Vec<(TopicPartition, Result<i64, Error>)>, Error> {
        let wanted = wanted.into_iter().map(|(place, position)| (place.into(), position));
        self.offsets_for(wanted.collect(), false).await
    }

    pub(crate) async fn offsets_for(
        &self,
        wanted: Vec<(TopicPartition, Position)>,
        read_committed: bool,
    ) -> Result<Vec<(TopicPartition, Result<i64, Error>)>, Error> {
        let request = v1::ListOffsetsRequest {
            partitions: wanted
                .iter()
                .map(|(place, position)| position.in_partition(place))
                .collect(),
            read_committed,
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.list_offsets(request).await
        });
        let found = answer.await?.results.into_iter().map(|found| {
            let place = TopicPartition::new(found.topic, found.partition);
            (place, outcome(found.failure).map(|()| found.offset))
        });
        Ok(found.collect())
    }

    /// Deletes the records of a partition before an offset, or all of them; returns the first offset that there is then.
    ///
    /// # Errors
    /// The partition does not exist, the offset is outside the log, or no agent could be reached.
    pub async fn delete_records(&self, place: impl Into<TopicPartition>, before: Option<i64>) -> Result<i64, Error> {
        let place = place.into();
        let request = v1::DeleteRecordsRequest {
            partitions: vec![v1::RecordsToDelete {
                topic: place.topic.to_string(),
                partition: place.partition,
                before_offset: before.unwrap_or(-1),
            }],
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.delete_records(request).await
        });
        let deleted = first(answer.await?.results)?;
        outcome(deleted.failure).map(|()| deleted.log_start_offset)
    }

    /// The cluster and its agents.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn describe_cluster(&self) -> Result<Cluster, Error> {
        let answer = self.call(
            Repeat::Harmless,
            v1::DescribeClusterRequest {},
            |mut admin, request| async move { admin.describe_cluster(request).await },
        );
        let answer = answer.await?;
        let nodes = answer.nodes.into_iter().map(|node| Node {
            node: node.node,
            host: node.host,
            port: node.port,
            zone: node.zone,
        });
        Ok(Cluster {
            id: answer.cluster_id,
            nodes: nodes.collect(),
        })
    }

    async fn call<Q: Clone, T, F>(
        &self,
        repeat: Repeat,
        request: Q,
        call: impl Fn(AdminClient<Channel>, Request<Q>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = &self.client;
        let made = client.call(repeat, Duration::ZERO, |connection| {
            call(client.admin_of(&connection), client.request(request.clone()))
        });
        made.await
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cluster {
    /// Its id, as Kafka clients see it.
    pub id: String,
    /// Its agents.
    pub nodes: Vec<Node>,
}

/// An agent, as Kafka clients are told to connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its node id.
    pub node: i32,
    /// Its host, for Kafka clients.
    pub host: String,
    /// Its port, for Kafka clients.
    pub port: i32,
    /// Its zone, if it has one.
    pub zone: Option<String>,
}

/// Of one of several things.
fn outcome(failure: Option<v1::Failure>) -> Result<(), Error> {
    failure.map_or(Ok(()), |failure| Err(Error::of_failure(failure)))
}

/// The same, of a call that may do harm if it is made again.
fn outcome_once(failure: Option<v1::Failure>) -> Result<(), Error> {
    outcome(failure).map_err(|error| if error.is_certain() { error } else { error.or_happened() })
}

/// What the answer says about the one thing that was asked for.
fn first<T>(results: Vec<T>) -> Result<T, Error> {
    let first = results.into_iter().next();
    first.ok_or_else(|| Error::lost("the answer", "it does not say what became of it"))
}

/// The same, of a call that may do harm if it is made again.
fn first_once<T>(results: Vec<T>) -> Result<T, Error> {
    first(results).map_err(Error::or_happened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_created_or_deleted_is_not_told_as_a_refusal() {
        let failure = |kafka_code| v1::Failure {
            message: "no".to_owned(),
            detail: Some(v1::ErrorDetail {
                kafka_code,
                retriable: true,
                ..v1::ErrorDetail::default()
            }),
        };
        assert!(outcome_once(None).is_ok());
        let timed_out = outcome_once(Some(failure(7))).unwrap_err();
        assert!(matches!(timed_out, Error::Unknown(_)), "{timed_out:?}");
        assert!(!timed_out.is_retriable());
        assert!(matches!(first_once::<()>(Vec::new()), Err(Error::Unknown(_))));
        let refused = outcome_once(Some(failure(6))).unwrap_err();
        assert!(
            matches!(refused, Error::Refused(_)) && refused.is_retriable(),
            "{refused:?}"
        );
        let looked = outcome(Some(failure(7))).unwrap_err();
        assert!(
            looked.is_retriable(),
            "a call that only looks may be made again: {looked:?}"
        );
    }
}
