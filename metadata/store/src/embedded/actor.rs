//! The one writer of the embedded store: takes what waits, judges it in order, makes it durable with one sync, answers.
//!
//! Owns: the order of transactions, lease deadlines, the group commit.
//! Does not own: meaning (`keyspace`) and durability (`durable`).
//!
//! Invariants: an answer is given only after everything it rests on is durable; the shared key space changes only here.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::blocking;
use super::durable::{Durable, PersistError};
use crate::keyspace::{Changes, Keyspace};
use crate::lease_clock::LeaseClock;
use crate::signal;
use crate::store::{Lease, LeaseId, MetadataError, Revision, Txn, TxnOutcome};

/// Most requests in one group.
const GROUP_MAX: usize = 256;
/// How long expired leases wait before their removal is tried again after an I/O error.
const EXPIRY_RETRY: Duration = Duration::from_millis(200);

type Answer<T> = oneshot::Sender<Result<T, MetadataError>>;

/// What callers ask of the writer.
#[derive(Debug)]
pub(super) enum Request {
    Txn(Txn, Answer<TxnOutcome>),
    Grant(Duration, Answer<Lease>),
    KeepAlive(LeaseId, Answer<Option<Duration>>),
    Revoke(LeaseId, Answer<()>),
    Compact(Revision, Answer<()>),
    Close(oneshot::Sender<()>),
}

/// An answer that waits until its group is durable.
enum Waiting {
    Txn(Answer<TxnOutcome>, Result<TxnOutcome, MetadataError>),
    Revoke(Answer<()>),
}

/// What the writer and the readers share: the published state.
#[derive(Debug)]
pub(super) struct Published {
    keyspace: RwLock<Keyspace>,
}

impl Published {
    pub(super) fn new(keyspace: Keyspace) -> Self {
        Self {
            keyspace: RwLock::new(keyspace),
        }
    }

    /// Reads the published state.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Keyspace) -> T) -> T {
        read(&self.keyspace.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Keyspace) -> T) -> T {
        write(&mut self.keyspace.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The state of the writer.
pub(super) struct Writer {
    pub(super) published: Arc<Published>,
    /// Wakes watches; gone when the writer is.
    pub(super) revision: signal::Sender<Revision>,
    /// `None` for a store that lives in memory only.
    pub(super) durable: Option<Durable>,
    pub(super) leases: LeaseClock,
    pub(super) inbox: mpsc::Receiver<Request>,
}

impl Writer {
    /// Runs until the store is closed or its last handle is gone.
    pub(super) async fn run(mut self) {
        let mut retry_at = None;
        loop {
            let wake = self.leases.next().map(|at| retry_at.map_or(at, |retry| at.max(retry)));
            let mut requests = Vec::new();
            tokio::select! {
                biased;
                received = self.inbox.recv_many(&mut requests, GROUP_MAX) => if received == 0 { return },
                () = sleep_until(wake) => {}
            }
            let closing = match requests.iter().position(|request| matches!(request, Request::Close(_))) {
                Some(at) => requests.split_off(at).into_iter().next(),
                None => None,
            };
            let may_expire = retry_at.is_none_or(|retry| retry <= Instant::now());
            let expired = self.serve(requests, may_expire).await;
            if may_expire {
                retry_at = if expired {
                    None
                } else {
                    Some(Instant::now() + EXPIRY_RETRY)
                };
            }
            if let Some(Request::Close(done)) = closing {
                drop(self.durable.take());
                let _nobody_waits = done.send(());
                return;
            }
        }
    }

    /// Serves a group of requests and ends the leases that are due. Says whether the group is durable.
    async fn serve(&mut self, requests: Vec<Request>, may_expire: bool) -> bool {
        let requests = self.serve_leases(requests);
        let due = if may_expire { self.leases.due() } else { Vec::new() };
        let (changes, waiting) = self.published.read(|keyspace| judge(keyspace, requests, &due));
        let (changes, done) = self.persist(changes).await;
        if done.is_ok() {
            for lease in &changes.ended {
                self.leases.end(*lease);
            }
            if !changes.is_empty() || !changes.ended.is_empty() {
                let revision = changes.revision;
                self.published.write(|keyspace| keyspace.apply(changes));
                self.revision.set(revision);
            }
        }
        let error = done.err();
        answer(waiting, error.as_ref());
        error.is_none()
    }

    /// Serves what needs no durability and returns the rest.
    fn serve_leases(&mut self, requests: Vec<Request>) -> Vec<Request> {
        let mut rest = Vec::with_capacity(requests.len());
        for request in requests {
            match request {
                Request::Grant(ttl, answer) => {
                    let granted = self.leases.grant(ttl).map(|(id, ttl)| Lease { id, ttl });
                    if let Some(lease) = &granted {
                        self.published.write(|keyspace| keyspace.add_lease(lease.id));
                    }
                    reply(
                        answer,
                        granted.ok_or_else(|| MetadataError::Failed("too many leases".to_owned())),
                    );
                }
                Request::KeepAlive(lease, answer) => reply(answer, Ok(self.leases.renew(lease))),
                Request::Compact(revision, answer) => {
                    self.published.write(|keyspace| keyspace.compact(revision));
                    reply(answer, Ok(()));
                }
                Request::Txn(..) | Request::Revoke(..) | Request::Close(_) => rest.push(request),
            }
        }
        rest
    }

    /// Makes changes durable, and gives them back.
    async fn persist(&mut self, changes: Changes) -> (Changes, Result<(), MetadataError>) {
        if changes.is_empty() {
            return (changes, Ok(()));
        }
        let Some(mut durable) = self.durable.take() else {
            return (changes, Ok(()));
        };
        let published = Arc::clone(&self.published);
        let persisted = blocking(move || {
            let done = published.read(|keyspace| durable.persist(keyspace, &changes));
            (durable, changes, done)
        });
        let (durable, changes, done) = persisted.await;
        self.durable = Some(durable);
        let done = done.map_err(|error| match error {
            PersistError::Failed(why) => MetadataError::Failed(why),
            PersistError::Unknown(why) => MetadataError::Unknown(why),
        });
        (changes, done)
    }
}

fn judge(keyspace: &Keyspace, requests: Vec<Request>, due: &[LeaseId]) -> (Changes, Vec<Waiting>) {
    let mut group = keyspace.group();
    let mut waiting = Vec::with_capacity(requests.len());
    for request in requests {
        match request {
            Request::Txn(txn, answer) => {
                waiting.push(Waiting::Txn(answer, group.txn(&txn).map_err(MetadataError::from)));
            }
            Request::Revoke(lease, answer) => {
                group.end_lease(lease);
                waiting.push(Waiting::Revoke(answer));
            }
            Request::Grant(..) | Request::KeepAlive(..) | Request::Compact(..) | Request::Close(_) => {
                unreachable!("served before")
            }
        }
    }
    for lease in due {
        group.end_lease(*lease);
    }
    (group.finish(), waiting)
}

fn answer(waiting: Vec<Waiting>, error: Option<&MetadataError>) {
    for waiting in waiting {
        match (waiting, error) {
            // A refusal rests on nothing that was to be made durable.
            (Waiting::Txn(to, Err(refused)), _) => reply(to, Err(refused)),
            (Waiting::Txn(to, Ok(outcome)), None) => reply(to, Ok(outcome)),
            (Waiting::Txn(to, Ok(_)), Some(error)) => reply(to, Err(error.clone())),
            (Waiting::Revoke(to), None) => reply(to, Ok(())),
            (Waiting::Revoke(to), Some(error)) => reply(to, Err(error.clone())),
        }
    }
}

fn reply<T>(to: Answer<T>, answer: Result<T, MetadataError>) {
    // A caller that has gone away does not want to know.
    let _gone = to.send(answer);
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
