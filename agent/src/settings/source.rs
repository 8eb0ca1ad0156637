//! Where a setting was said: defaults, file, environment, command line.
//!
//! Owns: the names of environment variables and which of them are not settings at all.
//! Does not own: reading them (`cli`).

use std::fmt;

use super::KEYS;

/// One setting as somebody said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The key.
    pub name: String,
    /// Its value, not yet looked at.
    pub value: String,
    /// Who said it.
    pub origin: Origin,
}

/// Who said it; later ones override earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The table or a profile.
    Default,
    /// A configuration file.
    File(String),
    /// An environment variable.
    Environment(String),
    /// `--set` on the command line.
    CommandLine,
    /// A flag of its own.
    Flag(&'static str),
    /// A client, through an admin call.
    Client,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Client => f.write_str("request"),
        }
    }
}

/// The environment variable of a key: `num.partitions` is `ESKER_NUM_PARTITIONS`, `esker.flush.age` is
/// `ESKER_FLUSH_AGE`.
#[must_use]
pub fn env_name(key: &str) -> String {
    let own = key.strip_prefix("esker.").unwrap_or(key);
    format!("ESKER_{}", own.to_ascii_uppercase().replace('.', "_"))
}

/// The key that an environment variable stands for.
#[must_use]
pub fn key_of_env(variable: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| key.name).find(|key| env_name(key) == variable)
}

/// Variables that begin with `ESKER_` without being settings: our log filter, where commands find a cluster, and what
/// Kubernetes puts into every container beside a service called `esker` (`ESKER_PORT=tcp://…`, `ESKER_SERVICE_HOST`, …).
#[must_use]
pub fn is_reserved_env(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("ESKER_") else {
        return true;
    };
    let words: Vec<&str> = rest.split('_').collect();
    let kubernetes = words.contains(&"PORT") || (words.contains(&"SERVICE") && words.contains(&"HOST"));
    matches!(rest, "LOG" | "BOOTSTRAP") || kubernetes
}
