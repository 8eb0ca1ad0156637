//! What a connection to etcd is made from.
//!
//! Invariants: secrets are never printed.

use std::fmt;
use std::time::Duration;

use crate::store::MetadataError;

/// Something that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text from logs.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whom to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// How to be sure of etcd, and how etcd can be sure of us. All texts are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who may have signed the servers' certificates.
    pub authorities: String,
    /// Our certificate and its key, if etcd asks for them.
    pub identity: Option<(String, Secret)>,
    /// The name in the servers' certificates, if it is not that of the endpoint.
    pub server_name: Option<String>,
}

/// A cluster's part of an etcd, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `HOST:PORT` of the members, or URLs.
    pub endpoints: Vec<String>,
    /// What all keys begin with. A slash at its end is added if there is none; nothing means all of etcd.
    pub prefix: String,
    /// Encryption; without it nothing is encrypted.
    pub tls: Option<EtcdTls>,
    /// Authentication.
    pub user: Option<EtcdUser>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a call may take.
    pub call_timeout: Duration,
    /// How long one attempt to keep a lease alive may take: well below the TTL.
    pub keep_alive_timeout: Duration,
    /// How often a connection that says nothing is tried. etcd hangs up on whoever asks more often than every 5 s.
    pub ping_interval: Duration,
    /// How long the answer to that may take.
    pub ping_timeout: Duration,
    /// Decides which endpoint is taken first and next, so that not all processes run from a dead one to the same.
    pub seed: u64,
}

impl EtcdSettings {
    /// The usual settings for these endpoints and this prefix.
    #[must_use]
    pub fn new(endpoints: Vec<String>, prefix: impl Into<String>) -> Self {
        Self {
            endpoints,
            prefix: prefix.into(),
            tls: None,
            user: None,
            connect_timeout: Duration::from_secs(1),
            call_timeout: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(6),
            ping_timeout: Duration::from_secs(2),
            seed: 0,
        }
    }

    /// What is wrong with them.
    pub(super) fn check(&self) -> Result<(), MetadataError> {
        let wrong = |why: String| Err(MetadataError::Failed(why));
        if self.endpoints.is_empty() {
            return wrong("no etcd endpoint is given".to_owned());
        }
        for endpoint in &self.endpoints {
            if self.tls.is_some() && endpoint.starts_with("http://") {
                return wrong(format!("etcd endpoint {endpoint} is not encrypted, but TLS is set"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let mut settings = EtcdSettings::new(vec!["a:1".to_owned()], "");
        settings.user = Some(EtcdUser {
            name: "root".to_owned(),
            password: Secret::new("swordfish".to_owned()),
        });
        settings.tls = Some(EtcdTls {
            identity: Some(("certificate".to_owned(), Secret::new("swordfish".to_owned()))),
            ..EtcdTls::default()
        });
        let printed = format!("{settings:?} {settings:#?}");
        assert!(!printed.contains("swordfish") && printed.contains("root"), "{printed}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        assert!(EtcdSettings::new(vec![], "").check().is_err());
        let mut settings = EtcdSettings::new(vec!["http://a:1".to_owned()], "");
        assert!(settings.check().is_ok());
        settings.tls = Some(EtcdTls::default());
        assert!(settings.check().is_err());
        settings.endpoints = vec!["https://a:1".to_owned(), "b:1".to_owned()];
        assert!(settings.check().is_ok());
    }
}
