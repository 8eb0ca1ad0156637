//! Records out of lines of text, lines of JSON, or whole files.
//!
//! Owns: splitting keys from values, null markers, headers that every record gets, numbers of lines.
//! Does not own: JSON's field names (`records`), where the bytes come from, partitions.
//!
//! Invariants: no line takes more memory than `LINE_BYTES_MAX`, whatever the input is.

use std::io::{BufRead as _, BufReader, Read};

use bytes::Bytes;
use clap::ValueEnum;
use esker_kafka::records::{Headers, Record};
use serde::de::Error as _;

use crate::records::{JsonRecord, NotBase64};

/// Longest line, or file taken whole. No broker takes a record that is longer.
const LINE_BYTES_MAX: u64 = 128 * 1024 * 1024;

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What the input consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Each line is a record
    #[default]
    Lines,
    /// Each line is a record as a JSON object
    Json,
    /// Each file is a record
    Whole,
}

/// How records are read from the input.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputRules {
    pub(crate) format: InputFormat,
    /// Between key and value.
    pub(crate) key_separator: Option<Vec<u8>>,
    /// A key or value that equals it is null.
    pub(crate) null_marker: Option<Vec<u8>>,
    /// Added to every record.
    pub(crate) headers: Vec<(String, String)>,
}

/// A record to be written, and the line that it was.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    /// From 1, in its file.
    pub(crate) line: u64,
    /// Where it wants to go, if it says so.
    pub(crate) partition: Option<i32>,
    pub(crate) record: Record,
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    TooLong { line: u64 },
    #[error("line {line} has no key: --key-separator {separator:?} does not occur in it")]
    NoSeparator { line: u64, separator: String },
    #[error("line {line} is not a record as JSON: {error}; see esker help formats")]
    Json { line: u64, error: serde_json::Error },
    #[error("line {line}: {error}")]
    Base64 { line: u64, error: NotBase64 },
}

/// Reads one input to its end.
pub(crate) struct Input<R> {
    from: BufReader<R>,
    rules: InputRules,
    line: u64,
    taken: u64,
    ended: bool,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(from: R, rules: InputRules) -> Self {
        Self {
            from: BufReader::with_capacity(READ_BUFFER_BYTES, from),
            rules,
            line: 0,
            taken: 0,
            ended: false,
        }
    }

    /// False if the next line has to be waited for.
    pub(crate) fn has_line_at_hand(&self) -> bool {
        self.from.buffer().contains(&b'\n')
    }

    /// Lines read so far.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Bytes read so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The next record; `None` at the end. Lines of JSON may be blank.
    pub(crate) fn next(&mut self, now_ms: impl Fn() -> i64) -> Result<Option<Entry>, InputError> {
        loop {
            let Some(line) = self.next_bytes()? else {
                return Ok(None);
            };
            let now_ms = now_ms();
            match self.rules.format {
                InputFormat::Lines => return self.of_text(line, now_ms).map(Some),
                InputFormat::Whole => return Ok(Some(self.entry(None, Some(line), now_ms))),
                InputFormat::Json if line.trim_ascii().is_empty() => {}
                InputFormat::Json => return self.of_json(&line, now_ms).map(Some),
            }
        }
    }

    fn next_bytes(&mut self) -> Result<Option<Bytes>, InputError> {
        if self.ended {
            return Ok(None);
        }
        self.line += 1;
        let mut bytes = Vec::new();
        let mut limited = self.from.by_ref().take(LINE_BYTES_MAX + 1);
        let read = if self.rules.format == InputFormat::Whole {
            self.ended = true;
            limited.read_to_end(&mut bytes)?
        } else {
            limited.read_until(b'\n', &mut bytes)?
        };
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.taken += read;
        if read > LINE_BYTES_MAX {
            return Err(InputError::TooLong { line: self.line });
        }
        if self.rules.format != InputFormat::Whole {
            if read == 0 {
                self.ended = true;
                self.line -= 1;
                return Ok(None);
            }
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
        }
        Ok(Some(Bytes::from(bytes)))
    }

    fn of_text(&self, line: Bytes, now_ms: i64) -> Result<Entry, InputError> {
        let Some(separator) = &self.rules.key_separator else {
            return Ok(self.entry(None, Some(line), now_ms));
        };
        let found = line.windows(separator.len()).position(|window| window == separator);
        let at = found.ok_or_else(|| InputError::NoSeparator {
            line: self.line,
            separator: String::from_utf8_lossy(separator).into_owned(),
        })?;
        let (key, value) = (line.slice(..at), line.slice(at + separator.len()..));
        Ok(self.entry(Some(key), Some(value), now_ms))
    }

    fn entry(&self, key: Option<Bytes>, value: Option<Bytes>, timestamp: i64) -> Entry {
        let marked = |bytes: &Bytes| self.rules.null_marker.as_deref() == Some(&bytes[..]);
        let record = Record {
            offset: 0,
            timestamp,
            key: key.filter(|key| !marked(key)),
            value: value.filter(|value| !marked(value)),
            headers: self.headers(&Headers::new()),
        };
        Entry {
            line: self.line,
            partition: None,
            record,
        }
    }

    fn of_json(&self, line: &[u8], now_ms: i64) -> Result<Entry, InputError> {
        let number = self.line;
        // Else an array would be taken for the fields in their order.
        let said: Result<JsonRecord, _> = if line.trim_ascii_start().starts_with(b"{") {
            serde_json::from_slice(line)
        } else {
            Err(serde_json::Error::custom("it does not begin with {"))
        };
        let said = said.map_err(|error| InputError::Json { line: number, error })?;
        let partition = said.partition;
        let mut record = said
            .into_record(now_ms)
            .map_err(|error| InputError::Base64 { line: number, error })?;
        record.headers = self.headers(&record.headers);
        Ok(Entry {
            line: number,
            partition,
            record,
        })
    }

    /// The record's own headers, then those that every record gets.
    fn headers(&self, own: &Headers) -> Headers {
        let every = self.rules.headers.iter();
        let every = every.map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            )
        });
        own.iter()
            .map(|header| (header.key, header.value))
            .chain(every)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rules: InputRules, text: &[u8]) -> Result<Vec<Entry>, InputError> {
        let mut input = Input::new(text, rules);
        std::iter::from_fn(|| input.next(|| 9).transpose()).collect()
    }

    type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

    fn pairs(entries: &[Entry]) -> Vec<Pair<'_>> {
        let records = entries.iter().map(|entry| &entry.record);
        records
            .map(|record| (record.key.as_deref(), record.value.as_deref()))
            .collect()
    }

    #[test]
    fn lines_are_values_the_last_one_too() {
        let entries = read(InputRules::default(), b"a\n\n\xff\r\nd").unwrap();
        let values: Vec<_> = [b"a" as &[u8], b"", b"\xff\r", b"d"].map(|v| (None, Some(v))).into();
        assert_eq!(pairs(&entries), values);
        assert_eq!(entries[3].line, 4);
        assert!(read(InputRules::default(), b"").unwrap().is_empty());
    }

    #[test]
    fn keys_null_and_empty() {
        let rules = InputRules {
            key_separator: Some(b"::".to_vec()),
            null_marker: Some(b"\\N".to_vec()),
            headers: vec![("h".to_owned(), "1".to_owned())],
            ..InputRules::default()
        };
        let entries = read(rules.clone(), b"k::v::w\n::\n\\N::\\N\n").unwrap();
        let expected: Vec<Pair<'_>> = vec![(Some(b"k"), Some(b"v::w")), (Some(b""), Some(b"")), (None, None)];
        assert_eq!(pairs(&entries), expected);
        assert!(entries.iter().all(|entry| entry.record.headers.len() == 1));
        let refused = read(rules, b"k::v\nk:v\n").unwrap_err().to_string();
        assert!(refused.starts_with("line 2 has no key"), "{refused}");
    }

    #[test]
    fn json_says_where_to_and_which_line_is_wrong() {
        let rules = InputRules {
            format: InputFormat::Json,
            headers: vec![("all".to_owned(), "x".to_owned())],
            ..InputRules::default()
        };
        let text =
            b"{\"key\":\"k\",\"partition\":2,\"headers\":[[\"a\",null]]}\n\n{\"topic\":\"t\",\"timestamp_ms\":4}";
        let entries = read(rules.clone(), text).unwrap();
        assert_eq!(pairs(&entries), [(Some(b"k" as &[u8]), None), (None, None)]);
        assert_eq!((entries[0].partition, entries[0].record.timestamp), (Some(2), 9));
        assert_eq!((entries[1].line, entries[1].record.timestamp), (3, 4));
        let headers: Vec<_> = entries[0].record.headers.iter().map(|header| header.key).collect();
        assert_eq!(headers, [&b"a"[..], b"all"]);
        for (wrong, says) in [
            (
                &b"{}\n{\"value\": 3}"[..],
                "line 2 is not a record as JSON: a key, value or header must be",
            ),
            (b"[\"t\"]", "line 1 is not a record as JSON: it does not begin with {"),
            (b"{\"key\":{\"base64\":\"!\"}}", "line 1: \"base64\" is not base64"),
        ] {
            let refused = read(rules.clone(), wrong).unwrap_err().to_string();
            assert!(refused.starts_with(says), "{refused}");
        }
    }

    #[test]
    fn a_whole_file_is_one_record() {
        let rules = InputRules {
            format: InputFormat::Whole,
            ..InputRules::default()
        };
        let entries = read(rules, b"a\nb\n").unwrap();
        assert_eq!(pairs(&entries), [(None, Some(&b"a\nb\n"[..]))]);
    }
}
