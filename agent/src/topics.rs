//! Topics as the request handlers see them: name, id, partitions, settings.
//!
//! Owns: the settings of each topic, resolved once when its record changes.
//! Does not own: which topics exist (the fold), their records (`esker_metadata::keys::topic`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use esker_metadata::keys::topic::Topic;
use esker_segment::id::TopicId;
use tracing::warn;

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
    defaults: TopicSettings,
    settings: Arc<Settings>,
    by_id: RwLock<HashMap<TopicId, TopicSettings>>,
    ids: RwLock<HashMap<String, TopicId>>,
}

impl TopicCatalog {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        let defaults = TopicSettings::defaults(&settings);
        Self {
            defaults,
            settings,
            by_id: RwLock::default(),
            ids: RwLock::default(),
        }
    }

    /// The settings of a topic.
    #[must_use]
    pub fn settings(&self, id: TopicId) -> TopicSettings {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.get(&id).copied().unwrap_or(self.defaults)
    }

    /// The record of a topic has changed.
    pub fn on_topic(&self, name: &str, topic: Option<&Topic>) {
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = ids.remove(name) {
            by_id.remove(&old);
        }
        let Some(topic) = topic else { return };
        ids.insert(name.to_owned(), topic.id);
        let mut resolved = self.defaults;
        for (key, value) in &topic.configs {
            if let Err(error) = resolved.set(key, value) {
                warn!(topic = name, %error, "topic config ignored");
            }
        }
        by_id.insert(topic.id, resolved);
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
        let resolved = TopicSettings::resolve(&self.settings, configs.clone())?;
        check_together(configs)?;
        Ok(resolved)
    }
}
