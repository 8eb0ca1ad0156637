//! What clients send, taken in within limits.
//!
//! Owns: how many calls are open, the memory of messages that are being received, how slowly they may come.
//! Does not own: what a call does, limits of a connection (`super`), of a message (`esker_proto::codec`).
//!
//! A message is handed on only when all of it is there: what decodes it takes memory for the length that a peer has announced.
//!
//! Invariants: MEM-1 (a message is held under the byte budget that Kafka's frames are held under; nothing is allocated on a peer's
//! word; one that comes too slowly ends its call).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::served::MESSAGE_BYTES_MAX;
use crate::kafka::budget::{BudgetShare, ByteBudget, NoBudget, Purpose};

/// Calls of all clients that may be open.
pub(super) const CALLS_MAX: usize = 1_024;
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// A message that has begun must be complete by then, plus one second for as many bytes as this that came.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(30);
const RATE_MIN: usize = 64 * 1024;

/// Limits that all services share.
#[derive(Clone)]
pub(super) struct Limits {
    calls: Arc<Semaphore>,
    budget: ByteBudget,
}

impl Limits {
    pub(super) fn new(budget: ByteBudget) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
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
        let Ok(permit) = Arc::clone(&self.limits.calls).try_acquire_owned() else {
            let refused = Status::resource_exhausted("too many calls are open; end some, or go to another agent");
            return Box::pin(async move { Ok(refused.into_http()) });
        };
        let received = Received::default();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(received.clone());
        let body = Body::new(Metered {
            body,
            budget: self.limits.budget.clone(),
            purpose: self.purpose,
            received: received.clone(),
            granting: None,
            gathered: BytesMut::new(),
            complete: 0,
            ended: false,
            waited: Duration::ZERO,
            waits_since: None,
            wait: None,
            too_slow: Box::pin(tokio::time::sleep(MESSAGE_DEADLINE)),
        });
        let answer = self.service.call(http::Request::from_parts(parts, body));
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| {
                Body::new(Answer {
                    body,
                    _permit: permit,
                    _received: received,
                })
            }))
        })
    }
}

/// The budget that messages of a call hold: of one that has no other owner yet.
#[derive(Clone, Default)]
pub(super) struct Received(Arc<Mutex<Option<BudgetShare>>>);

impl Received {
    /// Passes it on, with the message.
    pub(super) fn take(&self) -> Option<BudgetShare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn add(&self, share: BudgetShare) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.merge(share),
            None => *held = Some(share),
        }
    }
}

/// What goes back to the client; the call is open as long as this is there.
struct Answer {
    body: Body,
    _permit: OwnedSemaphorePermit,
    _received: Received,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Notes when something came for whoever reads: that may be long before it reads on.
struct Wait {
    reader: Waker,
    woken: Mutex<Option<Instant>>,
}

impl Wake for Wait {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.reader.wake_by_ref();
    }
}

type Granting = BoxFuture<'static, Result<BudgetShare, NoBudget>>;

/// What comes from the client, message by message.
struct Metered {
    body: Body,
    budget: ByteBudget,
    purpose: Purpose,
    received: Received,
    /// Bytes that have come and wait for their share of the budget.
    granting: Option<(Bytes, Granting)>,
    gathered: BytesMut,
    /// How much of what was gathered are whole messages.
    complete: usize,
    ended: bool,
    /// How long the client was waited for since the message began that is being gathered; and since when it is now. Not while
    /// the budget is waited for, or while nobody reads.
    waited: Duration,
    waits_since: Option<Instant>,
    wait: Option<Arc<Wait>>,
    too_slow: Pin<Box<Sleep>>,
}

impl Metered {
    /// Takes bytes that were granted, and finds out which messages are whole.
    fn gather(&mut self, bytes: &Bytes) {
        if self.gathered.is_empty() {
            self.waited = Duration::ZERO;
        }
        self.gathered.extend_from_slice(bytes);
        while let Some(prefix) = self.gathered.get(self.complete..self.complete + PREFIX_BYTES) {
            let announced = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
            let length = usize::try_from(announced).unwrap_or(usize::MAX);
            let end = self.complete + PREFIX_BYTES + length.min(MESSAGE_BYTES_MAX);
            if length > MESSAGE_BYTES_MAX {
                // Whoever decodes it refuses it for its length.
                self.complete = self.gathered.len();
                return;
            }
            if self.gathered.len() < end {
                break;
            }
            self.complete = end;
            // What is left belongs to the next one, which begins now.
            self.waited = Duration::ZERO;
        }
    }

    /// Waits for the client, unless the message that is being gathered has taken too long by now.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.waits_since.is_none() {
            self.waits_since = Some(now);
            let seconds = u64::try_from(self.gathered.len() / RATE_MIN).unwrap_or(u64::MAX);
            let patience = MESSAGE_DEADLINE + Duration::from_secs(seconds);
            self.too_slow.as_mut().reset(now + patience.saturating_sub(self.waited));
        }
        self.too_slow.as_mut().poll(cx)
    }

    /// Something came.
    fn on_came(&mut self) {
        let wait = self.wait.take();
        if let Some(since) = self.waits_since.take() {
            let woken = wait.and_then(|wait| *wait.woken.lock().unwrap_or_else(PoisonError::into_inner));
            self.waited += woken.unwrap_or_else(Instant::now).saturating_duration_since(since);
        }
    }

    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some((bytes, granting)) = &mut self.granting {
            let granted = ready!(granting.as_mut().poll(cx));
            let bytes = bytes.clone();
            self.granting = None;
            match granted {
                Ok(share) => self.received.add(share),
                Err(cause) => {
                    return Poll::Ready(Err(Status::resource_exhausted(format!("{cause}; try again later"))));
                }
            }
            self.gather(&bytes);
        }
        Poll::Ready(Ok(()))
    }

    fn on_data(&mut self, bytes: Bytes) {
        let (budget, purpose) = (self.budget.clone(), self.purpose);
        let (so_far, more) = (self.gathered.len() + bytes.len(), bytes.len());
        self.granting = Some((bytes, Box::pin(async move { budget.take(purpose, so_far, more).await })));
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Err(status) = ready!(this.poll_granted(cx)) {
                return Poll::Ready(Some(Err(status)));
            }
            if this.complete > 0 {
                let whole = this.gathered.split_to(this.complete).freeze();
                this.complete = 0;
                return Poll::Ready(Some(Ok(Frame::data(whole))));
            }
            if this.ended {
                // What is left is no message; whoever decodes it says so.
                let rest = this.gathered.split().freeze();
                return Poll::Ready(rest.has_remaining().then(|| Ok(Frame::data(rest))));
            }
            let wait = Arc::new(Wait {
                reader: cx.waker().clone(),
                woken: Mutex::new(None),
            });
            let waker = Waker::from(Arc::clone(&wait));
            let polled = Pin::new(&mut this.body).poll_frame(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                this.on_came();
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => this.on_data(bytes),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => {
                    this.wait = Some(wait);
                    if this.gathered.is_empty() {
                        return Poll::Pending;
                    }
                    ready!(this.poll_patience(cx));
                    let slow = Status::deadline_exceeded("a message came too slowly; send it in one go");
                    return Poll::Ready(Some(Err(slow)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
