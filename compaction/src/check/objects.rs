//! Reading one object and checking the batches that are expected in it.
//!
//! Owns: what is wrong with an object, named by the offsets that it concerns.

use bytes::Bytes;
use esker_model::Fold;
use esker_segment::checksum::check_batch;
use esker_segment::id::{Offset, TopicPartition};
use esker_segment::index::BatchMeta;
use esker_segment::manifest::MergedObject;
use esker_segment::name::ObjectName;
use esker_segment::segment::SegmentTail;
use esker_storage::merged::Manifests;

use super::{Problem, Report, problem};

/// Bytes that are read at once.
const READ_BYTES: u64 = 8 << 20;
/// Where the number of offsets stands in a batch header, less one; big-endian.
const LAST_DELTA_AT: std::ops::Range<usize> = 23..27;
/// Where the CRC stands; big-endian.
const CRC_AT: std::ops::Range<usize> = 17..21;

/// A batch that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) at: TopicPartition,
    pub(super) base: Offset,
    pub(super) records: u32,
    pub(super) position: u64,
    pub(super) bytes: u32,
}

/// What must be there of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    length_bytes: u64,
    content_hash: u128,
    pub(super) batches: Vec<Expected>,
}

impl Wanted {
    pub(super) fn fresh(length_bytes: u64, content_hash: u128) -> Self {
        Self {
            length_bytes,
            content_hash,
            batches: Vec::new(),
        }
    }

    pub(super) fn of(object: &MergedObject) -> Self {
        Self::fresh(object.length_bytes, object.content_hash)
    }
}

/// Checks one object.
pub(super) async fn check(name: &ObjectName, wanted: &Wanted, manifests: &Manifests, fold: &Fold, report: &mut Report) {
    report.objects += 1;
    let mut batches = wanted.batches.clone();
    batches.sort_unstable_by_key(|batch| batch.position);
    let mut window = Window::default();
    for batch in &batches {
        let checked = match window.read(batch, wanted.length_bytes, name, manifests).await {
            Ok(bytes) => sound(&bytes, batch),
            Err(error) => Err(error),
        };
        match checked {
            Ok(()) => report.bytes += u64::from(batch.bytes),
            Err(what) => {
                let offsets = batch.base..batch.base.plus(batch.records);
                report.add(problem(fold, batch.at, offsets, Some((manifests, *name)), what));
            }
        }
    }
    if let Err(what) = tail(name, wanted, manifests).await {
        report.add(Problem {
            topic: String::new(),
            partition: 0,
            from: Offset(0),
            to: Offset(0),
            key: Some(manifests.objects().key(name)),
            what,
        });
    }
}

/// The index of the object is the one that was committed.
async fn tail(name: &ObjectName, wanted: &Wanted, manifests: &Manifests) -> Result<(), String> {
    let length = wanted.length_bytes;
    let objects = manifests.objects();
    let mut bytes = 4_096.min(length);
    loop {
        let read = objects
            .read(name, length - bytes..length)
            .await
            .map_err(|error| error.to_string())?;
        match SegmentTail::decode(&read, length) {
            Ok(tail) if tail.footer.content_hash == wanted.content_hash => return Ok(()),
            Ok(_) => return Err("index is not the one that was committed".to_owned()),
            Err(esker_segment::wire::FormatError::Truncated { needed, .. }) if bytes < needed && needed <= length => {
                bytes = needed;
            }
            Err(error) => return Err(format!("index is damaged: {error}")),
        }
    }
}

fn sound(bytes: &Bytes, batch: &Expected) -> Result<(), String> {
    let number = |range: std::ops::Range<usize>| {
        let bytes: Option<[u8; 4]> = bytes.get(range).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_be_bytes)
    };
    if number(LAST_DELTA_AT).and_then(|delta| delta.checked_add(1)) != Some(batch.records) {
        return Err("batch is damaged: it has another number of records".to_owned());
    }
    let meta = BatchMeta {
        records: batch.records,
        bytes: batch.bytes,
        max_timestamp: esker_segment::id::Timestamp(0),
        crc: number(CRC_AT).unwrap_or_default(),
        producer: None,
    };
    check_batch(bytes, &meta).map_err(|error| format!("batch is damaged: {error}"))
}

/// What was read last of an object.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Bytes,
    /// A read from here on failed: what lies behind is asked for one by one.
    failed: bool,
}

impl Window {
    async fn read(
        &mut self,
        batch: &Expected,
        length_bytes: u64,
        name: &ObjectName,
        manifests: &Manifests,
    ) -> Result<Bytes, String> {
        let (from, to) = (batch.position, batch.position + u64::from(batch.bytes));
        let end = self.start + u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        if from < self.start || to > end {
            let ahead = if self.failed {
                to
            } else {
                (from + READ_BYTES).min(length_bytes).max(to)
            };
            let read = match manifests.objects().read(name, from..ahead).await {
                Err(_) if ahead > to => {
                    // An object that is cut short still has its beginning.
                    self.failed = true;
                    manifests.objects().read(name, from..to).await
                }
                other => other,
            };
            self.bytes = read.map_err(|error| error.to_string())?;
            self.start = from;
        }
        let within = |position: u64| usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.slice(within(from)..within(to)))
    }
}
