//! Where generations of groups are kept: beside the log, in the metadata store, a few keys for each group.
//!
//! Owns: one transaction of a shard at a time, what its answer means.
//! Does not own: what waits (`line`), what is written (`book`), reading it back (`take_over`), who holds a shard (`shards`).
//!
//! Invariants: GRP-1, GRP-2. A change is durable before its future says so. Every transaction compares the claim under which the change
//! was accepted and what the transaction before it wrote; so a coordinator that lost its shard writes nothing, and one whose
//! outcome is unknown is sent again until it is known, and takes effect once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_metadata::log::Backoff;
use esker_metadata::store::{MetadataError, MetadataStore, Revision};
use esker_model::placement::shard_of;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::book::{Book, Change, Judged, Plan, Step};
use super::line::{Batch, Line, Replies};
use crate::groups::error::GroupError;
use crate::groups::group::StoredGroup;
use crate::groups::ids::GroupId;
use crate::groups::seams::GroupStore;

/// A transaction that certainly fails is tried again for so long, and nobody waits longer for one whose outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(10);

/// A shard under one claim.
struct Open {
    /// `None` while the worker has it.
    book: Option<Book>,
    claim: Revision,
    waiting: Line,
    /// Groups of which a newer version has written something: they are not overwritten.
    unreadable: BTreeSet<GroupId>,
}

/// Generations of groups over the metadata store.
pub struct Registry {
    pub(super) store: Arc<dyn MetadataStore>,
    shards: Mutex<BTreeMap<u16, Open>>,
}

/// What became of a transaction.
enum Sent {
    Done,
    Fenced,
    Failed(MetadataError),
}

/// What became of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Out,
    /// A transaction failed, and what came after it was not sent.
    Partly,
    Fenced,
}

impl Registry {
    /// No shard is open.
    #[must_use]
    pub fn new(store: Arc<dyn MetadataStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            shards: Mutex::default(),
        })
    }

    /// Takes changes of a shard's groups from now on.
    pub(super) fn open(self: &Arc<Self>, book: Book, unreadable: BTreeSet<GroupId>) {
        let (shard, claim, sweep) = (book.shard, book.claim, !book.unnamed.is_empty());
        let open = Open {
            book: Some(book),
            claim,
            waiting: Line::default(),
            unreadable,
        };
        let mut shards = self.lock();
        // Whoever waits under another claim hears that it is over.
        shards.insert(shard, open);
        if sweep {
            self.begin(&mut shards, shard);
        }
    }

    /// Takes no more changes of a shard: its claim is gone. Those that wait are refused.
    pub fn close(&self, shard: u16) {
        self.lock().remove(&shard);
    }

    /// Whether changes of a shard are taken under this claim.
    #[must_use]
    pub fn is_open(&self, shard: u16, claim: Revision) -> bool {
        self.lock().get(&shard).is_some_and(|open| open.claim == claim)
    }

    pub(super) fn push(
        self: &Arc<Self>,
        group: &GroupId,
        change: Change,
    ) -> BoxFuture<'static, Result<(), GroupError>> {
        let shard = shard_of(group.as_str());
        let (reply, outcome) = oneshot::channel();
        let mut shards = self.lock();
        let Some(open) = shards.get_mut(&shard) else {
            return std::future::ready(Err(GroupError::NotCoordinator)).boxed();
        };
        if open.unreadable.contains(group) {
            return std::future::ready(Err(GroupError::Unavailable)).boxed();
        }
        if let Err(full) = open.waiting.push(group, change, reply) {
            return std::future::ready(Err(full)).boxed();
        }
        self.begin(&mut shards, shard);
        drop(shards);
        // A shard that is closed drops those who wait.
        async move { outcome.await.unwrap_or(Err(GroupError::NotCoordinator)) }.boxed()
    }

    /// Starts the worker of a shard, unless it runs.
    fn begin(self: &Arc<Self>, shards: &mut BTreeMap<u16, Open>, shard: u16) {
        let Some(open) = shards.get_mut(&shard) else { return };
        if let Some(book) = open.book.take() {
            tokio::spawn(Arc::clone(self).work(book));
        }
    }

    async fn work(self: Arc<Self>, book: Book) {
        let mut next = self.next_batch(book, true);
        while let Some((mut book, batch)) = next {
            let Batch { changes, mut replies } = batch;
            let plan = book.plan(changes);
            let steps = u64::try_from(plan.steps.len()).unwrap_or(u64::MAX);
            metrics::counter!("esker_group_writes_total").increment(steps);
            let carried_out = self.carry_out(&mut book, plan, &mut replies).await;
            if carried_out == Carried::Fenced {
                return;
            }
            next = self.next_batch(book, carried_out == Carried::Out);
        }
    }

    /// The next changes, at most one of each group. `None` ends the work: there is nothing to do, not even to sweep, and the
    /// book is put back; or the shard was closed.
    fn next_batch(&self, book: Book, sweep: bool) -> Option<(Book, Batch)> {
        let mut shards = self.lock();
        let open = shards.get_mut(&book.shard).filter(|open| open.claim == book.claim)?;
        let batch = open.waiting.take();
        if batch.changes.is_empty() && (book.unnamed.is_empty() || !sweep) {
            open.book = Some(book);
            return None;
        }
        Some((book, batch))
    }

    /// Sends the steps of a plan, one after the other.
    async fn carry_out(&self, book: &mut Book, plan: Plan, replies: &mut Replies) -> Carried {
        for change in plan.done {
            replies.answer(change, &Ok(()));
        }
        for change in plan.too_large {
            let max = esker_metadata::store::TXN_BYTES_MAX;
            let limit = "bytes of a member";
            replies.answer(change, &Err(GroupError::RequestTooLarge { limit, max }));
        }
        for step in plan.steps {
            match self.send(book.shard, book.claim, &step, replies).await {
                Sent::Done => {
                    for change in book.done(step) {
                        replies.answer(change, &Ok(()));
                    }
                }
                Sent::Fenced => {
                    // Before anybody hears of it: from then on nobody is answered as if nothing had happened.
                    self.give_up(book);
                    replies.refuse(&GroupError::NotCoordinator);
                    return Carried::Fenced;
                }
                Sent::Failed(error) => {
                    warn!(shard = book.shard, %error, "generations of groups not stored");
                    replies.refuse(&GroupError::Unavailable);
                    return Carried::Partly;
                }
            }
        }
        Carried::Out
    }

    /// Sends a transaction until its outcome is known, or the claim is gone. One that has failed each time is given up after a
    /// while; one whose outcome was unknown once may have happened, and what comes after it must not be sent before it is known:
    /// then those who wait are told after a while that nothing can be said, and it goes on without them.
    async fn send(&self, shard: u16, claim: Revision, step: &Step, replies: &mut Replies) -> Sent {
        let mut backoff = Backoff::new(claim.0 ^ u64::from(shard));
        let (mut unknown, mut warned, began) = (false, false, Instant::now());
        loop {
            match self.store.txn(step.txn()).await {
                Ok(outcome) if outcome.succeeded => return Sent::Done,
                Ok(outcome) => {
                    return match step.judge(outcome.results) {
                        Judged::Done => Sent::Done,
                        Judged::Fenced => Sent::Fenced,
                    };
                }
                Err(MetadataError::Unknown(why)) => {
                    debug!(shard, why, "outcome of a write of groups is unknown, it is sent again");
                    unknown = true;
                }
                Err(error @ (MetadataError::Failed(_) | MetadataError::Compacted { .. })) => {
                    if !unknown && began.elapsed() >= PATIENCE {
                        return Sent::Failed(error);
                    }
                }
            }
            if unknown && began.elapsed() >= PATIENCE {
                if !std::mem::replace(&mut warned, true) {
                    warn!(
                        shard,
                        "outcome of a write of groups stays unknown, nobody waits for it any more"
                    );
                }
                replies.refuse(&GroupError::Unavailable);
                self.refuse_waiting(shard, claim);
            }
            backoff.wait().await;
            if !self.is_open(shard, claim) {
                return Sent::Fenced;
            }
        }
    }

    /// Nobody waits for what cannot begin; the changes stay.
    fn refuse_waiting(&self, shard: u16, claim: Revision) {
        if let Some(open) = self.lock().get_mut(&shard).filter(|open| open.claim == claim) {
            open.waiting.refuse(&GroupError::Unavailable);
        }
    }

    /// Somebody else has the shard; `shards` will notice too.
    fn give_up(&self, book: &Book) {
        let mut shards = self.lock();
        if shards.get(&book.shard).is_some_and(|open| open.claim == book.claim) {
            shards.remove(&book.shard);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Open>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupStore for Arc<Registry> {
    fn store(&self, group: &GroupId, generation: StoredGroup) -> BoxFuture<'static, Result<(), GroupError>> {
        self.push(group, Change::Store(generation))
    }

    fn remove(&self, group: &GroupId) -> BoxFuture<'static, Result<(), GroupError>> {
        self.push(group, Change::Remove)
    }
}
