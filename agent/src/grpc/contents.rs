//! What batches of sessions held, so that a batch that comes again as another one is noticed.
//!
//! Owns: a digest of the last batches of the sessions that this agent has seen.
//! Does not own: sessions (clients keep them), repeats (the fold answers those, by their sequence and count only).
//!
//! The fold cannot tell a batch from another one with the same sequence and as many records: it would be acknowledged and not
//! stored. So clients must not change batches within a session. An agent that has seen the session before holds them to it; others
//! cannot know.
//!
//! Invariants: MEM-1 (`SESSIONS_MAX` times `BATCHES_MAX` digests), LOG-4.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use esker_proto::v1::{Record, Session};
use xxhash_rust::xxh3::Xxh3;

/// Sessions that are remembered: the latest ones.
const SESSIONS_MAX: usize = 1_024;
/// Batches of each: those that may be unacknowledged, and as many whose acks may have been lost.
const BATCHES_MAX: usize = 10;

/// Producer id and epoch.
type Key = (i64, i32);

/// Digests of batches. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Contents(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Number and digest of the last batches.
    sessions: HashMap<Key, VecDeque<(u64, u64)>>,
    oldest_first: VecDeque<Key>,
}

impl Contents {
    /// Notes what a batch holds; false if it was sent before and held something else.
    pub(super) fn is_unchanged(&self, session: &Session, topic: &str, number: u64, records: &[Record]) -> bool {
        let mut hasher = Xxh3::new();
        topic.hash(&mut hasher);
        for record in records {
            let Record {
                partition,
                key,
                value,
                headers,
                timestamp_ms,
            } = record;
            (partition, key, value, headers, timestamp_ms).hash(&mut hasher);
        }
        let digest = hasher.finish();
        let key = (session.producer_id, session.producer_epoch);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        let batches = seen.sessions.entry(key).or_default();
        if let Some((_, before)) = batches.iter().find(|(seen, _)| *seen == number) {
            return *before == digest;
        }
        if batches.is_empty() {
            seen.oldest_first.push_back(key);
        }
        batches.push_back((number, digest));
        if batches.len() > BATCHES_MAX {
            batches.pop_front();
        }
        if seen.oldest_first.len() > SESSIONS_MAX
            && let Some(oldest) = seen.oldest_first.pop_front()
        {
            seen.sessions.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(producer_id: i64) -> Session {
        Session {
            producer_id,
            producer_epoch: 0,
            partitions: 1,
        }
    }

    fn records(partition: i32) -> [Record; 1] {
        [Record {
            partition: Some(partition),
            ..Record::default()
        }]
    }

    #[test]
    fn a_batch_is_what_it_was_and_what_is_remembered_is_bounded() {
        let contents = Contents::default();
        let first = session(0);
        assert!(contents.is_unchanged(&first, "t", 0, &records(0)));
        assert!(contents.is_unchanged(&first, "t", 0, &records(0)));
        assert!(!contents.is_unchanged(&first, "t", 0, &records(1)));
        assert!(!contents.is_unchanged(&first, "u", 0, &records(0)));
        for number in 1..=10 {
            assert!(contents.is_unchanged(&first, "t", number, &records(0)));
        }
        assert!(contents.is_unchanged(&first, "t", 0, &records(1)), "long ago");
        for id in 1..3_000 {
            assert!(contents.is_unchanged(&session(id), "t", 0, &records(0)));
        }
        let seen = contents.0.lock().unwrap();
        assert_eq!((seen.sessions.len(), seen.oldest_first.len()), (1_024, 1_024));
        assert!(seen.sessions.values().all(|batches| batches.len() <= 10));
    }
}
