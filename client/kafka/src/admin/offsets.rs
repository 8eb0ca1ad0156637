//! Offsets: of partitions, and those that groups have committed.

use std::collections::BTreeMap;

use esker_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use esker_kafka::{ApiKey, Str};

use super::topics::only;
use crate::client::{Client, Repeat, To};
use crate::error::{Error, Refusal};

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The first offset that there is.
    Earliest,
    /// The offset that the next record gets.
    Latest,
    /// The same, for who reads only what transactions have committed: where the first open transaction begins.
    LatestStable,
    /// The first record of this time or later, in milliseconds since 1970.
    Time(i64),
}

impl At {
    fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest | Self::LatestStable => -1,
            Self::Time(time) => time,
        }
    }
}

/// Where a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The offset; none if there is no record of that time or later.
    pub offset: Option<i64>,
    /// The time of the record there, in milliseconds since 1970, if a time was asked for.
    pub timestamp: Option<i64>,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the record that is read next.
    pub offset: i64,
    /// The leadership in which it was read; -1 if that was not said.
    pub leader_epoch: i32,
    /// What who committed it has added.
    pub metadata: String,
}

impl Client {
    /// Finds a place in each of these partitions.
    ///
    /// # Errors
    /// If one of them cannot be found out.
    pub async fn offsets(&self, partitions: &[(String, i32)], at: At) -> Result<BTreeMap<(String, i32), Found>, Error> {
        let mut found = BTreeMap::new();
        let mut backoff = self.backoff();
        while partitions.iter().any(|one| !found.contains_key(one)) {
            let step = self.offsets_of(partitions, at, &mut found).await;
            if let Err((topic, error)) = step {
                if !self.may_pass(&error, Repeat::Harmless) || !backoff.pause().await {
                    return Err(error);
                }
                self.forget(To::Leader(&topic, 0));
            }
        }
        Ok(found)
    }

    /// Asks each leader once for what is not found yet. The first trouble is told with its topic; what was found stays found.
    async fn offsets_of<'a>(
        &self,
        partitions: &'a [(String, i32)],
        at: At,
        found: &mut BTreeMap<(String, i32), Found>,
    ) -> Result<(), (String, Error)> {
        let mut by_leader: BTreeMap<i32, BTreeMap<&'a str, Vec<i32>>> = BTreeMap::new();
        for (topic, partition) in partitions.iter().filter(|one| !found.contains_key(*one)) {
            let leader = self.leader(topic, *partition).await;
            let leader = leader.map_err(|error| (topic.clone(), error))?;
            let topics = by_leader.entry(leader).or_default();
            topics.entry(topic).or_default().push(*partition);
        }
        for (leader, topics) in by_leader {
            let first = topics.keys().next().map(|name| (*name).to_owned()).unwrap_or_default();
            let request = list_offsets(&topics, at);
            let answer = self
                .call(To::Node(leader), Repeat::Harmless, &request, |_| Ok(()))
                .await;
            let answer = answer.map_err(|error| (first.clone(), error))?;
            for topic in answer.topics {
                let name = String::from(topic.name);
                for one in topic.partitions {
                    Refusal::check(ApiKey::ListOffsets, one.error_code, None)
                        .map_err(|refusal| (name.clone(), Error::from(refusal)))?;
                    let place = Found {
                        offset: (one.offset >= 0).then_some(one.offset),
                        timestamp: (one.timestamp >= 0).then_some(one.timestamp),
                    };
                    found.insert((name.clone(), one.partition_index), place);
                }
            }
            let told = topics
                .iter()
                .flat_map(|(name, partitions)| partitions.iter().map(|partition| ((*name).to_owned(), *partition)))
                .all(|one| found.contains_key(&one));
            if !told {
                let refused = only::<()>(None, ApiKey::ListOffsets, |()| (0, None));
                return refused.map_err(|refusal| (first, Error::from(refusal)));
            }
        }
        Ok(())
    }

    /// What a group has committed, by topic and partition.
    ///
    /// # Errors
    /// Refusals.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), Committed>, Error> {
        self.offset_fetch(group, false).await
    }

    /// The same, for who is to go on there: where a transaction is about to commit something, its end is waited for (KIP-447).
    ///
    /// # Errors
    /// Refusals; `UNSTABLE_OFFSET_COMMIT` if the transaction does not end in time.
    pub async fn stable_committed(&self, group: &str) -> Result<BTreeMap<(String, i32), Committed>, Error> {
        self.offset_fetch(group, true).await
    }

    async fn offset_fetch(
        &self,
        group: &str,
        require_stable: bool,
    ) -> Result<BTreeMap<(String, i32), Committed>, Error> {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.into(),
                topics: None,
                ..OffsetFetchRequestGroup::default()
            }],
            require_stable,
            ..OffsetFetchRequest::default()
        };
        let answer = self.call(To::Group(group), Repeat::Harmless, &request, |response| {
            let group = response.groups.first();
            only(group, ApiKey::OffsetFetch, |one| (one.error_code, None))?;
            let mut all = group
                .iter()
                .flat_map(|group| &group.topics)
                .flat_map(|topic| &topic.partitions);
            all.try_for_each(|one| Refusal::check(ApiKey::OffsetFetch, one.error_code, None))
        });
        let mut committed = BTreeMap::new();
        for topic in answer.await?.groups.remove(0).topics {
            let name = String::from(topic.name);
            for one in topic.partitions {
                if one.committed_offset >= 0 {
                    let value = Committed {
                        offset: one.committed_offset,
                        leader_epoch: one.committed_leader_epoch,
                        metadata: one.metadata.unwrap_or_default().into(),
                    };
                    committed.insert((name.clone(), one.partition_index), value);
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets for a group that has no members.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` while it has members, and other refusals; what could be committed is.
    pub async fn commit(&self, group: &str, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let partitions = topics.entry(topic).or_default();
            partitions.push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_metadata: Some(Str::new()),
                ..OffsetCommitRequestPartition::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..OffsetCommitRequestTopic::default()
        });
        let request = OffsetCommitRequest {
            group_id: group.into(),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        let answer = self.call(To::Group(group), Repeat::Harmless, &request, |response| {
            let mut all = response.topics.iter().flat_map(|topic| &topic.partitions);
            all.try_for_each(|one| Refusal::check(ApiKey::OffsetCommit, one.error_code, None))
        });
        answer.await.map(|_| ())
    }
}

fn list_offsets(topics: &BTreeMap<&str, Vec<i32>>, at: At) -> ListOffsetsRequest {
    let topics = topics.iter().map(|(name, partitions)| ListOffsetsTopic {
        name: (*name).into(),
        partitions: partitions
            .iter()
            .map(|partition| ListOffsetsPartition {
                partition_index: *partition,
                timestamp: at.timestamp(),
                ..ListOffsetsPartition::default()
            })
            .collect(),
    });
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(at == At::LatestStable),
        topics: topics.collect(),
        ..ListOffsetsRequest::default()
    }
}
