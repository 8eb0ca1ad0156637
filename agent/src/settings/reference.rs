//! `docs/configuration.md`, written from the table, so that the page and the program cannot disagree.
//!
//! Owns: the words and the layout of the page.

use std::fmt::Write as _;

use super::topic::TOPIC_CONFIGS;
use super::{KEYS, Key, Profile, Scope, env_name};

const HEAD: &str = "\
# Configuration

<!-- Written by `cargo xtask reference` from the tables in agent/src/settings; a test compares. Do not edit. -->

A setting can be said in four places; later ones win:

1. the defaults below, and on top of them those of the command (`esker dev`: see the last table),
2. a TOML file, `--config FILE`,
3. the environment, under the name in the table,
4. `--set KEY=VALUE`, which may be repeated.

In TOML, names are best quoted: `\"num.partitions\" = 3`. (`max.connections` and `max.connections.per.ip` without quotes
would be a number and a table of one name.) A setting that does not exist is an error that names the nearest one, and
so is an `ESKER_…` variable that stands for none. Variables that Kubernetes sets for a service called `esker`
(`ESKER_PORT`, `ESKER_SERVICE_HOST`, …) are left alone.

Names that Kafka has mean what they mean in Kafka and take plain numbers, as there. Names that begin with `esker.` also
take units: durations `5ms`, `30s`, `10m`, `24h`, `7d` (a plain number is milliseconds), sizes `64KiB`, `8MiB`, `1GiB`
(a plain number is bytes).

*At start* means that a change needs a restart by its nature. While the process runs, administrators can change the defaults
of topics as in Kafka ([which](compatibility.md#deliberate-differences)), and nothing else.
";

/// The whole page.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let kafkas = KEYS.iter().filter(|key| !key.takes_units());
    let ours = KEYS.iter().filter(|key| key.takes_units());
    settings_table(&mut page, "Kafka's settings", kafkas);
    settings_table(&mut page, "Esker's own", ours);
    dev_table(&mut page);
    topic_table(&mut page);
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .and_then(|()| page.write_char('\n'))
        .expect("writing to a string does not fail");
}

fn settings_table(page: &mut String, title: &str, keys: impl Iterator<Item = &'static Key>) {
    line(
        page,
        format_args!("\n## {title}\n\n| name | kind | default | values | environment | |\n|--|--|--|--|--|--|"),
    );
    for key in keys {
        let Key { name, default, doc, .. } = key;
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("`{default}`")
        };
        let topic = match key.scope {
            Scope::TopicDefault(config) => format!(" Default of the topic config `{config}`."),
            Scope::Broker => String::new(),
        };
        let at_start = if key.dynamic { "" } else { " *At start.*" };
        let (kind, allowed, variable) = (key.kind(), key.allowed(), env_name(name));
        line(
            page,
            format_args!("| `{name}` | {kind} | {default} | {allowed} | `{variable}` | {doc}{topic}{at_start} |"),
        );
    }
}

fn dev_table(page: &mut String) {
    line(
        page,
        format_args!("\n## What `esker dev` sets\n\n| name | value |\n|--|--|"),
    );
    for (name, value) in Profile::Dev.overrides() {
        line(page, format_args!("| `{name}` | `{value}` |"));
    }
}

fn topic_table(page: &mut String) {
    let about = "Every topic config of Kafka 4.3 is accepted and its value checked as Kafka checks it. Those without an \
                 effect are kept, so that tools which set them work; there is nothing in Esker for them to change.";
    line(
        page,
        format_args!("\n## Topic configs\n\n{about}\n\n| name | Kafka's default | has an effect |\n|--|--|--|"),
    );
    for config in TOPIC_CONFIGS {
        let effect = if config.has_effect() { "yes" } else { "no" };
        let default = if config.default.is_empty() {
            String::new()
        } else {
            format!("`{}`", config.default)
        };
        line(page, format_args!("| `{}` | {default} | {effect} |", config.name));
    }
}
