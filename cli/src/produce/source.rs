//! Where records are read from: files one after the other, on a thread of its own.
//!
//! Owns: opening, chunks, which file and line a record was.
//! Does not own: what a line means (`input`).
//!
//! Invariants: the thread holds one chunk, and `CHUNKS_WAITING` wait behind it. A line is handed on as soon as the next one has to be
//! waited for, so that typing works.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use esker_agent::clock::{Clock as _, SystemClock};
use esker_kafka_client::Outgoing;
use tokio::sync::mpsc;

use super::input::{Input, InputRules};

/// A chunk takes no more records, or bytes of its input.
const CHUNK_RECORDS: usize = 512;
const CHUNK_BYTES: u64 = 256 * 1024;
const CHUNKS_WAITING: usize = 4;

/// What is read, in order.
pub(super) struct Sources {
    rules: InputRules,
    inputs: Vec<(String, Box<dyn Read + Send>)>,
    /// Of all of them, if that is known.
    pub(super) bytes: Option<u64>,
}

/// How far reading is; shared with the thread.
#[derive(Debug, Default)]
pub(super) struct Reading {
    taken: AtomicU64,
    /// Before which record each file begins.
    begun: Mutex<Vec<(u64, String)>>,
    error: Mutex<Option<anyhow::Error>>,
    /// The input was read to its end, and all of it was handed on.
    complete: AtomicBool,
}

impl Reading {
    /// Bytes of input so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The file and line of a record.
    pub(super) fn place(&self, tag: u64) -> String {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let file = begun.iter().rev().find(|(before, _)| *before < tag);
        file.map_or_else(
            || format!("line {tag}"),
            |(before, name)| format!("{name}, line {}", tag - before),
        )
    }

    /// True if there is nothing in the input that was not handed on.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// What ended reading before its time.
    pub(super) fn take_error(&self) -> Option<anyhow::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn begin(&self, lines: u64, name: &str) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push((lines, name.to_owned()));
    }
}

impl Sources {
    /// Opens all files first, so that one that is not there is known before anything is written.
    pub(super) fn open(files: &[PathBuf], rules: InputRules) -> anyhow::Result<Self> {
        let mut bytes = Some(0);
        let mut inputs: Vec<(String, Box<dyn Read + Send>)> = Vec::new();
        let stdin = [PathBuf::from("-")];
        for path in if files.is_empty() { &stdin[..] } else { files } {
            if path == Path::new("-") {
                bytes = None;
                inputs.push(("stdin".to_owned(), Box::new(io::stdin())));
                continue;
            }
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
            let told = file.metadata().with_context(|| format!("cannot read {name}"))?;
            anyhow::ensure!(!told.is_dir(), "cannot read {name}: it is a directory");
            bytes = bytes.filter(|_| told.is_file()).map(|bytes| bytes + told.len());
            inputs.push((name, Box::new(file)));
        }
        Ok(Self { rules, inputs, bytes })
    }

    /// Reads everything on a thread that ends with the input, or when nobody takes chunks any more. A process does not wait for
    /// it: reading a terminal cannot be interrupted.
    pub(super) fn read(self, partition: Option<i32>) -> anyhow::Result<(Arc<Reading>, mpsc::Receiver<Vec<Outgoing>>)> {
        let reading = Arc::new(Reading::default());
        let (chunks, taken) = mpsc::channel(CHUNKS_WAITING);
        let shared = Arc::clone(&reading);
        let thread = std::thread::Builder::new().name("input".to_owned());
        let reader = move || {
            let (mut lines, mut bytes) = (0, 0);
            for (name, from) in self.inputs {
                shared.begin(lines, &name);
                let mut source = Source {
                    input: Input::new(from, self.rules.clone()),
                    partition,
                    lines,
                    bytes,
                };
                match source.read(&shared, &chunks) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        *shared.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.context(name));
                        return;
                    }
                }
                lines += source.input.line();
                bytes += source.input.taken();
            }
            shared.complete.store(true, Ordering::Release);
        };
        thread.spawn(reader).context("cannot start a thread that reads")?;
        Ok((reading, taken))
    }
}

/// One file.
struct Source<R> {
    input: Input<R>,
    partition: Option<i32>,
    /// Of the files before it.
    lines: u64,
    bytes: u64,
}

impl<R: Read> Source<R> {
    /// Reads to the end; false if nobody takes it any more.
    fn read(&mut self, reading: &Reading, chunks: &mpsc::Sender<Vec<Outgoing>>) -> anyhow::Result<bool> {
        loop {
            let mut chunk = Vec::new();
            let begins = self.input.taken();
            // What was read before a line that is no record is handed on all the same.
            let more = self.fill(&mut chunk, begins);
            reading.taken.store(self.bytes + self.input.taken(), Ordering::Relaxed);
            if !chunk.is_empty() && chunks.blocking_send(chunk).is_err() {
                return Ok(false);
            }
            if !more? {
                return Ok(true);
            }
        }
    }

    /// False at the end.
    fn fill(&mut self, chunk: &mut Vec<Outgoing>, begins: u64) -> anyhow::Result<bool> {
        loop {
            let Some(entry) = self.input.next(|| SystemClock.now_ms())? else {
                return Ok(false);
            };
            chunk.push(Outgoing {
                tag: self.lines + entry.line,
                partition: self.partition.or(entry.partition),
                record: entry.record,
            });
            let full = chunk.len() >= CHUNK_RECORDS || self.input.taken() - begins >= CHUNK_BYTES;
            if full || !self.input.has_line_at_hand() {
                return Ok(true);
            }
        }
    }
}
