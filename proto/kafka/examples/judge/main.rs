//! The Rust half of the judge: writes samples for Kafka's own code to read, and checks what Kafka made of them.
//!
//! Lines are fields separated by spaces; bytes are hexadecimal, `-` for none. `judge write OURS` writes
//! - `M name version bytes`: a random message,
//! - `X name from to bytes`: a random message of one version, to be written in another,
//! - `D name version bytes`: a random message that was damaged,
//! - `B name bytes`: a record batch built by us,
//! - `R name bytes`: one whose records were damaged, with a CRC that fits.
//!
//! `judge check THEIRS` reads
//! - `m name version bytes kafka's-bytes json`: the answer to `M`,
//! - `x name from to bytes outcome`: the answer to `X`: bytes, `!unsupported`, or `!null`,
//! - `d name version bytes outcome`: the answer to `D`: what Kafka writes after reading it, or `!` and a reason,
//! - `b name bytes listing` and `r name bytes listing`: the answers to `B` and `R`,
//! - `k name version bytes json`: a random message written by Kafka,
//! - `c name bytes listing`: a record batch built by Kafka,
//! - `a …` and `e …`: rows of Kafka's tables of API keys and error codes, see `schema::tables`.
//!
//! `judge golden THEIRS DIR` keeps a selection of what Kafka wrote for tests without a JVM.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod batches;
#[path = "../../tests/schema/mod.rs"]
mod schema;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use esker_kafka::{DecodeError, EncodeError};
use schema::random::{Rng, sample};
use schema::{Entry, Failure, from_hex, to_hex};

/// Random messages per type and version.
const SAMPLES: u64 = 8;
/// Damaged forms of each.
const DAMAGED: u64 = 4;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["write", ours] => std::fs::write(ours, written()).expect("writable"),
        ["check", theirs] => return check(&std::fs::read_to_string(theirs).expect("readable")),
        ["golden", theirs, dir] => golden(&std::fs::read_to_string(theirs).expect("readable"), Path::new(dir)),
        _ => panic!("usage: judge write OURS | check THEIRS | golden THEIRS DIR"),
    }
    ExitCode::SUCCESS
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "-".to_owned()
    } else {
        to_hex(bytes)
    }
}

fn written() -> String {
    let definitions = schema::definition::load_all();
    let mut out = String::new();
    for entry in schema::messages::all() {
        let definition = &definitions[entry.name];
        for version in entry.versions() {
            for seed in 0..SAMPLES {
                let richness = usize::try_from(seed % 4).expect("small");
                let bytes = sample(definition, version, &mut Rng(1000 + seed), richness).bytes;
                writeln!(out, "M {} {version} {}", entry.name, hex(&bytes)).expect("string");
                for variant in 0..DAMAGED {
                    if let Some(damaged) = damaged(&bytes, seed * DAMAGED + variant) {
                        writeln!(out, "D {} {version} {}", entry.name, hex(&damaged)).expect("string");
                    }
                }
                for other in entry.versions().filter(|other| *other != version) {
                    writeln!(out, "X {} {version} {other} {}", entry.name, hex(&bytes)).expect("string");
                }
            }
        }
    }
    for (name, bytes) in batches::ours() {
        writeln!(out, "B {name} {}", hex(&bytes)).expect("string");
    }
    for (name, bytes) in batches::damaged() {
        writeln!(out, "R {name} {}", hex(&bytes)).expect("string");
    }
    out
}

/// One byte changed, or the end cut off.
fn damaged(bytes: &[u8], seed: u64) -> Option<Vec<u8>> {
    let mut rng = Rng(5000 + seed);
    let mut bytes = bytes.to_vec();
    if bytes.is_empty() {
        return None;
    }
    let at = rng.below(bytes.len());
    match seed % 4 {
        0 => bytes.truncate(at),
        // Where lengths are, small numbers are more interesting than random ones.
        1 => bytes[at] = rng.next().to_le_bytes()[0] % 4,
        _ => bytes[at] = rng.next().to_le_bytes()[0],
    }
    Some(bytes)
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, u32>,
    failures: Vec<String>,
}

impl Tally {
    fn record(&mut self, what: &'static str, line: &str, result: Result<(), String>) {
        *self.counts.entry(what).or_default() += 1;
        if let Err(reason) = result {
            let shown: String = line.chars().take(400).collect();
            self.failures.push(format!("{what}: {reason}\n    {shown}"));
        }
    }
}

fn check(text: &str) -> ExitCode {
    let entries: BTreeMap<&str, Entry> = schema::messages::all()
        .into_iter()
        .map(|entry| (entry.name, entry))
        .collect();
    let mut tally = Tally::default();
    for line in text.lines() {
        let f: Vec<&str> = line.splitn(6, ' ').collect();
        match f.as_slice() {
            ["m", name, version, ours, theirs, json] => {
                let same = if ours == theirs {
                    Ok(())
                } else {
                    Err("Kafka writes other bytes".to_owned())
                };
                let result = same.and_then(|()| agrees(&entries[name], version, ours, json));
                tally.record("ours, read and written again by Kafka", line, result);
            }
            ["x", name, from, to, ours, outcome] => {
                tally.record(
                    "ours, written by Kafka in another version",
                    line,
                    crossed(&entries[name], from, to, ours, outcome),
                );
            }
            ["k", name, version, theirs, ..] => {
                let json = line.splitn(5, ' ').nth(4).expect("json");
                tally.record(
                    "Kafka's, read and written again by us",
                    line,
                    agrees(&entries[name], version, theirs, json),
                );
            }
            ["d", name, version, bytes, outcome] => {
                tally.record(
                    "damaged, read by Kafka and by us",
                    line,
                    damage(&entries[name], version, bytes, outcome),
                );
            }
            ["b", _, ours, listing] => tally.record("our batches read by Kafka", line, batches::check(ours, listing)),
            ["r", _, ours, listing] => {
                tally.record(
                    "damaged records read by Kafka and by us",
                    line,
                    batches::check_damaged(ours, listing),
                );
            }
            ["c", _, theirs, listing] => {
                tally.record("Kafka's batches read by us", line, batches::check(theirs, listing))
            }
            ["a" | "e", ..] => tally.record("rows of Kafka's tables", line, schema::tables::check_row(line)),
            _ => tally.record("lines understood", line, Err("unknown line".to_owned())),
        }
    }
    for failure in tally.failures.iter().take(20) {
        eprintln!("{failure}");
    }
    for (what, count) in &tally.counts {
        println!("{count:>7} {what}");
    }
    println!("{:>7} differences", tally.failures.len());
    let complete = tally.counts.len() == 8;
    if complete && tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// We read the bytes, see the values that Kafka's JSON shows, and write the same bytes.
fn agrees(entry: &Entry, version: &str, hex: &str, json: &str) -> Result<(), String> {
    let version: i16 = version.parse().expect("version");
    let bytes = Bytes::from(from_hex(hex));
    let again = (entry.recode)(bytes.clone(), version, version).map_err(|error| format!("{error:?}"))?;
    if again != bytes {
        return Err(format!("we write {}", to_hex(&again)));
    }
    let view = (entry.view)(bytes, version).map_err(|error| error.to_string())?;
    values::compare(&view, json)
}

/// Writing in another version succeeds with the same bytes, or fails, as for Kafka.
fn crossed(entry: &Entry, from: &str, to: &str, hex: &str, outcome: &str) -> Result<(), String> {
    let (from, to) = (from.parse().expect("version"), to.parse().expect("version"));
    let ours = match (entry.recode)(Bytes::from(from_hex(hex)), from, to) {
        Ok(bytes) => self::hex(&bytes),
        Err(Failure::Encode(EncodeError::UnsupportedField { .. })) => "!unsupported".to_owned(),
        Err(Failure::Encode(EncodeError::UnexpectedNull { .. })) => "!null".to_owned(),
        Err(other) => format!("!{other:?}"),
    };
    if ours == outcome {
        Ok(())
    } else {
        Err(format!("we: {ours}"))
    }
}

/// What we accept, Kafka accepts, and both see the same in it. What Kafka accepts, we accept too, apart from what we
/// refuse on purpose.
fn damage(entry: &Entry, version: &str, hex: &str, outcome: &str) -> Result<(), String> {
    let version = version.parse().expect("version");
    let ours = (entry.recode)(Bytes::from(from_hex(hex)), version, version);
    let kafka_refused = outcome.starts_with('!');
    match ours {
        Ok(_) if kafka_refused => Err("Kafka refuses what we accept".to_owned()),
        Ok(ours) => {
            // Kafka keeps unknown tagged fields, we drop them: compare what is left when we have read Kafka's.
            let theirs = (entry.recode)(Bytes::from(from_hex(outcome)), version, version);
            if theirs.as_ref() == Ok(&ours) {
                Ok(())
            } else {
                Err(format!("we write {}", self::hex(&ours)))
            }
        }
        Err(_) if kafka_refused => Ok(()),
        Err(Failure::Decode(
            DecodeError::InvalidUtf8 { .. }
            | DecodeError::NegativeLength { .. }
            | DecodeError::TagNotConsumed { .. }
            | DecodeError::InvalidVarint { .. },
        )) => Ok(()),
        // Kafka does not look at the size of a tagged field that it knows, and then writes the right one.
        Err(Failure::Decode(DecodeError::Truncated { .. })) if outcome != hex => Ok(()),
        Err(other) => Err(format!("Kafka accepts, we do not: {other:?}")),
    }
}

fn golden(theirs: &str, dir: &Path) {
    let mut messages: BTreeMap<(String, i16), String> = BTreeMap::new();
    let mut batches = String::new();
    let mut tables = String::new();
    for line in theirs.lines() {
        let f: Vec<&str> = line.split(' ').collect();
        match f[0] {
            // Of several samples the longest that is not long.
            "k" if f[3].len() <= 600 => {
                let kept = messages
                    .entry((f[1].to_owned(), f[2].parse().expect("version")))
                    .or_default();
                if f[3].len() > kept.len() {
                    *kept = f[3].to_owned();
                }
            }
            "c" if f[2].len() <= 16_000 => {
                let listing = schema::listing::abridged(f[3]);
                writeln!(batches, "{} {} {listing}", f[1], f[2]).expect("string");
            }
            "a" | "e" => writeln!(tables, "{line}").expect("string"),
            _ => {}
        }
    }
    let mut out = String::new();
    for ((name, version), bytes) in messages {
        writeln!(out, "{name} {version} {bytes}").expect("string");
    }
    std::fs::write(dir.join("messages.txt"), out).expect("writable");
    std::fs::write(dir.join("batches.txt"), batches).expect("writable");
    std::fs::write(dir.join("tables.txt"), tables).expect("writable");
}
