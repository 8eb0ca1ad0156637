//! Configs of topics, brokers and groups.

use esker_proto::v1;
use esker_proto::v1::{ConfigOperationKind, ConfigResourceType};

use super::{Admin, first, outcome};
use crate::client::Repeat;
use crate::error::Error;

/// What has configs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// The topic with this name.
    Topic(String),
    /// The agent with this node id; absent for all of them.
    Broker(Option<i32>),
    /// The group with this id.
    Group(String),
}

/// A config and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Absent if it has none, or is sensitive.
    pub value: Option<String>,
    /// Who said so.
    pub source: ConfigSource,
    /// It cannot be altered.
    pub read_only: bool,
    /// Its value is not shown.
    pub sensitive: bool,
    /// What it means.
    pub documentation: Option<String>,
}

/// Who has set a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// It was set for the topic.
    Topic,
    /// It was set for this agent.
    Broker,
    /// It was set for all agents.
    AllBrokers,
    /// The settings with which the agent was started.
    Settings,
    /// Nobody: it is the default.
    Default,
    /// It was set for the group.
    Group,
    /// Something that this version of the client does not know, with its number in the Kafka protocol.
    Other(i32),
}

/// A change of one config.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigChange {
    /// Sets it.
    Set(String, String),
    /// Back to the default.
    Delete(String),
    /// Adds to a list.
    Append(String, String),
    /// Takes from a list.
    Subtract(String, String),
}

impl ConfigChange {
    /// Sets a config.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Set(name.into(), value.into())
    }

    /// Sets a config back to its default.
    pub fn delete(name: impl Into<String>) -> Self {
        Self::Delete(name.into())
    }

    fn into_proto(self) -> v1::ConfigOperation {
        let (kind, name, value) = match self {
            Self::Set(name, value) => (ConfigOperationKind::Set, name, Some(value)),
            Self::Delete(name) => (ConfigOperationKind::Delete, name, None),
            Self::Append(name, value) => (ConfigOperationKind::Append, name, Some(value)),
            Self::Subtract(name, value) => (ConfigOperationKind::Subtract, name, Some(value)),
        };
        v1::ConfigOperation {
            name,
            kind: kind.into(),
            value,
        }
    }
}

impl Resource {
    /// The topic with this name.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::Topic(name.into())
    }

    fn into_proto(self) -> v1::ConfigResource {
        let (kind, name) = match self {
            Self::Topic(name) => (ConfigResourceType::Topic, name),
            Self::Broker(node) => {
                let name = node.map(|node| node.to_string()).unwrap_or_default();
                (ConfigResourceType::Broker, name)
            }
            Self::Group(id) => (ConfigResourceType::Group, id),
        };
        v1::ConfigResource {
            r#type: kind.into(),
            name,
        }
    }
}

impl Admin {
    /// All configs of something.
    ///
    /// # Errors
    /// It does not exist, or no agent could be reached.
    pub async fn describe_configs(&self, resource: Resource) -> Result<Vec<Config>, Error> {
        let request = v1::DescribeConfigsRequest {
            resources: vec![resource.into_proto()],
            documentation: true,
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.describe_configs(request).await
        });
        let described = first(answer.await?.results)?;
        outcome(described.failure)?;
        Ok(described.configs.into_iter().map(config).collect())
    }

    /// Changes the configs that are named and leaves all others alone.
    ///
    /// # Errors
    /// One of them cannot be; then none is changed. Or no agent could be reached.
    pub async fn alter_configs(
        &self,
        resource: Resource,
        changes: impl IntoIterator<Item = ConfigChange>,
    ) -> Result<(), Error> {
        let alteration = v1::ConfigAlteration {
            resource: Some(resource.into_proto()),
            operations: changes.into_iter().map(ConfigChange::into_proto).collect(),
        };
        let request = v1::AlterConfigsRequest {
            alterations: vec![alteration],
            validate_only: false,
        };
        let answer = self.call(Repeat::Harmless, request, |mut admin, request| async move {
            admin.alter_configs(request).await
        });
        outcome(first(answer.await?.results)?.failure)
    }
}

fn config(config: v1::Config) -> Config {
    Config {
        name: config.name,
        value: config.value,
        source: match config.source {
            1 => ConfigSource::Topic,
            2 => ConfigSource::Broker,
            3 => ConfigSource::AllBrokers,
            4 => ConfigSource::Settings,
            5 => ConfigSource::Default,
            8 => ConfigSource::Group,
            other => ConfigSource::Other(other),
        },
        read_only: config.read_only,
        sensitive: config.sensitive,
        documentation: config.documentation,
    }
}
