//! The value of every config: what it is, where it comes from, what stands behind it.
//!
//! Owns: the order of sources: what was set for the resource, for all brokers, at start, Kafka's default.
//! Does not own: names and types (`settings::kafka_configs`), the request (`describe_configs`).

use std::collections::{BTreeMap, BTreeSet};

use esker_kafka::Str;
use esker_kafka::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsSynonym};

use crate::agent::Agent;
use crate::broker_configs::acts_at_once;
use crate::settings::kafka_configs::{BROKER, ConfigKind, KafkaConfig, TOPIC, find};
use crate::settings::{KEYS, Key, Scope, Settings};

/// Where a value comes from, as DescribeConfigs numbers it (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while it runs.
    DynamicBroker = 2,
    /// Set for all brokers while they run.
    DynamicDefaultBroker = 3,
    /// Said when the broker was started.
    StaticBroker = 4,
    /// Nobody said anything.
    Default = 5,
    /// Set for the client metrics subscription.
    ClientMetrics = 7,
    /// Set for the group.
    Group = 8,
}

/// What a request wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Only these; all if there is no list.
    pub names: Option<&'a BTreeSet<&'a str>>,
    /// Also what stands behind each value.
    pub synonyms: bool,
    /// Also what each means.
    pub documentation: bool,
}

/// A value with its name and source, the strongest first.
type Synonym = (&'static str, Option<String>, Source);

/// Configs by name, as they were set.
pub type SetConfigs = BTreeMap<String, String>;

/// What topics have without configs of their own; worked out once for each request.
#[derive(Debug)]
pub struct TopicDefaults(Vec<Behind>);

/// What stands behind a config that nobody has set for the resource.
#[derive(Clone, Debug, Default)]
struct Behind {
    synonyms: Vec<Synonym>,
    /// The value where there are no synonyms: Kafka has none for a default that no broker config holds.
    otherwise: Option<String>,
}

/// What a broker is told about itself, beside its settings.
#[derive(Clone, Debug)]
pub struct OwnBroker {
    /// Its node id.
    pub node: i32,
    /// Where clients reach it.
    pub endpoint: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// Where its records are.
    pub log_dir: String,
}

impl OwnBroker {
    /// The agent itself.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let member = agent.members.identity().member();
        Self {
            node: member.node,
            endpoint: format!("PLAINTEXT://{}", member.endpoint),
            zone: member.zone.into(),
            log_dir: log_dir(&agent.settings),
        }
    }

    /// What is not in the settings under Kafka's name.
    fn value(&self, name: &str) -> Option<String> {
        match name {
            "node.id" | "broker.id" => Some(self.node.to_string()),
            "listeners" | "advertised.listeners" => Some(self.endpoint.clone()),
            "listener.security.protocol.map" => Some("PLAINTEXT:PLAINTEXT".to_owned()),
            "log.dirs" => Some(self.log_dir.clone()),
            "process.roles" => Some("broker".to_owned()),
            "broker.rack" => Some(self.zone.clone()).filter(|zone| !zone.is_empty()),
            _ => None,
        }
    }
}

/// What stands for a log directory: the bucket.
#[must_use]
pub fn log_dir(settings: &Settings) -> String {
    let store = settings.process.store.as_str();
    if store.is_empty() {
        "bucket".to_owned()
    } else {
        store.to_owned()
    }
}

impl TopicDefaults {
    /// Of topics on this agent.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let node = agent.members.identity().node().to_string();
        let set = |name: &str| agent.replica.broker_configs(name).configs.into_iter().collect();
        let layers = [
            (Source::DynamicBroker, set(&node)),
            (Source::DynamicDefaultBroker, set("")),
        ];
        let row = |config| topic_default(config, &agent.settings, &layers);
        Self(TOPIC.iter().map(row).collect())
    }

    /// Every config of a topic.
    #[must_use]
    pub fn describe(&self, own: &SetConfigs, wanted: Wanted<'_>) -> Vec<DescribeConfigsResourceResult> {
        let rows = TOPIC.iter().zip(&self.0).filter(|(config, _)| wanted.has(config.name));
        let row = |(config, behind): (&'static KafkaConfig, &Behind)| {
            let mut behind = behind.clone();
            behind.synonyms.splice(0..0, dynamic(config, own, Source::Topic));
            told(config, behind, false, wanted)
        };
        rows.map(row).collect()
    }
}

impl Wanted<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.is_none_or(|names| names.contains(name))
    }
}

/// What a topic without the config has. Of the settings that may be its default Kafka tells what stands behind only if the finest says
/// something: of `log.retention.hours` alone it tells the value, and that it is a default.
fn topic_default(config: &'static KafkaConfig, settings: &Settings, layers: &[(Source, SetConfigs)]) -> Behind {
    let keys = KEYS.iter().filter(|key| key.scope == Scope::TopicDefault(config.name));
    // Of several keys for one config the finest that says something counts, and it stands first in the table.
    let said = keys.filter_map(|key| {
        let value = settings.show(key.name)?;
        Some((key.name, in_milliseconds(key.name, value), said_at_start(key, settings)))
    });
    let said = said
        .filter(|(_, _, said)| *said)
        .map(|(name, value, _)| (name, value))
        .next();
    let kafkas = config.default.map(str::to_owned);
    let mut synonyms = Vec::new();
    for (source, set) in layers {
        let set = config.broker.and_then(|name| Some((name, set.get(name)?)));
        let set = set.filter(|(name, _)| acts_at_once(name));
        synonyms.extend(set.map(|(name, value)| (name, Some(value.clone()), *source)));
    }
    if let Some((name, value)) = said.clone().filter(|(name, _)| Some(*name) == config.broker) {
        synonyms.push((name, Some(value), Source::StaticBroker));
    }
    let of_broker = config.broker.and_then(|name| find(&BROKER, name));
    if let Some(broker) = of_broker.filter(|broker| broker.default.is_some()) {
        synonyms.push((broker.name, kafkas.clone(), Source::Default));
    } else if !synonyms.is_empty() {
        synonyms.extend(config.broker.and_then(in_hours));
    }
    Behind {
        synonyms,
        otherwise: said.map(|(_, value)| value).or(kafkas),
    }
}

/// What Kafka tells behind a time in milliseconds that has no default: the same in hours.
fn in_hours(name: &str) -> Option<Synonym> {
    let hours = format!("{}hours", name.strip_suffix("ms")?);
    let config = find(&BROKER, &hours)?;
    Some((config.name, config.default.map(str::to_owned), Source::Default))
}

/// The value of a key for a duration in the unit of the topic config that it is the default of.
fn in_milliseconds(name: &str, value: String) -> String {
    let factor = match name {
        "log.retention.minutes" => 60_000,
        "log.retention.hours" => 3_600_000,
        _ => return value,
    };
    match value.parse::<i64>() {
        Ok(number) if number >= 0 => number.saturating_mul(factor).to_string(),
        _ => value,
    }
}

/// Whether somebody chose another value than the table's default.
fn said_at_start(key: &Key, settings: &Settings) -> bool {
    let mut blank = settings.clone();
    let default = blank.set(key.name, key.default, crate::settings::Origin::Default);
    default.is_ok() && blank.show(key.name) != settings.show(key.name)
}

/// Every config of this broker: Kafka's and Esker's own.
#[must_use]
pub fn describe_broker(
    own: &OwnBroker,
    settings: &Settings,
    set_for_it: &SetConfigs,
    set_for_all: &SetConfigs,
    wanted: Wanted<'_>,
) -> Vec<DescribeConfigsResourceResult> {
    let told_always = |config: &KafkaConfig| {
        config.listed || set_for_it.contains_key(config.name) || set_for_all.contains_key(config.name)
    };
    let rows = BROKER
        .iter()
        .filter(|config| wanted.has(config.name) && told_always(config));
    let kafkas = rows.map(|config| {
        let mut synonyms = dynamic(config, set_for_it, Source::DynamicBroker);
        synonyms.extend(dynamic(config, set_for_all, Source::DynamicDefaultBroker));
        let key = KEYS.iter().find(|key| key.name == config.name);
        if let Some(value) = own.value(config.name) {
            synonyms.push((config.name, Some(value), Source::StaticBroker));
        } else if let Some(key) = key.filter(|key| said_at_start(key, settings)) {
            synonyms.push((config.name, settings.show(key.name), Source::StaticBroker));
        }
        let default = key.map_or(config.default, |key| Some(key.default).filter(|text| !text.is_empty()));
        let default = default.filter(|_| config.listed);
        if default.is_some() {
            synonyms.push((config.name, default.map(str::to_owned), Source::Default));
        } else if !synonyms.is_empty() {
            synonyms.extend(in_hours(config.name));
        }
        told(config, synonyms.into(), is_fixed(config), wanted)
    });
    let eskers = KEYS.iter().filter(|key| key.takes_units() && wanted.has(key.name));
    kafkas
        .chain(eskers.map(|key| esker_row(key, settings, wanted)))
        .collect()
}

/// What was set for all brokers while they run.
#[must_use]
pub fn describe_all_brokers(set: &SetConfigs, wanted: Wanted<'_>) -> Vec<DescribeConfigsResourceResult> {
    let rows = BROKER.iter().filter(|config| wanted.has(config.name));
    let row = |config: &'static KafkaConfig| {
        let synonyms = dynamic(config, set, Source::DynamicDefaultBroker);
        (!synonyms.is_empty()).then(|| told(config, synonyms.into(), is_fixed(config), wanted))
    };
    rows.filter_map(row).collect()
}

/// Every config of a resource that has nothing behind it but defaults.
#[must_use]
pub fn describe_plain(
    table: &'static [KafkaConfig],
    set: &SetConfigs,
    source: Source,
    wanted: Wanted<'_>,
) -> Vec<DescribeConfigsResourceResult> {
    let rows = table.iter().filter(|config| wanted.has(config.name));
    let row = |config: &'static KafkaConfig| {
        let mut synonyms = dynamic(config, set, source);
        let broker = config.broker.and_then(|name| find(&BROKER, name));
        let default = broker
            .map_or(config.default, |broker| broker.default)
            .map(str::to_owned);
        if source != Source::ClientMetrics {
            synonyms.push((config.broker.unwrap_or(config.name), default.clone(), Source::Default));
        }
        let otherwise = default;
        told(config, Behind { synonyms, otherwise }, false, wanted)
    };
    rows.map(row).collect()
}

/// Whether it cannot be changed while the broker runs. What does something in Esker and cannot do it at once needs a restart.
#[must_use]
pub fn is_fixed(config: &KafkaConfig) -> bool {
    !config.dynamic || config.has_effect && !acts_at_once(config.name)
}

fn dynamic(config: &'static KafkaConfig, set: &SetConfigs, source: Source) -> Vec<Synonym> {
    let value = set.get(config.name);
    value
        .map(|value| (config.name, Some(config.shown(value)), source))
        .into_iter()
        .collect()
}

fn esker_row(key: &'static Key, settings: &Settings, wanted: Wanted<'_>) -> DescribeConfigsResourceResult {
    let kind = match key.kind() {
        "boolean" => ConfigKind::Boolean,
        "text" | "address" | "word" => ConfigKind::String,
        "list" => ConfigKind::List,
        _ => ConfigKind::Long,
    };
    let said = said_at_start(key, settings);
    let source = if said { Source::StaticBroker } else { Source::Default };
    let value = settings.show(key.name);
    row(
        key.name,
        kind,
        Str::from_static(key.doc),
        vec![(key.name, value, source)].into(),
        true,
        wanted,
    )
}

fn told(
    config: &'static KafkaConfig,
    behind: Behind,
    read_only: bool,
    wanted: Wanted<'_>,
) -> DescribeConfigsResourceResult {
    row(config.name, config.kind, config.doc.clone(), behind, read_only, wanted)
}

impl From<Vec<Synonym>> for Behind {
    fn from(synonyms: Vec<Synonym>) -> Self {
        Self {
            synonyms,
            otherwise: None,
        }
    }
}

fn row(
    name: &'static str,
    kind: ConfigKind,
    doc: Str,
    behind: Behind,
    read_only: bool,
    wanted: Wanted<'_>,
) -> DescribeConfigsResourceResult {
    let sensitive = kind == ConfigKind::Password;
    let shown = |value: &Option<String>| value.as_deref().filter(|_| !sensitive).map(Str::from);
    let (value, source) = behind
        .synonyms
        .first()
        .map_or((shown(&behind.otherwise), Source::Default), |(_, value, source)| {
            (shown(value), *source)
        });
    let told = behind.synonyms.iter().filter(|(_, value, _)| value.is_some());
    let told = told.map(|(name, value, source)| DescribeConfigsSynonym {
        name: Str::from_static(name),
        value: shown(value),
        source: *source as i8,
    });
    DescribeConfigsResourceResult {
        name: Str::from_static(name),
        value,
        read_only,
        config_source: source as i8,
        is_sensitive: sensitive,
        synonyms: if wanted.synonyms { told.collect() } else { Vec::new() },
        config_type: kind as i8,
        documentation: wanted.documentation.then_some(doc),
    }
}
