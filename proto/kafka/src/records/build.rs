//! Builds a batch from records: for the gRPC side, for re-compression, for log cleaning, and for markers.

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::Batch;
use super::compression::{Codec, Compression, compress};
use super::error::BatchError;
use super::header::{
    BATCH_HEADER_BYTES, BatchHeader, LENGTH_OVERHEAD, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, TimestampType,
};
use super::record::{Headers, Record, RecordParts};

/// A batch under construction. Set what describes it first, then append records.
#[derive(Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    /// Room for the header, then the records, uncompressed.
    buf: BytesMut,
    /// The offset delta of the last record that was appended.
    last_delta: i32,
    /// The base timestamp is that of the first record unless it is given.
    base_timestamp_known: bool,
    /// Where the batch ends even if its last record is not there any more.
    end_delta: Option<i32>,
    /// The max timestamp of a batch that ends up without records.
    empty_max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch at offset 0, without a producer.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            count: 0,
        };
        Self::with_header(header, codec)
    }

    /// A batch that replaces one with this header, with fewer records or other compression: base offset, last
    /// offset, producer, flags and base timestamp stay. Append the records that stay with
    /// [`BatchBuilder::append_kept`]; there may be none.
    #[must_use]
    pub fn replacing(header: &BatchHeader, codec: Codec) -> Self {
        let mut builder = Self::with_header(BatchHeader { count: 0, ..*header }, codec);
        builder.base_timestamp_known = true;
        builder.end_delta = Some(header.last_offset_delta);
        builder.empty_max_timestamp = header.max_timestamp;
        if header.timestamp_type() == TimestampType::Create {
            builder.header.max_timestamp = -1;
        }
        builder
    }

    fn with_header(mut header: BatchHeader, codec: Codec) -> Self {
        header.set_compression(codec.compression);
        let mut buf = BytesMut::new();
        buf.put_bytes(0, BATCH_HEADER_BYTES);
        Self {
            header,
            codec,
            buf,
            last_delta: -1,
            base_timestamp_known: false,
            end_delta: None,
            empty_max_timestamp: -1,
        }
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Epoch of the partition's leader.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.header.leader_epoch = epoch;
        self
    }

    /// Producer id and epoch, and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.set_transactional(true);
        self
    }

    /// Marks the batch as one that holds a marker.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.header.set_control(true);
        self
    }

    /// Gives every record the broker's time.
    #[must_use]
    pub fn log_append_time(mut self, now_ms: i64) -> Self {
        self.header.set_timestamp_type(TimestampType::LogAppend);
        self.header.max_timestamp = now_ms;
        self
    }

    /// The time after which tombstones of the batch may go; call it before appending records.
    #[must_use]
    pub fn delete_horizon(mut self, horizon_ms: i64) -> Self {
        self.header.set_delete_horizon(true);
        self.header.base_timestamp = horizon_ms;
        self.base_timestamp_known = true;
        self
    }

    /// Bytes so far, before compression.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// True if no record was appended.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Records so far.
    #[must_use]
    pub const fn count(&self) -> i32 {
        self.header.count
    }

    /// Appends a record after the last one.
    ///
    /// # Errors
    /// More records than a batch can number.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), BatchError> {
        let delta = self
            .last_delta
            .checked_add(1)
            .ok_or_else(|| self.refused("too many records"))?;
        self.put(delta, timestamp, key, value, headers)
    }

    /// Appends a record at the offset that it has.
    ///
    /// # Errors
    /// An offset that is not after the last one, or not within what a batch can number.
    pub fn append_kept(&mut self, record: &Record) -> Result<(), BatchError> {
        let delta = record
            .offset
            .checked_sub(self.header.base_offset)
            .and_then(|delta| i32::try_from(delta).ok());
        let last = self.end_delta.unwrap_or(i32::MAX);
        match delta {
            Some(delta) if delta > self.last_delta && delta <= last => self.put(
                delta,
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            ),
            Some(_) | None => Err(self.refused("offset out of order or beyond the batch")),
        }
    }

    fn refused(&self, reason: &'static str) -> BatchError {
        BatchError::Record {
            index: self.header.count,
            reason,
        }
    }

    fn put(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), BatchError> {
        let longest = key.map_or(0, <[u8]>::len).max(value.map_or(0, <[u8]>::len));
        if i32::try_from(longest).is_err() {
            return Err(self.refused("key or value of 2 GiB or more"));
        }
        let count = self
            .header
            .count
            .checked_add(1)
            .ok_or_else(|| self.refused("too many records"))?;
        if !self.base_timestamp_known {
            self.header.base_timestamp = timestamp;
            self.base_timestamp_known = true;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        RecordParts {
            offset_delta,
            timestamp_delta,
            key,
            value,
            headers,
        }
        .put(&mut self.buf);
        if self.header.timestamp_type() == TimestampType::Create {
            self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        }
        self.last_delta = offset_delta;
        self.header.count = count;
        Ok(())
    }

    /// Compresses, computes length and CRC, and finishes the batch.
    ///
    /// # Errors
    /// A batch of 2 GiB or more, or a codec that fails.
    pub fn build(mut self) -> Result<Batch, BatchError> {
        if self.header.count == 0 {
            self.header.max_timestamp = self.empty_max_timestamp.max(self.header.max_timestamp);
            // An emptied batch has no body, and so nothing to decompress.
            self.codec = Codec::from(Compression::None);
            self.header.set_compression(Compression::None);
        }
        self.header.last_offset_delta = self.end_delta.unwrap_or(self.last_delta).max(0);
        if self.codec.compression != Compression::None {
            let compressed = compress(self.codec, &self.buf[BATCH_HEADER_BYTES..])?;
            self.buf.truncate(BATCH_HEADER_BYTES);
            self.buf.extend_from_slice(&compressed);
        }
        let bytes = self.buf.len();
        let limit = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
        let length = i32::try_from(bytes - LENGTH_OVERHEAD).map_err(|_| BatchError::TooLarge { bytes, limit })?;
        self.header.batch_length = length;
        self.header.crc = self.header.crc_with(&self.buf[BATCH_HEADER_BYTES..]);
        self.buf[..BATCH_HEADER_BYTES].copy_from_slice(&self.header.to_bytes());
        Ok(Batch::from_parts(self.header, Bytes::from(self.buf)))
    }
}
