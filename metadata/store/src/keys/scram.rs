//! `scram/<mechanism>/<user>`: what a broker needs to check a password by SCRAM (RFC 5802), without the password. Nothing
//! authenticates by it yet.

use bytes::Bytes;
use esker_segment::wire::FormatError;

use super::{decoder, encoder};

/// What all keys of the family begin with.
pub const PREFIX: &str = "scram/";
const VERSION: u8 = 1;
/// Most bytes of a salt.
pub const SALT_BYTES_MAX: usize = 1_024;
/// Most bytes of a key: those of SHA-512.
const KEY_BYTES_MAX: usize = 64;

/// The hash that a credential is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// A credential of one user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Rounds of hashing.
    pub iterations: u32,
    /// Salt.
    pub salt: Bytes,
    /// H(HMAC(salted password, "Client Key")).
    pub stored_key: Bytes,
    /// HMAC(salted password, "Server Key").
    pub server_key: Bytes,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential {{ iterations: {}, .. }}", self.iterations)
    }
}

/// The key of a user's credential.
#[must_use]
pub fn key(mechanism: Mechanism, user: &str) -> Bytes {
    let word = match mechanism {
        Mechanism::Sha256 => "sha-256",
        Mechanism::Sha512 => "sha-512",
    };
    Bytes::from(format!("{PREFIX}{word}/{user}"))
}

/// The inverse of [`key`].
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<(Mechanism, &str)> {
    let text = std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
    let (word, user) = text.split_once('/')?;
    match word {
        "sha-256" => Some((Mechanism::Sha256, user)),
        "sha-512" => Some((Mechanism::Sha512, user)),
        _ => None,
    }
}

impl Credential {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u32(self.iterations);
        for part in [&self.salt, &self.stored_key, &self.server_key] {
            out.count(part.len());
            out.raw(part);
        }
        out.finish().into()
    }

    /// The inverse of [`Credential::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("credential", VERSION, value)?;
        let iterations = input.u32()?;
        let mut part = |what, max| -> Result<Bytes, FormatError> {
            let bytes = input.count(what, max, 1)?;
            Ok(Bytes::copy_from_slice(input.raw(bytes)?))
        };
        let this = Self {
            iterations,
            salt: part("salt", SALT_BYTES_MAX)?,
            stored_key: part("stored key", KEY_BYTES_MAX)?,
            server_key: part("server key", KEY_BYTES_MAX)?,
        };
        input.finish()?;
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let this = Credential {
            iterations: 4_096,
            salt: Bytes::from_static(b"s"),
            stored_key: Bytes::from_static(b"ab"),
            server_key: Bytes::new(),
        };
        assert_eq!(&this.encode()[..], b"\x01\0\x10\0\0\x01s\x02ab\0");
        assert_eq!(
            Credential::decode(&this.encode()).map(|c| c.encode()),
            Ok(this.encode())
        );
        assert_eq!(format!("{this:?}"), "Credential { iterations: 4096, .. }");
        assert_eq!(&key(Mechanism::Sha512, "a/b")[..], b"scram/sha-512/a/b");
        assert_eq!(parse_key(b"scram/sha-256/a/b"), Some((Mechanism::Sha256, "a/b")));
        assert_eq!(parse_key(b"scram/md5/a"), None);
    }
}
