//! `esker produce`: records from lines, JSON or files into a topic.
//!
//! Owns: flags, what is done at a signal.
//! Does not own: reading records (`source`, `input`), what is said at the end (`summary`), batches and repetition (`esker_kafka_client::Producer`).

mod input;
mod source;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use esker_kafka::records::Compression;
use esker_kafka_client::{Acks, Outgoing, Producer, ProducerSettings};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bootstrap::BootstrapArgs;
use crate::escapes::unescape;
use crate::process::block_on;
use crate::progress::{self, Progress};
use crate::{UsageError, quantity, shutdown, stores};

use self::input::{InputFormat, InputRules};
use self::source::Sources;
use self::summary::Summary;

/// Write records to a topic: each line of FILE (or stdin) is one.
///
/// Records with the same key go to the same partition, the one that Kafka's Java client would choose. Writing is idempotent: what
/// is sent again after a lost answer is stored once. Ctrl-C ends reading: what was taken from the input by then is
/// written, and the last line of it is told, with exit code 130. A topic that does not
/// exist is created if the cluster creates topics by itself. `esker help formats` has more.
#[derive(Args, Debug)]
pub(crate) struct ProduceArgs {
    /// The topic
    topic: String,
    /// Files to read, one after the other; - is stdin [default: -]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// What the input consists of
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "lines|json|whole",
        hide_possible_values = true
    )]
    input: InputFormat,
    /// What separates a key from its value in each line, as in --key-separator '\t'
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A key or value that is exactly this is null, as in --null '\N'
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Add a header to every record; may be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Write everything to this partition
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// Compress batches
    #[arg(
        long,
        short = 'z',
        value_enum,
        default_value_t,
        value_name = "none|gzip|snappy|lz4|zstd",
        hide_possible_values = true
    )]
    compression: CompressionArg,
    /// Who must have a record before it is acknowledged: 0 nobody, 1 the leader, all; without all, writing is not idempotent
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "0|1|all",
        hide_possible_values = true
    )]
    acks: AcksArg,
    /// Do not number batches: what is sent again may be stored twice, so it is not sent again when its outcome is unknown
    #[arg(long)]
    no_idempotence: bool,
    /// Uncompressed bytes at which a batch is full
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024)]
    batch_bytes: u32,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger_ms: u32,
    /// How long a record is tried to be written, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u32,
    /// Print what was written as a JSON object, on stdout
    #[arg(long)]
    json: bool,
    /// No progress, and no summary unless it fails
    #[arg(long, short)]
    quiet: bool,
}

/// Kafka's codecs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Kafka's `acks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[default]
    #[value(name = "all", alias = "-1")]
    All,
}

impl From<CompressionArg> for Compression {
    fn from(said: CompressionArg) -> Self {
        match said {
            CompressionArg::None => Self::None,
            CompressionArg::Gzip => Self::Gzip,
            CompressionArg::Snappy => Self::Snappy,
            CompressionArg::Lz4 => Self::Lz4,
            CompressionArg::Zstd => Self::Zstd,
        }
    }
}

impl From<AcksArg> for Acks {
    fn from(said: AcksArg) -> Self {
        match said {
            AcksArg::None => Self::None,
            AcksArg::Leader => Self::Leader,
            AcksArg::All => Self::All,
        }
    }
}

fn header(said: &str) -> Result<(String, String), String> {
    let (name, value) = said
        .split_once('=')
        .ok_or("NAME=VALUE is needed, as in --header source=ewr")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Writes until the input ends, a signal comes, or something cannot be written.
pub(crate) fn run(args: &ProduceArgs) -> anyhow::Result<()> {
    let sources = Sources::open(&args.files, args.rules()?)?;
    block_on(produce(args, sources))
}

impl ProduceArgs {
    fn settings(&self) -> ProducerSettings {
        ProducerSettings {
            acks: self.acks.into(),
            codec: Compression::from(self.compression).into(),
            idempotent: !self.no_idempotence,
            batch_bytes: usize::try_from(self.batch_bytes).unwrap_or(usize::MAX),
            linger: Duration::from_millis(u64::from(self.linger_ms)),
            delivery_timeout: Duration::from_secs(u64::from(self.timeout)),
            first_partition: i32::try_from(stores::random() & 0xffff).expect("masked"),
            ..ProducerSettings::default()
        }
    }

    fn rules(&self) -> Result<InputRules, UsageError> {
        let key_separator = self.key_separator.as_deref().map(unescape).transpose();
        let key_separator = key_separator.map_err(|error| UsageError(format!("--key-separator: {error}")))?;
        if key_separator.as_deref() == Some(b"") {
            return Err(UsageError("--key-separator must not be empty".to_owned()));
        }
        if key_separator.is_some() && self.input != InputFormat::Lines {
            let words = "--key-separator is for lines; records as JSON have a field \"key\"";
            return Err(UsageError(words.to_owned()));
        }
        Ok(InputRules {
            format: self.input,
            key_separator,
            null_marker: self.null.clone().map(String::into_bytes),
            headers: self.header.clone(),
        })
    }
}

async fn produce(args: &ProduceArgs, sources: Sources) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let signal = shutdown::on_signals(stop.clone())?;
    let producer = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(signal.cut_short("before anything was read".to_owned()).into()),
        producer = Producer::new(args.bootstrap.client(), &args.topic, args.settings()) => producer?,
    };
    let began = Instant::now();
    let acknowledged = esker_kafka_client::Progress::default();
    let bytes = sources.bytes;
    let (reading, chunks) = sources.read(args.partition)?;
    let (to_producer, input) = mpsc::channel(1);
    let pump = tokio::spawn(pump(chunks, to_producer, stop.clone()));
    let progress = Progress::new(!args.quiet && bytes.is_some());
    let watching = progress.watch(|| {
        let (records, _) = acknowledged.acknowledged();
        let bar = progress::bar(reading.taken(), bytes.unwrap_or_default(), began.elapsed());
        format!("{bar}, {} written", quantity::counted(records, "record"))
    });
    let outcome = tokio::select! {
        biased;
        outcome = producer.run(input, &acknowledged) => outcome,
        never = watching => match never {},
    };
    drop(progress);
    let summary = Summary::new(&args.topic, &outcome, began.elapsed(), args.acks.into());
    summary.print(args.json, args.quiet)?;
    if let Some(failed) = summary::failure(&outcome, &reading) {
        return Err(failed);
    }
    // The input of a producer that did not fail is at its end.
    let last = pump.await.context("handing on what was read ended")?;
    if let Some(error) = reading.take_error() {
        return Err(error);
    }
    if reading.is_complete() {
        return Ok(());
    }
    let after = match last {
        Some(tag) => format!("after {}; what follows it was not written", reading.place(tag)),
        None => "before anything was read".to_owned(),
    };
    Err(signal.cut_short(after).into())
}

/// Hands on what is read until a signal comes, and then what was read already; returns the last record of it.
async fn pump(
    mut chunks: mpsc::Receiver<Vec<Outgoing>>,
    to_producer: mpsc::Sender<Vec<Outgoing>>,
    stop: CancellationToken,
) -> Option<u64> {
    let mut last = None;
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.cancelled(), if !chunks.is_closed() => {
                chunks.close();
                continue;
            }
            chunk = chunks.recv() => chunk,
        };
        let Some(chunk) = chunk else { return last };
        last = chunk.last().map(|record| record.tag).or(last);
        if to_producer.send(chunk).await.is_err() {
            return last;
        }
    }
}
