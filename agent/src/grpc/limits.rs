//! Which calls are taken in, and what each holds as long as it is open.
//!
//! Owns: how many calls are open, of all clients and of each connection; the budget that messages of a call hold.
//! Does not own: how messages come (`metered`), how answers go (`answer`), what a call does.
//!
//! Connections are counted, not addresses: behind one address there may be many clients. A call is taken in if its connection has
//! fewer open than are left for everybody. So a connection that wants all of them gets half, two get a third each, and whoever comes
//! next finds some left.
//!
//! Invariants: MEM-1.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::answer::Answer;
use super::errors::exhausted;
use super::incoming::Peer;
use super::measured::{Measured, Method};
use super::metered::Metered;
use super::readers::Reader;
use super::served::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::kafka::budget::{BudgetShare, ByteBudget, Purpose};

/// Calls of all clients that may be open.
const CALLS_MAX: usize = 1_024;
/// Of these, calls that answer for many things at once: their answers are large.
const ADMIN_CALLS_MAX: usize = 128;

/// Limits that all services share.
#[derive(Clone)]
pub(super) struct Limits {
    all: Arc<Semaphore>,
    admin: Arc<Semaphore>,
    budget: ByteBudget,
}

/// A call that was taken in; it ends when this is dropped.
pub(super) struct Call {
    _all: OwnedSemaphorePermit,
    _admin: Option<OwnedSemaphorePermit>,
    of_connection: Arc<AtomicUsize>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.of_connection.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limits {
    pub(super) fn new(budget: ByteBudget) -> Self {
        Self {
            all: Arc::new(Semaphore::new(CALLS_MAX)),
            admin: Arc::new(Semaphore::new(ADMIN_CALLS_MAX)),
            budget,
        }
    }

    /// The service within these limits.
    pub(super) fn limit<S>(&self, purpose: Purpose, service: S) -> Limited<S> {
        Limited {
            service,
            limits: self.clone(),
            purpose,
        }
    }

    /// Takes a call in, if there is room.
    pub(super) fn enter(&self, of_connection: Arc<AtomicUsize>, method: Method) -> Option<Call> {
        let left = self.all.available_permits();
        if of_connection.load(Ordering::Relaxed) >= left {
            return None;
        }
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let admin = if method.is_admin() {
            Some(Arc::clone(&self.admin).try_acquire_owned().ok()?)
        } else {
            None
        };
        of_connection.fetch_add(1, Ordering::Relaxed);
        Some(Call {
            _all: all,
            _admin: admin,
            of_connection,
        })
    }
}

/// A service within limits.
#[derive(Clone)]
pub(super) struct Limited<S> {
    service: S,
    limits: Limits,
    purpose: Purpose,
}

impl<S: NamedService> NamedService for Limited<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Limited<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Method::of(request.uri().path());
        let mut measured = Measured::begin(method);
        let of_connection = request.extensions().get::<Peer>().map(Peer::calls).unwrap_or_default();
        let Some(call) = self.limits.enter(of_connection, method) else {
            let refused = exhausted("too many calls are open", "end some, or go to another agent", true);
            measured.ended(refused.code());
            return Box::pin(async move { Ok(refused.into_http()) });
        };
        let message_bytes_max = match self.purpose {
            Purpose::Produce => MESSAGE_BYTES_MAX,
            Purpose::Other => REQUEST_BYTES_MAX,
        };
        let received = Received::default();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(received.clone());
        let budget = (self.limits.budget.clone(), self.purpose);
        let body = Body::new(Metered::new(body, budget, message_bytes_max, received.clone()));
        let answer = self.service.call(http::Request::from_parts(parts, body));
        Box::pin(async move { Ok(Answer::of(answer.await?, (call, received), measured)) })
    }
}

/// What a call holds: the budget of messages that have no other owner yet, and its share of what is read. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Received(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    budget: Option<BudgetShare>,
    reader: Option<Reader>,
}

impl Received {
    /// Passes the budget on, with the message.
    pub(super) fn take(&self) -> Option<Arc<BudgetShare>> {
        let share = self.0.lock().unwrap_or_else(PoisonError::into_inner).budget.take();
        share.map(Arc::new)
    }

    pub(super) fn add(&self, share: BudgetShare) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut held.budget {
            Some(budget) => budget.merge(share),
            None => held.budget = Some(share),
        }
    }

    /// Keeps a reader until the answer has been taken.
    pub(super) fn keep(&self, reader: Reader) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reader = Some(reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_wants_everything_leaves_some_to_others() {
        let limits = Limits::new(ByteBudget::new(1));
        let take_all = |connection: &Arc<AtomicUsize>| {
            let calls = std::iter::from_fn(|| limits.enter(Arc::clone(connection), Method::of("")));
            calls.collect::<Vec<Call>>()
        };
        let connections: [Arc<AtomicUsize>; 3] = std::array::from_fn(|_| Arc::default());
        let first = take_all(&connections[0]);
        assert_eq!(first.len(), CALLS_MAX / 2);
        let second = take_all(&connections[1]);
        assert_eq!(second.len(), CALLS_MAX / 4);
        drop(first);
        let third = take_all(&connections[2]);
        assert_eq!(third.len(), CALLS_MAX * 3 / 8);
        assert!(limits.enter(Arc::clone(&connections[0]), Method::of("")).is_some());
        drop((second, third));
        assert!(connections.iter().all(|calls| calls.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn administration_is_bounded_by_itself() {
        let limits = Limits::new(ByteBudget::new(1));
        let enter = |path| limits.enter(Arc::default(), Method::of(path));
        let admin: Vec<Call> = std::iter::from_fn(|| enter("/esker.v1.Admin/ListGroups")).collect();
        assert_eq!(admin.len(), ADMIN_CALLS_MAX);
        assert!(enter("/esker.v1.Consumer/Commit").is_none());
        assert!(enter("/esker.v1.Consumer/Fetch").is_some());
    }
}
