//! A stream of batches that are each stored once, in order, whatever is repeated.
//!
//! Owns: what a client may send when, what of it is read.
//! Does not own: sequences (`session`), what becomes of batches (`under_way`), who notices duplicates (the fold's window for each
//! producer), single requests (`producer`).
//!
//! The stream is driven by whoever reads its answers: a client that does not read acks is not read from either. At most
//! `UNACKED_MAX` batches are under way, as many as the fold remembers of a producer in each partition. It is for the client to keep
//! to that: acks that were sent may be lost with the connection, and a batch that the fold has forgotten cannot be told from one
//! that is missing.
//!
//! Invariants: IDM-1, LOG-4, MEM-1.

mod session;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use esker_proto::v1::produce_stream_request::{Batch, Step};
use esker_proto::v1::produce_stream_response::{Opened, Step as Answer};
use esker_proto::v1::{ProduceStreamRequest, ProduceStreamResponse, Session};
use futures::{Stream, stream};
use tonic::{Status, Streaming};

use self::session::Sequencer;
use self::under_way::{UNACKED_MAX, UnderWay};
use super::calls::Caller;
use super::contents::Contents;
use super::errors::{invalid, outside_session};
use super::producer::Split;
use crate::kafka::budget::BudgetShare;

/// How long errors that pass by themselves are waited out.
const RETRY_MAX: Duration = Duration::from_secs(120);
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The answers to a stream of requests.
pub(super) fn answers(
    caller: Caller,
    contents: Contents,
    requests: Streaming<ProduceStreamRequest>,
) -> impl Stream<Item = Result<ProduceStreamResponse, Status>> {
    let state = State::New(Box::new((caller, contents, requests)));
    stream::unfold(state, |state| async move {
        match step(state).await {
            Ok(Some((answer, next))) => Some((Ok(ProduceStreamResponse { step: Some(answer) }), next)),
            Ok(None) => None,
            Err(status) => Some((Err(status), State::Ended)),
        }
    })
}

enum State {
    New(Box<(Caller, Contents, Streaming<ProduceStreamRequest>)>),
    Open(Box<Stage>),
    Ended,
}

async fn step(state: State) -> Result<Option<(Answer, State)>, Status> {
    match state {
        State::New(new) => {
            let (caller, contents, requests) = *new;
            let stage = Stage::open(caller, contents, requests).await?;
            let session = Some(*stage.session());
            Ok(Some((Answer::Opened(Opened { session }), State::Open(Box::new(stage)))))
        }
        State::Open(mut stage) => {
            let answer = stage.next().await?;
            Ok(answer.map(|answer| (answer, State::Open(stage))))
        }
        State::Ended => Ok(None),
    }
}

/// A stream that was opened.
struct Stage {
    caller: Caller,
    contents: Contents,
    requests: Streaming<ProduceStreamRequest>,
    /// The client may still send.
    more: bool,
    /// What is wrong with what it has sent last: the stream ends so when all that came before is acknowledged.
    wrong: Option<Status>,
    sequencer: Sequencer,
    /// The number that the next batch must have; any, if the session goes on.
    next_number: Option<u64>,
    /// Read, but there is no room for it yet.
    waiting: Option<Waiting>,
    under_way: UnderWay,
}

/// A batch that was read, and the budget that its message holds.
struct Waiting {
    batch: Batch,
    split: Split,
    held: Option<Arc<BudgetShare>>,
}

impl Stage {
    async fn open(
        caller: Caller,
        contents: Contents,
        mut requests: Streaming<ProduceStreamRequest>,
    ) -> Result<Self, Status> {
        let first = requests.message().await?;
        let Some(Step::Open(open)) = first.and_then(|first| first.step) else {
            return Err(invalid("the first message is not Open; send it first"));
        };
        drop(caller.received.take());
        let sequencer = Sequencer::open(&caller, &open).await?;
        let known = sequencer.partitions().collect();
        Ok(Self {
            under_way: UnderWay::new(caller.clone(), open.topic, known),
            caller,
            contents,
            requests,
            more: true,
            wrong: None,
            sequencer,
            next_number: open.session.is_none().then_some(0),
            waiting: None,
        })
    }

    fn session(&self) -> &Session {
        &self.sequencer.session
    }

    /// The next answer; `None` when everything was acknowledged and nothing more will come.
    async fn next(&mut self) -> Result<Option<Answer>, Status> {
        let (leaving, stop) = (self.caller.agent.leaving.clone(), self.caller.agent.stop.clone());
        loop {
            if let Some(refused) = self.under_way.refused() {
                return refused.map(Some);
            }
            let sent = self.send_waiting();
            self.note(sent);
            if !self.more && self.waiting.is_none() && self.under_way.is_empty() {
                return self.wrong.take().map_or(Ok(None), Err);
            }
            let reads = self.more && self.waiting.is_none() && self.under_way.reads();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(going()),
                () = leaving.cancelled() => return Err(going()),
                produced = self.under_way.attempt() => {
                    let Some(produced) = produced else {
                        continue;
                    };
                    if let Some(ack) = self.under_way.on_attempt(produced)? {
                        return Ok(Some(Answer::Ack(ack)));
                    }
                    if self.under_way.is_refused() {
                        (self.more, self.waiting) = (false, None);
                    }
                }
                message = self.requests.message(), if reads => {
                    let taken = message.and_then(|message| self.on_message(message));
                    self.note(taken);
                }
            }
        }
    }

    /// After something wrong nothing more is read.
    fn note(&mut self, taken: Result<(), Status>) {
        if let Err(status) = taken {
            (self.more, self.wrong) = (false, Some(status));
        }
    }

    fn on_message(&mut self, message: Option<ProduceStreamRequest>) -> Result<(), Status> {
        let Some(message) = message else {
            self.more = false;
            return Ok(());
        };
        let Some(Step::Batch(batch)) = message.step else {
            return Err(invalid("only batches may follow Open"));
        };
        let number = batch.number;
        if self.under_way.is_full() {
            return Err(invalid(format!(
                "batch {number} came before {UNACKED_MAX} others were acknowledged; wait for their acks"
            )));
        }
        if let Some(expected) = self.next_number.filter(|expected| *expected != number) {
            return Err(invalid(format!(
                "batch {number} came where {expected} was expected; number them one by one"
            )));
        }
        if batch.records.is_empty() {
            return Err(invalid(format!("batch {number} has no records; send at least one")));
        }
        let topic = self.under_way.topic();
        if !self
            .contents
            .is_unchanged(self.session(), topic, number, &batch.records)
        {
            return Err(Status::failed_precondition(format!(
                "batch {number} is not what it was when it was sent before; send it unchanged, or open a new session"
            )));
        }
        self.next_number = number.checked_add(1);
        let partitions = self.session().partitions;
        let keyless = number % u64::from(partitions.cast_unsigned());
        let keyless = i32::try_from(keyless).expect("less than an i32");
        let split = Split::new(&batch.records, partitions, keyless);
        let mut chosen = split.by_partition.keys();
        if let Some(outside) = chosen.find(|partition| !(0..partitions).contains(*partition)) {
            let what = format!("partition {outside} of {:?}", self.under_way.topic());
            return Err(outside_session(&what, partitions));
        }
        let held = self.caller.received.take();
        self.waiting = Some(Waiting { batch, split, held });
        Ok(())
    }

    /// Has the batch that waits taken in, if there is room.
    fn send_waiting(&mut self) -> Result<(), Status> {
        let under_way = &mut self.under_way;
        let Some(waiting) = self.waiting.take_if(|waiting| under_way.has_room(&waiting.split)) else {
            return Ok(());
        };
        let Waiting { batch, split, held } = waiting;
        let now_ms = self.caller.agent.clock.now_ms();
        let stamped = self.sequencer.stamp(&batch.records, &split, now_ms)?;
        let number = batch.number;
        drop(batch);
        under_way.send(number, split, stamped, held);
        Ok(())
    }
}

fn going() -> Status {
    Status::unavailable("this agent is going; open the stream again with the session, at another agent if there is one")
}
