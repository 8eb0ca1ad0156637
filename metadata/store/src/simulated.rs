//! A metadata store for simulations: deterministic, in memory, and as faulty as it is told to be.
//!
//! Owns: latency, faults before and after the effect, late effects, early and late lease ends, the trace.
//! Does not own: what transactions mean (`keyspace`), watch faults (`watch`), the dice (`dice`).
//!
//! Invariants: with a current-thread runtime and paused time, the same seed and the same calls give the same trace. Faults
//! never break what the contract of [`MetadataStore`] promises.

mod dice;
mod faults;
mod trace;
mod watch;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::keyspace::{Keyspace, Limits};
use crate::lease_clock::LeaseClock;
use crate::signal::{self, signal};
use crate::store::{
    KeyRange, Lease, LeaseId, MetadataError, MetadataStore, Revision, Snapshot, Txn, TxnOutcome, Watch,
};
use dice::Dice;
use trace::Trace;
use watch::SimulatedWatch;

pub use faults::{Chance, Faults};

/// The store. Clones share it, as connections to one etcd.
#[derive(Clone, Debug)]
pub struct SimulatedStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rises with the revision.
    moved: signal::Sender<Revision>,
    /// A deadline has changed, or the store is gone.
    leases_changed: Arc<Notify>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.leases_changed.notify_one();
    }
}

#[derive(Debug)]
struct State {
    keyspace: Keyspace,
    leases: LeaseClock,
    faults: Faults,
    available: bool,
    dice: Dice,
    trace: Trace,
    calls: u64,
}

/// What fate has in store for a call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answer,
    FailBefore,
    UnknownBefore,
    UnknownAfter,
    Late(Duration),
}

impl SimulatedStore {
    /// A store without keys. Everything it does follows from the seed, the calls and tokio's clock. Needs a runtime.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let keyspace = Keyspace::new(Limits::default());
        let (moved, _) = signal(keyspace.revision());
        let state = State {
            keyspace,
            leases: LeaseClock::default(),
            faults,
            available: true,
            dice: Dice::new(seed),
            trace: Trace::new(),
            calls: 0,
        };
        let leases_changed = Arc::new(Notify::new());
        let shared = Shared {
            state: Mutex::new(state),
            moved,
            leases_changed: Arc::clone(&leases_changed),
        };
        let shared = Arc::new(shared);
        tokio::spawn(expire_leases(Arc::downgrade(&shared), leases_changed));
        Self { shared }
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.with(|state| state.faults = faults);
    }

    /// Lets every call fail after its time-out, as if the store could not be reached, or ends that.
    pub fn set_available(&self, available: bool) {
        self.shared.with(|state| {
            state.available = available;
            state.trace.note(format_args!("available {available}"));
        });
    }

    /// Ends every lease at once, as a stalled etcd leader may.
    pub fn end_all_leases(&self) {
        self.shared.with(|state| {
            for lease in state.leases.all() {
                state.end_lease(lease, "ended");
            }
        });
        self.shared.wake();
    }

    /// Ends one lease.
    pub fn end_lease(&self, lease: LeaseId) {
        self.shared.with(|state| state.end_lease(lease, "ended"));
        self.shared.wake();
    }

    /// Forgets all history, so that every watch that lags gets `Compacted`.
    pub fn compact_all(&self) {
        self.shared.with(|state| {
            let next = Revision(state.keyspace.revision().0 + 1);
            state.keyspace.compact(next);
        });
    }

    /// What is in the store, for checkers: no faults, no latency.
    #[must_use]
    pub fn peek(&self, ranges: &[KeyRange]) -> Snapshot {
        self.shared.with(|state| state.keyspace.snapshot(ranges))
    }

    /// The newest lines of the trace.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.shared.with(|state| state.trace.lines())
    }

    /// A hash over the whole trace: equal for equal runs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.shared.with(|state| state.trace.hash())
    }

    /// Lets the latency of a call pass; `Failed` after the time-out when the store cannot be reached.
    async fn arrive(&self) -> Result<(), MetadataError> {
        let (delay, available, timeout) = self.shared.with(|state| {
            state.calls += 1;
            (
                state.dice.between(state.faults.latency),
                state.available,
                state.faults.timeout,
            )
        });
        if !available {
            tokio::time::sleep(timeout).await;
            return Err(MetadataError::Failed("simulated: store cannot be reached".to_owned()));
        }
        pass(delay).await;
        Ok(())
    }

    async fn leave(&self) {
        let delay = self.shared.with(|state| state.dice.between(state.faults.latency));
        pass(delay).await;
    }

    /// Does something that has an effect, with all that may go wrong.
    async fn change<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl Fn(&mut State) -> Result<T, MetadataError> + Send + Sync + 'static,
    ) -> Result<T, MetadataError> {
        self.arrive().await?;
        let fate = self.shared.with(|state| state.fate(what));
        let unknown = |why: &str| Err(MetadataError::Unknown(format!("simulated: {what} {why}")));
        match fate {
            Fate::Answer => {
                let answer = self.act(&act);
                self.leave().await;
                answer
            }
            Fate::FailBefore => Err(MetadataError::Failed(format!("simulated: {what} failed"))),
            Fate::UnknownBefore => {
                self.time_out().await;
                unknown("got lost")
            }
            Fate::UnknownAfter => {
                let _lost: Result<T, MetadataError> = self.act(&act);
                self.time_out().await;
                unknown("was done, answer lost")
            }
            Fate::Late(by) => {
                let this = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(by).await;
                    let _lost: Result<T, MetadataError> = this.act(&act);
                });
                unknown("is under way")
            }
        }
    }

    fn act<T>(&self, act: &impl Fn(&mut State) -> Result<T, MetadataError>) -> Result<T, MetadataError> {
        let answer = self.shared.with(|state| {
            state.expire();
            act(state)
        });
        self.shared.wake();
        answer
    }

    async fn time_out(&self) {
        let timeout = self.shared.with(|state| {
            let quick = state.dice.hits(Chance::PERCENT * 50);
            if quick {
                state.dice.between(state.faults.latency)
            } else {
                state.faults.timeout
            }
        });
        pass(timeout).await;
    }
}

impl Shared {
    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes watches and the expiry of leases.
    fn wake(&self) {
        self.wake_watches();
        self.leases_changed.notify_one();
    }

    fn wake_watches(&self) {
        let revision = self.with(|state| state.keyspace.revision());
        if self.moved.get() != revision {
            self.moved.set(revision);
        }
    }
}

impl State {
    fn fate(&mut self, what: &'static str) -> Fate {
        let faults = self.faults;
        let fate = if self.dice.hits(faults.fail_before) {
            Fate::FailBefore
        } else if self.dice.hits(faults.unknown_before) {
            Fate::UnknownBefore
        } else if self.dice.hits(faults.unknown_after) {
            Fate::UnknownAfter
        } else if self.dice.hits(faults.late) {
            Fate::Late(self.dice.between((Duration::ZERO, faults.late_max)))
        } else {
            Fate::Answer
        };
        if fate != Fate::Answer {
            self.trace.note(format_args!("{what} {fate:?}"));
        }
        fate
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, MetadataError> {
        let mut group = self.keyspace.group();
        let outcome = group.txn(txn);
        let changes = group.finish();
        for event in &changes.events {
            self.trace
                .note(format_args!("{} {:?}", event.revision().0, event.key()));
        }
        self.keyspace.apply(changes);
        let outcome = outcome?;
        if !outcome.succeeded {
            self.trace.note(format_args!("{} refused", outcome.revision.0));
        }
        Ok(outcome)
    }

    fn end_lease(&mut self, lease: LeaseId, why: &str) {
        self.trace.note(format_args!("lease {} {why}", lease.0));
        self.leases.end(lease);
        let mut group = self.keyspace.group();
        group.end_lease(lease);
        let changes = group.finish();
        self.keyspace.apply(changes);
    }

    /// Ends the leases that are due, unless fate lets them live a little longer.
    fn expire(&mut self) {
        for lease in self.leases.due() {
            if self.dice.hits(self.faults.lease_late) {
                self.leases.renew(lease);
                self.trace.note(format_args!("lease {} lives on", lease.0));
            } else {
                self.end_lease(lease, "expired");
            }
        }
    }
}

async fn pass(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Ends leases when they are due. Holds the store only for moments, so that it can be dropped.
async fn expire_leases(shared: Weak<Shared>, leases_changed: Arc<Notify>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        strong.with(State::expire);
        strong.wake_watches();
        let next = strong.with(|state| state.leases.next());
        drop(strong);
        tokio::select! {
            biased;
            () = leases_changed.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl MetadataStore for SimulatedStore {
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, MetadataError> {
        self.change("txn", move |state| state.txn(&txn)).await
    }

    async fn snapshot(&self, ranges: Vec<KeyRange>) -> Result<Snapshot, MetadataError> {
        self.arrive().await?;
        let failed = self.shared.with(|state| state.dice.hits(state.faults.read_fails));
        if failed {
            return Err(MetadataError::Failed("simulated: read failed".to_owned()));
        }
        let snapshot = self.act(&|state: &mut State| Ok(state.keyspace.snapshot(&ranges)));
        self.leave().await;
        snapshot
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, MetadataError> {
        self.arrive().await?;
        self.shared.with(|state| state.keyspace.events(&prefix, from, 0))?;
        Ok(Box::new(SimulatedWatch::new(Arc::clone(&self.shared), prefix, from)))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<Lease, MetadataError> {
        let granted = self.change("grant", move |state| {
            let (id, ttl) = state
                .leases
                .grant(ttl)
                .ok_or_else(|| MetadataError::Failed("too many leases".to_owned()))?;
            state.keyspace.add_lease(id);
            Ok(Lease { id, ttl })
        });
        granted.await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, MetadataError> {
        let kept = self.change("keep-alive", move |state| {
            if state.dice.hits(state.faults.lease_early) {
                state.end_lease(lease, "ended early");
            }
            Ok(state.leases.renew(lease))
        });
        kept.await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), MetadataError> {
        let revoked = self.change("revoke", move |state| {
            state.end_lease(lease, "revoked");
            Ok(())
        });
        revoked.await
    }

    async fn compact(&self, revision: Revision) -> Result<(), MetadataError> {
        let compacted = self.change("compact", move |state| {
            state.keyspace.compact(revision);
            Ok(())
        });
        compacted.await
    }
}
