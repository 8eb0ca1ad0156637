//! The check of a whole cluster at rest: every offset that was promised is there, once, and its bytes are those that were
//! committed.
//!
//! Owns: rebuilding the fold from checkpoint and log, covering every partition, reading every object.
//! Does not own: repairing anything.
//!
//! Invariants: checks LOG-1 and LOG-3: each offset from the log start to the high watermark lies in exactly one batch.

use std::collections::BTreeMap;

use esker_metadata::checkpoint::{LoadError, load};
use esker_metadata::log::{Cluster, PublishedRoot, read_log};
use esker_metadata::store::MetadataError;
use esker_model::unmerged::Source;
use esker_model::{CommitPosition, Digest, Fold};
use esker_segment::id::{LogIndex, Offset, TopicPartition};
use esker_segment::name::ObjectName;
use esker_storage::merged::{Manifests, MergedError};
use esker_storage::store::ObjectKey;

use crate::survey::walk;

mod objects;

use objects::{Expected, Wanted};

/// Problems that are listed; more are only counted.
pub const PROBLEMS_MAX: usize = 10_000;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the topic; empty when it concerns no topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First offset that is concerned.
    pub from: Offset,
    /// The offset after the last one.
    pub to: Offset,
    /// The object, if it is about one.
    pub key: Option<ObjectKey>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.topic.is_empty() {
            write!(
                f,
                "{}/{} offsets {} to {}: ",
                self.topic,
                self.partition,
                self.from,
                self.to.0 - 1
            )?;
        }
        f.write_str(&self.what)?;
        match &self.key {
            Some(key) => write!(f, " ({key})"),
            None => Ok(()),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Where the log ends.
    pub index: LogIndex,
    /// Digest of the fold there.
    pub digest: Digest,
    /// Partitions of all topics.
    pub partitions: u64,
    /// Offsets that were promised.
    pub offsets: u64,
    /// Batches that hold them, markers included.
    pub batches: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of batches that were checked.
    pub bytes: u64,
    /// What is wrong, at most [`PROBLEMS_MAX`] of it.
    pub problems: Vec<Problem>,
    /// Problems beyond those.
    pub more_problems: u64,
}

/// Why nothing could be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The checkpoint cannot be loaded.
    #[error("checkpoint at {index}: {why}")]
    Checkpoint {
        /// Which one.
        index: LogIndex,
        /// Why.
        why: LoadError,
    },
    /// Between checkpoint and records something is missing.
    #[error("the checkpoint ends at {checkpoint}, but the records begin at {records}")]
    Hole {
        /// Where the checkpoint ends.
        checkpoint: LogIndex,
        /// Where the records begin.
        records: LogIndex,
    },
    /// The log needs a newer program.
    #[error(transparent)]
    Unsupported(#[from] esker_model::fold::Unsupported),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] MergedError),
}

impl Report {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }
}

/// Checks everything.
///
/// # Errors
/// See [`CheckError`]: then not even the fold could be rebuilt. Everything else is a problem in the report.
pub async fn check(cluster: &Cluster, manifests: &Manifests) -> Result<Report, CheckError> {
    let (fold, root) = rebuild(cluster, manifests).await?;
    let mut report = Report {
        index: fold.index(),
        digest: fold.digest(),
        ..Report::default()
    };
    let mut found = Coverage::default();
    found.unmerged(&fold);
    found.merged(&fold, root.as_ref(), manifests, &mut report).await?;
    found.cover(&fold, &mut report);
    for (name, wanted) in &found.objects {
        objects::check(name, wanted, manifests, &fold, &mut report).await;
    }
    Ok(report)
}

/// The fold up to the end of the log.
async fn rebuild(cluster: &Cluster, manifests: &Manifests) -> Result<(Fold, Option<PublishedRoot>), CheckError> {
    let log = read_log(cluster).await?;
    let mut fold = match &log.root {
        Some(PublishedRoot { root, .. }) => {
            let loaded = load(root, manifests.objects()).await;
            loaded.map_err(|why| CheckError::Checkpoint { index: root.index, why })?
        }
        None => Fold::new(),
    };
    let above = log.records.partition_point(|commit| commit.index <= fold.index());
    for commit in &log.records[above..] {
        if commit.index.0 != fold.index().0 + 1 {
            return Err(CheckError::Hole {
                checkpoint: fold.index(),
                records: commit.index,
            });
        }
        let at = CommitPosition {
            index: commit.index,
            session: commit.session,
            number: commit.number,
        };
        fold.apply_bytes(at, &commit.record)?;
    }
    if fold.index() < log.head {
        let (checkpoint, records) = (fold.index(), LogIndex(log.head.0 + 1));
        return Err(CheckError::Hole { checkpoint, records });
    }
    Ok((fold, log.root))
}

/// What holds which offsets.
#[derive(Default)]
struct Coverage {
    /// Offset ranges of each partition: first, end, where.
    ranges: BTreeMap<TopicPartition, Vec<(Offset, Offset, Option<ObjectName>)>>,
    objects: BTreeMap<ObjectName, Wanted>,
}

impl Coverage {
    fn unmerged(&mut self, fold: &Fold) {
        for entry in fold.export_unmerged(LogIndex(0), fold.index()) {
            let name = match &entry.source {
                Source::Segment(segment) => Some(ObjectName::Segment(segment.name)),
                Source::Marker(_) => None,
            };
            for batch in &entry.batches {
                let range = (batch.base, batch.base.plus(batch.records), name);
                self.ranges.entry(batch.partition).or_default().push(range);
            }
            if let (Source::Segment(segment), Some(name)) = (&entry.source, name) {
                let wanted = self
                    .objects
                    .entry(name)
                    .or_insert_with(|| Wanted::fresh(segment.bytes, segment.content_hash));
                wanted.batches.extend(entry.batches.iter().map(|batch| Expected {
                    at: batch.partition,
                    base: batch.base,
                    records: batch.records,
                    position: u64::from(batch.position),
                    bytes: batch.bytes,
                }));
            }
        }
    }

    /// Merged slices as far as they still count. An index that cannot be read is a problem of its slices.
    async fn merged(
        &mut self,
        fold: &Fold,
        root: Option<&PublishedRoot>,
        manifests: &Manifests,
        report: &mut Report,
    ) -> Result<(), CheckError> {
        let mut slices = Vec::new();
        walk(
            manifests,
            root.and_then(|root| root.root.manifest_ref()),
            |at, found| {
                let start = fold.partition(at).map(|view| view.log_start);
                let live = found
                    .iter()
                    .filter(|found| start.is_some_and(|start| start < found.slice.end));
                slices.extend(live.map(|found| (found.slice, found.object)));
            },
        )
        .await?;
        // By object, so that each index is decoded once.
        slices.sort_by_key(|(slice, object)| (object.name, slice.position));
        for (slice, object) in slices {
            let batches = match manifests.batches(&object).await {
                Ok(batches) => batches,
                Err(error) => {
                    self.ranges
                        .entry(slice.at)
                        .or_default()
                        .push((slice.start, slice.end, Some(object.name)));
                    let what = format!("index cannot be read: {error}");
                    report.add(problem(
                        fold,
                        slice.at,
                        slice.start..slice.end,
                        Some((manifests, object.name)),
                        what,
                    ));
                    continue;
                }
            };
            let wanted = self.objects.entry(object.name).or_insert_with(|| Wanted::of(&object));
            for (base, batch) in batches.of(&slice) {
                let range = (base, base.plus(batch.records), Some(object.name));
                self.ranges.entry(slice.at).or_default().push(range);
                wanted.batches.push(Expected {
                    at: slice.at,
                    base,
                    records: batch.records,
                    position: batch.position,
                    bytes: batch.bytes,
                });
            }
        }
        Ok(())
    }

    /// Every offset of every partition lies in exactly one batch.
    fn cover(&mut self, fold: &Fold, report: &mut Report) {
        for topic in fold.topics() {
            for (partition, view) in fold.partitions_of(topic.id) {
                let at = TopicPartition {
                    topic: topic.id,
                    partition,
                };
                report.partitions += 1;
                report.offsets += view.high_watermark.0.abs_diff(view.log_start.0);
                let mut ranges = self.ranges.remove(&at).unwrap_or_default();
                ranges.retain(|(_, end, _)| *end > view.log_start);
                ranges.sort_unstable();
                report.batches += u64::try_from(ranges.len()).unwrap_or(u64::MAX);
                let mut next = view.log_start;
                for (base, end, _) in ranges {
                    if base > next {
                        report.add(problem(
                            fold,
                            at,
                            next..base,
                            None,
                            "no batch holds these offsets".to_owned(),
                        ));
                    } else if base < next && next > view.log_start {
                        let what = "more than one batch holds these offsets".to_owned();
                        report.add(problem(fold, at, base..next.min(end), None, what));
                    }
                    next = next.max(end);
                }
                if next < view.high_watermark {
                    let what = "no batch holds these offsets".to_owned();
                    report.add(problem(fold, at, next..view.high_watermark, None, what));
                } else if next > view.high_watermark {
                    let what = "a batch beyond the high watermark".to_owned();
                    report.add(problem(fold, at, view.high_watermark..next, None, what));
                }
            }
        }
    }
}

fn problem(
    fold: &Fold,
    at: TopicPartition,
    offsets: std::ops::Range<Offset>,
    object: Option<(&Manifests, ObjectName)>,
    what: String,
) -> Problem {
    Problem {
        topic: fold
            .topic(at.topic)
            .map_or_else(|| at.topic.to_string(), |topic| topic.name.to_owned()),
        partition: at.partition.0,
        from: offsets.start,
        to: offsets.end,
        key: object.map(|(manifests, name)| manifests.objects().key(&name)),
        what,
    }
}
