//! What Kafka 4.3 tells of its configs: names, types, defaults, which can change while a broker runs, a sentence each.
//!
//! Owns: the text tables beside this file, one row a config. Names, types and defaults are Kafka's, the sentences ours.
//! Does not own: which of them do something here (`keys`, `topic`), values of resources (the handlers).
//!
//! A row is `name|type|note|default|sentence`. The default `~` is none, the sentence `=` is that of the setting in `keys`.
//! The type comes with the values that it is narrowed to (`values`); of brokers only where the config is dynamic.
//! The note of a broker config is `dynamic`, `fixed`, or `unlisted` if it is dynamic and only told when it is set; that of any other
//! the broker config that is its default, if any. Rows of topics have no default: it stands in `topic`.

mod values;

use std::sync::LazyLock;

use esker_kafka::Str;

use super::topic::TOPIC_CONFIGS;
use super::{KEYS, Scope};

pub use values::Unfit;

/// The type of a config's value, as DescribeConfigs numbers it (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigKind {
    /// true or false.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// Floating point.
    Double = 6,
    /// Words with commas between.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// Text that is not shown.
    Password = 9,
}

/// One config of Kafka 4.3.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ConfigKind,
    /// To which values of its type it is narrowed (`values`).
    pub range: &'static str,
    /// Kafka's default.
    pub default: Option<&'static str>,
    /// Whether it is one of a broker that Kafka can change while it runs.
    pub dynamic: bool,
    /// Whether it is told when nobody has set it.
    pub listed: bool,
    /// The broker config that is its default, if it is not one of a broker.
    pub broker: Option<&'static str>,
    /// What it means, and that it has no effect if it has none.
    pub doc: Str,
    /// Whether it changes anything in Esker.
    pub has_effect: bool,
}

/// Every broker config, by name.
pub static BROKER: LazyLock<Vec<KafkaConfig>> = LazyLock::new(|| {
    let rows = include_str!("kafka_configs/broker.txt").lines().map(|line| {
        let [name, kind, note, default, doc] = columns(line);
        let key = KEYS.iter().find(|key| key.name == name);
        let (kind, range) = kind_of(kind);
        KafkaConfig {
            name,
            kind,
            range,
            default: Some(default).filter(|default| *default != "~"),
            dynamic: matches!(note, "dynamic" | "unlisted"),
            listed: note != "unlisted",
            broker: None,
            doc: key.map_or_else(|| idle(doc), |key| Str::from_static(key.doc)),
            has_effect: key.is_some(),
        }
    });
    rows.collect()
});

/// Every topic config, by name.
pub static TOPIC: LazyLock<Vec<KafkaConfig>> = LazyLock::new(|| {
    let rows = include_str!("kafka_configs/topic.txt").lines().map(|line| {
        let [name, kind, broker, doc] = columns(line);
        let config = TOPIC_CONFIGS.iter().find(|config| config.name == name);
        let config = config.expect("every row stands in the table of topic configs (tested)");
        let key = KEYS.iter().find(|key| key.scope == Scope::TopicDefault(config.name));
        let (kind, range) = kind_of(kind);
        KafkaConfig {
            name: config.name,
            kind,
            range,
            default: Some(config.default),
            dynamic: false,
            listed: true,
            broker: Some(broker).filter(|broker| !broker.is_empty()),
            doc: key.map_or_else(|| idle(doc), |key| Str::from_static(key.doc)),
            has_effect: config.has_effect(),
        }
    });
    rows.collect()
});

/// Every config of a consumer, share or Streams group, by name.
pub static GROUP: LazyLock<Vec<KafkaConfig>> =
    LazyLock::new(|| without_effect(include_str!("kafka_configs/group.txt")));

/// Every config of a client metrics subscription (KIP-714), by name.
pub static CLIENT_METRICS: LazyLock<Vec<KafkaConfig>> =
    LazyLock::new(|| without_effect(include_str!("kafka_configs/client_metrics.txt")));

fn without_effect(table: &'static str) -> Vec<KafkaConfig> {
    let rows = table.lines().map(|line| {
        let [name, kind, broker, default, doc] = columns(line);
        let (kind, range) = kind_of(kind);
        KafkaConfig {
            name,
            kind,
            range,
            default: Some(default),
            dynamic: false,
            listed: true,
            broker: Some(broker).filter(|broker| !broker.is_empty()),
            doc: idle(doc),
            has_effect: false,
        }
    });
    rows.collect()
}

/// The sentence of a config that is only kept.
fn idle(doc: &str) -> Str {
    Str::from(format!("{doc} It has no effect in Esker."))
}

/// The config of a table with a name.
#[must_use]
pub fn find(table: &'static [KafkaConfig], name: &str) -> Option<&'static KafkaConfig> {
    let at = table.binary_search_by_key(&name, |config| config.name).ok()?;
    table.get(at)
}

fn columns<const N: usize>(line: &'static str) -> [&'static str; N] {
    let found: Vec<_> = line.splitn(N, '|').collect();
    found.try_into().expect("every row has all columns (tested)")
}

/// A type and what it is narrowed to.
fn kind_of(text: &'static str) -> (ConfigKind, &'static str) {
    let (word, range) = text.split_once(' ').unwrap_or((text, ""));
    let kind = match word {
        "boolean" => ConfigKind::Boolean,
        "string" => ConfigKind::String,
        "int" => ConfigKind::Int,
        "short" => ConfigKind::Short,
        "long" => ConfigKind::Long,
        "double" => ConfigKind::Double,
        "list" => ConfigKind::List,
        "class" => ConfigKind::Class,
        "password" => ConfigKind::Password,
        _ => unreachable!("rows have one of these types (tested)"),
    };
    (kind, range)
}

impl KafkaConfig {
    /// Whether its value is never shown.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigKind::Password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_every_row_says_what_it_means() {
        for (table, rows) in [(&BROKER, 343), (&TOPIC, 33), (&GROUP, 17), (&CLIENT_METRICS, 3)] {
            assert_eq!(table.len(), rows);
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
            for config in table.iter() {
                assert!(
                    config.doc.len() > 10 && config.doc.ends_with('.'),
                    "{}: {}",
                    config.name,
                    config.doc
                );
                assert_eq!(find(table, config.name).map(|found| found.name), Some(config.name));
                let default = config.default.unwrap_or_default();
                assert!(
                    default.is_empty() || config.check(default).is_ok(),
                    "{} = {default}",
                    config.name
                );
            }
        }
    }

    #[test]
    fn every_setting_with_kafkas_name_stands_in_kafkas_table() {
        for key in KEYS.iter().filter(|key| !key.takes_units()) {
            let config = find(&BROKER, key.name).unwrap_or_else(|| panic!("{} is no broker config", key.name));
            assert!(config.has_effect);
            if key.name != "max.connections" && key.name != "max.connections.per.ip" {
                assert_eq!(config.default.unwrap_or_default(), key.default, "{}", key.name);
            }
        }
    }

    #[test]
    fn every_topic_config_stands_in_both_tables() {
        for config in TOPIC_CONFIGS {
            assert!(find(&TOPIC, config.name).is_some(), "{}", config.name);
        }
        for config in TOPIC.iter().chain(GROUP.iter()) {
            let broker = config.broker;
            assert!(
                broker.is_none_or(|name| find(&BROKER, name).is_some()),
                "{}",
                config.name
            );
        }
    }
}
