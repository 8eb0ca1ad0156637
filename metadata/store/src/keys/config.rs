//! `config/<type>/<name>`: configs that somebody has set for something that is not a topic: a broker, all brokers, a group, a
//! client metrics subscription. No verdict depends on them.

use bytes::Bytes;
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// What all keys of the family begin with.
pub const PREFIX: &str = "config/";
const VERSION: u8 = 1;
/// Most configs of one resource.
pub const CONFIGS_MAX: usize = 512;
/// Most bytes of a config's name.
const NAME_BYTES_MAX: usize = 255;
/// Most bytes of a config's value.
pub const VALUE_BYTES_MAX: usize = 32_767;

/// What has configs of its own, beside topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A broker by its node id; all brokers by the empty name.
    Broker,
    /// A group.
    Group,
    /// A client metrics subscription.
    ClientMetrics,
}

impl Owner {
    const fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Group => "group",
            Self::ClientMetrics => "client-metrics",
        }
    }
}

/// The configs of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configs {
    /// Sorted by name.
    pub configs: Vec<(String, String)>,
}

/// The key of a resource.
#[must_use]
pub fn key(owner: Owner, name: &str) -> Bytes {
    Bytes::from(format!("{PREFIX}{}/{name}", owner.word()))
}

/// What the keys of all resources of a type begin with.
#[must_use]
pub fn prefix(owner: Owner) -> Bytes {
    key(owner, "")
}

/// The name in a key of a type.
#[must_use]
pub fn parse_key(owner: Owner, key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&*prefix(owner))?).ok()
}

impl Configs {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.count(self.configs.len());
        for (name, value) in &self.configs {
            out.str(name);
            out.str(value);
        }
        out.finish().into()
    }

    /// The inverse of [`Configs::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("configs", VERSION, value)?;
        let mut configs = Vec::new();
        for _ in 0..input.count("configs", CONFIGS_MAX, 2)? {
            let name = input.str("config name", NAME_BYTES_MAX)?.to_owned();
            configs.push((name, input.str("config value", VALUE_BYTES_MAX)?.to_owned()));
        }
        input.finish()?;
        if configs.is_sorted_by(|a, b| a.0 < b.0) {
            Ok(Self { configs })
        } else {
            Err(FormatError::Invalid {
                what: "order of configs",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = Configs {
            configs: vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())],
        };
        assert_eq!(&this.encode()[..], b"\x01\x02\x01a\x011\x01b\0");
        assert_eq!(Configs::decode(&this.encode()), Ok(this));
        assert_eq!(&key(Owner::Broker, "")[..], b"config/broker/");
        assert_eq!(&key(Owner::ClientMetrics, "m")[..], b"config/client-metrics/m");
        assert_eq!(parse_key(Owner::Group, &key(Owner::Group, "a/b")), Some("a/b"));
        assert_eq!(parse_key(Owner::Group, &key(Owner::Broker, "1")), None);
    }

    #[test]
    fn configs_out_of_order_are_refused() {
        let configs = vec![("b".to_owned(), String::new()), ("a".to_owned(), String::new())];
        assert!(Configs::decode(&Configs { configs }.encode()).is_err());
    }
}
