//! The hot paths: of a request from its frame to the chunks of its answer, and the parts of it alone.
//!
//! Owns: what is measured, and that it does what it should. Does not own: how it is measured (`main`).

use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use esker_agent::produce::validate::{Rules, validate};
use esker_agent::settings::{Profile, Settings, TopicSettings};
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::records::{Batch, Compression, RecordReader};
use esker_kafka::{ApiKey, ProduceWalk, Reader};
use esker_model::entry::{FeatureLevel, Limits, SegmentEntry, TopicCreate};
use esker_model::{CommitPosition, CommitRecord, Entry, Fold};
use esker_segment::id::{
    CommitNumber, IncarnationNumber, LogIndex, PartitionIndex, SegmentNumber, SessionId, Timestamp, TopicId,
};
use esker_segment::index::{BatchIndex, BatchMeta, Run};
use esker_segment::name::SegmentName;
use esker_segment::segment::SEGMENT_HEADER_BYTES;
use tokio::runtime::Runtime;

use crate::broker::{Broker, NOW_MS};
use crate::requests;

/// Something that is done again and again.
pub(crate) struct Operation<'a> {
    /// What, and what a unit is.
    pub(crate) name: &'static str,
    /// Units each time.
    pub(crate) units: u32,
    /// Does it once.
    pub(crate) act: Box<dyn FnMut() + 'a>,
}

const SMALL_BYTES: usize = 16 << 10;
const LARGE_BYTES: usize = 1_000_000;
/// Batches of a segment that the log and the fold are measured with: a tenth in each partition.
const COMMITTED: u32 = 1_000;
const UNPACKED_BYTES_MAX: usize = 16 << 20;

/// All of them; whatever they need is there.
pub(crate) fn operations(runtime: &Runtime) -> Result<Vec<Operation<'_>>> {
    let mut all = requests_answered(runtime)?;
    all.extend(parts()?);
    Ok(all)
}

fn requests_answered(runtime: &Runtime) -> Result<Vec<Operation<'_>>> {
    let broker = Rc::new(Broker::start(runtime)?);
    let (small, large) = (
        requests::batch(SMALL_BYTES, Compression::None)?,
        requests::batch(LARGE_BYTES, Compression::None)?,
    );
    for (topic, partitions) in [("small", 1), ("large", 1), ("written", 12), ("wide", 1_000)] {
        broker.answer(&requests::create(topic, partitions)?);
    }
    for _ in 0..64 {
        broker.answer(&requests::produce("small", 1, &small)?);
    }
    broker.answer(&requests::produce("large", 1, &large)?);
    let answered = |name, units, frame: Bytes, bytes_min: usize| {
        let broker = Rc::clone(&broker);
        let act = move || {
            let bytes: usize = broker.answer(&frame).iter().map(Bytes::len).sum();
            assert!(bytes >= bytes_min, "{name}: {bytes} bytes");
        };
        Operation {
            name,
            units,
            act: Box::new(act),
        }
    };
    Ok(vec![
        answered(
            "produce request, 12 partitions: a batch of 16 KiB",
            12,
            requests::produce("written", 12, &small)?,
            0,
        ),
        answered(
            "fetch, 64 batches of 16 KiB in memory: a batch",
            64,
            requests::fetch("small", 1, 0)?,
            63 * small.bytes().len(),
        ),
        answered(
            "fetch, a batch of 1 MB in memory",
            1,
            requests::fetch("large", 1, 0)?,
            large.bytes().len(),
        ),
        answered(
            "fetch, 1,000 partitions without news: a partition",
            1_000,
            requests::fetch("wide", 1_000, 0)?,
            0,
        ),
        answered(
            "metadata, 1,000 partitions: a partition",
            1_000,
            requests::metadata("wide")?,
            0,
        ),
    ])
}

fn parts<'a>() -> Result<Vec<Operation<'a>>> {
    let small = requests::batch(SMALL_BYTES, Compression::None)?;
    let frame = requests::produce("written", 12, &small)?;
    let rules = Rules {
        topic: TopicSettings::defaults(&Settings::resolve(Profile::Dev, [])?),
        version: requests::PRODUCE_VERSION,
        now_ms: NOW_MS,
        decompressed_bytes_max: UNPACKED_BYTES_MAX,
    };
    let packed = requests::batch(SMALL_BYTES, Compression::Lz4)?;
    let record = segment(1);
    let bytes = record.encode().ok().context("a commit is encoded")?;
    let mut folding = Folding::new();
    ensure!(
        folding.apply(&bytes) && walked(&frame, &rules) == 12,
        "the operations do what they should"
    );
    let operation = |name, units, act: Box<dyn FnMut()>| Operation { name, units, act };
    Ok(vec![
        operation(
            "produce request walked and checked: a batch of 16 KiB",
            12,
            Box::new(move || {
                assert_eq!(walked(&frame, &rules), 12);
            }),
        ),
        operation(
            "records of an lz4 batch of 16 KiB opened: a batch",
            1,
            Box::new(move || opened(&packed)),
        ),
        operation(
            "commit of 1,000 batches encoded: a batch",
            COMMITTED,
            Box::new(move || {
                assert!(record.encode().is_ok());
            }),
        ),
        operation(
            "commit of 1,000 batches decoded and folded: a batch",
            COMMITTED,
            Box::new(move || {
                assert!(folding.apply(&bytes));
            }),
        ),
    ])
}

/// Batches of a produce request that are good.
fn walked(frame: &Bytes, rules: &Rules) -> usize {
    let mut reader = Reader::new(frame.clone());
    let version = ApiKey::Produce.request_header_version(rules.version);
    RequestHeader::decode(&mut reader, version).expect("the request is right");
    let mut walk = ProduceWalk::new(reader, rules.version).expect("the request is right");
    let mut good = 0;
    while let Some(partition) = walk.next_partition().expect("the request is right") {
        good += usize::from(validate(partition.records.as_ref(), rules).is_ok());
    }
    good
}

fn opened(batch: &Batch) {
    let mut records = 0;
    let reader = RecordReader::new(batch, UNPACKED_BYTES_MAX).expect("it is not larger");
    reader.visit(|_| records += 1).expect("its records are right");
    assert_eq!(records, batch.header().count);
}

/// A fold that gets one segment after the other.
struct Folding {
    fold: Fold,
}

impl Folding {
    fn new() -> Self {
        let mut folding = Self { fold: Fold::new() };
        let limits = Limits {
            partitions_max: 1 << 24,
            ..Limits::default()
        };
        let topic = TopicCreate {
            topic: TopicId(1),
            name: "folded".into(),
            partitions: 100,
        };
        let entries = vec![
            Entry::FeatureLevel(FeatureLevel { level: 1, limits }),
            Entry::TopicCreate(topic),
        ];
        let at = folding.next();
        folding.fold.apply(at, &CommitRecord { entries });
        folding
    }

    fn next(&self) -> CommitPosition {
        let index = self.fold.index().0 + 1;
        CommitPosition {
            index: LogIndex(index),
            session: SessionId(1),
            number: CommitNumber(index),
        }
    }

    fn apply(&mut self, record: &[u8]) -> bool {
        let at = self.next();
        self.fold.apply_bytes(at, record).is_ok()
    }
}

/// A commit of one segment with ten batches in each of 100 partitions.
fn segment(number: u64) -> CommitRecord {
    let batch = |nth: u32| BatchMeta {
        records: 16,
        bytes: 16_400 + nth,
        max_timestamp: Timestamp(NOW_MS),
        crc: nth,
        producer: None,
    };
    let run = |partition: u32| Run {
        topic: TopicId(1),
        partition: PartitionIndex(partition),
        batches: (0..COMMITTED / 100).map(batch).collect(),
    };
    let index = BatchIndex {
        runs: (0..100).map(run).collect(),
    };
    let segment = SegmentEntry {
        name: SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(1),
            number: SegmentNumber(number),
            attempt: 0,
        },
        bytes: SEGMENT_HEADER_BYTES + index.bytes(),
        content_hash: 1,
        zone: "".into(),
        confirmed: 0,
        index,
    };
    CommitRecord {
        entries: vec![Entry::Segment(segment)],
    }
}
