//! `topic/<name>`: makes a name unique, and holds what no verdict depends on. Put in the transaction of the `TopicCreate`
//! entry, deleted in that of the `TopicDelete` entry.

use bytes::Bytes;
use esker_segment::id::TopicId;
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// What all keys of the family begin with.
pub const PREFIX: &str = "topic/";
const VERSION: u8 = 1;
/// Most configs of a topic.
pub const CONFIGS_MAX: usize = 256;
/// Most bytes of a config's name.
const NAME_BYTES_MAX: usize = 255;
/// Most bytes of a config's value.
pub const VALUE_BYTES_MAX: usize = 32_767;

/// A topic as its name leads to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// The replication factor it was created with; only shown.
    pub replication_factor: i16,
    /// Configs that differ from the defaults, sorted by name.
    pub configs: Vec<(String, String)>,
}

/// The key of a topic.
#[must_use]
pub fn key(name: &str) -> Bytes {
    Bytes::from(format!("{PREFIX}{name}"))
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()
}

impl Topic {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u128(self.id.0);
        out.u16(self.replication_factor.cast_unsigned());
        out.count(self.configs.len());
        for (name, value) in &self.configs {
            out.str(name);
            out.str(value);
        }
        out.finish().into()
    }

    /// The inverse of [`Topic::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("topic", VERSION, value)?;
        let mut this = Self {
            id: TopicId(input.u128()?),
            replication_factor: input.u16()?.cast_signed(),
            configs: Vec::new(),
        };
        for _ in 0..input.count("configs", CONFIGS_MAX, 2)? {
            let name = input.str("config name", NAME_BYTES_MAX)?.to_owned();
            this.configs
                .push((name, input.str("config value", VALUE_BYTES_MAX)?.to_owned()));
        }
        input.finish()?;
        if this.configs.is_sorted_by(|a, b| a.0 < b.0) {
            Ok(this)
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
        let configs = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        let this = Topic {
            id: TopicId(3),
            replication_factor: -1,
            configs,
        };
        let bytes = this.encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\x02\x01a\x011\x01b\0"
        );
        assert_eq!(Topic::decode(&bytes), Ok(this));
        assert_eq!(parse_key(&key("orders")), Some("orders"));
    }

    #[test]
    fn configs_out_of_order_are_refused() {
        let configs = vec![("b".to_owned(), String::new()), ("a".to_owned(), String::new())];
        let bytes = Topic {
            configs,
            ..Topic::default()
        }
        .encode();
        assert_eq!(
            Topic::decode(&bytes),
            Err(FormatError::Invalid {
                what: "order of configs"
            })
        );
    }
}
