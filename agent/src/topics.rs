//! Topics as the request handlers see them: name, id, partitions, settings.
//!
//! Owns: the settings of each topic, resolved once when its record changes, or what stands behind all records.
//! Does not own: which topics exist (the fold), their records (`esker_metadata::keys::topic`), broker configs (`broker_configs`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use esker_metadata::keys::config::Configs;
use esker_metadata::keys::topic::Topic;
use esker_segment::id::TopicId;
use tracing::warn;

use crate::broker_configs::settings_under;
use crate::settings::{CONFIGS_BYTES_MAX, Settings, TopicConfigError, TopicSettings, check_together};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has.
    pub partitions: u32,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Settings of the topics that have configs of their own.
#[derive(Debug)]
pub struct TopicCatalog {
    settings: Arc<Settings>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// Those of the process under the broker configs that were set while it runs.
    settings: Arc<Settings>,
    defaults: TopicSettings,
    by_id: HashMap<TopicId, (TopicSettings, Topic)>,
    ids: HashMap<String, TopicId>,
    /// By node id; those of all brokers by the empty name.
    of_brokers: HashMap<String, Configs>,
    node: Option<i32>,
}

impl TopicCatalog {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        let state = State {
            defaults: TopicSettings::defaults(&settings),
            settings: Arc::clone(&settings),
            by_id: HashMap::new(),
            ids: HashMap::new(),
            of_brokers: HashMap::new(),
            node: None,
        };
        Self {
            settings,
            state: RwLock::new(state),
        }
    }

    /// The settings of a topic.
    #[must_use]
    pub fn settings(&self, id: TopicId) -> TopicSettings {
        let state = self.read();
        state.by_id.get(&id).map_or(state.defaults, |(settings, _)| *settings)
    }

    /// The settings of a topic, if it has a record: without one nobody knows what was set for it.
    #[must_use]
    pub fn known_settings(&self, id: TopicId) -> Option<TopicSettings> {
        self.read().by_id.get(&id).map(|(settings, _)| *settings)
    }

    /// The record of a topic has changed.
    pub fn on_topic(&self, name: &str, topic: Option<&Topic>) {
        let mut state = self.write();
        if let Some(old) = state.ids.remove(name) {
            state.by_id.remove(&old);
        }
        let Some(topic) = topic else { return };
        state.ids.insert(name.to_owned(), topic.id);
        let resolved = resolved(state.defaults, topic);
        state.by_id.insert(topic.id, (resolved, topic.clone()));
    }

    /// This agent has a node id.
    pub fn on_node(&self, node: i32) {
        let mut state = self.write();
        state.node = Some(node);
        self.resolve_all(&mut state);
    }

    /// The configs of a broker, or by the empty name of all, have changed.
    pub fn on_broker_configs(&self, name: &str, configs: Option<&Configs>) {
        let mut state = self.write();
        match configs {
            Some(configs) => drop(state.of_brokers.insert(name.to_owned(), configs.clone())),
            None => drop(state.of_brokers.remove(name)),
        }
        self.resolve_all(&mut state);
    }

    fn resolve_all(&self, state: &mut State) {
        let own = state.node.map(|node| node.to_string());
        let layers = [Some(String::new()), own].into_iter().flatten();
        let layers = layers.filter_map(|name| state.of_brokers.get(&name));
        state.settings = Arc::new(settings_under(&self.settings, layers));
        state.defaults = TopicSettings::defaults(&state.settings);
        let defaults = state.defaults;
        for (settings, topic) in state.by_id.values_mut() {
            *settings = resolved(defaults, topic);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks configs that a topic shall be created with.
    ///
    /// # Errors
    /// The first that is refused.
    pub fn check<'a>(
        &self,
        configs: impl IntoIterator<Item = (&'a str, &'a str), IntoIter: Clone>,
    ) -> Result<TopicSettings, TopicConfigError> {
        let configs = configs.into_iter();
        let bytes: usize = configs.clone().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > CONFIGS_BYTES_MAX {
            return Err(TopicConfigError::TooMuch { bytes });
        }
        let resolved = TopicSettings::resolve(&self.read().settings, configs.clone())?;
        check_together(configs)?;
        Ok(resolved)
    }
}

fn resolved(mut settings: TopicSettings, topic: &Topic) -> TopicSettings {
    for (key, value) in &topic.configs {
        if let Err(error) = settings.set(key, value) {
            warn!(topic = %topic.id, %error, "topic config ignored");
        }
    }
    settings
}
