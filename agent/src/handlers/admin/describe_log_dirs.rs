//! `DescribeLogDirs`: how many bytes each partition has in the bucket.
//!
//! The bucket is the one log directory. Each partition is told by the agent that leads it, so that the sum over all agents is the
//! size of the topic.
//!
//! Owns: adding up what is merged (manifest) and what is not (fold). No segment is read for it, and no cache gives way.
//! Does not own: either.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_kafka::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use esker_kafka::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use esker_kafka::{ErrorCode, Str};
use esker_model::Fold;
use esker_segment::id::{Offset, PartitionIndex, TopicId, TopicPartition};
use esker_storage::merged::{ManifestRef, MergedError};
use esker_storage::store::StoreError;
use tracing::warn;

use super::config_values::log_dir;
use super::merged_sizes::{OfManifest, Sums};
use crate::agent::Agent;
use crate::kafka::dispatch::RequestContext;

/// Times that adding up begins again because the manifest was replaced under it.
const ATTEMPTS: usize = 4;

/// What there is of a partition below its unmerged batches.
#[derive(Clone, Copy, Debug)]
struct Merged {
    log_start: Offset,
    end: Offset,
    bytes: u64,
}

/// Partitions by topic name, each with what is known of its size.
type Sizes = BTreeMap<TopicPartition, Merged>;

/// Answers.
pub async fn answer(
    agent: &Arc<Agent>,
    context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    // A size that is a moment old is no denial.
    drop(agent.barrier().await);
    let names = wanted(agent, context, &request);
    let sizes: Sizes = names
        .keys()
        .filter_map(|at| {
            let log_start = agent.replica.fold().partition(*at)?.log_start;
            let nothing = Merged {
                log_start,
                end: log_start,
                bytes: 0,
            };
            Some((*at, nothing))
        })
        .collect();
    let (topics, error) = match merged(agent, &sizes).await {
        Ok(sizes) => (told(agent, &names, &sizes).await, ErrorCode::None),
        Err(error) => {
            warn!(%error, "sizes cannot be told");
            (Vec::new(), ErrorCode::KafkaStorageError)
        }
    };
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code: error.code(),
            log_dir: Str::from(log_dir(&agent.settings)),
            topics,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Partitions that are asked for, exist, and are led by this agent for this client.
fn wanted(agent: &Agent, context: &RequestContext, request: &DescribeLogDirsRequest) -> BTreeMap<TopicPartition, Str> {
    let view = agent.members.view();
    let own = agent.members.identity().node();
    let zone = agent.zone_of(context.client_id.as_deref());
    let fold = agent.replica.fold();
    let mut names = BTreeMap::new();
    let mut add = |topic: TopicId, partitions: u32, name: &Str, index: u32| {
        let at = TopicPartition {
            topic,
            partition: PartitionIndex(index),
        };
        if index < partitions && view.placement.leader(at, zone) == Some(own) {
            names.insert(at, name.clone());
        }
    };
    match &request.topics {
        None => {
            for topic in fold.topics() {
                let name = Str::from(topic.name);
                (0..topic.partitions).for_each(|index| add(topic.id, topic.partitions, &name, index));
            }
        }
        Some(topics) => {
            for asked in topics {
                let Some(topic) = fold.topic_named(&asked.topic) else {
                    continue;
                };
                let indexes = asked.partitions.iter().filter_map(|index| u32::try_from(*index).ok());
                indexes.for_each(|index| add(topic.id, topic.partitions, &asked.topic, index));
            }
        }
    }
    names
}

/// Adds what is merged, page by page of one manifest.
async fn merged(agent: &Agent, partitions: &Sizes) -> Result<Sizes, MergedError> {
    let mut attempts = 0..ATTEMPTS;
    loop {
        let root = agent.merged.root();
        match sized(agent, root, partitions.clone()).await {
            Err(MergedError::Store(StoreError::NotFound(_)))
                if agent.merged.root() != root && attempts.next().is_some() => {}
            walked => return walked,
        }
    }
}

/// Takes the sums of a manifest, and reads again only what was cut since they were made.
async fn sized(agent: &Agent, root: Option<ManifestRef>, mut sizes: Sizes) -> Result<Sizes, MergedError> {
    let Some(reference) = root else { return Ok(sizes) };
    let add_up = async |before: &OfManifest| add_up(agent, reference, before).await;
    let sums = agent.merged_sizes.of(reference, add_up).await?;
    let mut cut = Sizes::new();
    for (at, size) in &mut sizes {
        match sums.get(*at) {
            Some(sum) if sum.holds(size.log_start) => {
                size.bytes = sum.bytes;
                size.end = size.end.max(sum.end);
            }
            Some(_) => drop(cut.insert(*at, *size)),
            None => {}
        }
    }
    if !cut.is_empty() {
        sizes.extend(walk(agent, root, cut).await?);
    }
    Ok(sizes)
}

/// The sums of all slices of a manifest that are not cut. Pages that the manifest before had too are not read again.
async fn add_up(agent: &Agent, root: ManifestRef, before: &OfManifest) -> Result<OfManifest, MergedError> {
    let manifests = agent.merged.manifests();
    let mut pages = BTreeMap::new();
    for reference in &manifests.root(root).await?.pages {
        let log_start = |fold: &Fold, at| fold.partition(at).map_or(Offset(0), |found| found.log_start);
        let known = {
            let fold = agent.replica.fold();
            before.page(reference.name, |at| log_start(&fold, at))
        };
        if let Some(known) = known {
            pages.insert(reference.name, known);
            continue;
        }
        let page = manifests.glance(reference).await?;
        let fold = agent.replica.fold();
        let mut sums = Sums::default();
        for slice in &page.slices {
            // One that DeleteRecords or retention has cut is told in full until it is gone, as in Kafka.
            if slice.end > log_start(&fold, slice.at) {
                sums.add(slice.at, slice.end, slice.bytes);
            }
        }
        pages.insert(reference.name, Arc::new(sums));
    }
    Ok(OfManifest::of(pages))
}

async fn walk(agent: &Agent, root: Option<ManifestRef>, mut sizes: Sizes) -> Result<Sizes, MergedError> {
    let Some(root) = root else { return Ok(sizes) };
    let manifests = agent.merged.manifests();
    for reference in &manifests.root(root).await?.pages {
        if sizes.range(reference.first..=reference.last).next().is_none() {
            continue;
        }
        for slice in &manifests.glance(reference).await?.slices {
            let Some(size) = sizes.get_mut(&slice.at) else { continue };
            if slice.end > size.log_start {
                size.bytes += slice.bytes;
                size.end = size.end.max(slice.end);
            }
        }
    }
    Ok(sizes)
}

async fn told(agent: &Agent, names: &BTreeMap<TopicPartition, Str>, sizes: &Sizes) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<Str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (at, merged) in sizes {
        let Some(name) = names.get(at) else { continue };
        // The log is followed, and others are served, between one partition and the next.
        tokio::task::yield_now().await;
        let unmerged = unmerged(agent, *at, merged.end);
        topics.entry(name.clone()).or_default().push(DescribeLogDirsPartition {
            partition_index: i32::try_from(at.partition.0).unwrap_or(i32::MAX),
            partition_size: i64::try_from(merged.bytes + unmerged).unwrap_or(i64::MAX),
            offset_lag: 0,
            is_future_key: false,
        });
    }
    let topic = |(name, partitions)| DescribeLogDirsTopic { name, partitions };
    topics.into_iter().map(topic).collect()
}

/// Bytes of the batches from an offset on that are not merged.
fn unmerged(agent: &Agent, at: TopicPartition, from: Offset) -> u64 {
    let fold = agent.replica.fold();
    let batches = fold.locate(at, from).filter(|location| location.base >= from);
    batches.map(|location| u64::from(location.bytes)).sum()
}
