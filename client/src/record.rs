//! Records, as they are written and as they are read.
//!
//! Owns: null and empty kept apart, headers in order, what a record takes in memory.
//! Does not own: where records go (agents choose the partition, as Kafka's Java client does).

use std::sync::Arc;

use bytes::Bytes;
use esker_proto::v1;

/// What a record takes beside its bytes, at most: in a Kafka batch, and in memory.
const RECORD_OVERHEAD: usize = 64;
const HEADER_OVERHEAD: usize = 64;

/// A record to be written.
///
/// ```
/// use esker_client::Record;
///
/// let record = Record::new("3 minutes late")
///     .key("N14228")
///     .header("source", "tower")
///     .header("source", "radar");
/// // In a compacted topic, this deletes the key.
/// let tombstone = Record::null().key("N14228");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    inner: v1::Record,
}

impl Record {
    /// A record with this value.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            inner: v1::Record {
                value: Some(value.into()),
                ..v1::Record::default()
            },
        }
    }

    /// A record whose value is null, which is something else than empty: in a compacted topic, it deletes the key.
    #[must_use]
    pub fn null() -> Self {
        Self::default()
    }

    /// Sets the key. Records with the same key go to the same partition, the one that Kafka's Java client would choose.
    ///
    /// An empty key is a key; without this call, the key is null.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.inner.key = Some(key.into());
        self
    }

    /// Writes to this partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.inner.partition = Some(partition);
        self
    }

    /// Adds a header. Names may repeat, and the order is kept.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.push_header(name.into(), Some(value.into()))
    }

    /// Adds a header whose value is null, which is something else than empty.
    #[must_use]
    pub fn null_header(self, name: impl Into<String>) -> Self {
        self.push_header(name.into(), None)
    }

    fn push_header(mut self, name: String, value: Option<Bytes>) -> Self {
        self.inner.headers.push(v1::Header { name, value });
        self
    }

    /// Sets the timestamp, in milliseconds since 1970. Without this call it is the time at which an agent takes the record.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp: i64) -> Self {
        self.inner.timestamp_ms = Some(timestamp);
        self
    }

    pub(crate) fn into_proto(self) -> v1::Record {
        self.inner
    }
}

/// What a record takes at most: in the batch of a topic, whose size `max.message.bytes` limits, and in memory.
pub(crate) fn size_of(record: &v1::Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record
        .headers
        .iter()
        .map(|header| HEADER_OVERHEAD + header.name.len() + length(&header.value));
    RECORD_OVERHEAD + length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

/// Where a record is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Stored {
    /// The partition of its topic.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
}

impl Stored {
    /// Of each record, in order; absent for those that are not stored.
    pub(crate) fn of_each(places: v1::StoredRecords) -> Vec<Option<Self>> {
        Self::zip(places.partitions, places.offsets)
    }

    pub(crate) fn zip(partitions: Vec<i32>, offsets: Vec<i64>) -> Vec<Option<Self>> {
        let places = partitions.into_iter().zip(offsets);
        places
            .map(|(partition, offset)| (offset >= 0).then_some(Self { partition, offset }))
            .collect()
    }
}

/// A header of a record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// Its name. Where it was not UTF-8 (Kafka clients may write any bytes), U+FFFD stands.
    pub name: String,
    /// Its value; absent is null.
    pub value: Option<Bytes>,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumedRecord {
    /// Where it is from.
    pub topic: Arc<str>,
    /// The partition of the topic.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Absent is null.
    pub key: Option<Bytes>,
    /// Absent is null.
    pub value: Option<Bytes>,
    /// In the order in which they were written.
    pub headers: Vec<Header>,
}

impl ConsumedRecord {
    pub(crate) fn new(topic: &Arc<str>, partition: i32, record: v1::ConsumedRecord) -> Self {
        let headers = record.headers.into_iter();
        Self {
            topic: Arc::clone(topic),
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: headers
                .map(|header| Header {
                    name: header.name,
                    value: header.value,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_two_things() {
        let record = Record::new("").key("").header("h", "").null_header("h").into_proto();
        assert_eq!((record.key, record.value), (Some(Bytes::new()), Some(Bytes::new())));
        let headers: Vec<_> = record.headers.into_iter().map(|header| header.value).collect();
        assert_eq!(headers, [Some(Bytes::new()), None]);
        let record = Record::null().into_proto();
        assert_eq!((record.key, record.value, record.timestamp_ms), (None, None, None));
    }

    #[test]
    fn a_record_that_is_not_stored_has_no_place() {
        let found = Stored::zip(vec![-1, 2], vec![-1, 7]);
        assert_eq!(
            found,
            [
                None,
                Some(Stored {
                    partition: 2,
                    offset: 7
                })
            ]
        );
    }
}
