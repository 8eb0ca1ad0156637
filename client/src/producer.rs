//! Producers: each record once and in order, also when connections and agents are lost.
//!
//! Owns: settings, what is sent by whom, waiting for room.
//! Does not own: batches (`queue`), the session and its stream (`driver`, `link`).
//!
//! Invariants: what a producer holds is bounded in bytes and in records.

mod driver;
mod link;
mod queue;
mod session;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use esker_proto::v1;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use self::driver::Driver;
use self::queue::Pending;
use crate::client::Client;
use crate::error::Error;
use crate::record::{Record, Stored, size_of};

/// Limits of one message (`proto/esker/v1/records.proto`).
const BATCH_BYTES_MAX: usize = 15 * 1024 * 1024;
const RECORDS_MAX: usize = 65_536;
const HEADERS_MAX: usize = 65_536;
/// Below Kafka's default of `max.message.bytes`, 1048588.
const BATCH_BYTES: usize = 1_000_000;

/// How a producer behaves; made by [`Client::producer`].
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    client: Client,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    topic: String,
    linger: Duration,
    batch_bytes: usize,
    buffer_bytes: usize,
    buffer_records: usize,
    delivery_timeout: Duration,
    session_age: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        let settings = Settings {
            topic,
            linger: Duration::from_millis(5),
            batch_bytes: BATCH_BYTES,
            buffer_bytes: 32 * 1024 * 1024,
            buffer_records: 100_000,
            delivery_timeout: Duration::from_secs(120),
            session_age: Duration::from_secs(300),
        };
        Self { client, settings }
    }

    /// How long a record may wait for others to share its batch. 5 ms unless set.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// How large a batch becomes, about: 1,000,000 unless set, 15 MiB at most. A topic refuses batches of more than its
    /// `max.message.bytes` in one partition; those are divided and sent again.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes.clamp(1, BATCH_BYTES_MAX);
        self
    }

    /// What the producer holds at most, about, of records that are not delivered: [`send`](Producer::send) waits for room. 32 MiB
    /// unless set.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes.clamp(1, Semaphore::MAX_PERMITS.min(0xffff_ffff));
        self
    }

    /// How many records that are not delivered the producer holds at most. 100,000 unless set.
    #[must_use]
    pub fn buffer_records(mut self, records: usize) -> Self {
        self.settings.buffer_records = records.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long a record may take from [`send`](Producer::send) to its delivery. What was not sent by then fails with
    /// [`Error::GaveUp`], what was sent has an [unknown outcome](Error::Unknown). 2 minutes unless set.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// After how long the number of partitions is looked at again: keys are spread over as many as there were then. 5 minutes
    /// unless set.
    #[must_use]
    pub fn partitions_max_age(mut self, age: Duration) -> Self {
        self.settings.session_age = age;
        self
    }

    /// The producer, after an agent has opened its session. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// The topic is refused, or no agent could be reached for as long as the client's [retry policy](crate::RetryPolicy) says.
    pub async fn open(self) -> Result<Producer, Error> {
        let budget = Arc::new(Budget {
            bytes: Semaphore::new(self.settings.buffer_bytes),
            records: Semaphore::new(self.settings.buffer_records),
        });
        let (commands, inbox) = mpsc::unbounded_channel();
        let buffer_bytes = self.settings.buffer_bytes;
        let topic: Arc<str> = self.settings.topic.as_str().into();
        let driver = Driver::open(self.client, self.settings, inbox, Arc::clone(&budget)).await?;
        tokio::spawn(driver.run());
        Ok(Producer {
            shared: Arc::new(Shared {
                topic,
                commands,
                budget,
                buffer_bytes,
            }),
        })
    }
}

/// What these records take, if a message may hold them.
pub(crate) fn fit_one_message(records: &[v1::Record]) -> Result<usize, Error> {
    let bytes: usize = records.iter().map(size_of).sum();
    let headers: usize = records.iter().map(|record| record.headers.len()).sum();
    if bytes > BATCH_BYTES_MAX || headers > HEADERS_MAX || records.len() > RECORDS_MAX {
        let count = records.len();
        return Err(Error::invalid(format!(
            "{count} records of {bytes} bytes with {headers} headers are more than fits into a message: {RECORDS_MAX}, {BATCH_BYTES_MAX} and {HEADERS_MAX}"
        )));
    }
    let negative = records
        .iter()
        .find_map(|record| record.partition.filter(|partition| *partition < 0));
    match negative {
        Some(partition) => Err(Error::invalid(format!(
            "there is no partition {partition}; they begin at 0"
        ))),
        None => Ok(bytes),
    }
}

/// Room for records.
#[derive(Debug)]
struct Budget {
    bytes: Semaphore,
    records: Semaphore,
}

impl Budget {
    fn give_back(&self, bytes: u32) {
        self.bytes.add_permits(usize::try_from(bytes).expect("it was a usize"));
        self.records.add_permits(1);
    }

    fn close(&self) {
        self.bytes.close();
        self.records.close();
    }
}

/// What the driver is told.
enum Command {
    Send(Pending),
    /// Answered when everything that was sent before has its outcome.
    Flush(oneshot::Sender<Result<(), Error>>),
    /// The same; and then nothing more is taken.
    Close(oneshot::Sender<Result<(), Error>>),
}

/// Writes records to one topic: each once and in order, also when connections and agents are lost.
///
/// Cheap to clone; clones share the session, and their records its order. Records with a key go to the partition of the key,
/// records without go to one partition with each batch.
///
/// When the last clone is dropped, what was sent is still delivered as long as the runtime lives; [`close`](Self::close) waits for
/// that.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    topic: Arc<str>,
    commands: mpsc::UnboundedSender<Command>,
    budget: Arc<Budget>,
    buffer_bytes: usize,
}

impl Producer {
    /// The topic that is written to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// Takes a record in; waits while the producer holds as much as it may. What is returned tells where the record is stored when
    /// it is; it may be dropped if [`flush`](Self::flush) is asked for errors instead.
    ///
    /// Records are stored in the order in which they were taken in. If the future is dropped before it is ready, the record is not
    /// sent.
    ///
    /// # Errors
    /// The record is larger than any message may be, or the producer was closed.
    pub async fn send(&self, record: Record) -> Result<Delivery, Error> {
        let record = record.into_proto();
        let bytes = fit_one_message(std::slice::from_ref(&record))?;
        let budget = &self.shared.budget;
        // One that is larger than all of the room gets all of it.
        let held = u32::try_from(bytes.min(self.shared.buffer_bytes)).expect("clamped by the builder");
        let room = budget.bytes.acquire_many(held).await.map_err(|_| Error::Closed)?;
        let place = budget.records.acquire().await.map_err(|_| Error::Closed)?;
        let (reply, outcome) = oneshot::channel();
        let pending = Pending {
            nth: 0,
            record,
            bytes,
            held,
            accepted: Instant::now(),
            reply,
        };
        let sent = self.shared.commands.send(Command::Send(pending));
        sent.map_err(|_| Error::Closed)?;
        // The driver gives them back.
        room.forget();
        place.forget();
        Ok(Delivery { outcome })
    }

    /// Sends what waits, and returns when every record that was taken in before has its outcome.
    ///
    /// # Errors
    /// The first of the errors of records since the last flush; their [deliveries](Delivery) have each its own.
    pub async fn flush(&self) -> Result<(), Error> {
        self.ask(Command::Flush).await
    }

    /// [Flushes](Self::flush), and ends the producer: its clones too take nothing more.
    ///
    /// # Errors
    /// As `flush`.
    pub async fn close(self) -> Result<(), Error> {
        self.ask(Command::Close).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Command) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        let sent = self.shared.commands.send(command(reply));
        sent.map_err(|_| Error::Closed)?;
        done.await.map_err(|_| Error::Closed)?
    }
}

/// What becomes of a record: ready when it is stored for good, or has failed.
///
/// Records go on their way whether this is awaited or not.
#[must_use = "dropped deliveries tell nobody of errors; flush does"]
#[derive(Debug)]
pub struct Delivery {
    outcome: oneshot::Receiver<Result<Stored, Error>>,
}

impl Future for Delivery {
    type Output = Result<Stored, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.outcome).poll(cx);
        outcome.map(|outcome| outcome.unwrap_or_else(|_| Err(Error::Closed.or_happened())))
    }
}
