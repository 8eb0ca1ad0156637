//! What the settings promise: defaults are valid, sources override in order, mistakes are named.

use std::collections::BTreeSet;

use super::topic::TOPIC_CONFIGS;
use super::*;

fn cli(name: &str, value: &str) -> Assignment {
    Assignment {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: Origin::CommandLine,
    }
}

fn with(name: &str, value: &str) -> Result<Settings, SettingError> {
    Settings::resolve(Profile::Standard, [cli(name, value)])
}

fn message(name: &str, value: &str) -> String {
    with(name, value).expect_err("must be refused").to_string()
}

#[test]
fn defaults_are_kafkas_where_kafka_has_one() {
    let settings = Settings::default();
    assert_eq!(settings.topics.message_bytes_max, 1_048_588);
    assert_eq!(settings.topics.retention.effective(), Some(Duration::from_hours(168)));
    assert_eq!(settings.groups.initial_rebalance_delay, Duration::from_secs(3));
    assert_eq!(settings.groups.offsets_retention, Duration::from_hours(168));
    assert_eq!(settings.network.request_bytes_max, 104_857_600);
    assert_eq!(settings.flush.age, Duration::from_millis(250));
    assert_eq!(settings.flush.bytes, 8 << 20);
}

#[test]
fn dev_is_eager() {
    let settings = Settings::dev();
    assert!(settings.topics.auto_create);
    assert_eq!(settings.topics.partitions, 1);
    assert_eq!(settings.groups.initial_rebalance_delay, Duration::ZERO);
    assert_eq!(settings.flush.age, Duration::from_millis(5));
    assert_eq!(settings.flush.min_interval, Duration::from_millis(1));
}

/// A valid value that is not the default.
fn another_value(key: &Key) -> String {
    let shown = Settings::default().show(key.name).unwrap();
    match (shown.as_str(), shown.parse::<i64>()) {
        (_, Ok(number)) if number > 1 => (number - 1).to_string(),
        (_, Ok(number)) => (number + 1).to_string(),
        ("true", _) => "false".to_owned(),
        ("false", _) => "true".to_owned(),
        ("", _) if key.kind() == "address" => "h:1".to_owned(),
        ("", _) => "7".to_owned(),
        ("127.0.0.1:9092" | "127.0.0.1:9095" | "127.0.0.1:9096" | "127.0.0.1:9097", _) => "h:1".to_owned(),
        ("delete", _) => "compact".to_owned(),
        ("producer", _) => "zstd".to_owned(),
        ("CreateTime", _) => "LogAppendTime".to_owned(),
        _ => panic!("{} shows {shown:?}, for which this test knows no other value", key.name),
    }
}

#[test]
fn every_row_reaches_a_field_of_its_own() {
    // Two rows with one field would show as a key that changes when another is set.
    for key in KEYS {
        let other = another_value(key);
        let mut changed = Settings::default();
        changed.set(key.name, &other, Origin::CommandLine).unwrap();
        let differing: Vec<_> = KEYS
            .iter()
            .filter(|k| changed.show(k.name) != Settings::default().show(k.name))
            .map(|k| k.name)
            .collect();
        assert_eq!(differing, [key.name]);
    }
}

#[test]
fn what_is_shown_can_be_set_again() {
    for key in KEYS {
        let shown = Settings::dev().show(key.name).unwrap();
        let mut again = Settings::dev();
        again.set(key.name, &shown, Origin::CommandLine).unwrap();
        assert_eq!(again, Settings::dev(), "{} = {shown:?}", key.name);
    }
}

#[test]
fn names_are_unique_and_so_are_environment_variables() {
    let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
    let variables: BTreeSet<_> = KEYS.iter().map(|key| env_name(key.name)).collect();
    assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
    for key in KEYS {
        assert_eq!(key_of_env(&env_name(key.name)), Some(key.name));
        assert!(!is_reserved_env(&env_name(key.name)), "{}", key.name);
        assert!(key.doc.ends_with('.'), "{}", key.name);
    }
}

#[test]
fn environment_names_are_short_for_our_own_keys() {
    assert_eq!(env_name("num.partitions"), "ESKER_NUM_PARTITIONS");
    assert_eq!(env_name("esker.flush.age"), "ESKER_FLUSH_AGE");
    assert_eq!(key_of_env("ESKER_FLUSH_AGES"), None);
}

#[test]
fn kubernetes_service_variables_are_no_settings() {
    for name in [
        "ESKER_PORT",
        "ESKER_SERVICE_HOST",
        "ESKER_SERVICE_PORT_KAFKA",
        "ESKER_PORT_9092_TCP_ADDR",
        "ESKER_LOG",
        "ESKER_BOOTSTRAP",
    ] {
        assert!(is_reserved_env(name), "{name}");
    }
    assert!(!is_reserved_env("ESKER_NUM_PARTITION"));
}

#[test]
fn the_last_word_wins() {
    let said = [cli("num.partitions", "3"), cli("num.partitions", "5")];
    assert_eq!(Settings::resolve(Profile::Dev, said).unwrap().topics.partitions, 5);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    assert_eq!(
        message("num.partition", "3"),
        "--set: there is no setting \"num.partition\"; did you mean \"num.partitions\"?"
    );
    assert!(message("retention.ms", "1").contains("log.retention.ms"));
    assert!(message("esker.flush_age", "1").contains("esker.flush.age"));
}

#[test]
fn a_value_out_of_range_names_key_value_and_range() {
    assert_eq!(
        message("num.partitions", "0"),
        "--set: num.partitions cannot be \"0\": it must be from 1 to 1000000"
    );
    assert_eq!(
        message("esker.flush.bytes", "1KiB"),
        "--set: esker.flush.bytes cannot be \"1KiB\": it must be from 64KiB to 1GiB"
    );
    assert!(message("esker.flush.age", "-5ms").contains("from 0ms to 1h"));
}

#[test]
fn own_keys_take_units_and_kafkas_do_not() {
    assert_eq!(with("esker.flush.age", "2s").unwrap().flush.age, Duration::from_secs(2));
    assert_eq!(
        with("esker.flush.age", "300").unwrap().flush.age,
        Duration::from_millis(300)
    );
    assert_eq!(
        with("esker.cache.bytes", "1GiB").unwrap().memory.cache_bytes_max,
        1 << 30
    );
    assert_eq!(with("esker.cache.bytes", "4096").unwrap().memory.cache_bytes_max, 4096);
    assert!(message("message.max.bytes", "1MiB").ends_with("a whole number is needed"));
    assert!(message("connections.max.idle.ms", "10m").ends_with("a whole number is needed"));
    assert!(message("esker.flush.age", "5 fortnights").contains("a duration is needed"));
    assert!(message("esker.cache.bytes", "99999999999TiB").contains("a size is needed"));
}

#[test]
fn the_finest_retention_wins() {
    let said = [cli("log.retention.minutes", "2"), cli("log.retention.hours", "1")];
    let settings = Settings::resolve(Profile::Standard, said.clone()).unwrap();
    assert_eq!(settings.topics.retention.effective(), Some(Duration::from_mins(2)));
    let settings = Settings::resolve(
        Profile::Standard,
        said.into_iter().chain([cli("log.retention.ms", "-1")]),
    )
    .unwrap();
    assert_eq!(settings.topics.retention.effective(), None);
    assert_eq!(
        with("log.retention.hours", "-1").unwrap().topics.retention.effective(),
        None
    );
}

#[test]
fn contradictions_name_both_keys() {
    let text = message("esker.buffer.bytes", "16MiB");
    assert!(
        text.starts_with("socket.request.max.bytes (104857600) must not be above esker.buffer.bytes (16777216)"),
        "{text}"
    );
    assert!(message("group.min.session.timeout.ms", "1800001").contains("group.max.session.timeout.ms"));
    assert!(message("esker.flush.min.interval", "251ms").contains("esker.flush.age"));
}

#[test]
fn topic_configs_override_the_defaults() {
    let configs = [
        ("retention.ms", "1000"),
        ("cleanup.policy", "compact, delete"),
        ("segment.bytes", "1048576"),
    ];
    let topic = TopicSettings::resolve(&Settings::default(), configs).unwrap();
    assert_eq!(topic.retention, Some(Duration::from_secs(1)));
    assert_eq!(topic.cleanup, CleanupPolicy::CompactAndDelete);
    assert_eq!(topic.message_bytes_max, 1_048_588);
    assert_eq!(
        TopicSettings::resolve(&Settings::default(), [("retention.ms", "-1")])
            .unwrap()
            .retention,
        None
    );
}

#[test]
fn topic_configs_are_refused_as_kafka_refuses_them() {
    let bad = [
        ("cleanup.policy", "purge"),
        ("compression.type", "none"),
        ("compression.gzip.level", "0"),
        ("max.message.bytes", "-1"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.insync.replicas", "0"),
        ("preallocate", "yes"),
        ("retention.ms", "-2"),
        ("segment.bytes", "14"),
        ("leader.replication.throttled.replicas", "1-2"),
    ];
    for (name, value) in bad {
        let refused = TopicSettings::resolve(&Settings::default(), [(name, value)]);
        assert!(matches!(refused, Err(TopicConfigError::Invalid(_))), "{name}={value}");
    }
    let unknown = TopicSettings::resolve(&Settings::default(), [("retention.msec", "1")]);
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "Unknown topic config name: retention.msec"
    );
}

#[test]
fn kafkas_own_topic_defaults_are_accepted() {
    for config in TOPIC_CONFIGS {
        let set = TopicSettings::defaults(&Settings::default()).set(config.name, config.default);
        assert_eq!(set, Ok(()), "{}", config.name);
    }
    assert!(TOPIC_CONFIGS.is_sorted_by_key(|config| config.name));
}

#[test]
fn topic_defaults_name_topic_configs() {
    for key in KEYS {
        if let Scope::TopicDefault(name) = key.scope {
            assert!(
                TOPIC_CONFIGS
                    .iter()
                    .any(|config| config.name == name && config.has_effect()),
                "{name}"
            );
        }
    }
}
