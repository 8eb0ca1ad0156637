//! Bytes of objects: fresh segments from memory, everything else from the bucket.
//!
//! Owns: the memory of fresh segments, newest kept.
//! Does not own: the bucket.
//!
//! Invariants: MEM-1.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use esker_segment::name::{ClusterId, ObjectName, SegmentName};
use esker_segment::segment::Segment;
use esker_storage::store::{ObjectKey, ObjectStore, StoreError};

/// Reads ranges of objects.
pub struct Segments {
    store: Arc<dyn ObjectStore>,
    cluster: ClusterId,
    fresh: Mutex<Fresh>,
    bytes_max: u64,
}

#[derive(Default)]
struct Fresh {
    segments: HashMap<SegmentName, Arc<Chunks>>,
    order: VecDeque<SegmentName>,
    bytes: u64,
}

/// A segment as it was written: chunks with the position of each.
struct Chunks {
    chunks: Vec<(u64, Bytes)>,
    bytes: u64,
}

/// A range that was read.
pub struct ReadRange {
    source: Source,
    start: u64,
}

enum Source {
    Memory(Arc<Chunks>),
    Bucket(Bytes),
}

impl Segments {
    /// Over a bucket, with so much memory.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, cluster: ClusterId, bytes_max: u64) -> Self {
        Self {
            store,
            cluster,
            fresh: Mutex::default(),
            bytes_max,
        }
    }

    /// Key of an object.
    #[must_use]
    pub fn key(&self, name: ObjectName) -> ObjectKey {
        ObjectKey(name.key(&self.cluster))
    }

    /// Keeps a segment that was just written.
    pub fn insert(&self, name: SegmentName, segment: &Segment) {
        let mut position = 0;
        let mut chunks = Vec::with_capacity(segment.chunks.len());
        for chunk in &segment.chunks {
            chunks.push((position, chunk.clone()));
            position += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        }
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.segments.insert(
            name,
            Arc::new(Chunks {
                chunks,
                bytes: position,
            }),
        );
        fresh.order.push_back(name);
        fresh.bytes += position;
        while fresh.bytes > self.bytes_max {
            let Some(oldest) = fresh.order.pop_front() else { break };
            if let Some(gone) = fresh.segments.remove(&oldest) {
                fresh.bytes -= gone.bytes;
            }
        }
    }

    /// Reads a range of an object.
    ///
    /// # Errors
    /// As the bucket says.
    pub async fn read(&self, name: ObjectName, range: Range<u64>) -> Result<ReadRange, StoreError> {
        if let ObjectName::Segment(name) = name {
            let kept = self
                .fresh
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .segments
                .get(&name)
                .cloned();
            if let Some(kept) = kept {
                return Ok(ReadRange {
                    source: Source::Memory(kept),
                    start: range.start,
                });
            }
        }
        let start = range.start;
        let bytes = self.store.read(&self.key(name), range).await?;
        Ok(ReadRange {
            source: Source::Bucket(bytes),
            start,
        })
    }
}

impl ReadRange {
    /// Whether the bytes are those that the writer handed in, and were checked when they arrived.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }

    /// Part of the range, relative to its start.
    #[must_use]
    pub fn slice(&self, from: u64, length: usize) -> Bytes {
        match &self.source {
            Source::Bucket(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                bytes.slice(from..from + length)
            }
            Source::Memory(chunks) => chunks.slice(self.start + from, length),
        }
    }
}

impl Chunks {
    fn slice(&self, position: u64, length: usize) -> Bytes {
        let first = self
            .chunks
            .partition_point(|(start, _)| *start <= position)
            .saturating_sub(1);
        let (start, chunk) = &self.chunks[first];
        let from = usize::try_from(position - start).unwrap_or(usize::MAX);
        if from + length <= chunk.len() {
            return chunk.slice(from..from + length);
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&chunk[from..]);
        for (_, chunk) in &self.chunks[first + 1..] {
            let wanted = (length - joined.len()).min(chunk.len());
            joined.extend_from_slice(&chunk[..wanted]);
        }
        joined.freeze()
    }
}
