//! What writing came to, in words and as JSON.
//!
//! Owns: the summary, and the error of records that are not acknowledged.
//!
//! Invariants: a record whose outcome is not known is never counted as written, nor as not written.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use esker_kafka::ErrorCode;
use esker_kafka_client::{Acks, Failure, Outcome};
use serde::Serialize;

use crate::quantity;

use super::source::Reading;

/// What was acknowledged.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    topic: &'a str,
    records: u64,
    bytes: u64,
    batches: u64,
    /// Records that may or may not have been written.
    unknown: usize,
    /// Records that certainly were not.
    unwritten: usize,
    seconds: f64,
    partitions: BTreeMap<i32, Offsets>,
    #[serde(skip)]
    took: Duration,
    #[serde(skip)]
    acks: Acks,
}

/// Of one partition; offsets are missing where the broker did not tell.
#[derive(Debug, Serialize)]
struct Offsets {
    records: u64,
    first_offset: Option<i64>,
    last_offset: Option<i64>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(topic: &'a str, outcome: &Outcome, took: Duration, acks: Acks) -> Self {
        let partitions = outcome.written.iter().map(|(partition, written)| {
            let offsets = Offsets {
                records: written.records,
                first_offset: written.offsets.map(|offsets| offsets.0),
                last_offset: written.offsets.map(|offsets| offsets.1),
            };
            (*partition, offsets)
        });
        Self {
            topic,
            records: outcome.records(),
            bytes: outcome.bytes,
            batches: outcome.batches,
            unknown: outcome.unknown.len(),
            unwritten: outcome.unwritten.len(),
            seconds: took.as_secs_f64(),
            partitions: partitions.collect(),
            took,
            acks,
        }
    }

    /// As JSON on stdout, or as a line on stderr.
    pub(super) fn print(&self, json: bool, quiet: bool) -> anyhow::Result<()> {
        if json {
            let line = serde_json::to_string(self).context("cannot write the summary")?;
            return writeln!(std::io::stdout(), "{line}").context("cannot write to stdout");
        }
        if !quiet {
            // Without stderr there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}", self.line());
        }
        Ok(())
    }

    /// `3 records (54 B) acknowledged in 2 partitions of flights, 4.20 ms`.
    fn line(&self) -> String {
        let records = quantity::counted(self.records, "record");
        let bytes = quantity::bytes(self.bytes);
        let partitions = quantity::counted(u64::try_from(self.partitions.len()).unwrap_or(u64::MAX), "partition");
        let verb = if self.acks == Acks::None {
            "sent without acknowledgement"
        } else {
            "acknowledged"
        };
        let took = quantity::duration(self.took);
        let mut line = format!("{records} ({bytes}) {verb} in {partitions} of {}, {took}", self.topic);
        if self.took >= Duration::from_secs(1) {
            line += &format!(" ({})", quantity::rate(self.bytes, self.took));
        }
        line
    }
}

/// What went wrong, which line it was about, and what came of those that are not acknowledged.
pub(super) fn failure(outcome: &Outcome, reading: &Reading) -> Option<anyhow::Error> {
    let (failure, tag) = outcome.failure.as_ref()?;
    let mut words = format!("{}: {failure}{}", reading.place(*tag), advice(failure));
    let counted = |tags: &[u64]| quantity::counted(u64::try_from(tags.len()).unwrap_or(u64::MAX), "record");
    let fates = [
        (&outcome.unwritten, "not written"),
        (&outcome.unknown, "perhaps written, perhaps not"),
    ];
    for (tags, fate) in fates {
        if let Some(first) = tags.first() {
            words += &format!(
                "; {fate}: {}, the first of them {}",
                counted(tags),
                reading.place(*first)
            );
        }
    }
    Some(anyhow::Error::msg(words))
}

/// What to do about it.
fn advice(failure: &Failure) -> &'static str {
    let Failure::Client(error) = failure else { return "" };
    match error.refusal().and_then(|refusal| refusal.known()) {
        Some(ErrorCode::MessageTooLarge) => {
            " (the record is larger than max.message.bytes of the topic; raise that, or try --compression zstd)"
        }
        Some(ErrorCode::UnknownTopicOrPartition) => " (create it with esker topic create)",
        Some(ErrorCode::OutOfOrderSequenceNumber) => {
            " (the broker does not have the records before it; see what the topic has before writing again)"
        }
        Some(_) | None => "",
    }
}
