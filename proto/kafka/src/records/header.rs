//! The 61 bytes in front of every record batch.

use super::compression::Compression;
use super::error::BatchError;

/// Length of a batch header.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Producer id of a batch without one.
pub const NO_PRODUCER_ID: i64 = -1;
/// Producer epoch of a batch without a producer id.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of a batch without a producer id, and of markers.
pub const NO_SEQUENCE: i32 = -1;

/// The message format of this header.
pub(crate) const MAGIC_V2: i8 = 2;
/// Bytes before those that the length field counts.
pub(crate) const LENGTH_OVERHEAD: usize = 12;
/// First byte that the CRC covers.
pub(crate) const CRC_FROM: usize = 21;

const COMPRESSION_MASK: u16 = 0x07;
const TIMESTAMP_TYPE_BIT: u16 = 0x08;
const TRANSACTIONAL_BIT: u16 = 0x10;
const CONTROL_BIT: u16 = 0x20;
const DELETE_HORIZON_BIT: u16 = 0x40;

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, per record.
    Create,
    /// The broker: every record has the batch's max timestamp.
    LogAppend,
}

/// A batch header, field by field, in wire order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (that the batch had when it was written; compaction may have removed it).
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the partition's leader.
    pub leader_epoch: i32,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Compression, timestamp type and flags.
    pub attributes: u16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// What record timestamps are relative to, or the delete horizon if that flag is set.
    pub base_timestamp: i64,
    /// Largest timestamp of the batch.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub count: i32,
}

impl BatchHeader {
    /// Reads a header and checks that it is one: the length field is plausible and the format is v2. Neither the
    /// CRC nor the presence of the whole batch is checked.
    ///
    /// # Errors
    /// Too few bytes, an impossible length, another format.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic byte lies at the same place in every format: tell an old one apart from garbage.
        if bytes.len() < 17 {
            return Err(BatchError::NoHeader { available: bytes.len() });
        }
        let magic = i8::from_be_bytes([bytes[16]]);
        if magic != MAGIC_V2 {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        let Some(head) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::NoHeader { available: bytes.len() });
        };
        let header = Self::from_array(head);
        if header.total_bytes().is_none_or(|total| total < BATCH_HEADER_BYTES) {
            return Err(BatchError::Length {
                length: header.batch_length,
                available: bytes.len(),
            });
        }
        Ok(header)
    }

    fn from_array(head: &[u8; BATCH_HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(head, 0)),
            batch_length: i32::from_be_bytes(field(head, 8)),
            leader_epoch: i32::from_be_bytes(field(head, 12)),
            crc: u32::from_be_bytes(field(head, 17)),
            attributes: u16::from_be_bytes(field(head, 21)),
            last_offset_delta: i32::from_be_bytes(field(head, 23)),
            base_timestamp: i64::from_be_bytes(field(head, 27)),
            max_timestamp: i64::from_be_bytes(field(head, 35)),
            producer_id: i64::from_be_bytes(field(head, 43)),
            producer_epoch: i16::from_be_bytes(field(head, 51)),
            base_sequence: i32::from_be_bytes(field(head, 53)),
            count: i32::from_be_bytes(field(head, 57)),
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16..17].copy_from_slice(&MAGIC_V2.to_be_bytes());
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch; `None` if the length field is negative.
    #[must_use]
    pub fn total_bytes(&self) -> Option<usize> {
        Some(usize::try_from(self.batch_length).ok()? + LENGTH_OVERHEAD)
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(self.last_offset_delta as i64)
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// A codec that does not exist.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = (self.attributes & COMPRESSION_MASK).to_le_bytes()[0];
        Compression::from_id(id).ok_or(BatchError::UnknownCompression { id })
    }

    /// Who set the timestamps.
    #[must_use]
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE_BIT == 0 {
            TimestampType::Create
        } else {
            TimestampType::LogAppend
        }
    }

    /// Part of a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Holds a marker, not data.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// The time after which the batch's tombstones may go, in milliseconds, if log cleaning has set it.
    #[must_use]
    pub const fn delete_horizon(&self) -> Option<i64> {
        if self.attributes & DELETE_HORIZON_BIT == 0 {
            None
        } else {
            Some(self.base_timestamp)
        }
    }

    /// True if the batch has a producer id.
    #[must_use]
    pub const fn has_producer(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The sequence number of the last record; they wrap from `i32::MAX` to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        let wrapped = sum.rem_euclid(i64::from(i32::MAX) + 1);
        i32::try_from(wrapped).expect("remainder of 2^31")
    }

    pub(crate) fn set_timestamp_type(&mut self, kind: TimestampType) {
        self.set(TIMESTAMP_TYPE_BIT, kind == TimestampType::LogAppend);
    }

    pub(crate) fn set_transactional(&mut self, on: bool) {
        self.set(TRANSACTIONAL_BIT, on);
    }

    pub(crate) fn set_control(&mut self, on: bool) {
        self.set(CONTROL_BIT, on);
    }

    pub(crate) fn set_delete_horizon(&mut self, on: bool) {
        self.set(DELETE_HORIZON_BIT, on);
    }

    pub(crate) fn set_compression(&mut self, compression: Compression) {
        self.attributes = self.attributes & !COMPRESSION_MASK | u16::from(compression.id());
    }

    fn set(&mut self, bit: u16, on: bool) {
        if on {
            self.attributes |= bit;
        } else {
            self.attributes &= !bit;
        }
    }

    /// The CRC of a batch with this header and `body`, whatever stands in the header's own field.
    #[must_use]
    pub fn crc_with(&self, body: &[u8]) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.to_bytes()[CRC_FROM..]);
        digest.update(body);
        crc32(digest.finalize())
    }
}

/// CRC-32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes))
}

fn crc32(wide: u64) -> u32 {
    u32::try_from(wide).expect("a 32-bit checksum")
}

fn field<const N: usize>(head: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&head[at..at + N]);
    out
}
