//! Kafka's message definitions as they stand in the JSON files.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// One definition file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Schema {
    pub(crate) api_key: Option<i16>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) listeners: Vec<String>,
    pub(crate) name: String,
    pub(crate) valid_versions: Versions,
    pub(crate) flexible_versions: Option<Versions>,
    #[serde(default)]
    pub(crate) latest_version_unstable: bool,
    #[serde(default)]
    pub(crate) fields: Vec<FieldSchema>,
    #[serde(default)]
    pub(crate) common_structs: Vec<StructSchema>,
}

/// A struct that several fields share.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StructSchema {
    pub(crate) name: String,
    #[serde(rename = "versions")]
    pub(crate) _versions: Versions,
    pub(crate) fields: Vec<FieldSchema>,
}

/// One field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FieldSchema {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) versions: Versions,
    pub(crate) nullable_versions: Option<Versions>,
    pub(crate) tagged_versions: Option<Versions>,
    pub(crate) flexible_versions: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<Value>,
    #[serde(default)]
    pub(crate) ignorable: bool,
    #[serde(default)]
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) fields: Vec<FieldSchema>,
    /// What kind of name or id it is; the generated type does not depend on it.
    #[serde(rename = "entityType")]
    pub(crate) _entity_type: Option<String>,
    /// Concerns Kafka's in-memory collections only.
    #[serde(rename = "mapKey")]
    pub(crate) _map_key: Option<bool>,
    /// Concerns Kafka's in-memory buffers only.
    #[serde(rename = "zeroCopy")]
    pub(crate) _zero_copy: Option<bool>,
}

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { first: 0, last: -1 };

    pub(crate) const fn is_empty(self) -> bool {
        self.first > self.last
    }

    pub(crate) const fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        }
    }

    /// Each version of a range that has an end.
    pub(crate) fn iter(self) -> impl Iterator<Item = i16> {
        self.first..=self.last
    }
}

impl TryFrom<String> for Versions {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        if let Some(first) = text.strip_suffix('+') {
            return Ok(Self {
                first: first.parse()?,
                last: i16::MAX,
            });
        }
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let versions = Self {
            first: first.parse()?,
            last: last.parse()?,
        };
        if versions.is_empty() {
            bail!("version range {text:?} is empty");
        }
        Ok(versions)
    }
}

/// Parses one definition file: JSON with `//` comments.
pub(crate) fn parse(text: &str) -> Result<Schema> {
    serde_json::from_str(&super::json::without_comments(text)).context("not a message definition")
}
