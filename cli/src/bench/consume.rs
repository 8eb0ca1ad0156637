//! `esker bench consume`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use esker_kafka::messages::fetch_response::PartitionData;
use esker_kafka::records::BatchIter;
use esker_kafka::{ApiKey, Str};
use esker_kafka_client::{At, Connection, Error, Refusal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::LoadArgs;
use super::alarm::Alarm;
use super::lane::{Done, Limits};
use super::pace::{Rate, size};
use super::report::{Load, Stopwatch};
use super::target::Target;

/// How long an answer may take beyond the wait that was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Read a topic as fast as it comes, or at a rate.
///
/// Reads every partition from its first record to where it ended when the run began. With --rate, a request is due when what came
/// before it should have been read, and is timed from then. `esker bench produce --topic T` makes something to read.
#[derive(Args, Debug)]
pub(crate) struct ConsumeBench {
    #[command(flatten)]
    load: LoadArgs,
    /// The topic
    #[arg(long, short, value_name = "TOPIC")]
    topic: String,
    /// Records a second, or bytes with their unit (20MB)
    #[arg(long, short, value_name = "RATE")]
    rate: Option<Rate>,
    /// Stop after so many records
    #[arg(long, short, value_name = "N")]
    count: Option<u64>,
    /// Connections to each broker; they divide its partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Bytes of an answer
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8MiB")]
    answer: usize,
    /// Bytes of each partition in an answer
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    per_partition: usize,
    /// Compute checksums of batches, as clients do
    #[arg(long)]
    check: bool,
}

/// Runs the load and tells of it.
pub(super) async fn run(bench: ConsumeBench, stop: CancellationToken) -> anyhow::Result<()> {
    let target = Target::existing(bench.load.bootstrap.client(), &bench.topic).await?;
    let topic = &target.topic;
    let (starts, ends) = (target.offsets(At::Earliest).await?, target.offsets(At::Latest).await?);
    let range = |partition: i32| {
        let offset = |found: &BTreeMap<i32, i64>| found.get(&partition).copied().unwrap_or(0);
        (offset(&starts), offset(&ends))
    };
    let mut lanes = target.lanes(usize::from(bench.connections)).await?;
    // Reading twice what another connection reads would count it twice.
    let mut taken = BTreeSet::new();
    lanes.retain_mut(|lane| {
        lane.partitions.retain(|partition| taken.insert(*partition));
        !lane.partitions.is_empty()
    });
    let connections = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
    let watch = Stopwatch::start(&bench.load);
    let mut running = JoinSet::new();
    for lane in lanes {
        let unread = lane.partitions.iter().map(|partition| (*partition, range(*partition)));
        let reader = FetchLane {
            connection: lane.connection,
            topic: topic.name.as_str().into(),
            unread: unread.filter(|(_, (start, end))| start < end).collect(),
            answer_bytes: bytes(bench.answer),
            partition_bytes: bytes(bench.per_partition),
            check: bench.check,
            rate: bench.rate.map(|rate| rate.divided(connections)),
            records_max: bench
                .count
                .map_or(u64::MAX, |count| count.div_ceil(u64::from(connections))),
            began: watch.began,
            limits: Limits {
                until: watch.began + bench.load.duration,
                stop: stop.clone(),
            },
        };
        running.spawn(reader.run());
    }
    let mut done = Done::nothing();
    while let Some(one) = running.join_next().await {
        done.add(&one.context("a connection's task ended")??);
    }
    anyhow::ensure!(
        done.requests > 0,
        "topic {} has no records; esker bench produce --topic {0} writes some",
        topic.name
    );
    let load = Load {
        bench: "consume",
        topic: &topic.name,
        asked: bench.rate,
        timed: "fetched",
    };
    watch.tell(&load, &done, &[])
}

fn bytes(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// One connection that reads its partitions.
struct FetchLane {
    connection: Connection,
    topic: Str,
    /// Next offset and end of each partition that has more.
    unread: BTreeMap<i32, (i64, i64)>,
    answer_bytes: i32,
    partition_bytes: i32,
    check: bool,
    rate: Option<Rate>,
    records_max: u64,
    began: Instant,
    limits: Limits,
}

impl FetchLane {
    async fn run(mut self) -> anyhow::Result<Done> {
        let mut done = Done::nothing();
        let mut alarm = Alarm::new()?;
        while !self.unread.is_empty() && done.records < self.records_max {
            let due = match self.rate {
                Some(rate) => self.began + rate.after(done.records, done.bytes),
                None => Instant::now(),
            };
            tokio::select! {
                biased;
                () = self.limits.stop.cancelled() => {}
                rang = alarm.until(due.min(self.limits.until)) => rang?,
            }
            if self.limits.are_reached() {
                break;
            }
            let answer = self.connection.call(&self.request(), PATIENCE).await?;
            let now = Instant::now();
            done.latencies.record(now.duration_since(due));
            done.requests += 1;
            done.last = Some(now);
            Refusal::check(ApiKey::Fetch, answer.error_code, None).map_err(Error::from)?;
            for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
                self.on_partition(partition, &mut done)?;
            }
        }
        Ok(done)
    }

    fn request(&self) -> FetchRequest {
        let partitions = self.unread.iter().map(|(partition, (next, _))| FetchPartition {
            partition: *partition,
            fetch_offset: *next,
            partition_max_bytes: self.partition_bytes,
            ..FetchPartition::default()
        });
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: self.answer_bytes,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: partitions.collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        }
    }

    fn on_partition(&mut self, told: PartitionData, done: &mut Done) -> anyhow::Result<()> {
        let partition = told.partition_index;
        Refusal::check(ApiKey::Fetch, told.error_code, None)
            .map_err(Error::from)
            .with_context(|| format!("cannot read partition {partition} of topic {}", self.topic))?;
        let Some((next, end)) = self.unread.get_mut(&partition) else {
            return Ok(());
        };
        let records = told.records.map(|records| records.to_bytes()).unwrap_or_default();
        // The last batch may be cut off.
        for batch in BatchIter::new(records).map_while(Result::ok) {
            let header = batch.header();
            if self.check {
                batch
                    .verify_crc()
                    .with_context(|| format!("partition {partition}, batch at offset {}", header.base_offset))?;
            }
            done.records += u64::from(header.count.unsigned_abs());
            done.bytes += u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
            *next = header.base_offset + i64::from(header.last_offset_delta) + 1;
        }
        if next >= end {
            self.unread.remove(&partition);
        }
        Ok(())
    }
}
