//! Control batches: the markers that end a transaction, and how to recognise each kind.

use super::batch::Batch;
use super::build::BatchBuilder;
use super::compression::Codec;
use super::header::NO_SEQUENCE;
use super::record::{Headers, Record};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndTxn {
    /// Its records are to be ignored.
    Abort,
    /// Its records count.
    Commit,
}

/// What a control record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// End of a transaction.
    EndTxn(EndTxn),
    /// One of the types that only `KRaft` uses.
    KRaft(i16),
}

/// Versions of the marker's key and value.
const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;

impl EndTxn {
    const fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
        }
    }
}

impl ControlType {
    /// The type of a control record, from its key; `None` if the key is not one.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let key = record.key.as_ref()?.first_chunk::<4>()?;
        let version = i16::from_be_bytes([key[0], key[1]]);
        if version < 0 {
            return None;
        }
        Some(match i16::from_be_bytes([key[2], key[3]]) {
            0 => Self::EndTxn(EndTxn::Abort),
            1 => Self::EndTxn(EndTxn::Commit),
            other => Self::KRaft(other),
        })
    }
}

/// What a transaction marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionMarker {
    /// Its place in the log.
    pub offset: i64,
    /// Epoch of the partition's leader.
    pub leader_epoch: i32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Whose transaction.
    pub producer_id: i64,
    /// The epoch in which it ended.
    pub producer_epoch: i16,
    /// Epoch of the transaction coordinator.
    pub coordinator_epoch: i32,
    /// How it ended.
    pub end: EndTxn,
}

impl TransactionMarker {
    /// The control batch: the same bytes for the same marker, always.
    #[must_use]
    pub fn to_batch(&self) -> Batch {
        let mut key = Vec::with_capacity(4);
        key.extend_from_slice(&KEY_VERSION.to_be_bytes());
        key.extend_from_slice(&self.end.code().to_be_bytes());
        let mut value = Vec::with_capacity(6);
        value.extend_from_slice(&VALUE_VERSION.to_be_bytes());
        value.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(Codec::default())
            .base_offset(self.offset)
            .leader_epoch(self.leader_epoch)
            .producer(self.producer_id, self.producer_epoch, NO_SEQUENCE)
            .transactional()
            .control();
        builder
            .append(self.timestamp, Some(&key), Some(&value), &Headers::new())
            .and_then(|()| builder.build())
            .expect("one small record without compression")
    }
}
