//! DescribeGroups, ListGroups and DeleteGroups.
//!
//! A group that has offsets but no members is an empty group to people, whether or not a coordinator remembers it.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_kafka::messages::delete_groups_request::DeleteGroupsRequest;
use esker_kafka::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use esker_kafka::messages::describe_groups_request::DescribeGroupsRequest;
use esker_kafka::messages::describe_groups_response::{DescribeGroupsResponse, DescribedGroup, DescribedGroupMember};
use esker_kafka::messages::list_groups_request::ListGroupsRequest;
use esker_kafka::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use esker_kafka::{ErrorCode, Str};

use super::{RequestContext, code, group_id, wire};
use crate::groups::coordinator::Coordinator;
use crate::groups::group::{Description, State};
use crate::groups::ids::GroupId;

/// First version of DescribeGroups that knows GROUP_ID_NOT_FOUND (KIP-1043).
const NOT_FOUND_SINCE: i16 = 6;
/// What may be done with a group: read, delete, describe, describe and alter its configs. Bits are Kafka's ACL operations.
const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Kafka's name of the only type of group there is.
const CLASSIC: &str = "classic";

impl Coordinator {
    /// Answers DescribeGroups 0 to 6.
    pub async fn describe_groups(
        &self,
        request: &DescribeGroupsRequest,
        ctx: &RequestContext<'_>,
    ) -> DescribeGroupsResponse {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            let mut described = self.describe_one(group, ctx.version).await;
            if request.include_authorized_operations && described.error_code == ErrorCode::None.code() {
                described.authorized_operations = OPERATIONS;
            }
            groups.push(described);
        }
        DescribeGroupsResponse {
            groups,
            ..DescribeGroupsResponse::default()
        }
    }

    async fn describe_one(&self, group: &Str, version: i16) -> DescribedGroup {
        let id = group_id(group);
        if let Err(refusal) = self.check_owned(&id) {
            return DescribedGroup {
                group_id: group.clone(),
                error_code: refusal.code().code(),
                ..DescribedGroup::default()
            };
        }
        if let Some(description) = self.describe(&id) {
            return described(group, description);
        }
        let offsets = self.parts().offsets.fetch_all(&id).await;
        let blank = DescribedGroup {
            group_id: group.clone(),
            ..DescribedGroup::default()
        };
        match offsets {
            Ok(offsets) if !offsets.is_empty() => DescribedGroup {
                group_state: Str::from_static(State::Empty.name()),
                ..blank
            },
            Ok(_) if version >= NOT_FOUND_SINCE => DescribedGroup {
                error_code: ErrorCode::GroupIdNotFound.code(),
                error_message: Some(Str::from(format!("Group {id} not found."))),
                group_state: Str::from_static(State::Dead.name()),
                ..blank
            },
            Ok(_) => DescribedGroup {
                group_state: Str::from_static(State::Dead.name()),
                ..blank
            },
            Err(_) => DescribedGroup {
                error_code: ErrorCode::CoordinatorLoadInProgress.code(),
                ..blank
            },
        }
    }

    /// Answers ListGroups 0 to 5 with the groups that this agent coordinates; people ask all agents. A list denies what it
    /// does not have, so it needs the read barrier (LOG-6).
    pub async fn list_groups(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let matches = |filter: &[Str], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        if !matches(&request.types_filter, CLASSIC) {
            return ListGroupsResponse::default();
        }
        let loading = || self.parts().ownership.is_loading();
        if self.parts().topics.catch_up().await.is_err() || loading() {
            return ListGroupsResponse {
                error_code: ErrorCode::CoordinatorLoadInProgress.code(),
                ..ListGroupsResponse::default()
            };
        }
        let coordinated = self.list();
        let line = |group: &GroupId, protocol_type: Option<Str>, state: State| ListedGroup {
            group_id: Str::from(group.as_str()),
            protocol_type: protocol_type.unwrap_or_default(),
            group_state: Str::from_static(state.name()),
            group_type: Str::from_static(CLASSIC),
        };
        let offsets_only = self.parts().offsets.groups();
        let offsets_only = offsets_only
            .iter()
            .filter(|id| self.check_owned(id).is_ok())
            .filter(|id| coordinated.binary_search_by(|listed| listed.group.cmp(id)).is_err());
        let groups = coordinated
            .iter()
            .map(|listed| line(&listed.group, wire(listed.protocol_type.as_ref()), listed.state))
            .chain(offsets_only.map(|id| line(id, None, State::Empty)))
            .filter(|listed| matches(&request.states_filter, &listed.group_state));
        ListGroupsResponse {
            groups: groups.collect(),
            ..ListGroupsResponse::default()
        }
    }

    /// Answers DeleteGroups 0 to 2. A group that is named twice is deleted and answered once.
    pub async fn delete_groups(self: &Arc<Self>, request: &DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut results = Vec::with_capacity(request.groups_names.len());
        let mut named = BTreeSet::new();
        for group in request.groups_names.iter().filter(|group| named.insert(group.as_str())) {
            let verdict = self.delete(&group_id(group)).await;
            results.push(DeletableGroupResult {
                group_id: group.clone(),
                error_code: code(&verdict),
            });
        }
        DeleteGroupsResponse {
            results,
            ..DeleteGroupsResponse::default()
        }
    }
}

fn described(group: &Str, description: Description) -> DescribedGroup {
    let members = description.members.into_iter().map(|member| DescribedGroupMember {
        member_id: Str::from(member.member.as_str()),
        group_instance_id: member.instance.map(|instance| Str::from(instance.as_str())),
        client_id: Str::from(&*member.client.id),
        client_host: Str::from(&*member.client.host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id: group.clone(),
        group_state: Str::from_static(description.state.name()),
        protocol_type: wire(description.protocol_type.as_ref()).unwrap_or_default(),
        protocol_data: wire(description.protocol.as_ref()).unwrap_or_default(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}
