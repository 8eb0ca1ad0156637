//! Offset commits on their way into the log: gathered by group, the groups of all shards in one commit.
//!
//! Owns: which commits of members become one entry, which entries one commit (`line`), how many commits are under way, who waits
//! for what.
//! Does not own: whether a member may commit (`groups`), the commit itself (`writer`).
//!
//! A commit of the log costs the same whether it carries one entry or many, so what comes while one is under way waits for the next; a
//! second one goes out beside it only if it is full. Commits of one group that wait become one entry. Where many commit at a time, the next
//! one of the log begins no sooner than [`GATHER`] after the last one; who commits alone never waits for that.
//!
//! Invariants: GRP-1: a commit of the log compares the claims under which its entries were accepted. If one of them is lost it changes
//! nothing, and the entries of every other claim go again without it. A group has one commit under way at a time, so its commits keep
//! their order whatever becomes of each. Who waits under a claim that is gone is answered at once, however long the commit may take. MEM-1 by
//! `line`.

mod line;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_metadata::store::Compare;
use esker_model::EntryVerdict;
use esker_model::entry::{CommitRecord, Entry, Offsets};
use esker_model::verdict::OffsetsVerdict;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::line::{Entering, Lines, Waiting};
use crate::shards::HeldShard;
use crate::writer::{LogWriter, ProposeError};

/// Commits of the log that may be under way.
const UNDER_WAY_MAX: usize = 4;
/// How long commits are gathered,
const GATHER: Duration = Duration::from_millis(5);
/// after a commit of the log that carried so many.
const GATHER_FROM: usize = 4;

/// What becomes of one commit.
pub type Outcome = oneshot::Receiver<Judged>;

type Judged = Result<EntryVerdict, ProposeError>;

/// The commits of all groups of this agent.
pub struct OffsetQueue {
    writer: LogWriter,
    lines: Mutex<Lines>,
}

impl OffsetQueue {
    /// Nothing waits.
    #[must_use]
    pub fn new(writer: LogWriter) -> Arc<Self> {
        Arc::new(Self {
            writer,
            lines: Mutex::default(),
        })
    }

    /// Puts a commit in line at once.
    ///
    /// # Errors
    /// The line is full, or no record can hold the commit; nothing changed.
    pub fn push(self: &Arc<Self>, held: HeldShard, offsets: Offsets) -> Result<Outcome, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        // One that cannot be encoded must not get in line: it would fail its neighbours too.
        let (offsets, bytes) = measured(offsets).ok_or(ProposeError::TooLarge)?;
        let waiting = Waiting {
            offsets,
            bytes,
            compare: held.compare,
            reply,
        };
        let mut lines = self.lock();
        if !lines.push(waiting) {
            return Err(ProposeError::Closed);
        }
        self.start(&mut lines);
        Ok(outcome)
    }

    /// Sends what may go out now.
    fn start(self: &Arc<Self>, lines: &mut Lines) {
        while let Some(batch) = lines.take(UNDER_WAY_MAX) {
            tokio::spawn(Arc::clone(self).carry_out(batch));
        }
    }

    async fn carry_out(self: Arc<Self>, batch: Vec<Entering>) {
        let groups: Vec<Arc<str>> = batch.iter().map(|entering| Arc::clone(&entering.group)).collect();
        let (began, carried) = (
            Instant::now(),
            batch.iter().map(|entering| entering.commits).sum::<usize>(),
        );
        self.commit(batch).await;
        // Its place stays taken meanwhile, so that nothing but a full commit goes out.
        if carried >= GATHER_FROM && !self.lock().is_full() {
            tokio::time::sleep_until(began + GATHER).await;
        }
        let mut lines = self.lock();
        lines.on_done(&groups);
        self.start(&mut lines);
    }

    async fn commit(&self, batch: Vec<Entering>) {
        let claims = claims(&batch);
        let result = self.propose(&batch, claims.clone()).await;
        if result != Err(ProposeError::Refused) || claims.len() == 1 {
            return self.answer(&batch, result);
        }
        // At least one claim is lost. It must not fail the others.
        for claim in claims {
            let of_claim = batch.iter().filter(|entering| entering.compare == claim).cloned();
            let of_claim: Vec<Entering> = of_claim.collect();
            let result = self.propose(&of_claim, vec![claim]).await;
            self.answer(&of_claim, result);
        }
    }

    async fn propose(&self, batch: &[Entering], claims: Vec<Compare>) -> Result<Vec<EntryVerdict>, ProposeError> {
        let entries = batch.iter().map(|entering| Entry::Offsets(entering.offsets.clone()));
        self.writer.propose_with(entries.collect(), claims, Vec::new()).await
    }

    fn answer(&self, batch: &[Entering], result: Result<Vec<EntryVerdict>, ProposeError>) {
        let mut verdicts = result.map(Vec::into_iter);
        for entering in batch {
            let verdict = match &mut verdicts {
                Ok(verdicts) => verdicts.next().ok_or(ProposeError::Unknown),
                Err(error) => Err(*error),
            };
            let parts = self.lock().parts(&entering.group);
            let mut from = 0;
            for (changes, reply) in parts {
                // A client that has gone does not want to know.
                let _gone = reply.send(own_part(&verdict, from, changes));
                from += changes;
            }
        }
    }

    /// Answers those whose claim of this shard is not the one that is held now: what was not sent never takes effect, of what is
    /// under way nobody knows.
    pub fn on_claim_lost(&self, shard: u16, held: Option<&Compare>) {
        let (unknown, refused) = self.lock().on_claim_lost(shard, held);
        let unknown = unknown.into_iter().map(|reply| (reply, ProposeError::Unknown));
        let refused = refused.into_iter().map(|reply| (reply, ProposeError::Refused));
        for (reply, error) in unknown.chain(refused) {
            // A client that has gone does not want to know.
            let _gone = reply.send(Err(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The offsets and how many bytes of a record they take, if one can hold them.
fn measured(offsets: Offsets) -> Option<(Offsets, usize)> {
    let record = CommitRecord {
        entries: vec![Entry::Offsets(offsets)],
    };
    let bytes = record.encode().ok()?.len();
    match record.entries.into_iter().next()? {
        Entry::Offsets(offsets) => Some((offsets, bytes)),
        _ => None,
    }
}

/// The claims of a batch, each once.
fn claims(batch: &[Entering]) -> Vec<Compare> {
    let mut claims: Vec<Compare> = Vec::new();
    for Entering { compare, .. } in batch {
        if !claims.contains(compare) {
            claims.push(compare.clone());
        }
    }
    claims
}

/// What a verdict says of some of the changes, as if they had been an entry of their own.
fn own_part(verdict: &Judged, from: usize, changes: usize) -> Judged {
    let Ok(EntryVerdict::Offsets(OffsetsVerdict::Applied { refused })) = verdict else {
        return verdict.clone();
    };
    let own = refused.iter().filter_map(|(position, why)| {
        let position = usize::try_from(*position).ok()?.checked_sub(from)?;
        let position = Some(position).filter(|position| *position < changes)?;
        Some((u32::try_from(position).ok()?, *why))
    });
    Ok(EntryVerdict::Offsets(OffsetsVerdict::Applied {
        refused: own.collect(),
    }))
}
