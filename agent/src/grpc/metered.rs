//! What clients send, taken in message by message.
//!
//! Owns: the memory of messages that are being received, how slowly they may come.
//! Does not own: how many calls are open (`limits`), what a message may repeat (`esker_proto::codec`).
//!
//! A message is handed on only when all of it is there: what decodes it takes memory for the length that a peer has announced.
//!
//! Invariants: MEM-1 (a message is held under the byte budget that Kafka's frames are held under; nothing is allocated on a peer's
//! word; one that comes too slowly, or not at all, ends its call).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Frame;
use metrics::Counter;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use super::errors::{exhausted, no_budget};
use super::gathered::Gathered;
use super::limits::Received;
use super::measured;
use crate::kafka::budget::{BudgetShare, ByteBudget, NoBudget, Purpose};

/// The first message must begin by then; one that has begun must be complete by then, plus one second for as many bytes as this that
/// came.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(30);
const RATE_MIN: usize = 64 * 1024;

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
pub(super) struct Metered {
    body: Body,
    budget: (ByteBudget, Purpose),
    message_bytes_max: usize,
    received: Received,
    bytes_in: Counter,
    /// Bytes that have come and wait for their share of the budget.
    granting: Option<(Bytes, Granting)>,
    gathered: Gathered,
    /// A message has come.
    begun: bool,
    ended: bool,
    /// How long the client was waited for since the message began that is being gathered; and since when it is now. Not while
    /// the budget is waited for, or while nobody reads.
    waited: Duration,
    waits_since: Option<Instant>,
    wait: Option<Arc<Wait>>,
    too_slow: Pin<Box<Sleep>>,
}

impl Metered {
    /// Gathers messages of at most so many bytes from a body; what they hold goes to `received`.
    pub(super) fn new(body: Body, budget: (ByteBudget, Purpose), message_bytes_max: usize, received: Received) -> Self {
        Self {
            body,
            budget,
            message_bytes_max,
            received,
            bytes_in: measured::bytes_in(),
            granting: None,
            gathered: Gathered::default(),
            begun: false,
            ended: false,
            waited: Duration::ZERO,
            waits_since: None,
            wait: None,
            too_slow: Box::pin(tokio::time::sleep(MESSAGE_DEADLINE)),
        }
    }

    /// Takes bytes that were granted, and finds out which messages are whole.
    fn gather(&mut self, bytes: Bytes) -> Result<(), Status> {
        if self.gathered.bytes == 0 {
            self.waited = Duration::ZERO;
        }
        let most = self.message_bytes_max;
        let ended = self.gathered.add(bytes, most).map_err(|length| {
            let what = format!("a message of {length} bytes is longer than {most}");
            exhausted(&what, "send less at once", false)
        })?;
        if ended {
            self.begun = true;
            // What is left belongs to the next one, which begins now.
            self.waited = Duration::ZERO;
        }
        Ok(())
    }

    /// Waits for the client, unless the message that is being gathered has taken too long by now.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.waits_since.is_none() {
            self.waits_since = Some(now);
            let seconds = u64::try_from(self.gathered.bytes / RATE_MIN).unwrap_or(u64::MAX);
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
                Err(cause) => return Poll::Ready(Err(no_budget(&cause))),
            }
            return Poll::Ready(self.gather(bytes));
        }
        Poll::Ready(Ok(()))
    }

    fn on_data(&mut self, bytes: Bytes) {
        self.bytes_in.increment(measured::wide(bytes.len()));
        let (budget, purpose) = self.budget.clone();
        let (so_far, more) = (self.gathered.bytes + bytes.len(), bytes.len());
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
            if let Some(piece) = this.gathered.next() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                // What is left is no message; whoever decodes it says so.
                this.gathered.whole = this.gathered.bytes;
                return Poll::Ready(this.gathered.next().map(|piece| Ok(Frame::data(piece))));
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
                    if this.gathered.bytes == 0 && this.begun {
                        return Poll::Pending;
                    }
                    ready!(this.poll_patience(cx));
                    let slow = Status::deadline_exceeded("a message came too slowly or not at all; send it in one go");
                    return Poll::Ready(Some(Err(slow)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
