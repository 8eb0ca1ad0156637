//! `esker cluster`: the cluster as its clients see it.
//!
//! Owns: flags, which columns there are.
//! Does not own: what only etcd and the bucket know; that is not told here.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::bootstrap::BootstrapArgs;
use crate::process::block_on;
use crate::quantity::counted;
use crate::rows::{FormArgs, Rows, number, or_nothing, text};

/// What can be asked about a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the cluster's id, its agents with zones, how much they lead, and features
    Describe(DescribeArgs),
}

/// Which cluster.
#[derive(Args, Debug)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// A cluster as `--json` prints it.
#[derive(Serialize)]
struct Described {
    cluster: String,
    controller: Option<i32>,
    agents: Vec<Agent>,
    /// Those of the cluster's own do not count.
    topics: usize,
    partitions: usize,
    /// Partitions that nobody leads.
    leaderless: usize,
    features: BTreeMap<String, i16>,
}

#[derive(Serialize)]
struct Agent {
    node: i32,
    address: String,
    zone: Option<String>,
    /// Partitions that it leads.
    leads: usize,
}

/// Runs one of the commands.
pub(crate) fn run(command: ClusterCommand) -> anyhow::Result<()> {
    let ClusterCommand::Describe(args) = command;
    block_on(describe(args))
}

async fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let overview = client.overview().await?;
    let mut topics = client.topics().await?;
    topics.retain(|topic| !topic.internal);
    let leaders: Vec<Option<i32>> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|one| one.leader))
        .collect();
    let agents = overview.cluster.brokers.iter().map(|broker| Agent {
        node: broker.broker_id,
        address: format!("{}:{}", broker.host, broker.port),
        zone: broker.rack.clone().map(String::from),
        leads: leaders
            .iter()
            .filter(|leader| **leader == Some(broker.broker_id))
            .count(),
    });
    let controller = overview.cluster.controller_id;
    let described = Described {
        cluster: overview.cluster.cluster_id.to_string(),
        controller: (controller >= 0).then_some(controller),
        agents: agents.collect(),
        topics: topics.len(),
        partitions: leaders.len(),
        leaderless: leaders.iter().filter(|leader| leader.is_none()).count(),
        features: overview.features,
    };
    Rows::stdout(args.form).one(&described, show).map_err(Into::into)
}

fn show<W: std::io::Write>(rows: &mut Rows<W>, described: &Described) -> std::io::Result<()> {
    let count = |number: usize, one| counted(u64::try_from(number).unwrap_or(u64::MAX), one);
    rows.line(&format!("cluster     {}", described.cluster))?;
    rows.line(&format!("controller  {}", or_nothing(described.controller)))?;
    let (topics, partitions) = (
        count(described.topics, "topic"),
        count(described.partitions, "partition"),
    );
    rows.line(&format!("holds       {topics}, {partitions}"))?;
    if described.leaderless > 0 {
        let leaderless = count(described.leaderless, "partition");
        rows.line(&format!("leaderless  {leaderless}: nobody can write to or read them"))?;
    }
    for (name, level) in &described.features {
        rows.line(&format!("feature     {name}={level}"))?;
    }
    rows.line("")?;
    let columns = [number("NODE"), text("ADDRESS"), text("ZONE"), number("LEADS")];
    let agents = described.agents.iter();
    rows.table(
        columns,
        agents.map(|agent| {
            [
                agent.node.to_string(),
                agent.address.clone(),
                or_nothing(agent.zone.clone()),
                agent.leads.to_string(),
            ]
        }),
    )
}
