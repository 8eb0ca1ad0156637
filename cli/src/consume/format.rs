//! How a record looks as text: `--format`, with kcat's placeholders.
//!
//! Owns: the placeholders.
//! Does not own: escapes such as `\t` (`escapes`), JSON (`records`).

use std::io::{self, Write};
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use esker_kafka::records::Record;

use crate::escapes::{self, EscapeError};

/// What is written for each record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value,
    ValueLength,
    Key,
    KeyLength,
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Date,
}

/// Why a format is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("there is no placeholder %{0}; esker help formats lists them (%% is a percent sign)")]
    Placeholder(char),
    #[error("it ends within a placeholder")]
    Unfinished,
    #[error(transparent)]
    Escape(#[from] EscapeError),
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            if next != '%' {
                escapes::push(&mut literal, next, &mut rest)?;
                continue;
            }
            let name = rest.next().ok_or(FormatError::Unfinished)?;
            if name == '%' {
                literal.push(b'%');
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::of(name)?);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }
}

impl Part {
    fn of(name: char) -> Result<Self, FormatError> {
        Ok(match name {
            's' => Self::Value,
            'S' => Self::ValueLength,
            'k' => Self::Key,
            'K' => Self::KeyLength,
            'h' => Self::Headers,
            't' => Self::Topic,
            'p' => Self::Partition,
            'o' => Self::Offset,
            'T' => Self::Timestamp,
            'D' => Self::Date,
            other => return Err(FormatError::Placeholder(other)),
        })
    }
}

impl Format {
    /// Writes one record. `null` stands for a key or value that is null.
    pub(crate) fn write(
        &self,
        out: &mut impl Write,
        (topic, partition): (&str, i32),
        record: &Record,
        null: &[u8],
    ) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Value => out.write_all(record.value.as_deref().unwrap_or(null))?,
                Part::ValueLength => write_length(out, record.value.as_deref())?,
                Part::Key => out.write_all(record.key.as_deref().unwrap_or(null))?,
                Part::KeyLength => write_length(out, record.key.as_deref())?,
                Part::Headers => write_headers(out, record, null)?,
                Part::Topic => out.write_all(topic.as_bytes())?,
                Part::Partition => write!(out, "{partition}")?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Timestamp => write!(out, "{}", record.timestamp)?,
                Part::Date => write_date(out, record.timestamp)?,
            }
        }
        Ok(())
    }
}

/// As in kcat, null has length -1.
fn write_length(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

fn write_headers(out: &mut impl Write, record: &Record, null: &[u8]) -> io::Result<()> {
    for (nth, header) in record.headers.iter().enumerate() {
        if nth > 0 {
            out.write_all(b",")?;
        }
        out.write_all(&header.key)?;
        out.write_all(b"=")?;
        out.write_all(header.value.as_deref().unwrap_or(null))?;
    }
    Ok(())
}

/// A time before 1970 or after 9999, which no calendar here goes to, stays a number.
fn write_date(out: &mut impl Write, ms: i64) -> io::Result<()> {
    const END_OF_9999_MS: u64 = 253_402_300_800_000;
    match u64::try_from(ms) {
        Ok(since) if since < END_OF_9999_MS => {
            let time = UNIX_EPOCH + Duration::from_millis(since);
            write!(out, "{}", humantime::format_rfc3339_millis(time))
        }
        _ => write!(out, "{ms}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn written(format: &str, record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        let format: Format = format.parse().unwrap();
        format.write(&mut out, ("flights", 3), record, b"NULL").unwrap();
        out
    }

    #[test]
    fn every_placeholder() {
        let record = Record {
            offset: 41,
            timestamp: 1_500,
            key: Some(Bytes::from_static(b"\xffk")),
            value: None,
            headers: [("a", Some("1")), ("b", None)].into_iter().collect(),
        };
        assert_eq!(
            written("%t/%p@%o %k %K %s %S [%h] %T %D 100%%\\n", &record),
            b"flights/3@41 \xffk 2 NULL -1 [a=1,b=NULL] 1500 1970-01-01T00:00:01.500Z 100%\n"
        );
        assert_eq!(written("\\t\\x41\\\\\\0ä", &record), "\tA\\\0ä".as_bytes());
        let ancient = Record {
            timestamp: -1,
            ..record.clone()
        };
        assert_eq!(written("%D", &ancient), b"-1");
        let distant = Record {
            timestamp: i64::MAX,
            ..record
        };
        assert_eq!(written("%D", &distant), i64::MAX.to_string().into_bytes());
    }

    #[test]
    fn wrong_formats_say_what_is_wrong() {
        for (format, error) in [
            ("%z", FormatError::Placeholder('z')),
            ("\\q", FormatError::Escape(EscapeError::Unknown('q'))),
            ("%", FormatError::Unfinished),
        ] {
            assert_eq!(format.parse::<Format>(), Err(error), "{format}");
        }
    }
}
