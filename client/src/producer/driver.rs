//! What a producer does: one task that owns its batches, its session and its stream.
//!
//! Owns: what is sent when, what becomes of each record.
//! Does not own: when a batch is complete (`queue`), what a session is (`session`), how a stream is opened (`link`).
//!
//! A stream ends in one of three ways. The connection is lost, or the agent asks to come again: another stream resumes the session
//! with all that was not acknowledged. The agent refuses a batch and says what is stored: the batch is divided or fails, what
//! was sent over an earlier stream and is not said to be stored has an unknown outcome, the rest goes into a new session. The agent refuses and says nothing: if only one batch was sent it is that one; otherwise the session is
//! resumed with one batch at a time, until it is clear which one it is.
//!
//! Invariants: every record that was taken in has one outcome; outcomes of a partition are in order; a batch that may be stored is
//! sent within its session only.

use std::collections::VecDeque;
use std::sync::Arc;

use esker_proto::v1::ProduceStreamResponse;
use esker_proto::v1::produce_stream_response::{Ack, Step as Answer, StoredBatch};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

use super::link::{self, Happened, Link, Opened};
use super::queue::{Pending, Queue};
use super::session::{Session, UNACKED_MAX};
use super::{Budget, Command, Settings};
use crate::client::Client;
use crate::error::{Error, Refusal, code};
use crate::record::Stored;
use crate::retry::Outage;

/// Commands that are looked at in one go.
const COMMANDS_MAX: usize = 256;

pub(super) struct Driver {
    client: Client,
    settings: Settings,
    inbox: mpsc::UnboundedReceiver<Command>,
    /// Nobody can send any more, and everything that was sent is here.
    ended: bool,
    budget: Arc<Budget>,
    queue: Queue,
    session: Session,
    link: Link,
    /// Since the last ack, something has failed.
    outage: Option<Outage>,
    last_error: Option<Error>,
    /// One batch at a time, to find out which one is refused.
    careful: bool,
    /// The session is to end when everything is acknowledged, and another one to begin.
    renew: bool,
    received: u64,
    /// Who waits until everything before this number has its outcome.
    flushes: VecDeque<(u64, oneshot::Sender<Result<(), Error>>)>,
    /// The first one since the last flush.
    failure: Option<Error>,
}

impl Driver {
    /// Opens a session, again and again while that helps.
    pub(super) async fn open(
        client: Client,
        settings: Settings,
        inbox: mpsc::UnboundedReceiver<Command>,
        budget: Arc<Budget>,
    ) -> Result<Self, Error> {
        let policy = &client.shared.retry;
        let mut outage = Outage::new(policy);
        let mut session = Session::new(false);
        let opened = loop {
            match link::open(client.clone(), session.open(&settings.topic)).await {
                Ok(opened) => break opened,
                Err(error) if error.passes() => tokio::time::sleep(outage.failed(policy, error)?).await,
                Err(error) => return Err(error),
            }
        };
        session.opened(opened.session);
        Ok(Self {
            queue: Queue::new(settings.linger, settings.batch_bytes),
            client,
            settings,
            inbox,
            ended: false,
            budget,
            session,
            link: Link::Up(opened.up),
            outage: None,
            last_error: None,
            careful: false,
            renew: false,
            received: 0,
            flushes: VecDeque::new(),
            failure: None,
        })
    }

    /// Delivers until nobody can send any more and everything has its outcome.
    pub(super) async fn run(mut self) {
        let mut commands = Vec::with_capacity(COMMANDS_MAX);
        loop {
            self.expire();
            self.pump();
            self.answer_flushes();
            if self.ended && self.queue.is_empty() && self.session.unacked().is_empty() {
                return;
            }
            let wake = self.wake_at();
            tokio::select! {
                biased;
                happened = self.link.happened() => self.on_link(happened),
                count = self.inbox.recv_many(&mut commands, COMMANDS_MAX), if !self.ended => {
                    commands.drain(..).for_each(|command| self.on_command(command));
                    if count == 0 {
                        self.ended = true;
                        self.queue.hurry();
                    }
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Send(mut pending) => {
                pending.nth = self.received;
                self.received += 1;
                self.queue.push(pending);
            }
            Command::Flush(reply) => self.flush(reply),
            Command::Close(reply) => {
                self.inbox.close();
                self.budget.close();
                self.flush(reply);
            }
        }
    }

    fn flush(&mut self, reply: oneshot::Sender<Result<(), Error>>) {
        self.queue.hurry();
        self.flushes.push_back((self.received, reply));
    }

    fn answer_flushes(&mut self) {
        let oldest = self.oldest().map_or(self.received, |pending| pending.nth);
        while let Some((_, reply)) = self.flushes.pop_front_if(|(wanted, _)| *wanted <= oldest) {
            // Who asked may not want to know any more.
            let _ = reply.send(self.failure.take().map_or(Ok(()), Err));
        }
    }

    /// The record without outcome that was taken in first.
    fn oldest(&self) -> Option<&Pending> {
        let unacked = self.session.unacked().front().and_then(|batch| batch.records.first());
        unacked.or_else(|| self.queue.oldest())
    }

    /// When there is something to do even if nothing happens.
    fn wake_at(&self) -> Option<Instant> {
        let expires = self.oldest()?.accepted + self.settings.delivery_timeout;
        let now = Instant::now();
        // What is due already waits for something else.
        let due = self.queue.due().filter(|due| *due > now);
        Some(due.map_or(expires, |due| due.min(expires)))
    }

    /// Sends what can be sent now.
    fn pump(&mut self) {
        let due = self.queue.due().is_some_and(|due| due <= Instant::now());
        if matches!(self.link, Link::Down) && (due || !self.session.unacked().is_empty()) {
            self.reopen();
        }
        loop {
            let Link::Up(up) = &mut self.link else {
                return;
            };
            let most = if self.careful { 1 } else { UNACKED_MAX };
            if up.sent >= most {
                return;
            }
            if let Some(batch) = self.session.message(up.sent) {
                if !up.send(batch) {
                    // It has ended; what comes over it says why.
                    return;
                }
                continue;
            }
            if self.queue.due().is_none_or(|due| due > Instant::now()) {
                return;
            }
            self.renew |= self.session.is_older_than(self.settings.session_age);
            if self.renew {
                if self.session.unacked().is_empty() {
                    self.renew = false;
                    self.session = Session::new(true);
                    self.reopen();
                }
                return;
            }
            self.number_next();
        }
    }

    /// Makes the next batch one of the session.
    fn number_next(&mut self) {
        let Some(batch) = self.queue.cut() else {
            return;
        };
        let partitions = self.session.partitions();
        let is_outside = |pending: &Pending| pending.record.partition.filter(|partition| *partition >= partitions);
        if batch.iter().all(|pending| is_outside(pending).is_none()) {
            self.session.push(batch);
        } else if !self.session.is_fresh() {
            // There may be more partitions by now.
            self.queue.put_back(batch);
            self.renew = true;
        } else {
            let mut inside = Vec::new();
            for pending in batch {
                let Some(partition) = is_outside(&pending) else {
                    inside.push(pending);
                    continue;
                };
                let refusal = Refusal::unknown_partition(&self.settings.topic, partition, partitions);
                self.settle(pending, Err(Error::Refused(Box::new(refusal))));
            }
            self.queue.put_back(inside);
        }
    }

    fn reopen(&mut self) {
        let open = self.session.open(&self.settings.topic);
        self.link = Link::Opening(Box::pin(link::open(self.client.clone(), open)));
    }

    fn on_link(&mut self, happened: Happened) {
        match happened {
            Happened::Waited => self.reopen(),
            Happened::Opened(Ok(Opened { up, session })) => {
                if self.session.opened(session) {
                    self.link = Link::Up(up);
                } else {
                    self.lost(Error::lost(up.connection.address, "it has opened another session"));
                }
            }
            Happened::Opened(Err(error)) if error.passes() => self.lost(error),
            Happened::Opened(Err(error)) => self.fail_all(&error),
            Happened::Answered(answer) => self.on_answer(answer),
        }
    }

    fn on_answer(&mut self, answer: Result<Option<ProduceStreamResponse>, Status>) {
        let Link::Up(up) = &mut self.link else {
            return;
        };
        let address = &up.connection.address;
        let error = match answer {
            Ok(Some(ProduceStreamResponse {
                step: Some(Answer::Ack(ack)),
            })) => return self.on_ack(ack),
            Ok(Some(ProduceStreamResponse {
                step: Some(Answer::Refused(refused)),
            })) => {
                up.refused = Some(refused.stored);
                return;
            }
            Ok(Some(_)) => Error::lost(address, "that is no answer to a batch"),
            Ok(None) => Error::lost(address, "it has ended the stream"),
            Err(status) => Error::of_status(&status, address),
        };
        self.client.shared.connections.turn_from(&up.connection);
        if error.passes() || up.sent == 0 {
            return self.lost(error);
        }
        if !tells_of_all(&error) {
            self.session.doubt(up.sent);
        }
        if let Some(stored) = up.refused.take() {
            self.refused(&error, &stored);
        } else if up.sent == 1 {
            self.refused(&error, &[]);
        } else {
            self.careful = true;
            self.reopen();
        }
    }

    fn on_ack(&mut self, ack: Ack) {
        let Link::Up(up) = &mut self.link else {
            return;
        };
        let Some(records) = self.session.acknowledge(ack).filter(|_| up.sent > 0) else {
            let address = up.connection.address.clone();
            return self.lost(Error::lost(address, "it has acknowledged what is not the oldest batch"));
        };
        up.sent -= 1;
        (self.outage, self.last_error) = (None, None);
        self.careful &= !self.session.unacked().is_empty();
        for (pending, place) in records {
            let unknown = || Error::lost("the ack", "it does not say where the record is").or_happened();
            self.settle(pending, place.ok_or_else(unknown));
        }
    }

    /// There is no stream any more; another one will go on with the session.
    fn lost(&mut self, error: Error) {
        if let Link::Up(up) = &self.link {
            self.session.doubt(up.sent);
        }
        tracing::debug!(topic = self.settings.topic, %error, "a stream of batches was lost");
        self.last_error = Some(error);
        self.link = if self.oldest().is_some() {
            self.pause()
        } else {
            Link::Down
        };
    }

    fn pause(&mut self) -> Link {
        let policy = &self.client.shared.retry;
        let outage = self.outage.get_or_insert_with(|| Outage::new(policy));
        Link::Waiting(Box::pin(tokio::time::sleep(outage.next_pause(policy))))
    }

    /// The oldest batch is refused, and the session ends with it; what is not stored of later ones goes into another. The agent need
    /// not have read again all that was sent over a connection that was lost: nobody knows what became of that.
    fn refused(&mut self, error: &Error, stored: &[StoredBatch]) {
        (self.link, self.careful) = (Link::Down, false);
        let mut again = Vec::new();
        for (nth, batch) in self.session.end(false).into_iter().enumerate() {
            let told = stored.iter().find(|stored| stored.number == batch.number);
            let places = told.map(|told| Stored::zip(told.partitions.clone(), told.offsets.clone()));
            let places = places.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
            let mut rest = Vec::new();
            for (pending, place) in batch.records.into_iter().zip(places) {
                match place {
                    Some(place) => self.settle(pending, Ok(place)),
                    None => rest.push(pending),
                }
            }
            if batch.in_doubt {
                self.fail(rest, &error.clone().or_happened());
            } else if nth > 0 {
                again.push(rest);
            } else if is_of_the_session(error) {
                self.link = self.pause();
                again.push(rest);
            } else if rest.len() > 1 && is_of_some_records(error) {
                let second = rest.split_off(rest.len() / 2);
                again.extend([rest, second]);
            } else {
                self.fail(rest, error);
            }
        }
        again.into_iter().rev().for_each(|batch| self.queue.put_back(batch));
    }

    /// No session can be opened or resumed.
    fn fail_all(&mut self, error: &Error) {
        (self.link, self.careful) = (Link::Down, false);
        self.fail_session(error);
        let all = self.queue.older_than(Instant::now());
        self.fail(all, error);
    }

    fn fail_session(&mut self, error: &Error) {
        for batch in self.session.end(false) {
            match batch.was_sent {
                true => self.fail(batch.records, &error.clone().or_happened()),
                false => self.fail(batch.records, error),
            }
        }
    }

    /// Gives up what is too old.
    fn expire(&mut self) {
        let Some(limit) = Instant::now().checked_sub(self.settings.delivery_timeout) else {
            return;
        };
        if self.oldest().is_none_or(|oldest| oldest.accepted > limit) {
            return;
        }
        let last = self.last_error.clone();
        let error = Error::GaveUp {
            after: self.settings.delivery_timeout,
            attempts: self.outage.as_ref().map_or(1, Outage::attempts),
            last: Box::new(last.unwrap_or_else(|| Error::lost("the agent", "no acknowledgement came"))),
        };
        if !self.session.unacked().is_empty() {
            // What was sent may be stored: nothing else can be sent within its session.
            self.fail_session(&error);
            (self.link, self.careful) = (Link::Down, false);
        }
        let old = self.queue.older_than(limit);
        self.fail(old, &error);
    }

    fn fail(&mut self, records: Vec<Pending>, error: &Error) {
        for pending in records {
            self.settle(pending, Err(error.clone()));
        }
    }

    fn settle(&mut self, pending: Pending, outcome: Result<Stored, Error>) {
        self.budget.give_back(pending.held);
        if let Err(error) = &outcome
            && self.failure.is_none()
        {
            self.failure = Some(error.clone());
        }
        // Who sent it may not want to know.
        let _ = pending.reply.send(outcome);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Who waits for room waits in vain.
        self.budget.close();
    }
}

/// Whether an agent that ends a stream so, and says of no batch that it is stored, has stored none of those that it has read: it has refused
/// one, and waited for the others.
fn tells_of_all(error: &Error) -> bool {
    error.kafka_code().is_some() && error.is_certain()
}

/// Whether the session is to blame, and not what the batch holds.
fn is_of_the_session(error: &Error) -> bool {
    matches!(
        error.kafka_code(),
        Some(
            code::OUT_OF_ORDER_SEQUENCE_NUMBER
                | code::INVALID_PRODUCER_EPOCH
                | code::INVALID_PRODUCER_ID_MAPPING
                | code::UNKNOWN_PRODUCER_ID
                | code::PRODUCER_FENCED
        )
    )
}

/// Whether some records of the batch may do without the others.
fn is_of_some_records(error: &Error) -> bool {
    matches!(
        error.kafka_code(),
        Some(code::MESSAGE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE | code::INVALID_RECORD | code::INVALID_TIMESTAMP)
    )
}

#[cfg(test)]
mod tests;
