//! `quota/<entity>`: client quotas that somebody has set. Nothing enforces them yet.
//!
//! The entity stands in the key in one spelling: parts sorted by type with `/` between, each `type=name` or `type` for the default, with
//! `%`, `/` and `=` of a name as `%25`, `%2f` and `%3d`.

use bytes::Bytes;
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// What all keys of the family begin with.
pub const PREFIX: &str = "quota/";
const VERSION: u8 = 1;
/// Most quotas of one entity.
pub const QUOTAS_MAX: usize = 16;
/// Most bytes of a quota's name.
const NAME_BYTES_MAX: usize = 64;

/// Whom quotas are for: types with names, `None` for the default; sorted by type, each once.
pub type Entity = Vec<(String, Option<String>)>;

/// The quotas of one entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quotas {
    /// Sorted by name.
    pub values: Vec<(String, f64)>,
}

/// The key of an entity.
#[must_use]
pub fn key(entity: &Entity) -> Bytes {
    let part = |(of, name): &(String, Option<String>)| match name {
        Some(name) => format!("{of}={}", escaped(name)),
        None => of.clone(),
    };
    let parts: Vec<String> = entity.iter().map(part).collect();
    Bytes::from(format!("{PREFIX}{}", parts.join("/")))
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<Entity> {
    let text = std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
    let parts = text.split('/').map(|part| match part.split_once('=') {
        Some((of, name)) => (of.to_owned(), Some(unescaped(name))),
        None => (part.to_owned(), None),
    });
    Some(parts.collect())
}

fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f").replace('=', "%3d")
}

fn unescaped(name: &str) -> String {
    name.replace("%3d", "=").replace("%2f", "/").replace("%25", "%")
}

impl Quotas {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.count(self.values.len());
        for (name, value) in &self.values {
            out.str(name);
            out.u64(value.to_bits());
        }
        out.finish().into()
    }

    /// The inverse of [`Quotas::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("quotas", VERSION, value)?;
        let mut values = Vec::new();
        for _ in 0..input.count("quotas", QUOTAS_MAX, 9)? {
            let name = input.str("quota name", NAME_BYTES_MAX)?.to_owned();
            values.push((name, f64::from_bits(input.u64()?)));
        }
        input.finish()?;
        if values.is_sorted_by(|a, b| a.0 < b.0) {
            Ok(Self { values })
        } else {
            Err(FormatError::Invalid {
                what: "order of quotas",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = Quotas {
            values: vec![("consumer_byte_rate".to_owned(), 1.0)],
        };
        let bytes = this.encode();
        assert_eq!(&bytes[..], b"\x01\x01\x12consumer_byte_rate\0\0\0\0\0\0\xf0\x3f");
        assert_eq!(Quotas::decode(&bytes), Ok(this));
    }

    #[test]
    fn entities_have_one_spelling_each() {
        let part = |of: &str, name: Option<&str>| (of.to_owned(), name.map(str::to_owned));
        for (entity, spelled) in [
            (vec![part("user", Some("a"))], "quota/user=a"),
            (
                vec![part("client-id", None), part("user", Some("a/b=c%2f"))],
                "quota/client-id/user=a%2fb%3dc%252f",
            ),
            (vec![part("ip", Some(""))], "quota/ip="),
        ] {
            assert_eq!(key(&entity), spelled);
            assert_eq!(parse_key(spelled.as_bytes()), Some(entity));
        }
    }
}
