//! From places to record bytes: reads what is not in memory, checks it, patches offsets and epochs.
//!
//! Owns: grouping of neighbours into one read, the check of what came from the bucket.
//! Does not own: what lies where (`replica_view`, `merged`).
//!
//! Invariants: LOG-1, LOG-3: bytes that do not check out are an error for exactly their offsets, never skipped and never
//! served. Record bytes are not copied but for small batches, where a copy is cheaper than a chunk.

use bytes::{Bytes, BytesMut};
use esker_kafka::Records;
use esker_kafka::records::{Batch, BatchError, EndTxn, PATCH_BYTES, TransactionMarker, patch_prefix};
use esker_model::entry::TxnOutcome;
use esker_model::unmerged::MarkerInfo;
use esker_segment::id::{IncarnationNumber, Offset};
use esker_segment::name::ObjectName;
use esker_storage::cache::Access;
use esker_storage::merged::{MergedError, MergedPlace};
use esker_storage::store::{ObjectKey, StoreError};

use crate::agent::Agent;

/// Smaller batches are copied together.
const COPY_BELOW_BYTES: usize = 8 * 1024;
/// Most bytes asked for with one read.
const READ_BYTES_MAX: u64 = 8 << 20;

/// Where one batch is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Offset of its first record.
    pub base: Offset,
    /// Offsets it takes.
    pub records: u32,
    /// Its length.
    pub bytes: u32,
    /// What holds it.
    pub source: PlaceSource,
}

/// What holds a batch.
#[derive(Clone, Debug)]
pub enum PlaceSource {
    /// An object.
    Object {
        /// Which.
        name: ObjectName,
        /// Its length.
        length_bytes: u64,
        /// First byte of the batch.
        position: u64,
        /// The partition leader epoch to serve it with. `None`: its bytes say it, and its base offset, already.
        epoch: Option<IncarnationNumber>,
    },
    /// Nothing: a transaction marker is a function of these facts.
    Marker(MarkerInfo),
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bucket did not give them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The batch is what was written, but its records cannot be read.
    #[error("records of the batch at offset {offset} cannot be read: {cause}")]
    Undecodable {
        /// Its first offset.
        offset: Offset,
        /// What is wrong.
        cause: BatchError,
    },
    /// What the manifest leads to cannot be read.
    #[error(transparent)]
    Merged(#[from] MergedError),
    /// What the bucket gave is not what was written.
    #[error("object {key} is damaged at byte {position}: {cause}")]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// Where the batch begins.
        position: u64,
        /// What is wrong.
        cause: BatchError,
    },
}

impl Place {
    /// The offset after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.base.plus(self.records)
    }
}

impl From<MergedPlace> for Place {
    fn from(merged: MergedPlace) -> Self {
        let source = PlaceSource::Object {
            name: merged.name,
            length_bytes: merged.length_bytes,
            position: merged.position,
            epoch: merged.epoch,
        };
        Self {
            base: merged.base,
            records: merged.records,
            bytes: merged.bytes,
            source,
        }
    }
}

impl ReadError {
    /// Whether an object was not there: it may have been merged away after it was looked up.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::NotFound(_)) | Self::Merged(MergedError::Store(StoreError::NotFound(_)))
        )
    }
}

/// Reads batches in order. When a later one cannot be read, what came before it is returned; a client that comes back for the
/// rest gets the error.
///
/// # Errors
/// When the first batch cannot be read.
pub async fn records(agent: &Agent, places: &[Place]) -> Result<(Records, Offset), ReadError> {
    let mut gathered = Gathered::new(places);
    let mut next = 0;
    let mut end = places.first().map_or(Offset(0), |place| place.base);
    while next < places.len() {
        let count = neighbours(&places[next..]);
        let group = &places[next..next + count];
        match read_group(agent, group, &mut gathered).await {
            Ok(read) => {
                end = group[..read].last().map_or(end, Place::end);
                if read < count {
                    break;
                }
            }
            Err(error) if next == 0 && gathered.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "answer cut before a batch that cannot be read");
                break;
            }
        }
        next += count;
    }
    Ok((gathered.finish(), end))
}

/// Reads one batch.
///
/// # Errors
/// See [`ReadError`].
pub async fn batch(agent: &Agent, place: &Place) -> Result<Batch, ReadError> {
    let bytes = match &place.source {
        PlaceSource::Marker(marker) => marker_batch(place.base, marker),
        PlaceSource::Object {
            name,
            length_bytes,
            position,
            ..
        } => {
            let key = agent.objects.key(name);
            let range = *position..*position + u64::from(place.bytes);
            let read = agent
                .cache
                .read(&key, *length_bytes, range.clone(), Access::Tail)
                .await?;
            let is_checked = read.is_checked(&range);
            let bytes = Pieces::new(read.pieces).take(place.bytes);
            check(&bytes, place, is_checked).map_err(|cause| ReadError::Damaged {
                key,
                position: *position,
                cause,
            })?;
            bytes
        }
    };
    Batch::parse(&bytes).map_err(|cause| ReadError::Undecodable {
        offset: place.base,
        cause,
    })
}

/// How many places from the first on lie side by side in one object, within one read.
fn neighbours(places: &[Place]) -> usize {
    let PlaceSource::Object {
        name: first, position, ..
    } = &places[0].source
    else {
        return 1;
    };
    let mut bytes = u64::from(places[0].bytes);
    let rest = places[1..].iter().take_while(|place| match &place.source {
        PlaceSource::Object { name, position: at, .. } => {
            let fits = name == first && *at == position + bytes && bytes + u64::from(place.bytes) <= READ_BYTES_MAX;
            bytes += u64::from(place.bytes);
            fits
        }
        PlaceSource::Marker(_) => false,
    });
    1 + rest.count()
}

/// Reads places that lie side by side; says how many of them are good.
async fn read_group(agent: &Agent, group: &[Place], out: &mut Gathered) -> Result<usize, ReadError> {
    let PlaceSource::Object {
        name,
        length_bytes,
        position,
        ..
    } = &group[0].source
    else {
        if let PlaceSource::Marker(marker) = &group[0].source {
            out.push(&marker_batch(group[0].base, marker));
        }
        return Ok(1);
    };
    let key = agent.objects.key(name);
    let total: u64 = group.iter().map(|place| u64::from(place.bytes)).sum();
    let range = *position..*position + total;
    let mut read = agent.cache.read(&key, *length_bytes, range, Access::Tail).await?;
    let mut pieces = Pieces::new(std::mem::take(&mut read.pieces));
    let mut at = *position;
    for (nth, place) in group.iter().enumerate() {
        let bytes = pieces.take(place.bytes);
        let within = at..at + u64::from(place.bytes);
        let is_checked = read.is_checked(&within);
        if let Err(cause) = check(&bytes, place, is_checked) {
            // What is in memory may be what is damaged: the next read asks the bucket.
            agent.cache.forget(&key, *length_bytes);
            let damaged = ReadError::Damaged {
                key,
                position: at,
                cause,
            };
            if nth == 0 {
                return Err(damaged);
            }
            // What came before is served; the next fetch begins here and gets the error.
            tracing::warn!(error = %damaged, "answer cut before a damaged batch");
            return Ok(nth);
        }
        if !is_checked {
            read.set_checked(&within);
        }
        out.push_patched(place, &bytes);
        at = within.end;
    }
    Ok(group.len())
}

/// Bytes that were read in several pieces, taken batch by batch.
struct Pieces {
    pieces: std::collections::VecDeque<Bytes>,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Self {
        Self { pieces: pieces.into() }
    }

    /// The next bytes; copied only when they straddle two pieces.
    fn take(&mut self, bytes: u32) -> Bytes {
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        while self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        match self.pieces.front_mut() {
            Some(front) if front.len() >= wanted => front.split_to(wanted),
            _ => {
                let mut joined = BytesMut::with_capacity(wanted);
                while joined.len() < wanted
                    && let Some(front) = self.pieces.front_mut()
                {
                    let taken = front.split_to(front.len().min(wanted - joined.len()));
                    joined.extend_from_slice(&taken);
                    if front.is_empty() {
                        self.pieces.pop_front();
                    }
                }
                joined.freeze()
            }
        }
    }
}

/// Whether these are the bytes that were stored. The CRC runs at many gigabytes a second, and once only for bytes in memory.
fn check(bytes: &Bytes, place: &Place, is_checked: bool) -> Result<(), BatchError> {
    let batch = Batch::parse(bytes)?;
    if batch.bytes().len() != bytes.len() {
        let length = batch.header().batch_length;
        return Err(BatchError::Length {
            length,
            available: bytes.len(),
        });
    }
    let records = u32::try_from(batch.header().last_offset_delta)
        .ok()
        .and_then(|delta| delta.checked_add(1));
    if records != Some(place.records) {
        let (count, last_offset_delta) = (batch.header().count, batch.header().last_offset_delta);
        return Err(esker_kafka::records::InvalidRecord::Count {
            count,
            last_offset_delta,
        }
        .into());
    }
    if is_checked { Ok(()) } else { batch.verify_crc() }
}

fn marker_batch(offset: Offset, marker: &MarkerInfo) -> Bytes {
    let marker = TransactionMarker {
        offset: offset.0,
        leader_epoch: i32::try_from(marker.incarnation.0).unwrap_or(i32::MAX),
        timestamp: marker.timestamp.0,
        producer_id: marker.producer.0,
        producer_epoch: marker.epoch.0,
        coordinator_epoch: 0,
        end: match marker.outcome {
            TxnOutcome::Commit => EndTxn::Commit,
            TxnOutcome::Abort => EndTxn::Abort,
        },
    };
    marker.to_batch().bytes().clone()
}

/// The leader epoch as a batch has it.
fn stored_epoch(batch: &Bytes) -> i32 {
    let field = batch.get(12..PATCH_BYTES).and_then(|field| field.first_chunk());
    field.map_or(-1, |field| i32::from_be_bytes(*field))
}

/// Record bytes as they come together: large batches shared, small ones copied side by side.
#[derive(Default)]
struct Gathered {
    records: Records,
    small: BytesMut,
}

impl Gathered {
    /// With room for all that is written of these places.
    fn new(places: &[Place]) -> Self {
        let small = places.iter().map(|place| match usize::try_from(place.bytes) {
            Ok(bytes) if bytes < PATCH_BYTES + COPY_BELOW_BYTES => bytes,
            _ => PATCH_BYTES,
        });
        Self {
            small: BytesMut::with_capacity(small.sum()),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.small.is_empty()
    }

    fn push(&mut self, batch: &[u8]) {
        self.small.extend_from_slice(batch);
    }

    fn push_patched(&mut self, place: &Place, bytes: &Bytes) {
        // Neither base offset nor length is under the CRC: both are written from what is known of the place.
        let epoch = match &place.source {
            PlaceSource::Object { epoch: Some(epoch), .. } => i32::try_from(epoch.0).unwrap_or(i32::MAX),
            PlaceSource::Object { epoch: None, .. } | PlaceSource::Marker(_) => stored_epoch(bytes),
        };
        let length = i32::try_from(bytes.len().saturating_sub(12)).unwrap_or(i32::MAX);
        let prefix = patch_prefix(place.base.0, length, epoch);
        self.small.extend_from_slice(&prefix);
        let rest = bytes.slice(PATCH_BYTES..);
        if rest.len() < COPY_BELOW_BYTES {
            self.small.extend_from_slice(&rest);
        } else {
            self.records.push(self.small.split().freeze());
            self.records.push(rest);
        }
    }

    fn finish(mut self) -> Records {
        self.records.push(self.small.freeze());
        self.records
    }
}
