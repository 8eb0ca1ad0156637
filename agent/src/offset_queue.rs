//! Offset commits on their way into the log: gathered by shard, several groups in one commit.
//!
//! Owns: one commit of a shard at a time; what comes meanwhile goes into the next. So commits of a group keep their order
//! whatever becomes of each.
//! Does not own: whether a member may commit (`groups`), the commit itself (`writer`).
//!
//! Invariants: GRP-1: a commit compares the claim of the shard under which it was accepted. MEM-1 by `WAITING_MAX`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_metadata::store::Compare;
use esker_model::EntryVerdict;
use esker_model::entry::{ENTRIES_MAX, Entry, RECORD_BYTES_MAX};
use tokio::sync::oneshot;

use crate::shards::HeldShard;
use crate::writer::{LogWriter, ProposeError};

/// Commits of one shard that may wait.
const WAITING_MAX: usize = 4_096;
/// Bytes of entries in one commit, if it has more than one.
const BYTES_MAX: usize = RECORD_BYTES_MAX / 2;

/// What becomes of one entry.
pub type Outcome = oneshot::Receiver<Result<EntryVerdict, ProposeError>>;

struct Waiting {
    entry: Entry,
    compare: Compare,
    reply: oneshot::Sender<Result<EntryVerdict, ProposeError>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// A task works on it.
    busy: bool,
}

/// The queues of all shards.
pub struct OffsetQueue {
    writer: LogWriter,
    queues: Mutex<BTreeMap<u16, Queue>>,
}

impl OffsetQueue {
    /// Nothing waits.
    #[must_use]
    pub fn new(writer: LogWriter) -> Arc<Self> {
        Arc::new(Self {
            writer,
            queues: Mutex::default(),
        })
    }

    /// Puts an entry in line at once.
    ///
    /// # Errors
    /// The line is full; nothing changed.
    pub fn push(self: &Arc<Self>, held: HeldShard, entry: Entry) -> Result<Outcome, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        let mut queues = self.lock();
        let queue = queues.entry(held.shard).or_default();
        if queue.waiting.len() >= WAITING_MAX {
            return Err(ProposeError::Closed);
        }
        queue.waiting.push_back(Waiting {
            entry,
            compare: held.compare,
            reply,
        });
        if !queue.busy {
            queue.busy = true;
            tokio::spawn(Arc::clone(self).work(held.shard));
        }
        Ok(outcome)
    }

    async fn work(self: Arc<Self>, shard: u16) {
        while let Some(batch) = self.next_batch(shard) {
            let (mut entries, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
            let compare = batch[0].compare.clone();
            for one in batch {
                entries.push(one.entry);
                replies.push(one.reply);
            }
            let result = self.writer.propose_with(entries, vec![compare], Vec::new()).await;
            let mut verdicts = result.as_ref().map(|verdicts| verdicts.iter());
            for reply in replies {
                let verdict = match &mut verdicts {
                    Ok(verdicts) => verdicts.next().cloned().ok_or(ProposeError::Unknown),
                    Err(error) => Err(**error),
                };
                // A client that has gone does not want to know.
                let _gone = reply.send(verdict);
            }
        }
    }

    /// What goes into the next commit: entries under one claim, within the limits of a record. `None` ends the work.
    fn next_batch(&self, shard: u16) -> Option<Vec<Waiting>> {
        let mut queues = self.lock();
        let queue = queues.get_mut(&shard)?;
        let mut batch: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.waiting.front() {
            bytes += next.entry.encoded_len();
            let fits = batch.len() < ENTRIES_MAX && bytes <= BYTES_MAX;
            let same = batch.first().is_none_or(|first| first.compare == next.compare);
            let joins = fits && same;
            if !batch.is_empty() && !joins {
                break;
            }
            batch.extend(queue.waiting.pop_front());
        }
        if batch.is_empty() {
            queues.remove(&shard);
            return None;
        }
        Some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
