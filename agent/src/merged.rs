//! Merged batches: not written yet.

use esker_segment::id::{Offset, Timestamp, TopicPartition};

use crate::fetch::read::{Place, ReadError};

/// Finds merged batches.
#[derive(Default)]
pub struct Merged;

impl Merged {
    /// Batches from an offset on.
    ///
    /// # Errors
    /// None yet.
    pub async fn locate(
        &self,
        _at: TopicPartition,
        _from: Offset,
        _end: Offset,
        _bytes_max: u64,
    ) -> Result<Vec<Place>, ReadError> {
        Ok(Vec::new())
    }

    /// The first batch that reaches a timestamp.
    ///
    /// # Errors
    /// None yet.
    pub async fn locate_timestamp(
        &self,
        _at: TopicPartition,
        _from: Offset,
        _timestamp: Timestamp,
    ) -> Result<Option<Place>, ReadError> {
        Ok(None)
    }

    /// The batch with the largest timestamp.
    ///
    /// # Errors
    /// None yet.
    pub async fn locate_max_timestamp(
        &self,
        _at: TopicPartition,
        _below: Offset,
    ) -> Result<Option<(Place, Timestamp)>, ReadError> {
        Ok(None)
    }
}
