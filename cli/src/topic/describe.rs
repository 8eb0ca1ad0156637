//! `esker topic describe`: what one topic is made of.

use std::collections::BTreeMap;

use clap::Args;
use esker_kafka::messages::describe_configs_response::DescribeConfigsResourceResult;
use esker_kafka_client::{At, Client, Topic};
use serde::Serialize;

use crate::advice;
use crate::bootstrap::BootstrapArgs;
use crate::quantity;
use crate::rows::{FormArgs, NOTHING, Rows, number, or_nothing, text};

/// Kafka's number for a config that was set for the topic itself.
const OF_THE_TOPIC: i8 = 1;

/// Which topics, and how much of them.
#[derive(Args, Debug)]
pub(crate) struct DescribeArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    /// Show all configs, not only those that were set for the topic
    #[arg(long)]
    all: bool,
}

/// A topic as `--json` prints it.
#[derive(Serialize)]
struct Described {
    topic: String,
    id: String,
    partitions: Vec<Partition>,
    /// Values by name.
    configs: BTreeMap<String, Option<String>>,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    leader: Option<i32>,
    /// None if the leader cannot be asked.
    earliest: Option<i64>,
    latest: Option<i64>,
    size_bytes: Option<u64>,
}

pub(super) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let known = client.topics().await?;
    let mut chosen = Vec::new();
    for name in &args.topics {
        match known.iter().find(|topic| topic.name == *name) {
            Some(topic) => chosen.push(topic),
            None => return Err(advice::unknown_topic(&client, name).await),
        }
    }
    let sizes = client.sizes(&chosen).await?;
    let mut rows = Rows::stdout(args.form);
    for topic in chosen {
        let described = describe(&client, topic, &sizes, args.all).await?;
        rows.one(&described, show)?;
    }
    Ok(())
}

async fn describe(
    client: &Client,
    topic: &Topic,
    sizes: &BTreeMap<(String, i32), i64>,
    all: bool,
) -> anyhow::Result<Described> {
    let led = topic.partitions.iter().filter(|one| one.leader.is_some());
    let led: Vec<(String, i32)> = led.map(|one| (topic.name.clone(), one.index)).collect();
    let (earliest, latest) = (
        client.offsets(&led, At::Earliest).await?,
        client.offsets(&led, At::Latest).await?,
    );
    let partitions = topic.partitions.iter().map(|one| {
        let key = (topic.name.clone(), one.index);
        Partition {
            partition: one.index,
            leader: one.leader,
            earliest: earliest.get(&key).and_then(|found| found.offset),
            latest: latest.get(&key).and_then(|found| found.offset),
            size_bytes: sizes.get(&key).map(|bytes| bytes.cast_unsigned()),
        }
    });
    let configs = client.topic_configs(&topic.name).await?;
    let shown = configs
        .into_iter()
        .filter(|config| all || config.config_source == OF_THE_TOPIC);
    Ok(Described {
        topic: topic.name.clone(),
        id: topic.id.to_string(),
        partitions: partitions.collect(),
        configs: shown.map(named).collect(),
    })
}

fn named(config: DescribeConfigsResourceResult) -> (String, Option<String>) {
    (config.name.into(), config.value.map(String::from))
}

fn show<W: std::io::Write>(rows: &mut Rows<W>, described: &Described) -> std::io::Result<()> {
    let partitions = described.partitions.len().try_into().unwrap_or(u64::MAX);
    let bytes = described.partitions.iter().filter_map(|one| one.size_bytes).sum();
    let Described { topic, id, .. } = described;
    let (partitions, bytes) = (quantity::counted(partitions, "partition"), quantity::bytes(bytes));
    rows.line(&format!("{topic}: {partitions}, {bytes}, id {id}"))?;
    for (name, value) in &described.configs {
        let value = value.as_deref().unwrap_or(NOTHING);
        rows.line(&format!("  {name}={value}"))?;
    }
    let columns = [
        number("PARTITION"),
        number("LEADER"),
        number("EARLIEST"),
        number("LATEST"),
        number("SIZE"),
        text(""),
    ];
    let cells = described.partitions.iter().map(|one| {
        let remark = if one.leader.is_none() { "nobody leads it" } else { "" };
        [
            one.partition.to_string(),
            or_nothing(one.leader),
            or_nothing(one.earliest),
            or_nothing(one.latest),
            or_nothing(one.size_bytes.map(quantity::bytes)),
            remark.to_owned(),
        ]
    });
    rows.table(columns, cells)
}
