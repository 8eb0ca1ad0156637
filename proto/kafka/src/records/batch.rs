//! One batch as it lies in memory, and a run of them.

use bytes::Bytes;

use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, CRC_FROM, TimestampType, crc32c};

/// A batch whose length and format are right. Whether its CRC is, [`Batch::verify_crc`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

/// A batch ready to be served: the bytes that change, and the rest, shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// Base offset, length and leader epoch.
    pub prefix: [u8; PATCH_BYTES],
    /// Everything after them.
    pub rest: Bytes,
}

/// Bytes of a batch that may change after it was written: base offset, length and leader epoch.
pub const PATCH_BYTES: usize = 16;

impl Batch {
    /// Takes the batch at the start of `bytes`, sharing them.
    ///
    /// # Errors
    /// Too few bytes, an impossible length, another format than v2.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let available = bytes.len();
        let length_error = BatchError::Length {
            length: header.batch_length,
            available,
        };
        let total = header.total_bytes().ok_or(length_error.clone())?;
        if total > available {
            return Err(length_error);
        }
        Ok(Self {
            header,
            bytes: bytes.slice(..total),
        })
    }

    pub(crate) fn from_parts(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, compressed or not.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(BATCH_HEADER_BYTES..)
    }

    /// Checks the CRC-32C.
    ///
    /// # Errors
    /// [`BatchError::Crc`] if it does not match.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[CRC_FROM..]);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc {
            stored: self.header.crc,
            computed,
        })
    }

    /// The batch at its place in the log; nothing is copied, and the CRC stays valid.
    #[must_use]
    pub fn patched(&self, base_offset: i64, leader_epoch: i32) -> Patched {
        Patched {
            prefix: patch_prefix(base_offset, self.header.batch_length, leader_epoch),
            rest: self.bytes.slice(PATCH_BYTES..),
        }
    }

    /// The 61 bytes of the header with the batch at its place in the log, for callers that keep bodies apart.
    #[must_use]
    pub fn patched_header(&self, base_offset: i64, leader_epoch: i32) -> [u8; BATCH_HEADER_BYTES] {
        BatchHeader {
            base_offset,
            leader_epoch,
            ..self.header
        }
        .to_bytes()
    }

    /// The header with every record's timestamp set to `now_ms` (`message.timestamp.type=LogAppendTime`), and a new
    /// CRC; the body stays as it is.
    #[must_use]
    pub fn with_log_append_time(&self, now_ms: i64) -> BatchHeader {
        let mut header = self.header;
        header.set_timestamp_type(TimestampType::LogAppend);
        header.max_timestamp = now_ms;
        header.crc = header.crc_with(&self.bytes[BATCH_HEADER_BYTES..]);
        header
    }

    /// The same batch with another header, copying the body. The header must describe this body.
    #[must_use]
    pub fn with_header(&self, header: BatchHeader) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&self.bytes[BATCH_HEADER_BYTES..]);
        Self {
            header,
            bytes: Bytes::from(bytes),
        }
    }
}

/// The first 16 bytes of a batch at its place in the log. `batch_length` is the header's own field.
#[must_use]
pub fn patch_prefix(base_offset: i64, batch_length: i32, leader_epoch: i32) -> [u8; PATCH_BYTES] {
    let mut prefix = [0; PATCH_BYTES];
    prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
    prefix[8..12].copy_from_slice(&batch_length.to_be_bytes());
    prefix[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    prefix
}

/// The batches in a run of bytes, for example a partition of a fetch response.
#[derive(Clone, Debug)]
pub struct BatchIter {
    rest: Bytes,
}

impl BatchIter {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for BatchIter {
    type Item = Result<Batch, BatchError>;

    /// The next batch. After an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(&self.rest);
        self.rest = match &batch {
            Ok(batch) => self.rest.slice(batch.bytes.len()..),
            Err(_) => Bytes::new(),
        };
        Some(batch)
    }
}
