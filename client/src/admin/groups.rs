//! Consumer groups: who is in them, and how far they have come.

use esker_proto::v1;

use super::{Admin, first, first_once, outcome, outcome_once};
use crate::client::Repeat;
use crate::error::Error;
use crate::position::{TopicPartition, each_partition};

/// Every group that agents told of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupListings {
    /// The groups.
    pub groups: Vec<GroupListing>,
    /// Agents that did not answer, by node id: their groups are missing.
    pub failures: Vec<(i32, Error)>,
}

/// A group, in a list of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// `consumer` for consumers; empty if the group never had members.
    pub protocol_type: String,
    /// As in Kafka: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`.
    pub state: String,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// `consumer` for consumers; empty if the group never had members.
    pub protocol_type: String,
    /// As in Kafka: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`.
    pub state: String,
    /// How partitions are assigned, such as `range`.
    pub assignor: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// Its id in the group.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it comes from.
    pub client_host: String,
    /// What is its.
    pub assignment: Vec<TopicPartition>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The partition.
    pub place: TopicPartition,
    /// The next record to read.
    pub offset: i64,
    /// Whatever the consumer keeps beside it.
    pub metadata: String,
}

impl Admin {
    /// Every group of every agent.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn list_groups(&self) -> Result<GroupListings, Error> {
        let answer = self.call(
            Repeat::Harmless,
            v1::ListGroupsRequest {},
            |mut admin, request| async move { admin.list_groups(request).await },
        );
        let answer = answer.await?;
        let groups = answer.groups.into_iter().map(|group| GroupListing {
            group: group.group_id,
            protocol_type: group.protocol_type,
            state: group.state,
        });
        let failures = answer.failures.into_iter().map(|failed| {
            let failure = failed.failure.unwrap_or_default();
            (failed.node, Error::of_failure(failure))
        });
        Ok(GroupListings {
            groups: groups.collect(),
            failures: failures.collect(),
        })
    }

    /// A group and its members.
    ///
    /// # Errors
    /// It does not exist, or no agent could be reached.
    pub async fn describe_group(&self, group: impl Into<String>) -> Result<GroupDescription, Error> {
        let request = v1::DescribeGroupsRequest {
            group_ids: vec![group.into()],
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.describe_groups(request).await
        });
        let group = first(answer.await?.groups)?;
        outcome(group.failure)?;
        let members = group.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            assignment: each_partition(member.assignment),
        });
        Ok(GroupDescription {
            group: group.group_id,
            protocol_type: group.protocol_type,
            state: group.state,
            assignor: group.assignor,
            members: members.collect(),
        })
    }

    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Errors
    /// It has members, or does not exist; no agent could be reached; or its answer was lost ([`Error::Unknown`]).
    pub async fn delete_group(&self, group: impl Into<String>) -> Result<(), Error> {
        let request = v1::DeleteGroupsRequest {
            group_ids: vec![group.into()],
        };
        let answer = self.call(Repeat::Harmful, request, |mut admin, request| async move {
            admin.delete_groups(request).await
        });
        outcome_once(first_once(answer.await?.results)?.failure)
    }

    /// What a group has committed.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn group_offsets(&self, group: impl Into<String>) -> Result<Vec<CommittedOffset>, Error> {
        let request = v1::GroupOffsetsRequest {
            group_id: group.into(),
            partitions: Vec::new(),
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.group_offsets(request).await
        });
        let offsets = answer.await?.offsets.into_iter().map(|offset| CommittedOffset {
            place: TopicPartition::new(offset.topic, offset.partition),
            offset: offset.offset,
            metadata: offset.metadata,
        });
        Ok(offsets.collect())
    }

    /// Sets offsets of a group that has no members.
    ///
    /// # Errors
    /// It has members, or a partition does not exist; some offsets may be set then. Or no agent could be reached.
    pub async fn alter_group_offsets(
        &self,
        group: impl Into<String>,
        offsets: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<(), Error> {
        let offsets = offsets.into_iter().map(|(place, offset)| v1::CommittedOffset {
            topic: place.topic.to_string(),
            partition: place.partition,
            offset,
            ..v1::CommittedOffset::default()
        });
        let request = v1::AlterGroupOffsetsRequest {
            group_id: group.into(),
            offsets: offsets.collect(),
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.alter_group_offsets(request).await
        });
        let results = answer.await?.results;
        results.into_iter().try_for_each(|result| outcome(result.failure))
    }
}
