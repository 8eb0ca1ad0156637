//! Records out of what was fetched.
//!
//! Owns: checksums, what is left out (markers, records of aborted transactions, records before the first wanted offset).
//! Does not own: asking for it (`fetcher`), formats of batches (`esker-kafka`).
//!
//! Invariants: no batch takes more than `DECOMPRESSED_BYTES_MAX` when decompressed (MEM-1).

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec;

use esker_kafka::messages::fetch_response::AbortedTransaction;
use esker_kafka::records::{Batch, BatchError, BatchIter, ControlType, EndTxn, Record, RecordReader};

use crate::fetcher::{Fetched, TopicPartition};

/// What a batch may come to: more than any broker takes, by far.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

/// A batch that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("partition {} of topic {}: the batch at offset {offset} is damaged: {error}", .of.partition, .of.topic)]
pub struct DamagedBatch {
    /// Where it is.
    pub of: TopicPartition,
    /// Its first offset.
    pub offset: i64,
    /// What is wrong with it.
    pub error: BatchError,
}

/// The records of a [`Fetched`], in order.
pub struct Decoder {
    of: TopicPartition,
    from: i64,
    batches: BatchIter,
    /// By first offset.
    aborted: Peekable<vec::IntoIter<AbortedTransaction>>,
    /// Producers within a transaction that was aborted.
    aborting: BTreeSet<i64>,
    current: Option<(i64, RecordReader)>,
}

impl Decoder {
    /// Reads from the first wanted offset on.
    #[must_use]
    pub fn new(fetched: Fetched) -> Self {
        let mut aborted = fetched.aborted;
        aborted.sort_by_key(|one| one.first_offset);
        Self {
            of: fetched.of,
            from: fetched.from,
            batches: BatchIter::new(fetched.batches),
            aborted: aborted.into_iter().peekable(),
            aborting: BTreeSet::new(),
            current: None,
        }
    }

    /// The next record, or none.
    ///
    /// # Errors
    /// [`DamagedBatch`]; there is nothing to be had after it.
    pub fn next_record(&mut self) -> Result<Option<Record>, DamagedBatch> {
        loop {
            if let Some((offset, reader)) = &mut self.current {
                let (of, offset) = (&self.of, *offset);
                let damaged = |error| DamagedBatch {
                    of: of.clone(),
                    offset,
                    error,
                };
                match reader.next_record().map_err(damaged)? {
                    Some(record) if record.offset >= self.from => return Ok(Some(record)),
                    Some(_) => continue,
                    None => self.current = None,
                }
            }
            let Some(batch) = self.batches.next() else {
                return Ok(None);
            };
            let batch = batch.map_err(|error| self.damaged(self.from, error))?;
            let offset = batch.header().base_offset;
            self.enter(&batch).map_err(|error| self.damaged(offset, error))?;
        }
    }

    fn damaged(&self, offset: i64, error: BatchError) -> DamagedBatch {
        let of = self.of.clone();
        DamagedBatch { of, offset, error }
    }

    fn enter(&mut self, batch: &Batch) -> Result<(), BatchError> {
        batch.verify_crc()?;
        let header = batch.header();
        let last = header.base_offset.saturating_add(i64::from(header.last_offset_delta));
        while let Some(one) = self.aborted.next_if(|one| one.first_offset <= last) {
            self.aborting.insert(one.producer_id);
        }
        if header.is_control() {
            let mut records = RecordReader::new(batch, DECOMPRESSED_BYTES_MAX)?;
            let marker = records.next_record()?.as_ref().and_then(ControlType::of);
            if marker == Some(ControlType::EndTxn(EndTxn::Abort)) {
                self.aborting.remove(&header.producer_id);
            }
            return Ok(());
        }
        if header.is_transactional() && self.aborting.contains(&header.producer_id) {
            return Ok(());
        }
        let reader = RecordReader::new(batch, DECOMPRESSED_BYTES_MAX)?;
        self.current = Some((header.base_offset, reader));
        Ok(())
    }
}
