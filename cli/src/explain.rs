//! `esker config explain KEY`: what a setting means, what it is here, and who said so.
//!
//! Owns: the words on the terminal.
//! Does not own: keys and values (`esker_agent::settings`), who may say what (`config`).

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use esker_agent::settings::kafka_configs::{self, KafkaConfig};
use esker_agent::settings::{Assignment, KEYS, Key, Origin, Profile, Scope, Settings, key_of_env, nearest_key};

use crate::UsageError;
use crate::args::SettingArgs;
use crate::config;

/// What can be asked about settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what a setting means, its defaults, its value here and where that comes from
    Explain(ExplainArgs),
}

/// Which setting, and what else was said.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The setting, or its environment variable
    key: String,
    #[command(flatten)]
    settings: SettingArgs,
}

/// The profiles by the command that has them.
const PROFILES: [(&str, Profile); 2] = [("esker agent", Profile::Standard), ("esker dev", Profile::Dev)];

/// Explains a setting on stdout.
pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    let ConfigCommand::Explain(ExplainArgs { key, settings }) = command;
    let said = config::assignments(settings.config.as_deref(), settings.set, Vec::new())?;
    let text = explain(&key, &said)?;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to stdout")
}

fn explain(name: &str, said: &[Assignment]) -> Result<String, UsageError> {
    let wanted = key_of_env(name).unwrap_or(name);
    let Some(key) = KEYS.iter().find(|key| key.name == wanted) else {
        if let Some(config) = kafka_configs::find(&kafka_configs::TOPIC, wanted) {
            return Ok(explain_topic_config(config));
        }
        let nearest = nearest_key(wanted);
        let refusal = format!("there is no setting {name:?}; did you mean {nearest:?}?");
        return Err(UsageError(refusal));
    };
    let last = said.iter().rev().find(|one| one.name == key.name);
    let origin = last.map_or(Origin::Default, |one| one.origin.clone());
    let mut text = String::new();
    let mut line = |what: &str, value: &str| {
        writeln!(text, "{what:<12} {value}").expect("writing to a string does not fail");
    };
    line("setting", key.name);
    line("meaning", key.doc);
    if let Scope::TopicDefault(config) = key.scope {
        line("topics", &format!("it is the default of the topic config {config}"));
    }
    line("kind", &format!("{}: {}", key.kind(), key.allowed()));
    line("environment", &esker_agent::settings::env_name(key.name));
    for (command, profile) in PROFILES {
        line("default", &format!("{} ({command})", shown(default_of(key, profile))));
    }
    for (command, profile) in PROFILES {
        let settings = Settings::resolve(profile, said.to_vec()).map_err(|error| UsageError(error.to_string()))?;
        let value = key.written(&settings);
        line("value", &format!("{} ({command}; from: {origin})", shown(&value)));
    }
    Ok(text)
}

/// What a topic says for itself, and which setting speaks where it does not.
fn explain_topic_config(config: &KafkaConfig) -> String {
    let KafkaConfig { name, doc, .. } = config;
    let mut text = format!("topic config {name}\nmeaning      {doc}\n");
    let setting = KEYS.iter().filter(|key| key.scope == Scope::TopicDefault(config.name));
    let settings: Vec<&str> = setting.map(|key| key.name).collect();
    let default = match settings.as_slice() {
        [] => shown(config.default.unwrap_or_default()).to_owned(),
        names => format!("what {} says", names.join(", else ")),
    };
    writeln!(text, "default      {default}").expect("writing to a string does not fail");
    text.push_str("set by       CreateTopics or kafka-configs, for one topic; it is no setting of a process\n");
    text
}

/// The default as somebody would write it.
fn default_of(key: &Key, profile: Profile) -> &str {
    let own = profile.overrides().iter().find(|(name, _)| *name == key.name);
    own.map_or(key.default, |(_, value)| value)
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "nothing" } else { value }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn from_file(name: &str, value: &str) -> Vec<Assignment> {
        vec![Assignment {
            name: name.to_owned(),
            value: value.to_owned(),
            origin: Origin::File("x.toml".to_owned()),
        }]
    }

    #[test]
    fn defaults_by_command_and_who_said_what() {
        let text = explain("esker.flush.age", &[]).unwrap();
        assert!(
            text.contains("250ms (esker agent)") && text.contains("5ms (esker dev)"),
            "{text}"
        );
        assert!(text.contains("250ms (esker agent; from: default)"), "{text}");
        let text = explain("ESKER_FLUSH_AGE", &from_file("esker.flush.age", "1s")).unwrap();
        assert!(text.contains("1s (esker agent; from: file x.toml)"), "{text}");
        for key in KEYS {
            assert!(explain(key.name, &[]).unwrap().contains(key.doc));
        }
    }

    #[test]
    fn a_topic_config_names_the_settings_that_are_its_default() {
        let text = explain("retention.ms", &[]).unwrap();
        let settings = "what log.retention.ms, else log.retention.minutes, else log.retention.hours says";
        assert!(text.contains(settings), "{text}");
        let text = explain("segment.bytes", &[]).unwrap();
        assert!(text.contains("1073741824") && text.contains("no effect"), "{text}");
    }

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        let refused = explain("esker.flush.aeg", &[]).expect_err("no such setting");
        assert!(
            refused.to_string().contains("did you mean \"esker.flush.age\"?"),
            "{refused}"
        );
    }

    /// Every line of the documented example, those in comments included, is a setting with a sound value.
    #[test]
    fn the_documented_example_is_sound() {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/agent.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        let full = std::env::temp_dir().join(format!("esker-example-{}.toml", std::process::id()));
        std::fs::write(&full, text.replace("\n# \"", "\n\"")).unwrap();
        for (file, keys) in [(&path, 13), (&full, 20)] {
            let said = config::assignments(Some(file), Vec::new(), Vec::new()).unwrap();
            assert!(said.len() >= keys, "{}", said.len());
            let settings = Settings::resolve(Profile::Standard, said).unwrap();
            assert_eq!(settings.topics.partitions, 6);
            assert_eq!(settings.process.store, "s3://my-bucket/prod");
        }
        std::fs::remove_file(&full).unwrap();
    }
}
