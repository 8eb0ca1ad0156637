//! Records on stdout.
//!
//! Owns: the choice between text and JSON, buffering.
//! Does not own: how either looks (`format`, `records`).

use std::io::{self, BufWriter, Stdout, Write as _};

use anyhow::Context as _;
use esker_kafka::records::Record;

use crate::records::JsonRecord;

use super::ConsumeArgs;
use super::format::Format;

const BUFFER_BYTES: usize = 256 * 1024;

/// Where records are printed.
pub(super) struct Output {
    out: BufWriter<Stdout>,
    /// JSON without one.
    format: Option<Format>,
    null: Vec<u8>,
}

impl Output {
    pub(super) fn new(args: &ConsumeArgs) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()),
            format: (!args.json).then(|| args.format.clone()),
            null: args.null.clone().into_bytes(),
        }
    }

    /// Prints one record.
    pub(super) fn write(&mut self, topic: &str, partition: i32, record: &Record) -> anyhow::Result<()> {
        let written = match &self.format {
            Some(format) => format.write(&mut self.out, (topic, partition), record, &self.null),
            None => serde_json::to_writer(&mut self.out, &JsonRecord::of(topic, partition, record))
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n")),
        };
        written.context("cannot write to stdout")
    }

    /// Shows what was printed.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush().context("cannot write to stdout")
    }
}
