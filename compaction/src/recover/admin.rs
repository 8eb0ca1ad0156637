//! What administrators had set, in the coordination store of a new life: records of topics, configs, quotas, credentials.
//!
//! Owns: whether the store or the checkpoint is believed, putting back what the checkpoint says.
//! Does not own: which keys these are (`esker_metadata::checkpoint`), what stands in them.
//!
//! A store that has gone on from the checkpoint is believed: it knows what was changed since. An empty one, or an old copy, is
//! made what the checkpoint says. Done again after it was cut short, it does the same: what is half done is not believed
//! (`begin`), and what was believed still is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker_metadata::checkpoint::AdminKeys;
use esker_metadata::keys::topic::{self, Topic};
use esker_metadata::keys::{config, quota, scram};
use esker_metadata::store::{KeyRange, KeyValue, MetadataStore, Op, Txn};

use super::begin::{KEYS_MAX, send};
use super::{RecoverError, Recovered};

/// Bytes of one transaction, if it has more than one key.
const BYTES_MAX: usize = 256 << 10;

/// Where configs of brokers and groups, quotas and credentials of a new life come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// They are as the store had them.
    Kept,
    /// They are as the checkpoint has them.
    Restored {
        /// How many keys.
        keys: usize,
    },
    /// The checkpoint is of a version that did not keep them: what the store does not have is lost.
    Unknown,
}

/// Makes configs, quotas and credentials those of the checkpoint, if it is to be believed.
pub(super) async fn restore(
    store: &dyn MetadataStore,
    recovered: &Recovered,
    believed: bool,
) -> Result<Admin, RecoverError> {
    let Some(said) = &recovered.admin else {
        return Ok(Admin::Unknown);
    };
    if believed {
        return Ok(Admin::Kept);
    }
    let prefixes = [config::PREFIX, quota::PREFIX, scram::PREFIX];
    let mut held: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for prefix in prefixes {
        held.extend(all(store, prefix).await?.into_iter().map(|kv| (kv.key, kv.value)));
    }
    let mut ops = Vec::new();
    let mut keys = 0;
    for (key, value) in prefixes.iter().flat_map(|prefix| said.of(prefix)) {
        keys += 1;
        if held.remove(key).as_ref() != Some(value) {
            ops.push(Op::put(key.clone(), value.clone()));
        }
    }
    ops.extend(held.into_keys().map(Op::Delete));
    change(store, ops).await?;
    Ok(Admin::Restored { keys })
}

async fn all(store: &dyn MetadataStore, prefix: &'static str) -> Result<Vec<KeyValue>, RecoverError> {
    let range = KeyRange::Prefix(Bytes::from_static(prefix.as_bytes()));
    Ok(store
        .snapshot(vec![range])
        .await?
        .ranges
        .into_iter()
        .flatten()
        .collect())
}

/// The configs of a topic whose own are lost: it may have been one that keeps its records for ever, or by key, and retention
/// begins with the first compactor.
fn keep_everything() -> Vec<(String, String)> {
    ["retention.bytes", "retention.ms"]
        .map(|name| (name.to_owned(), "-1".to_owned()))
        .to_vec()
}

/// The record of a topic in the checkpoint.
fn said_of(admin: Option<&AdminKeys>, found: &esker_model::fold::TopicView<'_>) -> Option<Bytes> {
    let value = admin?.get(&topic::key(found.name))?;
    let same = Topic::decode(value).is_ok_and(|topic| topic.id == found.id);
    same.then(|| value.clone())
}

/// Makes the records of topics those of the fold. Says whose configs nobody knows.
pub(super) async fn topics(
    store: &dyn MetadataStore,
    recovered: &Recovered,
    believed: bool,
) -> Result<Vec<String>, RecoverError> {
    let admin = recovered.admin.as_ref();
    let mut ops = Vec::new();
    let mut known = BTreeSet::new();
    for kv in all(store, topic::PREFIX).await? {
        let name = topic::parse_key(&kv.key).unwrap_or_default().to_owned();
        let id = Topic::decode(&kv.value).ok().map(|topic| topic.id);
        match recovered.fold.topic_named(&name) {
            Some(found) if id == Some(found.id) => {
                known.insert(name);
                let said = said_of(admin, &found).filter(|said| !believed && *said != kv.value);
                ops.extend(said.map(|said| Op::put(kv.key, said)));
            }
            _ => ops.push(Op::Delete(kv.key)),
        }
    }
    let mut without = Vec::new();
    for found in recovered.fold.topics().filter(|found| !known.contains(found.name)) {
        let record = said_of(admin, &found).unwrap_or_else(|| {
            without.push(found.name.to_owned());
            let lost = Topic {
                id: found.id,
                replication_factor: 1,
                configs: keep_everything(),
            };
            lost.encode()
        });
        let key = topic::key(found.name);
        // A record of another topic of that name goes by being replaced.
        ops.retain(|op| *op.key() != key);
        ops.push(Op::put(key, record));
    }
    change(store, ops).await?;
    Ok(without)
}

/// Changes keys, some at a time.
async fn change(store: &dyn MetadataStore, ops: Vec<Op>) -> Result<(), RecoverError> {
    let mut ops = ops.into_iter().peekable();
    while ops.peek().is_some() {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some(next) = ops.next_if(|next| {
            bytes += size_of(next);
            some.is_empty() || (some.len() < KEYS_MAX && bytes <= BYTES_MAX)
        }) {
            some.push(next);
        }
        let change = Txn {
            then: some,
            ..Txn::default()
        };
        send(store, change).await?;
    }
    Ok(())
}

fn size_of(op: &Op) -> usize {
    let value = match op {
        Op::Put { value, .. } => value.len(),
        Op::Get(_) | Op::Delete(_) => 0,
    };
    op.key().len() + value
}
