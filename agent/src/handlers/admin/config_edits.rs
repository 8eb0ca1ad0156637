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
            (_, None) => return Err(invalid(format!("Null value not supported for : {:.250}", edit.name))),
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
        let message = format!("Can't {verb} to key {:.250} because its type is not LIST.", edit.name);
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
    let changed = || new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    if target == Target::Broker {
        check_dynamic(changed().map(|(name, _)| name.as_str()))?;
    }
    for (name, value) in changed() {
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

/// Whether configs of a broker can be changed while it runs.
fn check_dynamic<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
    let invalid = |message: String| Err((ErrorCode::InvalidRequest, message));
    let fixed = names.filter_map(|name| find(&BROKER, name).filter(|config| is_fixed(config)));
    let (need_start, never): (Vec<_>, Vec<_>) = fixed.partition(|config| config.dynamic);
    if !never.is_empty() {
        let names: Vec<&str> = never.iter().map(|config| config.name).collect();
        return invalid(format!(
            "Cannot update these configs dynamically: [{}]",
            names.join(", ")
        ));
    }
    match need_start.first() {
        None => Ok(()),
        Some(config) => invalid(format!(
            "{} takes effect at the next start only: say it with --set, in the file or in the environment",
            config.name
        )),
    }
}

fn check_value(target: Target, name: &str, value: &str) -> Result<(), Refused> {
    let Some(config) = find(target.table(), name) else {
        return Err(unknown(target, &name.chars().take(200).collect::<String>()));
    };
    let code = match target {
        Target::Broker => ErrorCode::InvalidRequest,
        Target::Topic | Target::Group | Target::ClientMetrics => ErrorCode::InvalidConfig,
    };
    if value.len() > VALUE_BYTES_MAX {
        let why = format!("at most {VALUE_BYTES_MAX} bytes are kept");
        return Err((code, config.unfit(value, why).to_string()));
    }
    config.check(value).map_err(|unfit| (code, unfit.to_string()))?;
    if target == Target::Broker && config.is_sensitive() {
        let message = format!("{name} would have no effect, and secrets without an effect are not kept");
        return Err((ErrorCode::InvalidRequest, message));
    }
    match target {
        Target::Topic | Target::Broker => Ok(()),
        Target::Group => check_group_value(config, value.trim()),
        Target::ClientMetrics => check_metrics_value(name, value.trim()),
    }
}

fn unknown(target: Target, name: &str) -> Refused {
    match target {
        Target::Topic => (ErrorCode::InvalidConfig, format!("Unknown topic config name: {name}")),
        Target::Group => (ErrorCode::InvalidConfig, format!("Unknown group config name: {name}")),
        Target::Broker => (ErrorCode::InvalidRequest, format!("Unknown config name: {name}")),
        Target::ClientMetrics => {
            let message = format!("Unknown client metrics configuration: {name}");
            (ErrorCode::InvalidRequest, message)
        }
    }
}

fn check_group_value(config: &KafkaConfig, value: &str) -> Result<(), Refused> {
    let invalid = |message: String| Err((ErrorCode::InvalidConfig, message));
    let name = config.name;
    if name == "share.auto.offset.reset" {
        if matches!(value, "earliest" | "latest") || value.starts_with("by_duration:P") {
            return Ok(());
        }
        let why = format!(
            "Invalid value `{value:.250}` for configuration {name}. The value must be either 'earliest', 'latest' or of the \
             format 'by_duration:<PnDTnHnMn.nS>'."
        );
        return invalid(config.unfit(value, why).to_string());
    }
    let Ok(number) = value.parse::<i32>() else {
        return Ok(()); // a word, and one of those that are allowed
    };
    if let Some((limit, _)) = limit(config, "min").filter(|(_, least)| number < *least) {
        return invalid(format!("{name} must be greater than or equal to {limit}"));
    }
    if let Some((limit, _)) = limit(config, "max").filter(|(_, most)| number > *most) {
        return invalid(format!("{name} must be less than or equal to {limit}"));
    }
    Ok(())
}

/// Up to which number brokers let a group choose, and what says so: `group.share.min.x` or `group.share.max.x` for `group.share.x`.
fn limit(config: &KafkaConfig, word: &str) -> Option<(&'static str, i32)> {
    let broker = config.broker?;
    let kinds = ["group.consumer.", "group.share.", "group.streams."];
    let kind = kinds.iter().find(|kind| broker.starts_with(**kind))?;
    let name = format!("{kind}{word}.{}", broker.strip_prefix(*kind)?);
    let name = name.replace(".max.num.", ".max.").replace(".min.num.", ".min.");
    let found = find(&BROKER, &name)?;
    Some((found.name, found.default?.parse().ok()?))
}

fn check_metrics_value(name: &str, value: &str) -> Result<(), Refused> {
    const MATCHERS: [&str; 6] = [
        "client_id",
        "client_instance_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    let known = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(key, _)| MATCHERS.contains(&key.trim()))
    };
    match name {
        "interval.ms" if !value.parse().is_ok_and(|ms: i32| (100..=3_600_000).contains(&ms)) => Err((
            ErrorCode::InvalidRequest,
            format!("Invalid value {value:.250} for interval.ms, interval must be between 100 and 3600000 (1 hour)"),
        )),
        "match" if !value.is_empty() => match value.split(',').map(str::trim).find(|word| !known(word)) {
            None => Ok(()),
            Some(word) => Err((
                ErrorCode::InvalidConfig,
                format!("Illegal client matching pattern: {word:.250}"),
            )),
        },
        _ => Ok(()),
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
    fn brokers_keep_what_does_nothing_here_and_take_defaults_of_topics() {
        let verdict = |name: &str, value: &str| {
            check(Target::Broker, &set(&[]), &set(&[(name, value)]))
                .err()
                .map(|(code, _)| code)
        };
        assert_eq!(verdict("num.io.threads", "4"), None);
        assert_eq!(verdict("leader.replication.throttled.rate", "1000"), None);
        assert_eq!(verdict("message.max.bytes", "1"), None);
        assert_eq!(verdict("num.io.threads", "four"), Some(ErrorCode::InvalidRequest));
        for name in ["max.connections", "node.id", "no.such.config", "ssl.key.password"] {
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
