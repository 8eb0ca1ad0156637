//! What a set of configs becomes when an administrator changes it.
//!
//! Owns: set, delete, append and subtract, which configs of what may be changed, the values that each takes. Pure.
//! Does not own: topics' values (`settings::topic`), storing.
//!
//! Invariants: an edit gives the same when its own effect is there already, so that it may be sent twice.

use std::collections::BTreeSet;

use esker_kafka::ErrorCode;
use esker_metadata::keys::config::VALUE_BYTES_MAX;

use super::config_values::{SetConfigs, is_fixed};
use crate::handlers::create_topics::Refused;
use crate::settings::kafka_configs::{BROKER, CLIENT_METRICS, ConfigKind, GROUP, KafkaConfig, TOPIC, find};

/// Most bytes of all configs of a broker.
const BROKER_BYTES_MAX: usize = 64 << 10;
/// Most bytes of all configs of a group or a client metrics subscription, of which there may be many.
const OWNER_BYTES_MAX: usize = 4 << 10;

/// What happens to a config, as IncrementalAlterConfigs numbers it (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditKind {
    /// It gets a value.
    Set,
    /// It goes back to what stands behind it.
    Delete,
    /// Words are added to a list.
    Append,
    /// Words are taken out of a list.
    Subtract,
}

impl EditKind {
    /// From its number.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// The config.
    pub name: &'a str,
    /// What happens to it.
    pub kind: EditKind,
    /// With what.
    pub value: Option<&'a str>,
}

/// What configs are those of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A topic.
    Topic,
    /// One broker, or all of them.
    Broker,
    /// A group.
    Group,
    /// A client metrics subscription.
    ClientMetrics,
}

impl Target {
    fn table(self) -> &'static [KafkaConfig] {
        match self {
            Self::Topic => &TOPIC,
            Self::Broker => &BROKER,
            Self::Group => &GROUP,
            Self::ClientMetrics => &CLIENT_METRICS,
        }
    }
}

/// The configs after all edits; whether their values may be so is still to be checked (`check`).
///
/// # Errors
/// A config twice, a value that is missing, words for something that is no list.
pub fn edited(target: Target, own: &SetConfigs, edits: &[Edit<'_>]) -> Result<SetConfigs, Refused> {
    let invalid = |message: String| (ErrorCode::InvalidRequest, message);
    let mut names = BTreeSet::new();
    if edits.iter().any(|edit| !names.insert(edit.name)) {
        return Err(invalid("Error due to duplicate config keys".to_owned()));
    }
    let mut configs = own.clone();
    for edit in edits {
        let value = match (edit.kind, edit.value) {
            (EditKind::Delete, _) => {
                configs.remove(edit.name);
                continue;
            }
            (_, None) => return Err(invalid(format!("Null value not supported for : {}", edit.name))),
            (_, Some(value)) => value,
        };
        let value = match edit.kind {
            EditKind::Set | EditKind::Delete => value.to_owned(),
            EditKind::Append | EditKind::Subtract => with_words(target, &configs, edit, value)?,
        };
        configs.insert(edit.name.to_owned(), value);
    }
    Ok(configs)
}

/// A list with words added or taken out.
fn with_words(target: Target, configs: &SetConfigs, edit: &Edit<'_>, words: &str) -> Result<String, Refused> {
    let config = find(target.table(), edit.name).filter(|config| config.kind == ConfigKind::List);
    let Some(config) = config else {
        let verb = if edit.kind == EditKind::Append {
            "APPEND"
        } else {
            "SUBTRACT"
        };
        let message = format!("Can't {verb} to key {} because its type is not LIST.", edit.name);
        return Err((ErrorCode::InvalidConfig, message));
    };
    let held = configs
        .get(edit.name)
        .map(String::as_str)
        .or(config.default)
        .unwrap_or_default();
    let split = |text: &str| -> Vec<String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let (mut list, words) = (split(held), split(words));
    if edit.kind == EditKind::Subtract {
        let gone: BTreeSet<&String> = words.iter().collect();
        list.retain(|word| !gone.contains(word));
    } else {
        let mut there: BTreeSet<String> = list.iter().cloned().collect();
        list.extend(words.into_iter().filter(|word| there.insert(word.clone())));
    }
    Ok(list.join(","))
}

/// Whether something that is not a topic may have these configs instead of those.
///
/// # Errors
/// The first change that may not be made.
pub fn check(target: Target, old: &SetConfigs, new: &SetConfigs) -> Result<(), Refused> {
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    for (name, value) in changed {
        check_value(target, name, value)?;
    }
    let bytes: usize = new.iter().map(|(name, value)| name.len() + value.len()).sum();
    let most = match target {
        Target::Topic | Target::Broker => BROKER_BYTES_MAX,
        Target::Group | Target::ClientMetrics => OWNER_BYTES_MAX,
    };
    if bytes > most {
        let message = format!("configs of one resource may have {most} bytes in all");
        return Err((ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

fn check_value(target: Target, name: &str, value: &str) -> Result<(), Refused> {
    let invalid = |message: String| (ErrorCode::InvalidConfig, message);
    let unfit = || invalid(format!("Invalid value for configuration {name}"));
    let Some(config) = find(target.table(), name) else {
        let code = if target == Target::Broker {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::InvalidConfig
        };
        return Err((
            code,
            format!("Unknown config name: {}", name.chars().take(200).collect::<String>()),
        ));
    };
    if target == Target::Broker && is_fixed(config) {
        let message = if config.has_effect {
            format!("{name} takes effect at the next start only: say it with --set, in the file or in the environment")
        } else {
            format!("Cannot update these configs dynamically: {name}")
        };
        return Err((ErrorCode::InvalidRequest, message));
    }
    if value.len() > VALUE_BYTES_MAX || !config.takes(value) {
        return Err(unfit());
    }
    if target == Target::Broker && config.is_sensitive() {
        let message = format!("{name} would have no effect, and secrets without an effect are not kept");
        return Err((ErrorCode::InvalidRequest, message));
    }
    let fits = match target {
        Target::Topic | Target::Broker => true,
        Target::Group => group_value_fits(config, value),
        Target::ClientMetrics => metrics_value_fits(name, value),
    };
    if fits { Ok(()) } else { Err(unfit()) }
}

fn group_value_fits(config: &KafkaConfig, value: &str) -> bool {
    match config.name {
        "share.auto.offset.reset" => matches!(value, "earliest" | "latest") || value.starts_with("by_duration:P"),
        "share.isolation.level" => matches!(value, "read_committed" | "read_uncommitted"),
        _ => match (value.parse::<i32>(), limits(config)) {
            (Ok(number), (least, most)) => (least..=most).contains(&number),
            // A boolean.
            (Err(_), _) => true,
        },
    }
}

/// Between which numbers brokers let a group choose: `group.share.min.x` and `group.share.max.x` for `group.share.x`.
fn limits(config: &KafkaConfig) -> (i32, i32) {
    let broker = config.broker.unwrap_or_default();
    let limit = |word: &str| {
        let kind = ["group.consumer.", "group.share.", "group.streams."]
            .iter()
            .find(|kind| broker.starts_with(**kind))?;
        let name = format!("{kind}{word}.{}", broker.strip_prefix(*kind)?);
        let name = name.replace(".max.num.", ".max.").replace(".min.num.", ".min.");
        find(&BROKER, &name)?.default?.parse::<i32>().ok()
    };
    (limit("min").unwrap_or(0), limit("max").unwrap_or(i32::MAX))
}

fn metrics_value_fits(name: &str, value: &str) -> bool {
    const MATCHERS: [&str; 6] = [
        "client_id",
        "client_instance_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    match name {
        "interval.ms" => value.parse::<i32>().is_ok_and(|ms| (100..=3_600_000).contains(&ms)),
        "match" => {
            let pair = |word: &str| {
                word.split_once('=')
                    .is_some_and(|(key, _)| MATCHERS.contains(&key.trim()))
            };
            value.is_empty() || value.split(',').all(pair)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> SetConfigs {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn edit<'a>(kind: EditKind, name: &'a str, value: &'a str) -> Edit<'a> {
        Edit {
            name,
            kind,
            value: Some(value),
        }
    }

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let own = set(&[("retention.ms", "1"), ("cleanup.policy", "compact")]);
        let edits = [
            edit(EditKind::Set, "segment.ms", "5"),
            edit(EditKind::Delete, "retention.ms", ""),
            edit(EditKind::Append, "cleanup.policy", "delete,compact"),
        ];
        let once = edited(Target::Topic, &own, &edits).expect("legal");
        assert_eq!(once, set(&[("cleanup.policy", "compact,delete"), ("segment.ms", "5")]));
        assert_eq!(edited(Target::Topic, &once, &edits).expect("legal"), once);
    }

    #[test]
    fn words_are_taken_from_what_stands_behind_a_list() {
        let added = edited(
            Target::Topic,
            &set(&[]),
            &[edit(EditKind::Append, "cleanup.policy", "compact")],
        );
        assert_eq!(added.expect("legal"), set(&[("cleanup.policy", "delete,compact")]));
        let taken = edited(
            Target::Topic,
            &set(&[]),
            &[edit(EditKind::Subtract, "cleanup.policy", "delete")],
        );
        assert_eq!(taken.expect("legal"), set(&[("cleanup.policy", "")]));
    }

    #[test]
    fn impossible_edits_are_refused() {
        let code = |edits: &[Edit<'_>]| edited(Target::Topic, &set(&[]), edits).expect_err("refused").0;
        let twice = [
            edit(EditKind::Set, "segment.ms", "5"),
            edit(EditKind::Delete, "segment.ms", ""),
        ];
        assert_eq!(code(&twice), ErrorCode::InvalidRequest);
        let null = Edit {
            name: "segment.ms",
            kind: EditKind::Set,
            value: None,
        };
        assert_eq!(code(&[null]), ErrorCode::InvalidRequest);
        assert_eq!(
            code(&[edit(EditKind::Append, "segment.ms", "5")]),
            ErrorCode::InvalidConfig
        );
        assert_eq!(
            code(&[edit(EditKind::Subtract, "nonsense", "5")]),
            ErrorCode::InvalidConfig
        );
    }

    #[test]
    fn brokers_keep_what_kafka_can_change_and_does_nothing_here() {
        let verdict = |name: &str, value: &str| {
            check(Target::Broker, &set(&[]), &set(&[(name, value)]))
                .err()
                .map(|(code, _)| code)
        };
        assert_eq!(verdict("num.io.threads", "4"), None);
        assert_eq!(verdict("num.io.threads", "four"), Some(ErrorCode::InvalidConfig));
        for name in ["message.max.bytes", "node.id", "no.such.config", "ssl.key.password"] {
            assert_eq!(verdict(name, "1"), Some(ErrorCode::InvalidRequest), "{name}");
        }
    }

    #[test]
    fn groups_choose_within_what_brokers_allow() {
        let verdict = |name: &str, value: &str| check(Target::Group, &set(&[]), &set(&[(name, value)])).is_ok();
        assert!(verdict("consumer.session.timeout.ms", "50000"));
        assert!(!verdict("consumer.session.timeout.ms", "44999"));
        assert!(!verdict("consumer.session.timeout.ms", "60001"));
        assert!(verdict("streams.num.standby.replicas", "2") && !verdict("streams.num.standby.replicas", "3"));
        assert!(verdict("share.auto.offset.reset", "earliest") && !verdict("share.auto.offset.reset", "never"));
        assert!(verdict("share.renew.acknowledge.enable", "false"));
        assert!(!verdict("segment.ms", "1"));
    }

    #[test]
    fn metrics_subscriptions_are_checked() {
        let verdict = |name: &str, value: &str| check(Target::ClientMetrics, &set(&[]), &set(&[(name, value)])).is_ok();
        assert!(verdict("interval.ms", "100") && !verdict("interval.ms", "99"));
        assert!(verdict("match", "client_id=.*,client_software_name=java") && !verdict("match", "color=.*"));
        assert!(verdict("metrics", "org.apache.kafka."));
    }
}
