//! Groups and their offsets, as administrators see them.
//!
//! Owns: asking the agents that coordinate them.
//! Does not own: what coordinators do (`crate::groups`), members (`subscribe`).

use bytes::Bytes;
use esker_kafka::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use esker_kafka::messages::delete_groups_request::DeleteGroupsRequest as KafkaDeleteGroups;
use esker_kafka::messages::describe_groups_request::DescribeGroupsRequest as KafkaDescribeGroups;
use esker_kafka::messages::describe_groups_response::DescribedGroup;
use esker_kafka::messages::list_groups_request::ListGroupsRequest as KafkaListGroups;
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use esker_kafka::{ErrorCode, Reader, Str};
use esker_proto::v1::{
    AgentFailure, CommittedOffset, DeleteGroupsRequest, DescribeGroupsRequest, DescribeGroupsResponse, Failure,
    GroupDescription, GroupListing, GroupMember, GroupOffsetsRequest, GroupResult, GroupResults, ListGroupsResponse,
    Member, OffsetResult, OffsetResults, TopicPartitions,
};
use futures::future::join_all;
use tonic::Status;

use super::calls::Caller;
use super::coordinators::{PATIENCE, ask, ask_node};
use super::errors::{Refused, check, error_code, failure, failure_of, internal};

const LIST_GROUPS: i16 = 4;
/// From this version on, groups that do not exist are told apart.
const DESCRIBE_GROUPS: i16 = 6;
const DELETE_GROUPS: i16 = 2;
/// The last versions that name topics.
const OFFSET_FETCH: i16 = 9;
const OFFSET_COMMIT: i16 = 9;
/// Of a commit by nobody's member.
const NO_GENERATION: i32 = -1;
/// No leader epoch.
const NO_EPOCH: i32 = -1;

pub(super) async fn list(caller: &Caller) -> Result<ListGroupsResponse, Status> {
    let view = caller.agent.members.view();
    let request = KafkaListGroups::default();
    let asked = view.members.iter().map(|member| {
        let request = &request;
        async move {
            let answer = ask_node(caller, member.node, &member.endpoint, LIST_GROUPS, request, PATIENCE).await;
            let answer = answer.and_then(|answer| check(answer.error_code, "groups", None).map(|()| answer));
            (member.node, answer)
        }
    });
    let mut listed = ListGroupsResponse::default();
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => listed
                .groups
                .extend(answer.groups.into_iter().map(|group| GroupListing {
                    group_id: group.group_id.into(),
                    protocol_type: group.protocol_type.into(),
                    state: group.group_state.into(),
                })),
            Err(status) => listed.failures.push(AgentFailure {
                node,
                failure: Some(failure_of(&status)),
            }),
        }
    }
    listed.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    listed.groups.dedup_by(|a, b| a.group_id == b.group_id);
    Ok(listed)
}

pub(super) async fn describe(caller: &Caller, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let request = KafkaDescribeGroups {
            groups: vec![Str::from(&group_id)],
            ..KafkaDescribeGroups::default()
        };
        let answer = ask(caller, &group_id, DESCRIBE_GROUPS, &request, PATIENCE).await;
        let answer = answer.and_then(|answer| {
            let first = answer.groups.into_iter().next();
            first.ok_or_else(|| internal("DescribeGroups", &"no answer"))
        });
        groups.push(match answer {
            Ok(described) => description(group_id, described),
            Err(status) => GroupDescription {
                group_id,
                failure: Some(failure_of(&status)),
                ..GroupDescription::default()
            },
        });
    }
    DescribeGroupsResponse { groups }
}

fn description(group_id: String, described: DescribedGroup) -> GroupDescription {
    let members = described.members.into_iter().map(|member| GroupMember {
        member_id: member.member_id.into(),
        instance_id: member.group_instance_id.map(String::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        assignment: assignment(&member.member_assignment),
    });
    GroupDescription {
        failure: failure(
            described.error_code,
            &format!("group {group_id:?}"),
            described.error_message.as_deref(),
        ),
        group_id,
        protocol_type: described.protocol_type.into(),
        state: described.group_state.into(),
        assignor: described.protocol_data.into(),
        members: members.collect(),
    }
}

/// What a member was assigned, if it is a consumer's assignment; nothing otherwise.
pub(super) fn assignment(bytes: &Bytes) -> Vec<TopicPartitions> {
    let mut reader = Reader::new(bytes.clone());
    let decoded = reader.i16().and_then(|version| {
        let known = version.min(ConsumerProtocolAssignment::VERSION_MAX);
        ConsumerProtocolAssignment::decode(&mut reader, known)
    });
    let assigned = decoded
        .map(|assignment| assignment.assigned_partitions)
        .unwrap_or_default();
    let topics = assigned.into_iter().map(|topic| TopicPartitions {
        topic: topic.topic.into(),
        partitions: topic.partitions,
    });
    topics.collect()
}

pub(super) async fn delete(caller: &Caller, request: DeleteGroupsRequest) -> GroupResults {
    let mut results = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let request = KafkaDeleteGroups {
            groups_names: vec![Str::from(&group_id)],
        };
        let failure: Option<Failure> = match ask(caller, &group_id, DELETE_GROUPS, &request, PATIENCE).await {
            Ok(answer) => answer
                .results
                .first()
                .and_then(|result| failure(result.error_code, &format!("group {group_id:?}"), None)),
            Err(status) => Some(failure_of(&status)),
        };
        results.push(GroupResult { group_id, failure });
    }
    GroupResults { results }
}

/// What a group has committed, and nothing else.
pub(super) async fn offsets(caller: &Caller, request: GroupOffsetsRequest) -> Result<Vec<CommittedOffset>, Status> {
    committed(caller, request, false).await
}

/// The same for who goes on from there: offsets that a transaction is about to commit are waited for (Unavailable until then).
pub(super) async fn stable_offsets(
    caller: &Caller,
    request: GroupOffsetsRequest,
) -> Result<Vec<CommittedOffset>, Status> {
    committed(caller, request, true).await
}

fn offset_fetch(request: GroupOffsetsRequest, require_stable: bool) -> OffsetFetchRequest {
    let topics = request.partitions.into_iter().map(|topic| OffsetFetchRequestTopics {
        name: Str::from(topic.topic),
        partition_indexes: topic.partitions,
        ..OffsetFetchRequestTopics::default()
    });
    let topics: Vec<_> = topics.collect();
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::from(&request.group_id),
            topics: (!topics.is_empty()).then_some(topics),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable,
        ..OffsetFetchRequest::default()
    }
}

async fn committed(
    caller: &Caller,
    request: GroupOffsetsRequest,
    require_stable: bool,
) -> Result<Vec<CommittedOffset>, Status> {
    let group_id = request.group_id.clone();
    let request = offset_fetch(request, require_stable);
    let answer = ask(caller, &group_id, OFFSET_FETCH, &request, PATIENCE).await?;
    let group = answer.groups.into_iter().next();
    let group = group.ok_or_else(|| internal("OffsetFetch", &"no answer"))?;
    check(group.error_code, &format!("group {group_id:?}"), None)?;
    let mut offsets = Vec::new();
    for topic in group.topics {
        for found in topic.partitions {
            let what = format!("partition {} of {:?}", found.partition_index, topic.name);
            check(found.error_code, &what, None)?;
            if found.committed_offset < 0 {
                continue;
            }
            offsets.push(CommittedOffset {
                topic: String::from(topic.name.clone()),
                partition: found.partition_index,
                offset: found.committed_offset,
                leader_epoch: Some(found.committed_leader_epoch).filter(|epoch| *epoch >= 0),
                metadata: found.metadata.map(String::from).unwrap_or_default(),
            });
        }
    }
    Ok(offsets)
}

/// Commits offsets, as a member or as nobody.
pub(super) async fn commit(
    caller: &Caller,
    group_id: &str,
    member: Option<&Member>,
    offsets: Vec<CommittedOffset>,
) -> Result<OffsetResults, Status> {
    let topics = offsets.into_iter().map(|offset| OffsetCommitRequestTopic {
        name: Str::from(offset.topic),
        partitions: vec![OffsetCommitRequestPartition {
            partition_index: offset.partition,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch.unwrap_or(NO_EPOCH),
            committed_metadata: Some(Str::from(offset.metadata)),
        }],
        ..OffsetCommitRequestTopic::default()
    });
    let request = OffsetCommitRequest {
        group_id: Str::from(group_id),
        generation_id_or_member_epoch: member.map_or(NO_GENERATION, |member| member.generation),
        member_id: member.map(|member| Str::from(&member.member_id)).unwrap_or_default(),
        group_instance_id: member.and_then(|member| member.instance_id.as_ref()).map(Str::from),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    };
    let answer = ask(caller, group_id, OFFSET_COMMIT, &request, PATIENCE).await?;
    let results = answer.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |committed| {
            let what = format!("the commit of partition {} of {name:?}", committed.partition_index);
            OffsetResult {
                topic: String::from(name.clone()),
                partition: committed.partition_index,
                failure: commit_failure(committed.error_code, &what, member.is_some()),
            }
        })
    });
    Ok(OffsetResults {
        results: results.collect(),
    })
}

fn commit_failure(code: i16, what: &str, by_member: bool) -> Option<Failure> {
    match error_code(code) {
        ErrorCode::UnknownMemberId if !by_member => {
            let refused = Refused::new(ErrorCode::UnknownMemberId, what).said(Some("the group has members"));
            let refused = refused.advised("commit as one of them, or end them first");
            Some(failure_of(&refused.status()))
        }
        _ => failure(code, what, None),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn offsets_of_transactions_are_waited_for_by_who_goes_on_from_there() {
        for require_stable in [true, false] {
            let request = offset_fetch(GroupOffsetsRequest::default(), require_stable);
            assert_eq!(request.require_stable, require_stable);
        }
        // Subscriptions ask again for this code only.
        let undecided = check(ErrorCode::UnstableOffsetCommit.code(), "partition", None);
        assert_eq!(undecided.unwrap_err().code(), Code::Unavailable);
    }
}
