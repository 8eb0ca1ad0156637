//! What administrators have set, as a section of the state object: no verdict depends on it, so the fold does not know it, and
//! yet a cluster whose coordination store is lost is not whole without it.
//!
//! Owns: which keys these are, the section (`docs/formats/fold-state.md`).
//! Does not own: what stands in the values (`keys`), the rest of the state object (`esker_model`), when they are put back
//! (recovery).
//!
//! Invariants: keys and values are those of the store, byte for byte, read at one revision.

use bytes::Bytes;
use esker_model::state::STATE_VERSION;
use esker_segment::container::{Container, ContainerKind};
use esker_segment::wire::{Decoder, Encoder, FormatError};

use crate::keys::{config, quota, scram, topic};
use crate::store::{KeyRange, MetadataError, MetadataStore, Revision};

/// The name of the section.
pub(super) const SECTION: &str = "admin-keys";
/// Fewest bytes of a key and its value.
const KEY_BYTES_MIN: usize = 2;

/// Keys that administrators change: records of topics, configs of everything else, quotas, credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminKeys {
    /// The store's revision when they were read.
    pub revision: Revision,
    /// Keys with their values, in key order.
    pub keys: Vec<(Bytes, Bytes)>,
}

impl AdminKeys {
    /// What their keys begin with, in key order.
    pub const PREFIXES: [&str; 4] = [config::PREFIX, quota::PREFIX, scram::PREFIX, topic::PREFIX];

    /// Reads them.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn read(store: &dyn MetadataStore) -> Result<Self, MetadataError> {
        let prefixes = Self::PREFIXES.map(|prefix| KeyRange::Prefix(Bytes::from_static(prefix.as_bytes())));
        let found = store.snapshot(prefixes.into()).await?;
        let keys = found.ranges.into_iter().flatten().map(|kv| (kv.key, kv.value));
        Ok(Self {
            revision: found.revision,
            keys: keys.collect(),
        })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let at = self.keys.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.keys.get(at).map(|(_, value)| value)
    }

    /// Those that begin with a prefix.
    pub fn of<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a (Bytes, Bytes)> {
        self.keys
            .iter()
            .filter(move |(key, _)| key.starts_with(prefix.as_bytes()))
    }

    /// The content of the section.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.varint(self.revision.0);
        out.count(self.keys.len());
        for (key, value) in &self.keys {
            out.bytes(key);
            out.bytes(value);
        }
        out.finish()
    }

    /// Those of a state object; `None` if it was written by a version that did not keep them.
    ///
    /// # Errors
    /// What is wrong with the object.
    pub fn of_state(object: &Bytes) -> Result<Option<Self>, FormatError> {
        let container = Container::decode(ContainerKind::State, STATE_VERSION, object)?;
        if !container.names().any(|name| name == SECTION) {
            return Ok(None);
        }
        Self::decode(container.section(SECTION)?).map(Some)
    }

    fn decode(content: &Bytes) -> Result<Self, FormatError> {
        let mut input = Decoder::new(content);
        let revision = Revision(input.varint()?);
        let count = input.count("keys of administrators", content.len(), KEY_BYTES_MIN)?;
        let mut keys: Vec<(Bytes, Bytes)> = Vec::with_capacity(count);
        for _ in 0..count {
            let key = content.slice_ref(input.bytes("key", content.len())?);
            let value = content.slice_ref(input.bytes("value", content.len())?);
            let known = Self::PREFIXES.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
            if !known || keys.last().is_some_and(|(before, _)| *before >= key) {
                return Err(FormatError::Invalid {
                    what: "keys of administrators",
                });
            }
            keys.push((key, value));
        }
        input.finish()?;
        Ok(Self { revision, keys })
    }
}

#[cfg(test)]
mod tests {
    use esker_model::Fold;

    use super::*;

    fn some() -> AdminKeys {
        let keys = [("config/broker/", "a"), ("topic/t", "bc")];
        AdminKeys {
            revision: Revision(300),
            keys: keys.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).into(),
        }
    }

    #[test]
    fn golden() {
        let hex: String = some().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let (config, topic) = ("636f6e6669672f62726f6b65722f", "746f7069632f74");
        assert_eq!(hex, format!("ac02020e{config}016107{topic}026263"));
    }

    #[test]
    fn a_state_object_has_them_or_not_and_the_fold_does_not_mind() {
        let fold = Fold::new();
        let without = fold.encode_state().concat();
        assert_eq!(AdminKeys::of_state(&without), Ok(None));
        let mut state = fold.begin_state();
        state.section(SECTION, some().encode());
        let with = state.finish().concat();
        let found = AdminKeys::of_state(&with).unwrap().unwrap();
        assert_eq!(found, some());
        assert_eq!(found.get(b"topic/t"), Some(&Bytes::from_static(b"bc")));
        assert_eq!(found.get(b"topic/"), None);
        assert_eq!(found.of("config/").count(), 1);
        assert_eq!(Fold::decode_state(&with).unwrap().digest(), fold.digest());
    }

    #[test]
    fn what_is_cut_unsorted_or_foreign_is_refused() {
        let content = Bytes::from(some().encode());
        for cut in 0..content.len() {
            assert!(AdminKeys::decode(&content.slice(..cut)).is_err(), "cut at {cut}");
        }
        let mut unsorted = some();
        unsorted.keys.swap(0, 1);
        let mut foreign = some();
        foreign.keys[1].0 = Bytes::from_static(b"root");
        for wrong in [unsorted, foreign] {
            assert!(AdminKeys::decode(&wrong.encode().into()).is_err());
        }
    }
}
