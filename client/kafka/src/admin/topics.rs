//! Topics: creating, changing, deleting, and what is set for them.

use esker_kafka::ApiKey;
use esker_kafka::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_kafka::messages::create_topics_response::CreatableTopicResult;
use esker_kafka::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use esker_kafka::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_kafka::messages::describe_configs_response::DescribeConfigsResourceResult;
use esker_kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use super::change_timeout_ms;
use crate::client::{Client, Repeat, To};
use crate::error::{Error, Refusal};

/// Kafka's number for a topic as something that has configs.
const TOPIC: i8 = 2;

impl Client {
    /// Creates a topic.
    ///
    /// # Errors
    /// `TOPIC_ALREADY_EXISTS` and other refusals; if the answer was lost, it may exist.
    pub async fn create_topic(&self, topic: CreatableTopic) -> Result<CreatableTopicResult, Error> {
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: change_timeout_ms(),
            validate_only: false,
        };
        let answer = self.call(To::Controller, Repeat::Harmful, &request, |response| {
            only(response.topics.first(), ApiKey::CreateTopics, |one| {
                (one.error_code, one.error_message.as_deref())
            })
        });
        Ok(answer.await?.topics.remove(0))
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// Refusals; if the answer was lost, it may be gone.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.into()),
                ..DeleteTopicState::default()
            }],
            timeout_ms: change_timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let answer = self.call(To::Controller, Repeat::Harmful, &request, |response| {
            only(response.responses.first(), ApiKey::DeleteTopics, |one| {
                (one.error_code, one.error_message.as_deref())
            })
        });
        answer.await?;
        self.forget(To::Leader(name, 0));
        Ok(())
    }

    /// Gives a topic more partitions: `count` in all.
    ///
    /// # Errors
    /// Refusals; if the answer was lost, it may have them.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), Error> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: name.into(),
                count,
                assignments: None,
            }],
            timeout_ms: change_timeout_ms(),
            validate_only: false,
        };
        let answer = self.call(To::Controller, Repeat::Harmful, &request, |response| {
            only(response.results.first(), ApiKey::CreatePartitions, |one| {
                (one.error_code, one.error_message.as_deref())
            })
        });
        answer.await?;
        self.forget(To::Leader(name, 0));
        Ok(())
    }

    /// The configs of a topic, those that are only defaults included.
    ///
    /// # Errors
    /// Refusals.
    pub async fn topic_configs(&self, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Error> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: name.into(),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let answer = self.call(To::Any, Repeat::Harmless, &request, |response| {
            only(response.results.first(), ApiKey::DescribeConfigs, |one| {
                (one.error_code, one.error_message.as_deref())
            })
        });
        Ok(answer.await?.results.remove(0).configs)
    }

    /// Changes configs of a topic: all of them, or none.
    ///
    /// # Errors
    /// Refusals.
    pub async fn alter_topic_configs(&self, name: &str, configs: Vec<AlterableConfig>) -> Result<(), Error> {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: name.into(),
                configs,
            }],
            validate_only: false,
        };
        // Setting the same values twice is as good as once.
        let answer = self.call(To::Controller, Repeat::Harmless, &request, |response| {
            only(response.responses.first(), ApiKey::IncrementalAlterConfigs, |one| {
                (one.error_code, one.error_message.as_deref())
            })
        });
        answer.await.map(|_| ())
    }
}

/// What became of the one thing that was asked for. None is no answer.
pub(super) fn only<'a, T>(
    one: Option<&'a T>,
    api: ApiKey,
    outcome: impl Fn(&'a T) -> (i16, Option<&'a str>),
) -> Result<(), Refusal> {
    let (code, words) = match one {
        Some(one) => outcome(one),
        None => (-1, Some("the answer does not speak of what was asked")),
    };
    Refusal::check(api, code, words)
}
