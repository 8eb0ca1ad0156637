//! Keys of the metadata store that administrators change and that the fold does not know.
//!
//! Owns: reading them at one revision, changing one by compare and swap.
//! Does not own: what stands in them (`esker_metadata::keys`), topics, whose records change with the log.
//!
//! A change whose outcome is unknown is decided again from what is found then, so whatever is decided must be the same when its
//! own effect is there already.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_metadata::store::{Compare, KeyRange, KeyValue, MetadataError, Op, Txn};
use esker_segment::id::TopicId;
use tracing::{debug, warn};

use super::alter_configs::nothing;
use crate::agent::Agent;
use crate::handlers::create_topics::Refused;

/// How often a change is tried.
const ATTEMPTS: usize = 8;
/// Most bytes of the name of what keys are about: a group, a user.
pub(super) const NAME_BYTES_MAX: usize = 1_024;
/// Most keys of a family that grows with what clients ask for: every listing reads all of them.
pub(super) const FAMILY_MAX: usize = 1_000;
/// Most keys of such families that one request changes.
pub(super) const ALTERATIONS_MAX: usize = 100;
/// Ranges read at once.
const RANGES_MAX: usize = 100;

/// What becomes of a key.
#[derive(Debug)]
pub(super) enum Change {
    /// It stays as it is.
    Nothing,
    /// It holds this from now on.
    Put(Bytes),
    /// It goes.
    Delete,
}

/// What a client is told when the store does not answer.
pub(super) fn unreachable(error: &MetadataError) -> Refused {
    warn!(%error, "metadata store does not answer an administrator");
    (
        ErrorCode::RequestTimedOut,
        "the metadata store does not answer; try again".to_owned(),
    )
}

/// What each range holds.
///
/// # Errors
/// The store does not answer.
pub(super) async fn read(agent: &Agent, ranges: Vec<KeyRange>) -> Result<Vec<Vec<KeyValue>>, Refused> {
    let store = &agent.follower.cluster().store;
    let mut found = Vec::with_capacity(ranges.len());
    for some in ranges.chunks(RANGES_MAX) {
        let snapshot = store.snapshot(some.to_vec()).await;
        found.extend(snapshot.map_err(|error| unreachable(&error))?.ranges);
    }
    Ok(found)
}

/// What begins with a prefix.
///
/// # Errors
/// The store does not answer.
pub(super) async fn read_all(agent: &Agent, prefix: Bytes) -> Result<Vec<KeyValue>, Refused> {
    let found = read(agent, vec![KeyRange::Prefix(prefix)]).await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// What a key holds.
///
/// # Errors
/// The store does not answer.
pub(super) async fn read_one(agent: &Agent, key: Bytes) -> Result<Option<Bytes>, Refused> {
    let found = read(agent, vec![KeyRange::Key(key)]).await?;
    Ok(found.into_iter().flatten().next().map(|kv| kv.value))
}

/// How many keys of a family there are, counted at most once for a request.
#[derive(Debug, Default)]
pub(super) struct Census(BTreeMap<Bytes, usize>);

impl Census {
    /// Whether a key is there, or there is room for it among at most `max` of its family.
    ///
    /// # Errors
    /// There is no room, or the store does not answer.
    pub(super) async fn admit(&mut self, agent: &Agent, family: Bytes, key: &Bytes, max: usize) -> Result<(), Refused> {
        if read_one(agent, key.clone()).await?.is_some() {
            return Ok(());
        }
        let count = match self.0.get(&family) {
            Some(count) => *count,
            None => read_all(agent, family.clone()).await?.len(),
        };
        self.0.insert(family, count + 1);
        if count < max {
            return Ok(());
        }
        let message = format!("there are {max} of them already, and more are not kept");
        Err((ErrorCode::PolicyViolation, message))
    }
}

/// A checkpoint keeps what administrators have set, and comes only after a commit: so there is one, soon, for nobody waits.
fn keep(agent: &Agent) {
    if let Err(error) = agent.log.enqueue(vec![nothing(TopicId(0))]) {
        debug!(%error, "what was set is kept with the next checkpoint");
    }
}

/// Changes a key as `decide` says of what it holds.
///
/// # Errors
/// What `decide` refuses; the store does not answer, or others are always faster.
pub(super) async fn change(
    agent: &Agent,
    key: Bytes,
    decide: impl Fn(Option<&Bytes>) -> Result<Change, Refused>,
) -> Result<(), Refused> {
    let store = &agent.follower.cluster().store;
    let mut problem = (ErrorCode::RequestTimedOut, "others change it all the time".to_owned());
    for _ in 0..ATTEMPTS {
        let held = read_one(agent, key.clone()).await?;
        let op = match decide(held.as_ref())? {
            Change::Nothing => return Ok(()),
            Change::Put(value) => Op::put(key.clone(), value),
            Change::Delete => Op::Delete(key.clone()),
        };
        let compare = match held {
            Some(value) => Compare::Value(key.clone(), value),
            None => Compare::Absent(key.clone()),
        };
        let txn = Txn {
            compares: vec![compare],
            then: vec![op],
            otherwise: Vec::new(),
        };
        match store.txn(txn).await {
            Ok(outcome) if outcome.succeeded => {
                keep(agent);
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => problem = unreachable(&error),
        }
    }
    Err(problem)
}
