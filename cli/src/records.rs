//! Records as JSON: one object a line, the same for what goes in and for what comes out.
//!
//! Owns: names of the fields; how bytes that are not UTF-8 are said.
//! Does not own: text formats (`produce::input`, `consume::format`).
//!
//! Invariants: what `consume --json` prints, `produce --input json` takes, and it is the same record.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use esker_kafka::records::{Headers, Record};
use serde::{Deserialize, Serialize};

/// Bytes: a string if they are UTF-8, else an object with one field.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(
    untagged,
    expecting = "a key, value or header must be null, a string or {\"base64\": \"…\"}"
)]
pub(crate) enum JsonBytes {
    /// As they are.
    Text(String),
    /// Not UTF-8.
    Binary(Encoded),
}

/// `{"base64": "…"}`; a struct with this one field would also be read from an array.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoded {
    Base64(String),
}

/// One record and where it is, or is to go. What is left out is null.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JsonRecord {
    /// Where it was read; of no account when it is written, as is its offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<JsonBytes>,
    pub(crate) value: Option<JsonBytes>,
    /// In order; a name may come twice.
    pub(crate) headers: Vec<(JsonBytes, Option<JsonBytes>)>,
}

/// A string that was said to be base64 and is not.
#[derive(Debug, thiserror::Error)]
#[error("\"base64\" is not base64: {0}")]
pub(crate) struct NotBase64(#[from] base64::DecodeError);

impl From<&[u8]> for JsonBytes {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary(Encoded::Base64(STANDARD.encode(bytes))),
        }
    }
}

impl JsonBytes {
    fn into_bytes(self) -> Result<Bytes, NotBase64> {
        Ok(match self {
            Self::Text(text) => Bytes::from(text),
            Self::Binary(Encoded::Base64(text)) => Bytes::from(STANDARD.decode(text)?),
        })
    }
}

impl JsonRecord {
    /// A record as it was read.
    pub(crate) fn of(topic: &str, partition: i32, record: &Record) -> Self {
        let said = |bytes: &Option<Bytes>| bytes.as_deref().map(JsonBytes::from);
        let headers = record.headers.iter();
        Self {
            topic: Some(topic.to_owned()),
            partition: Some(partition),
            offset: Some(record.offset),
            timestamp_ms: Some(record.timestamp),
            key: said(&record.key),
            value: said(&record.value),
            headers: headers
                .map(|header| (JsonBytes::from(&header.key[..]), said(&header.value)))
                .collect(),
        }
    }

    /// The record to write; `now_ms` if it has no time of its own.
    pub(crate) fn into_record(self, now_ms: i64) -> Result<Record, NotBase64> {
        let bytes = |said: Option<JsonBytes>| said.map(JsonBytes::into_bytes).transpose();
        let headers: Result<Vec<_>, NotBase64> = self
            .headers
            .into_iter()
            .map(|(name, value)| Ok((name.into_bytes()?, bytes(value)?)))
            .collect();
        Ok(Record {
            offset: 0,
            timestamp: self.timestamp_ms.unwrap_or(now_ms),
            key: bytes(self.key)?,
            value: bytes(self.value)?,
            headers: Headers::from_iter(headers?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(record: &Record) -> String {
        let line = serde_json::to_string(&JsonRecord::of("t", 3, record)).unwrap();
        let back: JsonRecord = serde_json::from_str(&line).unwrap();
        assert_eq!(back.partition, Some(3));
        let back = Record {
            offset: record.offset,
            ..back.into_record(0).unwrap()
        };
        assert_eq!(&back, record);
        line
    }

    #[test]
    fn null_and_empty_and_binary_survive() {
        let mut record = Record {
            offset: 7,
            timestamp: 5,
            ..Record::default()
        };
        assert_eq!(
            round_trip(&record),
            r#"{"topic":"t","partition":3,"offset":7,"timestamp_ms":5,"key":null,"value":null,"headers":[]}"#
        );
        record.key = Some(Bytes::new());
        record.value = Some(Bytes::from_static(b"\xff\n\0"));
        record.headers = [(b"a" as &[u8], Some(b"1" as &[u8])), (b"a", None), (b"\xfe", Some(b""))]
            .into_iter()
            .collect();
        let line = round_trip(&record);
        assert!(
            line.ends_with(
                r#""key":"","value":{"base64":"/woA"},"headers":[["a","1"],["a",null],[{"base64":"/g=="},""]]}"#
            ),
            "{line}"
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for wrong in [
            r#"{"vaule":"x"}"#,
            r#"{"value":1}"#,
            r#"{"value":{"base64":"x","y":1}}"#,
            r#"{"value":["eA=="]}"#,
            "x",
        ] {
            assert!(serde_json::from_str::<JsonRecord>(wrong).is_err(), "{wrong}");
        }
        let record: JsonRecord = serde_json::from_str(r#"{"value":{"base64":"?"}}"#).unwrap();
        assert!(record.into_record(0).unwrap_err().to_string().contains("not base64"));
    }
}
