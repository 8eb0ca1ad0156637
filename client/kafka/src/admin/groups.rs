//! Groups: which there are, who is in them, deleting them.

use std::collections::BTreeMap;

use esker_kafka::ApiKey;
use esker_kafka::messages::delete_groups_request::DeleteGroupsRequest;
use esker_kafka::messages::describe_groups_request::DescribeGroupsRequest;
use esker_kafka::messages::describe_groups_response::DescribedGroup;
use esker_kafka::messages::list_groups_request::ListGroupsRequest;
use esker_kafka::messages::list_groups_response::ListedGroup;

use super::topics::only;
use crate::client::{Client, Repeat, To};
use crate::error::{Error, Refusal};

impl Client {
    /// All groups with the node that coordinates them, by name.
    ///
    /// # Errors
    /// If a node does not tell: a part of the groups would be missing.
    pub async fn groups(&self) -> Result<Vec<(i32, ListedGroup)>, Error> {
        let mut found = BTreeMap::new();
        for node in self.nodes().await? {
            let request = ListGroupsRequest::default();
            let answer = self.call(To::Node(node.id), Repeat::Harmless, &request, |response| {
                Refusal::check(ApiKey::ListGroups, response.error_code, None)
            });
            for group in answer.await?.groups {
                found.entry(group.group_id.clone()).or_insert((node.id, group));
            }
        }
        Ok(found.into_values().collect())
    }

    /// A group as its coordinator sees it. One that does not exist is `Dead`.
    ///
    /// # Errors
    /// Refusals.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, Error> {
        let request = DescribeGroupsRequest {
            groups: vec![group.into()],
            ..DescribeGroupsRequest::default()
        };
        let answer = self.call(To::Group(group), Repeat::Harmless, &request, |response| {
            only(response.groups.first(), ApiKey::DescribeGroups, |one| {
                (one.error_code, one.error_message.as_deref())
            })
        });
        Ok(answer.await?.groups.remove(0))
    }

    /// Deletes a group with what it has committed.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP` while it has members, and other refusals.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let request = DeleteGroupsRequest {
            groups_names: vec![group.into()],
        };
        let answer = self.call(To::Group(group), Repeat::Harmful, &request, |response| {
            only(response.results.first(), ApiKey::DeleteGroups, |one| {
                (one.error_code, None)
            })
        });
        answer.await.map(|_| ())
    }
}
