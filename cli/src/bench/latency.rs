//! `esker bench latency`: lone records, and how long until they are acknowledged and until they are read.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use esker_agent::clock::{Clock as _, SystemClock};
use esker_kafka::Str;
use esker_kafka_client::{Acks, At, Decoder, FetchSettings, Fetcher, TopicPartition};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::stores;

use super::LoadArgs;
use super::lane::{Done, Limits, Next, ProduceLane};
use super::latencies::Latencies;
use super::pace::{Pace, Rate, size};
use super::report::{Load, Stopwatch};
use super::target::{Lane, Target};
use super::template::Template;

/// Requests under way on a connection: so many that a rate is kept through a stall.
const IN_FLIGHT_MAX: usize = 1_000;
/// How long a record that is acknowledged may take to be read.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// Write lone records at a rate, and see how long until they are acknowledged and until they are read.
///
/// Each record is a request of its own. Both times begin when the record was due, so that a cluster that stalls does not look better for
/// the records that it kept from being sent. A consumer reads in the same process, with the same clock. Without --topic the topic is made
/// for the run and deleted after it.
#[derive(Args, Debug)]
pub(crate) struct LatencyBench {
    #[command(flatten)]
    load: LoadArgs,
    /// Write to this topic, which stays
    #[arg(long, short, value_name = "TOPIC")]
    topic: Option<String>,
    /// Partitions of a topic that is created; records take turns
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Records a second
    #[arg(long, short, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Bytes of a record
    #[arg(long, short, value_name = "SIZE", value_parser = size, default_value = "1000")]
    size: usize,
}

/// Runs the load and tells of it.
pub(super) async fn run(bench: LatencyBench, stop: CancellationToken) -> anyhow::Result<()> {
    let client = bench.load.bootstrap.client();
    let target = Target::prepare(client, bench.topic.as_deref(), bench.partitions).await?;
    let done = load(&bench, &target, stop).await;
    let removed = target.remove().await;
    done.and(removed)
}

async fn load(bench: &LatencyBench, target: &Target, stop: CancellationToken) -> anyhow::Result<()> {
    let lanes = target.lanes(1).await?;
    let connections = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
    let fetcher = from_the_end(target).await?;
    let run = stores::random().to_be_bytes();
    let watch = Stopwatch::start(&bench.load);
    let rate = Some(f64::from(bench.rate));
    let paces: Vec<Pace> = (0..connections)
        .map(|nth| Pace::of(rate, watch.began, nth, connections))
        .collect();
    let (tell_count, count) = watch::channel(None);
    let reading = tokio::spawn(read(fetcher, run, paces.clone(), count));
    let mut running = JoinSet::new();
    for ((lane, pace), nth) in lanes.into_iter().zip(paces).zip(0..) {
        let sender = ProduceLane {
            connection: lane.connection.clone(),
            topic: target.topic.name.as_str().into(),
            acks: Acks::All,
            pace,
            in_flight_max: IN_FLIGHT_MAX,
            limits: Limits {
                until: watch.began + bench.load.duration,
                stop: stop.clone(),
            },
            requests_max: u64::MAX,
        };
        running.spawn(sender.run(records(lane, run, nth, bench.size)));
    }
    let mut done = Done::nothing();
    while let Some(one) = running.join_next().await {
        done.add(&one.context("a connection's task ended")??);
    }
    let waited = bench.load.duration;
    anyhow::ensure!(done.requests > 0, "no record was acknowledged within {waited:?}");
    tell_count.send_replace(Some(done.records));
    let read = timeout(READ_PATIENCE, reading).await;
    let read =
        read.with_context(|| format!("not all records were read {READ_PATIENCE:?} after the last was acknowledged"))?;
    let read = read.context("the reading task ended")??;
    let load = Load {
        bench: "latency",
        topic: &target.topic.name,
        asked: rate.map(Rate::Records),
        timed: "acknowledged",
    };
    watch.tell(&load, &done, &[("read", &read)])
}

/// Requests of one record, which says whose it is: run, connection, number.
fn records(lane: Lane, run: [u8; 16], connection: u32, size: usize) -> impl FnMut(u64) -> Next + Send {
    move |nth| {
        let marks = [&run[..], &connection.to_be_bytes(), &nth.to_be_bytes()].concat();
        let template = Template::lone(size, &marks).expect("one record without compression");
        let turn = usize::try_from(nth).unwrap_or(0) % lane.partitions.len();
        Next {
            batches: vec![(lane.partitions[turn], template.at(SystemClock.now_ms(), None))],
            records: 1,
            bytes: u64::try_from(size).unwrap_or(u64::MAX),
        }
    }
}

/// Reads what is written from now on.
async fn from_the_end(target: &Target) -> anyhow::Result<Fetcher> {
    let topic: Str = target.topic.name.as_str().into();
    let positions = target.offsets(At::Latest).await?.into_iter().map(|(partition, end)| {
        let topic = topic.clone();
        (TopicPartition { topic, partition }, end)
    });
    let mut fetcher = Fetcher::new(target.client().clone(), FetchSettings::default());
    fetcher.assign(positions.collect());
    Ok(fetcher)
}

/// Reads until as many records of this run came as were acknowledged.
async fn read(
    mut fetcher: Fetcher,
    run: [u8; 16],
    paces: Vec<Pace>,
    mut count: watch::Receiver<Option<u64>>,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new();
    loop {
        if count
            .borrow_and_update()
            .is_some_and(|count| latencies.count() >= count)
        {
            return Ok(latencies);
        }
        let fetched = tokio::select! {
            biased;
            fetched = fetcher.next() => fetched?,
            Ok(()) = count.changed() => continue,
        };
        let now = Instant::now();
        let mut records = Decoder::new(fetched);
        while let Some(record) = records.next_record()? {
            if let Some(due) = record.value.and_then(|value| due(&value, run, &paces)) {
                latencies.record(now.duration_since(due));
            }
        }
    }
}

/// When a record was due, if it is one of this run.
fn due(value: &[u8], run: [u8; 16], paces: &[Pace]) -> Option<Instant> {
    let marks = value.strip_prefix(&run)?;
    let (connection, rest) = marks.split_first_chunk()?;
    let connection = usize::try_from(u32::from_be_bytes(*connection)).ok()?;
    let nth = u64::from_be_bytes(*rest.first_chunk()?);
    paces.get(connection).map(|pace| pace.due(nth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_when_it_was_due() {
        let began = Instant::now();
        let paces: Vec<_> = (0..2).map(|nth| Pace::of(Some(100.0), began, nth, 2)).collect();
        let run = [7; 16];
        let value = [&run[..], &1_u32.to_be_bytes(), &3_u64.to_be_bytes(), b"xxx"].concat();
        assert_eq!(due(&value, run, &paces), Some(began + Duration::from_millis(70)));
        assert_eq!(due(&value, [8; 16], &paces), None, "of another run");
        assert_eq!(due(&value[..20], run, &paces), None);
    }
}
