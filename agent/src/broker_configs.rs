//! Broker configs that administrators change while agents run.
//!
//! Owns: which of them act at once, what settings become under them.
//! Does not own: where they stand (`esker_metadata::keys::config`), who may change them (the handlers), what follows from the settings
//! (`topics`, compaction).
//!
//! What a restart would refuse is left out here with a warning: one agent may be older than the one that let it in.

use esker_metadata::keys::config::Configs;
use tracing::warn;

use crate::settings::kafka_configs::{BROKER, find};
use crate::settings::{KEYS, Key, Origin, Scope, Settings};

/// Whether a broker config that does something here does it as soon as it is changed: what Kafka lets change while a broker runs, and
/// is the default of a topic config. Hours and minutes of retention Kafka does not let change.
#[must_use]
pub fn acts_at_once(name: &str) -> bool {
    let is_default = |key: &Key| key.name == name && matches!(key.scope, Scope::TopicDefault(_));
    find(&BROKER, name).is_some_and(|config| config.dynamic) && KEYS.iter().any(is_default)
}

/// The settings of an agent under configs that were set while it ran, the strongest last.
#[must_use]
pub fn settings_under<'a>(settings: &Settings, layers: impl IntoIterator<Item = &'a Configs>) -> Settings {
    let mut under = settings.clone();
    for (name, value) in layers.into_iter().flat_map(|layer| &layer.configs) {
        if !acts_at_once(name) {
            continue;
        }
        if let Err(error) = under.set(name, value, Origin::Client) {
            warn!(%error, "broker config ignored");
        }
    }
    under
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{Profile, TopicSettings};

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        let configs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Configs {
            configs: configs.collect(),
        }
    }

    #[test]
    fn the_strongest_layer_is_the_last_and_what_cannot_be_is_left_out() {
        let settings = Settings::resolve(Profile::Standard, []).unwrap();
        let all = configs(&[
            ("log.retention.ms", "1000"),
            ("message.max.bytes", "70000"),
            ("num.partitions", "9"),
        ]);
        let own = configs(&[("message.max.bytes", "80000"), ("compression.type", "brotli")]);
        let under = settings_under(&settings, [&all, &own]);
        let topic = TopicSettings::defaults(&under);
        assert_eq!(topic.retention, Some(Duration::from_secs(1)));
        assert_eq!(topic.message_bytes_max, 80_000);
        assert_eq!(topic.compression, TopicSettings::defaults(&settings).compression);
        assert_eq!(
            under.topics.partitions, settings.topics.partitions,
            "it needs a restart"
        );
        assert_eq!(settings_under(&settings, []), settings);
    }
}
