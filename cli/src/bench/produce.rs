//! `esker bench produce`.

use anyhow::Context as _;
use clap::Args;
use esker_agent::clock::{Clock as _, SystemClock};
use esker_kafka::records::Compression;
use esker_kafka_client::{Acks, Identity};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::UsageError;
use crate::produce::{AcksArg, CompressionArg};
use crate::quantity;

use super::LoadArgs;
use super::lane::{Done, Limits, Next, ProduceLane};
use super::pace::{Pace, Rate, size};
use super::report::{Load, Stopwatch};
use super::target::{Lane, Target};
use super::template::{Numbered, Template};

/// Batches that brokers remember of an idempotent producer.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

/// Write batches as fast as they are taken, or at a rate.
///
/// Batches are encoded once; only their header changes from one to the next, so that the generator takes little CPU. Without --rate,
/// the next request goes when one is answered (a closed loop): its latencies say how long the queue is that --in-flight allows. With
/// --rate, requests are due by the clock, and each is timed from when it was due. Without --topic the topic is made for the
/// run and deleted after it. `esker help bench` has more.
#[derive(Args, Debug)]
pub(crate) struct ProduceBench {
    #[command(flatten)]
    load: LoadArgs,
    /// Write to this topic, which stays
    #[arg(long, short, value_name = "TOPIC")]
    topic: Option<String>,
    /// Partitions of a topic that is created
    #[arg(long, short, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Records a second, or bytes with their unit (20MB)
    #[arg(long, short, value_name = "RATE")]
    rate: Option<Rate>,
    /// Stop after so many records
    #[arg(long, short, value_name = "N")]
    count: Option<u64>,
    /// Bytes of a record
    #[arg(long, short, value_name = "SIZE", value_parser = size, default_value = "1000")]
    size: usize,
    /// Uncompressed bytes of a batch
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256KiB")]
    batch: usize,
    /// Partitions that have a batch in each request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    spread: u16,
    /// Connections to each broker
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Requests under way on each connection
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    in_flight: u16,
    /// Who must have a record before it is acknowledged: 0 nobody, 1 the leader, all
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "0|1|all",
        hide_possible_values = true
    )]
    acks: AcksArg,
    /// Number batches, as idempotent producers do
    #[arg(long)]
    idempotent: bool,
    /// Compress batches (once, before the run)
    #[arg(
        long,
        short = 'z',
        value_enum,
        default_value_t,
        value_name = "none|gzip|snappy|lz4|zstd",
        hide_possible_values = true
    )]
    compression: CompressionArg,
}

impl ProduceBench {
    fn check(&self) -> Result<(), UsageError> {
        let refused = |words: &str| Err(UsageError(words.to_owned()));
        if self.idempotent && usize::from(self.in_flight) > IDEMPOTENT_IN_FLIGHT_MAX {
            return refused("brokers remember five batches of an idempotent producer: --in-flight 5 is the most");
        }
        if self.idempotent && self.acks != AcksArg::All {
            return refused("--idempotent needs --acks all");
        }
        Ok(())
    }
}

/// Runs the load and tells of it.
pub(super) async fn run(bench: ProduceBench, stop: CancellationToken) -> anyhow::Result<()> {
    bench.check()?;
    let client = bench.load.bootstrap.client();
    let target = Target::prepare(client, bench.topic.as_deref(), bench.partitions).await?;
    let done = load(&bench, &target, stop).await;
    // Also after a failure; which is what is told then.
    let removed = target.remove().await;
    done.and(removed)
}

async fn load(bench: &ProduceBench, target: &Target, stop: CancellationToken) -> anyhow::Result<()> {
    let lanes = target.lanes(usize::from(bench.connections)).await?;
    let each = Each::of(bench, &lanes)?;
    let rate = bench
        .rate
        .map(|rate| rate.requests(quantity::float(each.records), quantity::float(each.bytes)));
    let connections = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
    let requests_max = bench.count.map_or(u64::MAX, |count| {
        count.div_ceil(each.records).div_ceil(u64::from(connections))
    });
    let mut identities = Vec::new();
    for _ in &lanes {
        identities.push(if bench.idempotent {
            Some(Identity::ask(target.client()).await?)
        } else {
            None
        });
    }
    let watch = Stopwatch::start(&bench.load);
    let limits = Limits {
        until: watch.began + bench.load.duration,
        stop,
    };
    let mut running = JoinSet::new();
    for ((lane, identity), nth) in lanes.into_iter().zip(identities).zip(0..) {
        let sender = ProduceLane {
            connection: lane.connection.clone(),
            topic: target.topic.name.as_str().into(),
            acks: Acks::from(bench.acks),
            pace: Pace::of(rate, watch.began, nth, connections),
            in_flight_max: usize::from(bench.in_flight),
            limits: limits.clone(),
            requests_max,
        };
        let each = each.clone();
        running.spawn(sender.run(each.next(lane, identity)));
    }
    let mut done = Done::nothing();
    while let Some(one) = running.join_next().await {
        done.add(&one.context("a connection's task ended")??);
    }
    anyhow::ensure!(
        done.requests > 0,
        "no request was answered within {:?}; --duration gives more time",
        bench.load.duration
    );
    watch.tell(
        &Load {
            bench: "produce",
            topic: &target.topic.name,
            asked: bench.rate,
            timed: if bench.acks == AcksArg::None {
                "sent"
            } else {
                "acknowledged"
            },
        },
        &done,
        &[],
    )
}

/// What goes into every request.
#[derive(Clone)]
struct Each {
    template: Template,
    /// Batches, each for a partition of its own.
    spread: usize,
    records: u64,
    bytes: u64,
}

impl Each {
    fn of(bench: &ProduceBench, lanes: &[Lane]) -> anyhow::Result<Self> {
        let codec = Compression::from(bench.compression).into();
        let template = Template::filled(bench.size, bench.batch, codec).context("cannot make a batch")?;
        // No partition may come twice in a request.
        let fewest = lanes.iter().map(|lane| lane.partitions.len()).min().unwrap_or(1);
        let spread = fewest.min(usize::from(bench.spread));
        let records = template.records() * u64::try_from(spread).unwrap_or(1);
        Ok(Self {
            bytes: records * u64::try_from(bench.size).unwrap_or(u64::MAX),
            records,
            spread,
            template,
        })
    }

    /// Makes requests for one connection; its partitions take turns.
    fn next(self, lane: Lane, identity: Option<Identity>) -> impl FnMut(u64) -> Next + Send {
        let mut sent = vec![0; lane.partitions.len()];
        let mut turn = 0;
        move |_| {
            let now_ms = SystemClock.now_ms();
            let mut batches = Vec::with_capacity(self.spread);
            for _ in 0..self.spread {
                let numbered = identity.map(|identity| Numbered {
                    identity,
                    records_before: sent[turn],
                });
                batches.push((lane.partitions[turn], self.template.at(now_ms, numbered)));
                sent[turn] += self.template.records();
                turn = (turn + 1) % lane.partitions.len();
            }
            Next {
                batches,
                records: self.records,
                bytes: self.bytes,
            }
        }
    }
}
