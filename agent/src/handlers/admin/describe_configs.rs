//! `DescribeConfigs`: every config of topics, brokers, groups and client metrics subscriptions.
//!
//! Invariants: LOG-6 (a topic is denied, and its configs are told, only after a read barrier).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use esker_kafka::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_kafka::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
};
use esker_kafka::{ErrorCode, Str, TopicRef};
use esker_metadata::keys::config::{self, Configs, Owner};
use esker_metadata::store::KeyRange;

use super::config_values::{
    OwnBroker, SetConfigs, Source, TopicDefaults, Wanted, describe_all_brokers, describe_broker, describe_plain,
};
use super::stored::{self, NAME_BYTES_MAX};
use crate::agent::Agent;
use crate::handlers::create_topics::{Refused, check_name};
use crate::settings::kafka_configs::{CLIENT_METRICS, GROUP};

/// Resources whose configs one answer tells; what comes after is refused. An answer with all configs of as many topics has 20 MiB.
const RESOURCES_MAX: usize = 5_000;
/// With documentation an answer is larger.
const DOCUMENTED_MAX: usize = 1_000;
/// Bytes of configs in one answer; resources after those that fill it are refused.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// What configs belong to, as requests number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceType {
    /// A topic.
    Topic,
    /// A broker, or with an empty name all of them.
    Broker,
    /// Log levels of a broker.
    BrokerLogger,
    /// A client metrics subscription.
    ClientMetrics,
    /// A group.
    Group,
}

impl ResourceType {
    /// From its number.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::BrokerLogger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }
}

/// The node id in the name of a broker resource.
///
/// # Errors
/// It is another broker's, or none at all: this agent knows its own settings only.
pub fn check_broker(agent: &Agent, name: &str) -> Result<i32, Refused> {
    let own = agent.members.identity().node();
    let refuse = |message: String| Err((ErrorCode::InvalidRequest, message));
    let shown = name.chars().take(100).collect::<String>();
    match name.parse::<i32>() {
        // One spelling for one broker: it is part of a key, and of what tells one resource from another.
        Ok(node) if node == own && name == own.to_string() => Ok(node),
        Ok(_) => refuse(format!(
            "Unexpected broker id, expected {own} or empty string, but received {shown}"
        )),
        Err(_) => refuse(format!("Broker id must be an integer, but it is: {shown}")),
    }
}

/// Who keeps the configs of resources that are not topics.
#[must_use]
pub fn owner_of(of: ResourceType) -> Option<Owner> {
    match of {
        ResourceType::Broker => Some(Owner::Broker),
        ResourceType::ClientMetrics => Some(Owner::ClientMetrics),
        ResourceType::Group => Some(Owner::Group),
        ResourceType::Topic | ResourceType::BrokerLogger => None,
    }
}

/// What was set for the resources of a request that are not topics, and for all brokers.
async fn stored_for(agent: &Agent, asked: &[DescribeConfigsResource]) -> Result<Stored, Refused> {
    let key = |resource: &DescribeConfigsResource| {
        let owner = owner_of(ResourceType::from_code(resource.resource_type)?)?;
        let name = resource.resource_name.as_str();
        // What no resource can be called has no key, and need not be looked for.
        let possible = match owner {
            Owner::Broker => name.is_empty() || check_broker(agent, name).is_ok(),
            Owner::Group | Owner::ClientMetrics => !name.is_empty() && name.len() <= NAME_BYTES_MAX,
        };
        possible.then(|| config::key(owner, name))
    };
    let mut keys: BTreeSet<Bytes> = asked.iter().filter_map(key).collect();
    if keys.is_empty() {
        return Ok(Stored::new());
    }
    keys.insert(config::key(Owner::Broker, ""));
    let ranges = keys.into_iter().map(KeyRange::Key).collect();
    let held = stored::read(agent, ranges).await?;
    Ok(held.into_iter().flatten().map(|kv| (kv.key, kv.value)).collect())
}

/// Values of keys.
type Stored = BTreeMap<Bytes, Bytes>;

/// Configs as a key of the metadata store holds them.
///
/// # Errors
/// They cannot be read.
pub fn decode(held: Option<&Bytes>) -> Result<SetConfigs, Refused> {
    let configs = held.map(|value| Configs::decode(value)).transpose();
    let configs = configs.map_err(|error| (ErrorCode::UnknownServerError, error.to_string()))?;
    Ok(configs.unwrap_or_default().configs.into_iter().collect())
}

/// Answers; every resource of the request is in the answer.
pub async fn answer(agent: &Arc<Agent>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let is_topic = |resource: &DescribeConfigsResource| resource.resource_type == ResourceType::Topic.code();
    let told_max = if request.include_documentation {
        DOCUMENTED_MAX
    } else {
        RESOURCES_MAX
    };
    let told = request.resources.get(..told_max).unwrap_or(&request.resources);
    let asker = Asker {
        agent,
        stored: stored_for(agent, told).await,
        behind: request.resources.iter().any(is_topic) && agent.barrier().await.is_err(),
        defaults: TopicDefaults::of(agent),
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let mut page = Page {
        seen: BTreeSet::new(),
        answered: 0,
        left: ANSWER_BYTES_MAX,
        too_many: Str::from(format!(
            "a request may ask for the configs of at most {told_max} resources"
        )),
        told_max,
    };
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        results.push(page.tell(&asker, resource));
        if results.len() <= told_max {
            tokio::task::yield_now().await;
        }
    }
    DescribeConfigsResponse {
        results,
        ..Default::default()
    }
}

/// What an answer has told already, and what still fits.
struct Page {
    seen: BTreeSet<(i8, Str)>,
    /// Resources, told or refused.
    answered: usize,
    /// Bytes.
    left: usize,
    /// Resources that are told or refused one by one; those after them are refused with the same words.
    told_max: usize,
    too_many: Str,
}

impl Page {
    fn tell(&mut self, asker: &Asker<'_>, resource: DescribeConfigsResource) -> DescribeConfigsResult {
        let invalid = |message: Str| Err((ErrorCode::InvalidRequest, message));
        self.answered += 1;
        let described = if self.answered > self.told_max {
            invalid(self.too_many.clone())
        } else if !self
            .seen
            .insert((resource.resource_type, resource.resource_name.clone()))
        {
            invalid(Str::from_static("Each resource must appear at most once."))
        } else if self.left == 0 {
            invalid(Str::from_static(
                "the configs of the resources before it fill the answer; ask for fewer at once",
            ))
        } else {
            let described = asker.describe(&resource);
            described.map_err(|(code, message)| (code, Str::from(message)))
        };
        let described = described.and_then(|configs| match self.left.checked_sub(bytes_of(&configs)) {
            Some(left) => {
                self.left = left;
                Ok(configs)
            }
            None => {
                self.left = 0;
                invalid(Str::from_static(
                    "its configs do not fit into the answer any more; ask for fewer resources at once",
                ))
            }
        });
        let (configs, refused) = match described {
            Ok(configs) => (configs, None),
            Err(refused) => (Vec::new(), Some(refused)),
        };
        DescribeConfigsResult {
            error_code: refused.as_ref().map_or(0, |(code, _)| code.code()),
            error_message: refused.map(|(_, message)| message),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
        }
    }
}

/// About as many bytes as configs have in an answer.
fn bytes_of(configs: &[DescribeConfigsResourceResult]) -> usize {
    /// Lengths, flags and numbers beside the texts.
    const FIXED: usize = 12;
    let text = |text: &Option<Str>| text.as_ref().map_or(0, |text| text.len());
    let row = |config: &DescribeConfigsResourceResult| {
        let synonyms = config.synonyms.iter();
        let synonyms = synonyms.map(|synonym| FIXED + synonym.name.len() + text(&synonym.value));
        FIXED + config.name.len() + text(&config.value) + text(&config.documentation) + synonyms.sum::<usize>()
    };
    configs.iter().map(row).sum()
}

struct Asker<'a> {
    agent: &'a Arc<Agent>,
    /// Topics cannot be denied, and their configs may be old.
    behind: bool,
    stored: Result<Stored, Refused>,
    defaults: TopicDefaults,
    synonyms: bool,
    documentation: bool,
}

impl Asker<'_> {
    fn describe(&self, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
        let names: Option<BTreeSet<&str>> = asked
            .configuration_keys
            .as_ref()
            .filter(|keys| !keys.is_empty())
            .map(|keys| keys.iter().map(|key| &**key).collect());
        let wanted = Wanted {
            names: names.as_ref(),
            synonyms: self.synonyms,
            documentation: self.documentation,
        };
        let name = asked.resource_name.as_str();
        let Some(of) = ResourceType::from_code(asked.resource_type) else {
            let message = format!("Unsupported resource type: {}", asked.resource_type);
            return Err((ErrorCode::InvalidRequest, message));
        };
        match of {
            ResourceType::Topic => Ok(self.defaults.describe(&self.topic(&asked.resource_name)?, wanted)),
            ResourceType::Broker if name.is_empty() => {
                let set = self.set_for(Owner::Broker, name)?;
                Ok(describe_all_brokers(&set, wanted))
            }
            ResourceType::Broker => self.broker(name, wanted),
            // Log levels are chosen at start; there is none that could be told or changed by name.
            ResourceType::BrokerLogger => check_broker(self.agent, name).map(|_| Vec::new()),
            ResourceType::ClientMetrics => self.plain(Owner::ClientMetrics, name, wanted),
            ResourceType::Group => self.plain(Owner::Group, name, wanted),
        }
    }

    fn set_for(&self, owner: Owner, name: &str) -> Result<SetConfigs, Refused> {
        let stored = self.stored.as_ref().map_err(Clone::clone)?;
        decode(stored.get(&config::key(owner, name)))
    }

    fn topic(&self, name: &Str) -> Result<SetConfigs, Refused> {
        check_name(name).map_err(|(code, reason)| (code, format!("Topic name is invalid: {reason}")))?;
        if self.behind {
            let message = "the log cannot be read; try again";
            return Err((ErrorCode::RequestTimedOut, message.to_owned()));
        }
        if self.agent.known_topic(&TopicRef::Name(name.clone())).is_none() {
            return Err((
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic {name:.250}"),
            ));
        }
        let record = self.agent.replica.topic_record(name);
        Ok(record
            .map(|record| record.configs.into_iter().collect())
            .unwrap_or_default())
    }

    fn broker(&self, name: &str, wanted: Wanted<'_>) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
        check_broker(self.agent, name)?;
        let set_for_it = self.set_for(Owner::Broker, name)?;
        let set_for_all = self.set_for(Owner::Broker, "")?;
        let own = OwnBroker::of(self.agent);
        Ok(describe_broker(
            &own,
            &self.agent.settings,
            &set_for_it,
            &set_for_all,
            wanted,
        ))
    }

    fn plain(
        &self,
        owner: Owner,
        name: &str,
        wanted: Wanted<'_>,
    ) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
        let (table, source, what): (&'static [_], _, _) = match owner {
            Owner::Group => (&GROUP, Source::Group, "Group name"),
            Owner::ClientMetrics | Owner::Broker => (
                &CLIENT_METRICS,
                Source::ClientMetrics,
                "Client metrics subscription name",
            ),
        };
        if name.is_empty() {
            return Err((ErrorCode::InvalidRequest, format!("{what} must not be empty")));
        }
        let set = self.set_for(owner, name)?;
        Ok(describe_plain(table, &set, source, wanted))
    }
}
